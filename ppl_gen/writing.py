"""Files that are written whole or not at all: bytes, strict JSON, pictures."""

from __future__ import annotations

__all__ = ["plain", "write_atomically", "write_json", "write_picture"]

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file so that a reader sees the old one or the new one, whole.

    What is written goes into a file beside it, and to disk, before that is renamed.

    Args:
        path: Of the file.
        write: Writes into the open file that it is given.
    """
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON, whole or not at all.

    Args:
        path: Of the file.
        value: What is written; numbers that are not finite become null.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_picture(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG, whole or not at all.

    Args:
        path: Of the file.
        figure: What is drawn.
    """
    write_atomically(path, lambda file: figure.savefig(file, format="png"))


def plain(value: Any) -> Any:
    """With None for numbers that are not finite, which JSON does not have.

    Args:
        value: Numbers, strings, and lists and dicts of these.
    """
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
