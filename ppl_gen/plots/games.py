"""Pictures of adversarial training: the game of two lines, losses, translations, confusions, as
matplotlib figures.
"""

from __future__ import annotations

__all__ = ["confusion", "line_game_animation", "line_game_frame", "losses", "translations"]

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.images import image_grid

DATA, GENERATOR = "#222222", "#d95f02"
_FAR = 2.5  # the picture's half side, in standard deviations of h
_SIDE = 121  # points along each axis of the heat map


def line_game_frame(generator: Tensor, critic: Tensor, data: Tensor, title: str = "") -> Figure:
    """Where D(x) = σ(|x₁| w₁ + |x₂| w₂) says data (blue) or made (red), with the lines of the data
    and of the generator.

    Args:
        generator: v, of shape (2,); its line is hv.
        critic: w, of shape (2,).
        data: u, of shape (2,); the data's line is hu.
        title: Stands above.

    Raises:
        ValueError: If a direction is not of shape (2,).
    """
    figure, draw = _line_game(data)
    draw(generator, critic, title)
    return figure


def line_game_animation(
    history: Sequence[tuple[Tensor, Tensor]],
    data: Tensor,
    path: str | Path,
    *,
    frames_per_second: int = 5,
) -> Path:
    """A GIF with one frame for the beginning and one after each turn.

    Args:
        history: (v, w) after each turn, the beginning first, as `ppl_gen.models.toy.line_game`
            returns them.
        data: u, of shape (2,).
        path: The file that is written, .gif.
        frames_per_second: Frames per second.

    Returns:
        The path.

    Raises:
        ValueError: If there is no turn, the path is not of a .gif, or a direction is not of shape
            (2,).
    """
    path = Path(path)
    if not history or path.suffix != ".gif" or frames_per_second < 1:
        raise ValueError(
            "expected at least one turn, a .gif and one frame per second or more, got "
            f"{len(history)} turns, {path.name!r} and {frames_per_second}"
        )
    figure, draw = _line_game(data)
    figure.set_dpi(80)

    def frame(turn: int) -> list[Any]:
        generator, critic = history[turn]
        draw(
            generator, critic, f"turn {turn}: {_angle_between(generator, data):.1f}° from the data"
        )
        return []

    animation = FuncAnimation(
        figure, frame, frames=len(history), init_func=lambda: [], repeat=False
    )
    animation.save(str(path), writer=PillowWriter(fps=frames_per_second))
    return path


