"""Pictures of sweeps: numbers with intervals against what was varied."""

from __future__ import annotations

__all__ = ["Curve", "curves"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_gen.plots.style import SERIES, literal, panels, styled

_REACH = 2  # standard errors to either side


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve of one panel.

    Attributes:
        name: In the legend; empty for none.
        x: Where its points are: numbers, or words, which stand side by side.
        y: Their heights.
        error: The standard error of each; None where it is not known.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    error: Sequence[float | None]


@styled
def curves(
    drawn: Mapping[str, Sequence[Curve]], x: str, title: str = "", ax: Axes | None = None
) -> Figure:
    """A panel for each quantity, its curves with bars of two standard errors to either side.

    Args:
        drawn: The curves of each panel, by what it shows.
        x: What stands below all panels.
        title: Above the figure; none if empty.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not drawn:
        raise ValueError("expected at least one panel of curves, got none")
    figure, axes = panels(len(drawn), width=4.2, height=3.2, most_across=3, ax=ax)
    for panel, (quantity, lines) in zip(axes, drawn.items(), strict=True):
        for number, line in enumerate(lines):
            draw_curve(panel, line, SERIES[number % len(SERIES)])
        panel.set_xlabel(literal(x))
        panel.set_ylabel(literal(quantity))
        panel.grid(alpha=0.3)
        if all(isinstance(place, int) for line in lines for place in line.x):
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if any(line.name for line in lines):
            panel.legend()
    if title:
        figure.suptitle(literal(title))
    return figure


def draw_curve(axes: Any, curve: Curve, colour: str) -> None:
    """Draws one curve with its bars.

    Args:
        axes: Where.
        curve: What.
        colour: Of line and bars.
    """
    reach = [_REACH * (error or 0.0) for error in curve.error]
    places = curve.x
    if any(isinstance(place, str) for place in curve.x):
        places = range(len(curve.x))
        axes.set_xticks(places, [literal(str(place)) for place in curve.x])
    axes.errorbar(
        places,
        curve.y,
        yerr=reach,
        color=colour,
        marker="o",
        markersize=4,
        capsize=2,
        lw=1,
        label=literal(curve.name),
    )
