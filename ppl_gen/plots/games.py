"""Pictures of adversarial training: the game of two lines, losses, translations, confusions."""

from __future__ import annotations

__all__ = ["confusion", "line_game_animation", "line_game_frame", "losses", "translations"]

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.images import image_grid
from ppl_gen.plots.style import literal, one_axes, styled

DATA = "#222222"
GENERATOR = "#d95f02"
CRITIC = "#3f2b96"
_FAR = 2.5  # the picture's half side, in standard deviations of h
_SIDE = 121  # points along each axis of the heat map
_COLOURS = 20  # of the heat map: few enough for a GIF, which has 256
_FEW_RECORDS = 30  # below which each is marked by a dot
_MOST_CLASSES = 100  # of a confusion that are named, with their counts


@styled
def line_game_frame(generator: Tensor, critic: Tensor, data: Tensor, title: str = "") -> Figure:
    """D(x) = σ(|x₁| w₁ + |x₂| w₂), from "made" (red) to "data" (blue), and the lines of both.

    Args:
        generator: v, of shape (2,); its line is hv.
        critic: w, of shape (2,).
        data: u, of shape (2,); the data's line is hu.
        title: Stands above.

    Raises:
        ValueError: If a direction is not of shape (2,).
    """
    game = _LineGame(data)
    game.move(generator, critic, title)
    return game.figure


@styled
def line_game_animation(
    history: Sequence[tuple[Tensor, Tensor]],
    data: Tensor,
    path: str | Path,
    *,
    frames_per_second: int = 5,
) -> Path:
    """Writes a GIF with one frame for the beginning and one after each turn.

    Args:
        history: (v, w) after each turn, the beginning first, as `ppl_gen.models.toy.line_game`
            returns them.
        data: u, of shape (2,).
        path: The file that is written, .gif.
        frames_per_second: The number of turns shown in a second.

    Returns:
        The path.

    Raises:
        ValueError: If there is no turn, the path is not of a .gif, or a direction is not of shape
            (2,).
    """
    path = Path(path)
    if not history or path.suffix.lower() != ".gif" or frames_per_second < 1:
        raise ValueError(
            "expected at least one turn, a .gif and one frame per second or more, got "
            f"{len(history)} turns, {path.name!r} and {frames_per_second}"
        )
    game = _LineGame(data)
    game.figure.set_dpi(80)

    def show(turn: int) -> list[Any]:
        generator, critic = history[turn]
        angle = _angle_between(generator, data)
        game.move(generator, critic, f"turn {turn}: {angle:.1f}° from the data")
        return []

    animation = FuncAnimation(
        game.figure, show, frames=len(history), init_func=lambda: [], repeat=False
    )
    animation.save(str(path), writer=PillowWriter(fps=frames_per_second))
    return path