def losses(records: Sequence[Any], names: Sequence[str], title: str = "") -> Figure:
    """Metrics against the epoch in one picture: the generator's and the critic's losses, which no
    one curve sums up.

    Args:
        records: Anything with `.epoch` and `.metrics`, as `fit` returns.
        names: The keys in `.metrics`.
        title: Stands above.

    Raises:
        ValueError: If there are no records, or a name is not among their metrics.
    """
    known = list(records[0].metrics) if records else []
    if not names or not set(names) <= set(known):
        raise ValueError(f"expected names of metrics among {known}, got {list(names)}")
    figure = Figure(figsize=(5, 3), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for name in names:
        marker = "." if len(records) < 30 else ""
        axes.plot(
            [r.epoch for r in records],
            [float(r.metrics[name]) for r in records],
            marker=marker,
            label=name,
        )
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure


def confusion(matrix: Tensor, names: Sequence[str] | None = None, title: str = "") -> Figure:
    """Counts of (true class, class read), coloured by the share of their row; the diagonal is what
    is right.

    Args:
        matrix: (K, K), rows by true class; counts, or shares.
        names: The K classes; 0, …, K − 1 if left out.
        title: Stands above.

    Raises:
        ValueError: If the matrix is not square, has a negative or no entry, or not one name for
            each class.
    """
    if (
        matrix.dim() != 2
        or matrix.shape[0] != matrix.shape[1]
        or not matrix.numel()
        or bool((matrix < 0).any())
    ):
        raise ValueError(
            f"expected a square matrix of counts (K, K), got one of shape {tuple(matrix.shape)}"
        )
    names = [str(k) for k in range(len(matrix))] if names is None else list(names)
    if len(names) != len(matrix):
        raise ValueError(f"expected {len(matrix)} names, one for each class, got {len(names)}")
    counts = matrix.detach().cpu().double()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-12)
    side = 0.32 * len(names) + 1.2
    figure = Figure(figsize=(max(3.0, side + 0.6), max(2.6, side)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    picture = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    written = f"{{:{'.0f' if bool((counts == counts.round()).all()) else '.2f'}}}"
    for i, j in counts.nonzero().tolist():
        colour = "white" if shares[i, j] > 0.55 else "black"
        axes.text(
            j,
            i,
            written.format(float(counts[i, j])),
            ha="center",
            va="center",
            fontsize=6,
            color=colour,
        )
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=turned)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("read as", fontsize=8)
    axes.set_ylabel("is", fontsize=8)
    axes.set_title(title, fontsize=9)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.set_label("share of the row", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def translations(
    original: Tensor, translated: Tensor, cycled: Tensor, columns: int = 12, title: str = ""
) -> Figure:
    """Three rows: images, their translations to the other domain, and these translated back.

    Args:
        original: (N, C, H, W) in [0, 1], of one domain.
        translated: The same images in the other, of the same shape.
        cycled: Back again, of the same shape; near the first row where the cycle is closed.
        columns: The number of images in a row.
        title: Stands above.

    Raises:
        ValueError: If the three are not images of one shape.
    """
    if not original.shape == translated.shape == cycled.shape or original.dim() != 4:
        shapes = ", ".join(str(tuple(t.shape)) for t in (original, translated, cycled))
        raise ValueError(f"expected images (N, C, H, W) of one shape, got {shapes}")
    columns = min(columns, len(original))
    if surplus := -len(original) % columns:
        blank = original.new_ones(surplus, *original.shape[1:])
        original, translated, cycled = (
            torch.cat([t, blank]) for t in (original, translated, cycled)
        )
    groups = zip(*(t.split(columns) for t in (original, translated, cycled)), strict=True)
    rows = [row for group in groups for row in group]
    labels = ["original", "translated", "back"] * (len(rows) // 3)
    return image_grid(torch.cat(rows), columns, title, labels)


def _line_game(data: Tensor) -> tuple[Figure, Callable[[Tensor, Tensor, str], None]]:
    """A figure with the data's line, and what draws the players into it: the artists are made once
    and moved.
    """
    figure = Figure(figsize=(4.2, 3.7), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    ticks = torch.linspace(-_FAR, _FAR, _SIDE, dtype=torch.float64)
    grid = (
        torch.cartesian_prod(ticks, ticks).reshape(_SIDE, _SIDE, 2).transpose(0, 1).abs()
    )  # rows are x₂
    extent = (-_FAR, _FAR, -_FAR, _FAR)
    levels = matplotlib.colormaps["RdBu"].resampled(
        20
    )  # few enough colours for a GIF, which has 256
    heat = axes.imshow(
        grid[..., 0].numpy(), cmap=levels, vmin=0, vmax=1, origin="lower", extent=extent, alpha=0.75
    )
    axes.plot(*_ends(data), color=DATA, linewidth=2, label="data, hu")
    (made,) = axes.plot([], [], color=GENERATOR, linewidth=2, linestyle="--", label="generator, hv")
    arrow = axes.quiver(
        0, 0, 1, 0, color="#3f2b96", angles="xy", scale_units="xy", scale=1, width=0.01, zorder=3
    )
    arrow.set_label("critic's w")
    axes.set(xlim=extent[:2], ylim=extent[2:], xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.legend(fontsize=7, loc="upper left", framealpha=0.9)
    figure.colorbar(heat, ax=axes, shrink=0.8).set_label("D(x): held for data", fontsize=8)

    def draw(generator: Tensor, critic: Tensor, title: str) -> None:
        made.set_data(*_ends(generator))
        w = _direction(critic)
        heat.set_data(torch.sigmoid(grid @ w).numpy())
        arrow.set_UVC(float(w[0]), float(w[1]))
        axes.set_title(title, fontsize=9)

    return figure, draw


def _direction(vector: Tensor) -> Tensor:
    if vector.shape != (2,):
        raise ValueError(f"expected a direction of shape (2,), got {tuple(vector.shape)}")
    return vector.detach().cpu().double()


def _ends(vector: Tensor) -> tuple[list[float], list[float]]:
    """A line through the origin, beyond the picture on both sides."""
    a, b = (2 * _FAR * _direction(vector)).tolist()
    return [-a, a], [-b, b]


def _angle_between(one: Tensor, other: Tensor) -> float:
    """Of two lines through the origin, in degrees, from 0 to 90."""
    a, b = _direction(one), _direction(other)
    across = float((a[0] * b[1] - a[1] * b[0]).abs())
    return math.degrees(math.atan2(across, float((a @ b).abs())))
