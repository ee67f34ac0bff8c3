"""JSON as a run holds it, read from files that anyone may have written to."""

from __future__ import annotations

__all__ = ["is_count", "parse", "read"]

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from ppl_gen.reading import expect_file

_DEEPEST = 32  # lists and dicts inside each other; a run writes six


def read(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none.

    Args:
        path: Of the file.

    Raises:
        ValueError: If it cannot be read, or is no file.
    """
    expect_file(path, "move it away")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError(f"{path} is a link to a file that is missing; move it away") from None
        return None
    except OSError as error:
        raise ValueError(
            f"cannot read {path} ({error.strerror}), which may well be whole; see that this user "
            "may read it, and try again"
        ) from error


def parse(text: bytes) -> Any:
    """The value of strict JSON in UTF-8.

    Args:
        text: What a file or a line holds.

    Raises:
        ValueError: If it is none: cut short, of another encoding, with NaN or infinite numbers, or
            nested too deep.
    """
    try:
        value = json.loads(text.decode(), parse_constant=_refuse)
        _expect_plain(value, _DEEPEST)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0 on."""
    return type(value) is int and value >= 0


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _expect_plain(value: Any, depth: int) -> None:
    """Raises ValueError unless a value is shallow, of numbers in range and of words that print."""
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        for name, held in value.items():
            _expect_plain(name, depth)
            _expect_plain(held, depth - 1)
    elif isinstance(value, list):
        for held in value:
            _expect_plain(held, depth - 1)
    elif isinstance(value, str):
        value.encode(errors="surrogateescape")  # names of files may have bytes that are no UTF-8
    elif isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        raise ValueError("a number is too large")
