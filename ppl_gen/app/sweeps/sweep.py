"""A sweep and what it comes to: cells that are finished or failed, and rows over seeds."""

from __future__ import annotations

__all__ = ["Failed", "Results", "Row", "Sweep"]

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.finished import Finished
from ppl_gen.app.sweeps.numbers import Spread

_SEED = "seed"


@dataclass(frozen=True)
class Failed:
    """A cell that has raised an error.

    Attributes:
        cell: The cell.
        why: The error, in a line.
    """

    cell: Cell
    why: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the cell."""
        return self.cell.settings


@dataclass(frozen=True, kw_only=True)
class Row:
    """The cells that differ by their seed alone.

    Attributes:
        settings: Theirs, without the seed.
        numbers: Over their seeds, by name.
        cells: Those that are finished.
        failures: Those that are not.
    """

    settings: Mapping[str, Any]
    numbers: Mapping[str, Spread]
    cells: Sequence[Finished]
    failures: Sequence[Failed]


@dataclass(frozen=True)
class Results:
    """What a sweep has come to.

    Attributes:
        outcomes: What has come of each cell, in the order of the sweep.
    """

    outcomes: Sequence[Finished | Failed]

    @property
    def finished(self) -> list[Finished]:
        """The cells that are finished."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Finished)]

    @property
    def failed(self) -> list[Failed]:
        """Those that have failed."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Failed)]

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that all cells have and none has otherwise."""
        first, *others = self.outcomes
        found = {}
        for name, value in first.settings.items():
            if all(_has(other, name, value) for other in others):
                found[name] = value
        return found

    @property
    def varied(self) -> list[str]:
        """The names of settings that cells have different values of, but for the seed."""
        values: dict[str, set[str]] = {}
        for outcome in self.outcomes:
            for name, value in outcome.settings.items():
                values.setdefault(name, set()).add(json.dumps(value))
        return [name for name, held in values.items() if len(held) > 1 and name != _SEED]

    @property
    def rows(self) -> list[Row]:
        """A row for all cells that differ by their seed alone, in the order of the sweep."""
        groups: dict[str, list[Finished | Failed]] = {}
        for outcome in self.outcomes:
            groups.setdefault(_key(_without_seed(outcome.settings)), []).append(outcome)
        return [_row(group) for group in groups.values()]

    @property
    def quantities(self) -> list[str]:
        """The names of all numbers, in the order in which cells have them."""
        names: dict[str, None] = {}
        for done in self.finished:
            names |= dict.fromkeys(done.numbers)
        return list(names)

    def row(self, **settings: Any) -> Row:
        """The one row with these settings.

        Args:
            **settings: Some of its settings.

        Raises:
            KeyError: If there is none, or more than one.
        """
        found = []
        for row in self.rows:
            if all(row.settings.get(name) == value for name, value in settings.items()):
                found.append(row)
        if len(found) != 1:
            raise KeyError(f"expected one row with {settings}, got {len(found)}")
        return found[0]

    def column(self, quantity: str) -> list[Spread]:
        """A quantity of all rows.

        Args:
            quantity: The name of a number that all have.
        """
        return [row.numbers[quantity] for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A table of cells, and the picture that it ends in.

    Attributes:
        name: That of a preset, or of a user's file.
        title: What it shows, in a line.
        cells: All of them, each with settings of its own.
        draw: The picture of all cells.
        say: Sentences for below the table.
    """

    name: str
    title: str
    cells: Sequence[Cell]
    draw: Callable[[Results], Figure]
    say: Callable[[Results], Sequence[str]]


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != _SEED}


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _has(outcome: Finished | Failed, name: str, value: Any) -> bool:
    return name in outcome.settings and outcome.settings[name] == value


def _row(outcomes: Sequence[Finished | Failed]) -> Row:
    cells = [outcome for outcome in outcomes if isinstance(outcome, Finished)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    names: dict[str, None] = {}
    for done in cells:
        names |= dict.fromkeys(done.numbers)
    numbers = {}
    for name in names:
        numbers[name] = Spread.over([d.numbers[name] for d in cells if name in d.numbers])
    return Row(
        settings=_without_seed(outcomes[0].settings),
        numbers=numbers,
        cells=cells,
        failures=failures,
    )
