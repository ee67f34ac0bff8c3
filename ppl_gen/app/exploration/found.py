"""What a look finds: pictures and numbers with their errors, which explore.json keeps."""

from __future__ import annotations

__all__ = ["FILE", "Found", "Notes", "read"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ppl_gen.app.run import documents
from ppl_gen.app.run.documents import is_count
from ppl_gen.app.run.opened import Fitted
from ppl_gen.writing import write_atomically, write_json

FILE = "explore.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a look finds.

    Attributes:
        pictures: By the names of files; bytes are written as they are.
        numbers: By what they are, a number alone, or a value with its standard error.
        sentences: What is to be said besides.
        options: What the numbers depend on.
    """

    pictures: Mapping[str, Figure | bytes]
    numbers: Mapping[str, float | tuple[float, float]] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class Notes:
    """explore.json of a run: what each look has found, with the epoch of its weights.

    Args:
        fitted: The run.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self._path = fitted.run.folder / FILE
        self._held = read(fitted.run.folder)

    def add(self, look: str, found: Found, console: Console) -> None:
        """Writes the pictures and numbers of a look, and prints them.

        What was there is written over, and that is said.

        Args:
            look: Its name.
            found: What it has found.
            console: Where it is printed.
        """
        table = Table("", "value", "standard error")
        for name, number in found.numbers.items():
            value, error = _pair(number)
            table.add_row(name, f"{value:.4g}", _shown(error))
        console.print(f"{look} of {self._fitted.name}", soft_wrap=True)
        if found.numbers:
            console.print(table)
        for sentence in found.sentences:
            console.print(sentence, soft_wrap=True)
        for name, picture in found.pictures.items():
            path = self._fitted.run.folder / name
            said = "written to"
            if path.exists():
                said = f"written over what was there{self._of_epoch(look)}:"
            self._write(path, picture)
            console.print(f"{said} {path}", soft_wrap=True)
        self._held[look] = {
            "numbers": {name: list(_pair(number)) for name, number in found.numbers.items()},
            "sentences": list(found.sentences),
            "pictures": list(found.pictures),
            "options": dict(found.options),
            "epoch": self._fitted.epoch,
            "weights": self._fitted.weights,
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        write_json(self._path, self._held)

    def _write(self, path: Path, picture: Figure | bytes) -> None:
        if isinstance(picture, bytes):
            write_atomically(path, lambda file: file.write(picture))
        else:
            self._fitted.write_picture(path.name, picture)

    def _of_epoch(self, look: str) -> str:
        """Which epoch an earlier look was of, where that is another."""
        earlier = self._held.get(look)
        if earlier is None or earlier["epoch"] == self._fitted.epoch:
            return ""
        return f", of epoch {earlier['epoch']}"


def read(folder: Path) -> dict[str, Any]:
    """What each look at a run has found, by its name; empty where there was none.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If explore.json cannot be read, or is damaged.
    """
    path = folder / FILE
    text = documents.read(path)
    if text is None:
        return {}
    try:
        held = documents.parse(text)
        if not isinstance(held, dict) or not all(map(_is_entry, held.values())):
            raise ValueError("an entry has no epoch")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, or not what `ppl-gen explore` writes ({error}); move it away, so "
            "that nothing in it is lost"
        ) from error
    return held


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and is_count(entry.get("epoch"))


def _pair(number: float | tuple[float, float]) -> tuple[float, float | None]:
    """A value and its error, None where there is none."""
    if not isinstance(number, tuple):
        return float(number), None
    value, error = number
    if math.isnan(error):
        return float(value), None
    return float(value), float(error)


def _shown(error: float | None) -> str:
    if error is None:
        return ""
    return f"{error:.2g}"
