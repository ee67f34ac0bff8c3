"""Pictures of a guide beside MCMC beside the exact posterior, from arrays alone, as matplotlib
figures.
"""

from __future__ import annotations

__all__ = ["contours", "forest", "quantiles", "traces"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

GUIDE, MCMC, EXACT = "#d95f02", "#1b6ca8", "#222222"
_MOST_FOREST, _MOST_PANELS, _MOST_TRACES = 30, 12, 8


def contours(
    guide: Tensor,
    mcmc: Tensor,
    names: Sequence[str],
    pair: tuple[int, int] | None = None,
    title: str = "",
) -> Figure:
    """Where q holds 50, 80 and 95 % of its mass, over MCMC draws, for two coordinates: lines of a
    smoothed histogram.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: Of the K coordinates.
        pair: Which two; the most telling if left out: those whose correlation the guide misses
            most, or else the one whose standard deviation it misses most and its strongest partner.
        title: Stands above.

    Raises:
        ValueError: If shapes do not fit, or a number of the pair is out of range.
    """
    _check(guide, mcmc, names)
    flat = mcmc.flatten(0, 1)
    figure = Figure(figsize=(4.8, 4.2), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    if len(names) == 1:
        bins = _array(torch.linspace(*_window(guide, flat, (0,))[0], 81))
        for draws, colour, label in ((flat, MCMC, "MCMC"), (guide, GUIDE, "guide")):
            axes.hist(
                _array(draws[:, 0]),
                bins=bins,
                density=True,
                histtype="stepfilled",
                alpha=0.4,
                color=colour,
                label=label,
            )
        axes.set_xlabel(names[0])
        axes.set_ylabel("density")
        axes.legend(fontsize=8, frameon=False)
        axes.set_title(title, fontsize=9)
        return figure
    i, j = _telling_pair(guide, flat) if pair is None else pair
    if not (0 <= i < len(names) and 0 <= j < len(names) and i != j):
        raise ValueError(
            f"expected a pair of two different coordinates below {len(names)}, got {pair}"
        )
    shown = flat[:: max(1, len(flat) // 4000)]
    axes.scatter(
        _array(shown[:, i]),
        _array(shown[:, j]),
        s=3,
        alpha=0.25,
        color=MCMC,
        linewidths=0,
        label="MCMC draws",
    )
    for k, (low, high) in zip((i, j), _window(guide, flat, (i, j)), strict=True):
        (axes.set_xlim if k == i else axes.set_ylim)(low, high)
    density, edges = _smoothed(guide[:, [i, j]].double())
    levels = _levels(density, (0.95, 0.8, 0.5))
    centres = [_array((e[1:] + e[:-1]) / 2) for e in edges]
    widths = (0.7, 1.3, 2.2)
    axes.contour(*centres, _array(density.T), levels=levels, colors=GUIDE, linewidths=widths)
    for width, label in zip(widths[::-1], ("50 % of the guide", "80 %", "95 %"), strict=True):
        axes.plot([], [], color=GUIDE, linewidth=width, label=label)
    axes.set_xlabel(names[i])
    axes.set_ylabel(names[j])
    axes.set_title(title, fontsize=9)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False, markerscale=3)
    return figure


def quantiles(
    guide: Tensor, mcmc: Tensor, names: Sequence[str], exact: Tensor | None = None, title: str = ""
) -> Figure:
    """Quantiles of the guide, and of exact draws where there are any, against those of MCMC, a
    panel for each coordinate.

    The diagonal is agreement; flatter than it is too sure, an offset is a bias, a step is a mode
    that is missed. Of more than twelve coordinates, the twelve that are farthest from it are shown.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: Of the K coordinates.
        exact: Draws from the exact posterior, (M, K).
        title: Stands above.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check(guide, mcmc, names)
    levels = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    theirs, ours = _quantiles(mcmc.flatten(0, 1), levels), _quantiles(guide, levels)
    off = ((ours - theirs) / theirs.std(0)).square().mean(0).nan_to_num(math.inf)
    order = sorted(off.argsort(descending=True)[:_MOST_PANELS].tolist())
    columns = min(4, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(2.1 * columns + 0.5, 2.0 * rows + 0.9), layout="constrained", dpi=150)
    for at, k in enumerate(order):
        axes = figure.add_subplot(rows, columns, at + 1)
        ends = [float(theirs[:, k].min()), float(theirs[:, k].max())]
        axes.plot(ends, ends, color="0.6", linewidth=0.8, label="_")
        if exact is not None:
            axes.plot(
                _array(theirs[:, k]),
                _array(_quantiles(exact[:, [k]], levels)[:, 0]),
                color=EXACT,
                linewidth=1,
                linestyle=":",
            )
        axes.plot(_array(theirs[:, k]), _array(ours[:, k]), color=GUIDE, linewidth=1.5)
        axes.set_title(names[k], fontsize=8)
        axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
    handles = [
        figure.axes[0].plot([], [], color=c, linestyle=s)[0]
        for c, s in ((GUIDE, "-"), (EXACT, ":"), ("0.6", "-"))
    ]
    labels = ["guide", "exact", "agreement"]
    keep = [0, 1, 2] if exact is not None else [0, 2]
    figure.legend(
        [handles[k] for k in keep],
        [labels[k] for k in keep],
        loc="outside upper right",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(
        _left_out(title, len(order), len(names), "farthest from MCMC"),
        fontsize=9,
        x=0.01,
        ha="left",
    )
    figure.supxlabel("quantiles of MCMC", fontsize=8)
    figure.supylabel("quantiles of the guide", fontsize=8)
    return figure


def forest(
    guide: Tensor,
    mcmc: Tensor,
    names: Sequence[str],
    exact: tuple[Tensor, Tensor] | None = None,
    scaled: bool = False,
    title: str = "",
) -> Figure:
    """Central intervals of 50 % (thick) and 95 % (thin) and the median of guide and MCMC, and the
    exact mean ± 2 sd, in rows.

    Of more than thirty coordinates, the thirty whose standard deviation or mean is farthest off are
    shown.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: Of the K coordinates.
        exact: Mean and standard deviation, each (K,), NaN where they are not known.
        scaled: Whether to take the mean of MCMC off and divide by its standard deviation, for
            coordinates of unlike size.
        title: Stands above.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check(guide, mcmc, names)
    flat = mcmc.flatten(0, 1).double()
    mean, sd = flat.mean(0), flat.std(0)
    badness = (
        (guide.double().std(0) / sd).log().abs() + (guide.double().mean(0) - mean).abs() / sd
    ).nan_to_num(math.inf)
    order = sorted(badness.argsort(descending=True)[:_MOST_FOREST].tolist())
    shift, unit = (mean, sd) if scaled else (torch.zeros_like(mean), torch.ones_like(sd))
    figure = Figure(figsize=(5.2, 0.32 * len(order) + 1.3), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    levels = torch.tensor([0.025, 0.25, 0.5, 0.75, 0.975], dtype=torch.float64)
    rows = range(len(order))
    for draws, colour, label, offset in ((guide, GUIDE, "guide", -0.2), (flat, MCMC, "MCMC", 0.05)):
        ends = _array(((_quantiles(draws, levels) - shift) / unit)[:, order])
        heights = [r + offset for r in rows]
        axes.hlines(heights, ends[0], ends[4], color=colour, linewidth=1)
        axes.hlines(heights, ends[1], ends[3], color=colour, linewidth=3.5)
        axes.scatter(ends[2], heights, color="white", edgecolor=colour, s=12, zorder=3, label=label)
    if exact is not None and bool(torch.isfinite(exact[0]).any()):
        middle, width = (
            _array(((exact[0] - shift) / unit)[order]),
            _array((2 * exact[1] / unit)[order]),
        )
        heights = [r + 0.28 for r in rows]
        axes.errorbar(
            middle,
            heights,
            xerr=width,
            fmt="|",
            color=EXACT,
            linewidth=0.8,
            markersize=5,
            label="reference, mean ± 2 sd",
        )
    axes.set_yticks(list(rows), [names[k] for k in order], fontsize=8)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    if scaled:
        axes.set_xlabel("in standard deviations of MCMC from its mean", fontsize=8)
    axes.set_title(_left_out(title, len(order), len(names), "farthest off"), fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def traces(mcmc: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """Draws of each chain in turn, beside the histogram of their ranks: level for every chain where
    chains agree.

    Of more than eight coordinates, the eight whose chains differ most are shown; of more than eight
    chains, eight.

    Args:
        mcmc: Draws of MCMC, (chains, draws, K).
        names: Of the K coordinates.
        title: Stands above.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization, section 4.
    """
    _check(mcmc[0], mcmc, names)
    chains, count, _ = mcmc.shape
    between = mcmc.double().mean(1).var(0, correction=0) / mcmc.double().var(1, correction=0).mean(
        0
    )
    order = sorted(between.nan_to_num(math.inf).argsort(descending=True)[:_MOST_TRACES].tolist())
    shown = torch.linspace(0, chains - 1, min(chains, 8)).round().long().tolist()
    figure = Figure(figsize=(6.4, 1.25 * len(order) + 0.8), layout="constrained", dpi=150)
    grid = figure.add_gridspec(len(order), 2, width_ratios=(3, 1.4))
    colours = [f"C{i}" for i in range(10)]
    bins = max(5, min(20, count // 10))
    for row, k in enumerate(order):
        trace, rank = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        top = 1.0
        ranks = mcmc[..., k].flatten().argsort().argsort().reshape(chains, count)
        for i, c in enumerate(shown):
            trace.plot(_array(mcmc[c, :, k]), color=colours[i % 10], linewidth=0.5, alpha=0.8)
            heights = torch.histc(ranks[c].double(), bins, 0, chains * count) * bins / count
            top = max(top, float(heights.max()))
            rank.stairs(
                _array(heights),
                _array(torch.linspace(0, 1, bins + 1)),
                color=colours[i % 10],
                linewidth=0.8,
            )
        rank.axhline(1, color="0.3", linewidth=0.8, linestyle="--")
        rank.set_ylim(0, 1.08 * top)
        trace.set_ylabel(names[k], fontsize=8)
        trace.margins(x=0)
        for axes in (trace, rank):
            axes.tick_params(labelsize=7, labelbottom=row == len(order) - 1)
            axes.yaxis.set_major_locator(MaxNLocator(4))
    figure.axes[-2].set_xlabel("draw", fontsize=8)
    figure.axes[-1].set_xlabel("rank among all draws", fontsize=8)
    figure.axes[1].set_title("density of ranks", fontsize=8)
    which = f", {len(shown)} of {chains} chains" if len(shown) < chains else ""
    figure.axes[0].set_title(
        _left_out(title, len(order), len(names), "whose chains differ most") + which, fontsize=8
    )
    return figure


def _check(guide: Tensor, mcmc: Tensor, names: Sequence[str]) -> None:
    if (
        mcmc.dim() != 3
        or guide.dim() != 2
        or not guide.shape[1] == mcmc.shape[2] == len(names) > 0
        or len(guide) < 2
    ):
        raise ValueError(
            "expected draws of the guide (M, K), of MCMC (chains, draws, K), and K names, got "
            f"{tuple(guide.shape)}, {tuple(mcmc.shape)} and {len(names)}"
        )


def _array(value: Tensor) -> Any:
    return value.detach().cpu().numpy()


def _quantiles(draws: Tensor, levels: Tensor) -> Tensor:
    """(levels, K) of draws (M, K): from sorting, since torch.quantile refuses large tensors."""
    ordered = draws.detach().double().sort(0).values
    at = levels * (len(ordered) - 1)
    low = at.long()
    return ordered[low].lerp(ordered[(low + 1).clamp(max=len(ordered) - 1)], (at - low)[:, None])


def _left_out(title: str, shown: int, total: int, which: str) -> str:
    if shown == total:
        return title
    note = f"the {shown} of {total} coordinates {which}"
    return f"{title}: {note}" if title else note[0].upper() + note[1:]


def _correlation(draws: Tensor) -> Tensor:
    centred = draws.double() - draws.double().mean(0)
    unit = centred / centred.square().sum(0).sqrt()
    return (unit.T @ unit).nan_to_num(0.0)


def _telling_pair(guide: Tensor, mcmc: Tensor) -> tuple[int, int]:
    """The two coordinates that show best what the guide misses."""
    theirs = _correlation(mcmc)
    missed = (theirs - _correlation(guide)).abs().fill_diagonal_(0)
    if float(missed.max()) > 0.15:
        i, j = divmod(int(missed.argmax()), len(missed))
    else:
        i = int((guide.double().std(0) / mcmc.double().std(0)).log().abs().nan_to_num(0.0).argmax())
        j = int(theirs[i].abs().scatter(0, torch.tensor(i), -1.0).argmax())
    return min(i, j), max(i, j)


def _window(guide: Tensor, mcmc: Tensor, which: Sequence[int]) -> list[tuple[float, float]]:
    """What the picture shows of each axis: all but the outermost draws of both, with a margin."""
    ends = []
    for k in which:
        parts = torch.stack(
            [
                _quantiles(d[:, [k]], torch.tensor([0.002, 0.998]).double())[:, 0]
                for d in (guide, mcmc)
            ]
        )
        low, high = float(parts[:, 0].min()), float(parts[:, 1].max())
        margin = 0.06 * (high - low) or 1.0
        ends.append((low - margin, high + margin))
    return ends


def _smoothed(draws: Tensor, bins: int = 60) -> tuple[Tensor, list[Tensor]]:
    """A histogram (bins, bins) of draws (M, 2), smoothed by a normal of about Scott's width, and
    its edges.

    Nothing is smeared below zero where all draws are positive.
    """
    edges = []
    for low, high in [(float(c.min()), float(c.max())) for c in draws.T]:
        margin = 0.15 * (high - low) or 1.0
        low = max(low - margin, 0.0) if low > 0 else low - margin
        edges.append(torch.linspace(low, high + margin, bins + 1, dtype=torch.float64))
    places = [torch.bucketize(c.contiguous(), e[1:-1]) for c, e in zip(draws.T, edges, strict=True)]
    counts = torch.zeros(bins * bins, dtype=torch.float64)
    counts = counts.index_add(
        0, places[0].cpu() * bins + places[1].cpu(), torch.ones(len(draws), dtype=torch.float64)
    )
    # A kernel along the axes must not be wider than a strongly correlated pair is across: √(1 − ρ²)
    # of its coordinates.
    narrow = math.sqrt(max(1 - float(_correlation(draws)[0, 1]) ** 2, 0.01))
    kernels = []
    for c, e in zip(draws.T, edges, strict=True):
        width = max(0.7, narrow * float(c.std()) * len(draws) ** (-1 / 6) / float(e[1] - e[0]))
        offsets = torch.arange(bins, dtype=torch.float64)
        kernel = torch.exp(-0.5 * ((offsets[:, None] - offsets) / width).square())
        kernels.append(kernel / kernel.sum(0))
    return kernels[0] @ counts.reshape(bins, bins) @ kernels[1].T, edges


def _levels(density: Tensor, masses: Sequence[float]) -> list[float]:
    """The densities above which these shares of the mass lie, strictly ascending."""
    ordered = density.flatten().sort(descending=True).values
    total = ordered.cumsum(0) / ordered.sum()
    found = [
        float(ordered[int((total < mass).sum().clamp(max=len(ordered) - 1))]) for mass in masses
    ]
    return [level + 1e-12 * i for i, level in enumerate(found)]
