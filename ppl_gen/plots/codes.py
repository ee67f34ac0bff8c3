"""Pictures of codes: posteriors as ellipses, what is lost where they overlap, curves of scores."""

from __future__ import annotations

__all__ = ["animation", "error_map", "latents", "roc_curves", "scatters"]

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.plots.style import (
    EXACT,
    MCMC,
    SERIES,
    array,
    describe_axes,
    figure_of,
    literal,
    one_axes,
    panels,
    styled,
)

_PROJECTIONS = {2: None, 3: "3d"}
_MOST_DOTS = 4000
_MOST_ELLIPSES = 400
_MOST_ELLIPSOIDS = 80
_CORNERS = 41  # of a line that stands for an ellipse
_CELLS = 60  # along each axis of a map


@styled
def latents(
    mean: Tensor,
    covariance: Tensor | None = None,
    labels: Tensor | None = None,
    names: Sequence[str] = (),
    title: str = "",
    limits: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Codes as dots, coloured by label, with lines of one standard deviation of q(z | x).

    In the plane these are ellipses, of the first 400 codes; in space, of the first 80, the three
    ellipses that an ellipsoid's main axes span.

    Args:
        mean: Means of q(z | x), (N, 2) or (N, 3).
        covariance: Covariances, (N, D, D); None draws dots alone.
        labels: A whole number for each, (N,), −1 where missing; None draws all in one colour.
        names: A name for each label; the numbers themselves if left out.
        title: Stands above.
        limits: The axes go from −limits to limits; to what is drawn if None.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the codes are not of two or three dimensions, or another tensor has not a row
            for each.
    """
    size = _expect_codes(mean, (2, 3))
    if covariance is not None and covariance.shape != (len(mean), size, size):
        raise ValueError(
            f"expected covariances of shape ({len(mean)}, {size}, {size}), got "
            f"{tuple(covariance.shape)}"
        )
    if labels is not None and labels.shape != mean.shape[:1]:
        raise ValueError(f"expected {len(mean)} labels, got shape {tuple(labels.shape)}")
    expect_positive(limits=limits)
    figure = figure_of(5.2, 4.6, ax=ax)
    axes: Any = figure.add_subplot(projection=_PROJECTIONS[size])
    chosen = slice(0, _MOST_DOTS)
    colours = _colours(labels, len(mean))
    points = array(mean[chosen].double())
    axes.scatter(*points.T, s=5, c=colours[chosen], linewidths=0, alpha=0.8)
    if covariance is not None:
        _outline(axes, mean.double(), covariance.double(), colours)
    if labels is not None:
        _name_colours(axes, labels, names)
    axes.set_title(title)
    describe_axes(axes, "z[0]", "z[1]")
    if size == 3:
        axes.set_zlabel("z[2]")
    else:
        axes.set_aspect("equal", adjustable="datalim")
    if limits is not None:
        axes.set_adjustable("box")
        axes.set_xlim(-limits, limits)
        axes.set_ylim(-limits, limits)
    return figure


@styled
def scatters(
    parts: Mapping[str, tuple[Tensor, Tensor | None]], title: str = "", ax: Axes | None = None
) -> Figure:
    """Codes in the plane as dots coloured by label, a panel for each part, all of one scale.

    Args:
        parts: By the words above a panel, codes (N, 2) and labels (N,), −1 where missing, or None.
        title: Stands above all.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If codes are not of two dimensions.
    """
    figure, axes = panels(
        len(parts), width=2.6, height=2.6, margins=(0.6, 0.3), most_across=3, ax=ax
    )
    reach = 0.0
    for mean, _ in parts.values():
        _expect_codes(mean, (2,))
        reach = max(reach, 1.1 * float(mean.abs().quantile(0.99)))
    for panel, (words, (mean, labels)) in zip(axes, parts.items(), strict=True):
        chosen = slice(0, _MOST_DOTS)
        colours = _colours(labels, len(mean))[chosen]
        panel.scatter(*array(mean[chosen]).T, s=4, c=colours, linewidths=0, alpha=0.8)
        panel.set_title(literal(words))
        panel.set_xlim(-reach, reach)
        panel.set_ylim(-reach, reach)
        panel.set_aspect("equal")
    _, labels = list(parts.values())[-1]
    if labels is not None:
        _name_colours(axes[-1], labels, ())
    figure.suptitle(title)
    return figure


@styled
def error_map(
    mean: Tensor,
    errors: Tensor,
    line: Tensor | None = None,
    title: str = "",
    label: str = "reconstruction error",
    ax: Axes | None = None,
) -> Figure:
    """The errors of data over the plane of their codes, averaged over those near by.

    The average is weighted by a normal of Scott's width around each place; places without codes
    near by are white.

    Args:
        mean: Codes, (N, 2).
        errors: A number for each, (N,).
        line: Codes (T, 2) that a line goes through, such as a path between two; None draws none.
        title: Stands above.
        label: What the numbers are.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If the codes are not of two dimensions, or there is not a number for each.
    """
    _expect_codes(mean, (2,))
    if errors.shape != mean.shape[:1]:
        raise ValueError(f"expected {len(mean)} errors, got shape {tuple(errors.shape)}")
    points = mean.double()
    low, high = points.min(0).values, points.max(0).values
    margin = 0.05 * (high - low)
    ticks = []
    for axis in (0, 1):
        first = float(low[axis] - margin[axis])
        last = float(high[axis] + margin[axis])
        ticks.append(torch.linspace(first, last, _CELLS, dtype=torch.float64))
    places = torch.cartesian_prod(*ticks).to(points)
    width = points.std(0) * len(points) ** (-1 / 6)
    distances = torch.cdist(places / width, points / width)
    weights = (-distances.square() / 2).exp()
    mass = weights.sum(1)
    average = weights @ errors.double() / mass
    average = torch.where(mass > 0.5, average, torch.nan).reshape(_CELLS, _CELLS)
    figure, axes = one_axes(5.4, 4.4, ax=ax)
    across, up = ticks
    shades = axes.pcolormesh(array(across), array(up), array(average.T), cmap="magma")
    axes.scatter(*array(points[:_MOST_DOTS]).T, s=2, color="0.6", linewidths=0, alpha=0.6)
    if line is not None:
        axes.plot(*array(line).T, color="#21a0a0", linewidth=2, marker="o", markersize=3)
    figure.colorbar(shades, ax=axes, label=label)
    axes.set_title(title)
    describe_axes(axes, "z[0]", "z[1]")
    return figure


@styled
def roc_curves(
    curves: Mapping[str, tuple[Tensor, Tensor]], title: str = "", ax: Axes | None = None
) -> Figure:
    """The share of novel data found against that of usual data taken for novel.

    Args:
        curves: By name, false and true positive rates, each (T,).
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.
    """
    figure, axes = one_axes(4.4, 4.0, ax=ax)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    for name, (false, true) in curves.items():
        axes.plot(array(false), array(true), linewidth=1.5, label=literal(name))
    axes.set_xlabel("usual data above the threshold")
    axes.set_ylabel("novel data above it")
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


def animation(figures: Sequence[Figure], seconds: float = 0.7) -> bytes:
    """Figures one after another, for ever, as an animated GIF; the last is shown three times.

    Args:
        figures: Of one size.
        seconds: How long each is shown.

    Raises:
        ValueError: If there are no figures, or seconds is not positive.
    """
    expect_at_least(1, figures=len(figures))
    expect_positive(seconds=seconds)
    frames = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    first, *others = frames
    stays = round(1000 * seconds)
    durations = [stays] * (len(frames) - 1) + [3 * stays]
    written = io.BytesIO()
    first.save(
        written,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
    )
    return written.getvalue()


def _outline(axes: Any, mean: Tensor, covariance: Tensor, colours: Any) -> None:
    """Lines of one standard deviation around the first codes."""
    size = mean.shape[1]
    most = _MOST_ELLIPSES
    if size == 3:
        most = _MOST_ELLIPSOIDS
    values, vectors = torch.linalg.eigh(covariance[:most].cpu())
    half_axes = vectors * values.clamp(min=0).sqrt()[:, None]
    angle = torch.linspace(0, 2 * torch.pi, _CORNERS, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    lines = []
    of_lines = []
    for i, j in ((0, 1), (0, 2), (1, 2))[: 2 * size - 3]:
        turned = circle @ half_axes[:, :, [i, j]].mT
        lines.append(turned + mean[:most, None].cpu())
        of_lines.append(colours[:most])
    segments = array(torch.cat(lines))
    kind: Any = LineCollection
    if size == 3:
        from mpl_toolkits.mplot3d.art3d import Line3DCollection

        kind = Line3DCollection
    shades = np.concatenate(of_lines)
    axes.add_collection(kind(segments, colors=shades, linewidths=0.6, alpha=0.6))


def _colours(labels: Tensor | None, count: int) -> Any:
    """A colour for each code, an array of names (N,)."""
    if labels is None:
        return np.array([MCMC] * count)
    palette = np.array([*SERIES, EXACT])
    return palette[_places(labels)]


def _places(labels: Tensor) -> Any:
    """The place of each label's colour; that of missing ones comes last."""
    known = array(labels)
    return np.where(known < 0, len(SERIES), known % len(SERIES))


def _name_colours(axes: Any, labels: Tensor, names: Sequence[str]) -> None:
    """A legend beside the codes: a dot and a name for each label, of up to ten."""
    held = [label for label in labels.unique().tolist() if label >= 0][: len(SERIES)]
    for label in held:
        name = str(label)
        if label < len(names):
            name = literal(names[label])
        axes.scatter([], [], s=12, color=SERIES[label % len(SERIES)], label=name)
    axes.figure.legend(loc="outside right upper", fontsize=7)


def _expect_codes(mean: Tensor, sizes: tuple[int, ...]) -> int:
    """D of codes (N, D); raises ValueError if it is none that can be drawn, or there are none."""
    if mean.dim() != 2 or len(mean) < 2 or mean.shape[1] not in sizes:
        wanted = " or ".join(map(str, sizes))
        raise ValueError(
            f"expected at least two codes of {wanted} dimensions, got shape {tuple(mean.shape)}; "
            "pick coordinates: codes[:, :2]"
        )
    return mean.shape[1]
