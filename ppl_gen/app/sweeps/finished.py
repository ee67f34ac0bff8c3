"""A finished cell: one file with its settings and its numbers, written whole or not at all."""

from __future__ import annotations

__all__ = ["FILE", "Finished"]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_gen.app.run import documents
from ppl_gen.app.sweeps.cell import Cell, read_arrays
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.writing import write_json

FILE = "cell.json"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A cell that is finished.

    Attributes:
        cell: What was measured.
        folder: Where its files lie.
        numbers: What was found, by name.
        seconds: How long it took.
        warnings: What was warned of meanwhile.
    """

    cell: Cell
    folder: Path
    numbers: Mapping[str, Number]
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the cell."""
        return self.cell.settings

    @property
    def arrays(self) -> dict[str, Tensor]:
        """What the measure has kept by `save_arrays`."""
        return read_arrays(self.folder)

    def write(self) -> None:
        """Writes the file of the cell, which alone says that it is finished."""
        numbers = {name: list(number) for name, number in self.numbers.items()}
        write_json(
            self.folder / FILE,
            {
                **self.cell.asked,
                "numbers": numbers,
                "seconds": self.seconds,
                "warnings": list(self.warnings),
            },
        )

    @classmethod
    def read(cls, cell: Cell, folder: Path) -> Finished | None:
        """A cell as its file has it; None where there is none, or it is damaged or of another cell.

        Args:
            cell: The cell.
            folder: Of its files.
        """
        try:
            text = documents.read(folder / FILE)
            if text is None:
                return None
            held = documents.parse(text)
            asked = {name: held[name] for name in ("measure", "settings")}
            if asked != cell.asked:
                return None
            numbers = {}
            for name, (value, error) in held["numbers"].items():
                numbers[name] = Number(_number(value), error)
            return cls(
                cell=cell,
                folder=folder,
                numbers=numbers,
                seconds=float(held["seconds"]),
                warnings=tuple(held["warnings"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def _number(value: Any) -> float:
    """A number of a JSON file, in which one that is not finite is null."""
    if value is None:
        return math.nan
    return float(value)