class _LineGame:
    """A picture of the game of two lines: everything is drawn once, and the players are moved.

    Args:
        data: u, of shape (2,).

    Attributes:
        figure: The picture.
    """

    def __init__(self, data: Tensor) -> None:
        self.figure, axes = one_axes(4.2, 3.7)
        ticks = torch.linspace(-_FAR, _FAR, _SIDE, dtype=torch.float64)
        points = torch.cartesian_prod(ticks, ticks).reshape(_SIDE, _SIDE, 2)
        self._points = points.transpose(0, 1).abs()  # rows are x₂
        self._axes = axes
        self._heat = axes.imshow(
            self._points[..., 0].numpy(),
            cmap=matplotlib.colormaps["RdBu"].resampled(_COLOURS),
            vmin=0,
            vmax=1,
            origin="lower",
            extent=(-_FAR, _FAR, -_FAR, _FAR),
            alpha=0.75,
        )
        axes.plot(*_ends(data), color=DATA, linewidth=2, label="data, hu")
        (self._line,) = axes.plot(
            [], [], color=GENERATOR, linewidth=2, linestyle="--", label="generator, hv"
        )
        self._arrow = axes.quiver(
            0, 0, 1, 0, color=CRITIC, angles="xy", scale_units="xy", scale=1, width=0.01, zorder=3
        )
        self._arrow.set_label("critic's w")
        limits = (-_FAR, _FAR)
        axes.set(xlim=limits, ylim=limits, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        axes.legend(fontsize=7, loc="upper left", framealpha=0.9)
        bar = self.figure.colorbar(self._heat, ax=axes, shrink=0.8)
        bar.set_label("D(x): held for data")

    def move(self, generator: Tensor, critic: Tensor, title: str) -> None:
        """Shows other players: v and w, each of shape (2,)."""
        self._line.set_data(*_ends(generator))
        w = _direction(critic)
        self._heat.set_data(torch.sigmoid(self._points @ w).numpy())
        self._arrow.set_UVC(float(w[0]), float(w[1]))
        self._axes.set_title(title)


def _direction(vector: Tensor) -> Tensor:
    """The vector in float64, on the CPU; raises ValueError unless it is of shape (2,)."""
    if vector.shape != (2,):
        raise ValueError(f"expected a direction of shape (2,), got {tuple(vector.shape)}")
    return vector.detach().cpu().double()


def _ends(vector: Tensor) -> tuple[list[float], list[float]]:
    """A line through the origin, beyond the picture on both sides."""
    a, b = (2 * _FAR * _direction(vector)).tolist()
    return [-a, a], [-b, b]


def _angle_between(one: Tensor, other: Tensor) -> float:
    """The angle of two lines through the origin, in degrees, from 0 to 90."""
    a = _direction(one)
    b = _direction(other)
    across = float((a[0] * b[1] - a[1] * b[0]).abs())
    along = float((a @ b).abs())
    return math.degrees(math.atan2(across, along))


@styled
def losses(
    records: Sequence[Any], names: Sequence[str], title: str = "", ax: Axes | None = None
) -> Figure:
    """Metrics against the epoch in one picture, such as the losses of generator and critic.

    Args:
        records: Anything with `.epoch` and `.metrics`, as `fit` returns.
        names: The keys in `.metrics`.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there are no records, or a name is not among their metrics.
    """
    known = list(records[0].metrics) if records else []
    if not names or not set(names) <= set(known):
        raise ValueError(f"expected names of metrics among {known}, got {list(names)}")
    figure, axes = one_axes(5, 3, ax=ax)
    marker = "." if len(records) < _FEW_RECORDS else ""
    epochs = [record.epoch for record in records]
    for name in names:
        values = [float(record.metrics[name]) for record in records]
        axes.plot(epochs, values, marker=marker, label=name)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


@styled
def confusion(
    matrix: Tensor, names: Sequence[str] | None = None, title: str = "", ax: Axes | None = None
) -> Figure:
    """Counts of (true class, class read), coloured by the share of their row.

    The diagonal is what is right. Of more than 100 classes, neither names nor counts are written.

    Args:
        matrix: (K, K), rows by true class; counts, or shares.
        names: The K classes; 0, …, K − 1 if left out.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the matrix is not square, has a negative or no entry, or not one name for
            each class.
    """
    square = matrix.dim() == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not matrix.numel() or bool((matrix < 0).any()):
        raise ValueError(
            f"expected a square matrix of counts (K, K), got one of shape {tuple(matrix.shape)}"
        )
    classes = [str(k) for k in range(len(matrix))]
    if names is not None:
        classes = [literal(name) for name in names]
    if len(classes) != len(matrix):
        raise ValueError(f"expected {len(matrix)} names, one for each class, got {len(classes)}")
    counts = matrix.detach().cpu().double()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-12)
    side = 0.32 * min(len(classes), _MOST_CLASSES) + 1.2
    figure, axes = one_axes(max(3.0, side + 0.6), max(2.6, side), ax=ax)
    picture = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= _MOST_CLASSES:
        _write_counts(axes, counts, shares)
        _name_classes(axes, classes)
    axes.set_xlabel("read as")
    axes.set_ylabel("is")
    axes.set_title(title)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.set_label("share of the row")
    return figure


def _name_classes(axes: Any, classes: Sequence[str]) -> None:
    """Writes the names of the classes along both axes."""
    ticks = range(len(classes))
    longest = max(len(name) for name in classes)
    turned = 90 if longest > 3 else 0
    axes.set_xticks(ticks, classes, fontsize=7, rotation=turned)
    axes.set_yticks(ticks, classes, fontsize=7)


def _write_counts(axes: Any, counts: Tensor, shares: Tensor) -> None:
    """Writes each count that is not zero into its cell, white where the cell is dark."""
    whole = bool((counts == counts.round()).all())
    decimals = 0 if whole else 2
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{float(counts[row, column]):.{decimals}f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


@styled
def translations(
    original: Tensor,
    translated: Tensor,
    cycled: Tensor,
    columns: int = 12,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Three rows: images, their translations to the other domain, and these translated back.

    Args:
        original: (N, C, H, W) in [0, 1], of one domain.
        translated: The same images in the other, of the same shape.
        cycled: Back again, of the same shape; near the first row where the cycle is closed.
        columns: The number of images in a row.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the three are not images of one shape.
    """
    if not original.shape == translated.shape == cycled.shape or original.dim() != 4:
        shapes = ", ".join(str(tuple(t.shape)) for t in (original, translated, cycled))
        raise ValueError(f"expected images (N, C, H, W) of one shape, got {shapes}")
    columns = min(columns, len(original))
    blank = original.new_ones(-len(original) % columns, *original.shape[1:])
    firsts = torch.cat([original, blank]).split(columns)
    seconds = torch.cat([translated, blank]).split(columns)
    thirds = torch.cat([cycled, blank]).split(columns)
    rows: list[Tensor] = []
    for triple in zip(firsts, seconds, thirds, strict=True):
        rows += triple
    labels = ["original", "translated", "back"] * len(firsts)
    return image_grid(torch.cat(rows), columns, title, labels, ax)
