"""The usual picture of a sweep: each quantity against a setting, with intervals."""

from __future__ import annotations

__all__ = ["against"]

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps.sweep import Results, Row
from ppl_gen.plots.sweeps import Curve, curves

_MOST_PANELS = 9


def against(
    results: Results,
    x: str | None = None,
    quantities: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Each quantity against a setting, a curve for each value of the other settings.

    Bars are two standard errors to either side.

    Args:
        results: Of a sweep.
        x: The setting; the first that takes numbers if left out, else the first.
        quantities: The numbers that have a panel; all, at most nine, if left out.
        title: Above the figure; none if empty.
    """
    if x is None:
        x = _axis(results)
    if quantities is None:
        quantities = results.quantities[:_MOST_PANELS]
    drawn = {}
    for quantity in quantities:
        drawn[quantity.replace("_", " ")] = _lines(results, x, quantity)
    return curves(drawn, x.replace("_", " "), title)


def _axis(results: Results) -> str:
    """The first setting that takes numbers, else the first; the seed where none is varied."""
    for name in results.varied:
        if all(_is_number(row.settings.get(name)) for row in results.rows):
            return name
    return next(iter(results.varied), "seed")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lines(results: Results, x: str, quantity: str) -> list[Curve]:
    """A curve for each value of the settings besides x."""
    others = [name for name in results.varied if name != x]
    groups: dict[str, list[Row]] = {}
    for row in results.rows:
        if quantity in row.numbers:
            words = [f"{name} {row.settings.get(name)}" for name in others]
            groups.setdefault(", ".join(words).replace("_", " "), []).append(row)
    return [_line(name, rows, x, quantity) for name, rows in groups.items()]


def _line(name: str, rows: list[Row], x: str, quantity: str) -> Curve:
    places = [row.settings.get(x, "") for row in rows]
    if all(_is_number(place) for place in places):
        order = sorted(range(len(rows)), key=lambda number: places[number])
    else:
        order = list(range(len(rows)))
        places = [str(place) for place in places]
    return Curve(
        name=name,
        x=[places[number] for number in order],
        y=[rows[number].numbers[quantity].mean for number in order],
        error=[rows[number].numbers[quantity].error for number in order],
    )
