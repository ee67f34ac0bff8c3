"""Names as users type them: which are known, what an unknown one may mean, how they are shown."""

from __future__ import annotations

__all__ = ["nearest", "resolve", "spelled_out"]

import difflib
import unicodedata
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


# Marks that turn the direction of what follows, so that a name can look like another.
_TURNING = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def spelled_out(text: str) -> str:
    """Text with control characters as \\x1b and the like, so that no terminal obeys them.

    Args:
        text: Words that hold names from outside; line breaks are kept.
    """
    return "".join(map(_spelled_out, text))


def _spelled_out(character: str) -> str:
    kept = character in "\n\t"
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    if kept or not (is_control or character in _TURNING):
        return character
    return character.encode("unicode_escape").decode()
