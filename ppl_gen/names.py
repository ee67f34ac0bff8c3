"""Names as users type them: the known ones, and what an unknown one may have meant."""

from __future__ import annotations

__all__ = ["nearest", "resolve"]

import difflib
from collections.abc import Iterable


def resolve(kind: str, name: str, known: Iterable[str]) -> str:
    """The name itself, if it is known.

    Args:
        kind: What it names, for the message: "model", "likelihood".
        name: What was typed.
        known: All names that there are.

    Raises:
        ValueError: If the name is unknown; says the nearest one, and all of them.
    """
    known = list(known)
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(name, known)}")
    return name


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, and all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1, 0.4)
    everything = f"Known: {', '.join(known)}"
    if not close:
        return everything
    return f"did you mean {close[0]!r}? {everything}"
