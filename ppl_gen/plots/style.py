"""What all pictures share: colours, figures and panels of one look, which panels to draw."""

from __future__ import annotations

__all__ = [
    "EXACT",
    "FAINT",
    "GUIDE",
    "MCMC",
    "SERIES",
    "Picture",
    "array",
    "describe_axes",
    "few_ticks",
    "figure_of",
    "largest",
    "legend_below",
    "literal",
    "one_axes",
    "panels",
    "stamp",
    "styled",
]

import functools
import io
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.names import spelled_out

GUIDE = "#d95f02"
MCMC = "#1b6ca8"
EXACT = "#222222"
FAINT = "0.6"
# Told apart in every kind of colour blindness: Petroff (2021), Accessible color sequences.
SERIES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
_TICKS = 7  # points, of letters: matplotlib makes ticks when it draws, out of reach of a style
# Letters are in points, for a picture as wide as a column of text.
_STYLE = {
    "font.size": 8,
    "figure.titlesize": 9,
    "figure.labelsize": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=SERIES),
}

_DOTS = 150  # to the inch
_MOST_DOTS = 2**15  # along a side: the renderer takes less than twice as many
_MOST_PIXELS = 2**26
_MOST_LETTERS = 60  # of a name


_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(picture: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function whose picture has the look of all pictures, whatever matplotlib is set to.

    Args:
        picture: Draws something.
    """

    @functools.wraps(picture)
    def drawn(*args: _P.args, **options: _P.kwargs) -> _R:
        with matplotlib.rc_context(_STYLE):
            return picture(*args, **options)

    return drawn


class Picture(Figure):
    """A figure that a notebook shows as the value of a cell, and that pyplot knows nothing of.

    IPython draws matplotlib's figures only once pyplot or `%matplotlib inline` has taught it to;
    then that way is taken, and the picture is still shown once.
    """

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", bbox_inches="tight")
        return drawn.getvalue()


def figure_of(width: float, height: float, *, ax: Axes | None = None) -> Figure:
    """An empty figure of so many inches, whose parts make room for each other.

    A very large one has fewer dots to the inch, so that it can be drawn.

    Args:
        width: In inches.
        height: In inches.
        ax: Axes whose place a part of their figure takes, which is returned instead.
    """
    if ax is not None:
        return _in_place_of(ax)
    dots = min(_DOTS, _MOST_DOTS / max(width, height), math.sqrt(_MOST_PIXELS / (width * height)))
    return Picture(figsize=(width, height), layout="constrained", dpi=dots)


def _in_place_of(ax: Axes) -> Figure:
    """A part of the figure of some axes, with titles and legends of its own, in their place.

    Raises:
        ValueError: If the axes are in no grid.
    """
    spec = ax.get_subplotspec()
    if spec is None:
        raise ValueError(
            "expected axes of a grid, as plt.subplots and Figure.add_subplot make them, got axes "
            "placed by hand; draw a figure of its own (ax=None)"
        )
    around: Any = ax.figure
    if around.figure.get_layout_engine() is None:
        around.figure.set_layout_engine("constrained")
    ax.remove()
    # A part does all that a figure does but to be saved.
    return cast(Figure, around.add_subfigure(spec))


def one_axes(width: float, height: float, *, ax: Axes | None = None) -> tuple[Figure, Any]:
    """A figure of so many inches with one pair of axes.

    Args:
        width: In inches.
        height: In inches.
        ax: Axes whose place they take, as in `figure_of`.
    """
    figure = figure_of(width, height, ax=ax)
    return figure, _panel(figure, 1, 1, 1)


def _panel(figure: Figure, *place: int) -> Any:
    axes = figure.add_subplot(*place)
    axes.tick_params(labelsize=_TICKS)
    return axes


def panels(
    count: int,
    *,
    width: float,
    height: float,
    margins: tuple[float, float] = (0.0, 0.0),
    most_across: int = 4,
    ax: Axes | None = None,
) -> tuple[Figure, list[Any]]:
    """A figure with so many panels, row by row.

    Args:
        count: The number of panels.
        width: Of a panel, in inches.
        height: Of a panel, in inches.
        margins: What is added to the width and the height of the whole, in inches.
        most_across: The largest number of panels in a row.
        ax: Axes whose place they take, as in `figure_of`.

    Returns:
        The figure and the axes of each panel.
    """
    across = max(1, min(most_across, count))
    down = math.ceil(count / across)
    figure = figure_of(width * across + margins[0], height * down + margins[1], ax=ax)
    return figure, [_panel(figure, down, across, number + 1) for number in range(count)]


def describe_axes(axes: Any, x: str, y: str) -> None:
    """Writes beside both axes what they show."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.tick_params(labelsize=_TICKS)


def few_ticks(axes: Any, *, whole: bool = False) -> None:
    """At most four intervals along both axes, for a small panel.

    Args:
        axes: Of the panel.
        whole: Whether x takes whole numbers only.
    """
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=whole))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def literal(name: str) -> str:
    """A name from outside as matplotlib is to write it: without mathematics, and not too long.

    Args:
        name: Of a run, a class, a coordinate, ...
    """
    shown = spelled_out(name)
    if len(shown) > _MOST_LETTERS:
        shown = shown[: _MOST_LETTERS - 1] + "…"
    return shown.replace("$", r"\$")


def legend_below(
    figure: Figure, *entries: Any, columns: int, size: float = 8, **style: Any
) -> None:
    """A legend without a frame under the whole figure.

    Args:
        figure: The figure.
        *entries: Handles and labels; those of all axes if there are none.
        columns: The number of entries in a row.
        size: Of the letters, in points.
        **style: Anything else that matplotlib's `legend` takes.
    """
    place = "outside lower center"
    figure.legend(*entries, loc=place, ncols=columns, fontsize=size, frameon=False, **style)


def stamp(figure: Figure, words: str) -> None:
    """Writes small grey words into the lower right corner of a figure, which makes room for them.

    Args:
        figure: The figure.
        words: What it is of: "epoch 20".
    """
    figure.supxlabel(words, x=0.99, ha="right", fontsize=7, color="0.5")


def largest(badness: Tensor, most: int) -> list[int]:
    """The numbers of the largest entries (K,), at most so many, in ascending order."""
    return sorted(badness.argsort(descending=True)[:most].tolist())


def array(values: Tensor) -> Any:
    """Numbers as matplotlib takes them: a NumPy array."""
    return values.detach().cpu().numpy()
