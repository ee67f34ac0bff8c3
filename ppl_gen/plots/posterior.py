"""Pictures of a guide beside MCMC beside the exact posterior, from arrays alone."""

from __future__ import annotations

__all__ = ["contours", "forest", "quantiles", "traces"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.style import (
    EXACT,
    FAINT,
    GUIDE,
    MCMC,
    SERIES,
    array,
    few_ticks,
    figure_of,
    largest,
    legend_below,
    literal,
    one_axes,
    panels,
    styled,
)

_MOST_ROWS = 30  # coordinates in a forest
_MOST_PANELS = 12
_MOST_TRACES = 8
_MOST_CHAINS = 8
_MOST_DOTS = 4000
_BINS = 60  # along each axis of the histogram that contours are drawn of


@styled
def contours(
    guide: Tensor,
    mcmc: Tensor,
    names: Sequence[str],
    pair: tuple[int, int] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Lines that hold 50, 80 and 95 % of the mass of q, over MCMC draws, for two coordinates.

    They are those of a smoothed histogram. Of a single coordinate there are two histograms instead.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: The names of the K coordinates.
        pair: Which two; the most telling if left out: those whose correlation the guide misses
            most, or else the one whose standard deviation it misses most and its strongest partner.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit, or a number of the pair is out of range.
    """
    _check_draws(guide, mcmc, names)
    pooled = mcmc.flatten(0, 1)
    if len(names) == 1:
        return _two_histograms(guide, pooled, literal(names[0]), title, ax)
    if pair is None:
        pair = _telling_pair(guide, pooled)
    i, j = pair
    known = range(len(names))
    if i == j or i not in known or j not in known:
        raise ValueError(
            f"expected a pair of two different coordinates below {len(names)}, got {pair}"
        )
    figure, axes = one_axes(4.8, 4.2, ax=ax)
    step = max(1, len(pooled) // _MOST_DOTS)
    dots = pooled[::step]
    axes.scatter(
        array(dots[:, i]),
        array(dots[:, j]),
        s=3,
        alpha=0.25,
        color=MCMC,
        linewidths=0,
        label="MCMC draws",
    )
    axes.set_xlim(*_window(guide[:, i], pooled[:, i]))
    axes.set_ylim(*_window(guide[:, j], pooled[:, j]))
    _draw_contours(axes, guide[:, [i, j]].double())
    axes.set_xlabel(literal(names[i]))
    axes.set_ylabel(literal(names[j]))
    axes.set_title(title)
    legend_below(figure, columns=4, markerscale=3)
    return figure


def _two_histograms(
    guide: Tensor, mcmc: Tensor, name: str, title: str, ax: Axes | None = None
) -> Figure:
    """Draws (M, 1) of guide and (n, 1) of MCMC, one over the other."""
    figure, axes = one_axes(4.8, 4.2, ax=ax)
    low, high = _window(guide[:, 0], mcmc[:, 0])
    bins = array(torch.linspace(low, high, 81))
    for draws, colour, label in ((mcmc, MCMC, "MCMC"), (guide, GUIDE, "guide")):
        axes.hist(
            array(draws[:, 0]),
            bins=bins,
            density=True,
            histtype="stepfilled",
            alpha=0.4,
            color=colour,
            label=label,
        )
    axes.set_xlabel(name)
    axes.set_ylabel("density")
    axes.legend()
    axes.set_title(title)
    return figure


def _draw_contours(axes: Any, draws: Tensor) -> None:
    """Lines that hold 95, 80 and 50 % of draws (M, 2), the thinnest outside."""
    x_edges = _edges(draws[:, 0])
    y_edges = _edges(draws[:, 1])
    density = _smoothed(draws, x_edges, y_edges)
    levels = _levels(density, (0.95, 0.8, 0.5))
    widths = (0.7, 1.3, 2.2)
    axes.contour(
        array(_middles(x_edges)),
        array(_middles(y_edges)),
        array(density.T),
        levels=levels,
        colors=GUIDE,
        linewidths=widths,
    )
    for width, label in ((2.2, "50 % of the guide"), (1.3, "80 %"), (0.7, "95 %")):
        axes.plot([], [], color=GUIDE, linewidth=width, label=label)


def _telling_pair(guide: Tensor, mcmc: Tensor) -> tuple[int, int]:
    """The two coordinates that show best what the guide misses, from draws (M, K) and (n, K)."""
    of_mcmc = _correlation(mcmc)
    missed = (of_mcmc - _correlation(guide)).abs().fill_diagonal_(0)
    if float(missed.max()) > 0.15:
        i, j = divmod(int(missed.argmax()), len(missed))
    else:
        ratio = guide.double().std(0) / mcmc.double().std(0)
        off = ratio.log().abs().nan_to_num(0.0)
        i = int(off.argmax())
        strength = of_mcmc[i].abs()
        strength[i] = -1.0
        j = int(strength.argmax())
    return min(i, j), max(i, j)


def _correlation(draws: Tensor) -> Tensor:
    """(K, K) of draws (n, K); 0 where a coordinate does not vary."""
    centred = draws.double() - draws.double().mean(0)
    unit = centred / centred.square().sum(0).sqrt()
    return (unit.T @ unit).nan_to_num(0.0)


def _window(guide: Tensor, mcmc: Tensor) -> tuple[float, float]:
    """What is shown of an axis: all but the outermost draws (M,) and (n,), with a margin."""
    outermost = torch.tensor([0.002, 0.998]).double()
    of_guide = _quantiles(guide[:, None], outermost)[:, 0]
    of_mcmc = _quantiles(mcmc[:, None], outermost)[:, 0]
    low = float(torch.minimum(of_guide, of_mcmc)[0])
    high = float(torch.maximum(of_guide, of_mcmc)[1])
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _smoothed(draws: Tensor, x_edges: Tensor, y_edges: Tensor) -> Tensor:
    """A histogram (bins, bins) of draws (M, 2), smoothed by a normal of about Scott's width."""
    x, y = draws[:, 0].contiguous(), draws[:, 1].contiguous()
    row = torch.bucketize(x, x_edges[1:-1]).cpu()
    column = torch.bucketize(y, y_edges[1:-1]).cpu()
    ones = torch.ones(len(draws), dtype=torch.float64)
    counts = torch.zeros(_BINS * _BINS, dtype=torch.float64)
    counts = counts.index_add(0, row * _BINS + column, ones).reshape(_BINS, _BINS)
    # A kernel along the axes must not be wider than a strongly correlated pair is across: √(1 − ρ²)
    # of its coordinates.
    rho = float(_correlation(draws)[0, 1])
    narrow = math.sqrt(max(1 - rho**2, 0.01))
    return _smoothing(x, x_edges, narrow) @ counts @ _smoothing(y, y_edges, narrow).T


def _edges(draws: Tensor) -> Tensor:
    """Edges (bins + 1,) of a histogram of draws (M,), with a margin on both sides.

    Nothing is smeared below zero where all draws are positive.
    """
    low = float(draws.min())
    high = float(draws.max())
    margin = 0.15 * (high - low) or 1.0
    start = low - margin
    if low > 0:
        start = max(start, 0.0)
    return torch.linspace(start, high + margin, _BINS + 1, dtype=torch.float64)


def _middles(edges: Tensor) -> Tensor:
    """The middle of each bin."""
    return (edges[1:] + edges[:-1]) / 2


def _smoothing(draws: Tensor, edges: Tensor, narrow: float) -> Tensor:
    """The matrix (bins, bins) that spreads each bin of draws (M,) over those around it."""
    bin_width = float(edges[1] - edges[0])
    scott = float(draws.std()) * len(draws) ** (-1 / 6)
    width = max(0.7, narrow * scott / bin_width)
    offsets = torch.arange(_BINS, dtype=torch.float64)
    distance = offsets[:, None] - offsets
    kernel = torch.exp(-0.5 * (distance / width).square())
    return kernel / kernel.sum(0)


def _levels(density: Tensor, masses: Sequence[float]) -> list[float]:
    """The densities above which these shares of the mass lie, strictly ascending."""
    ordered = density.flatten().sort(descending=True).values
    total = ordered.cumsum(0) / ordered.sum()
    levels: list[float] = []
    for i, mass in enumerate(masses):
        last = min(int((total < mass).sum()), len(ordered) - 1)
        levels.append(float(ordered[last]) + 1e-12 * i)
    return levels


@styled
def quantiles(
    guide: Tensor,
    mcmc: Tensor,
    names: Sequence[str],
    exact: Tensor | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Quantiles of guide and exact posterior against those of MCMC, a panel for each coordinate.

    The diagonal is agreement; flatter than it is too sure, an offset is a bias, a step is a mode
    that is missed. Of more than twelve coordinates, the twelve that are farthest from it are shown.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: The names of the K coordinates.
        exact: Draws from the exact posterior, (M, K), where there are any.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check_draws(guide, mcmc, names)
    levels = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    of_mcmc = _quantiles(mcmc.flatten(0, 1), levels)
    of_guide = _quantiles(guide, levels)
    of_exact = None if exact is None else _quantiles(exact, levels)
    distance = ((of_guide - of_mcmc) / of_mcmc.std(0)).square().mean(0)
    shown = largest(distance.nan_to_num(math.inf), _MOST_PANELS)

    figure, axes = panels(len(shown), width=2.1, height=2.0, margins=(0.5, 0.9), ax=ax)
    for panel, k in zip(axes, shown, strict=True):
        across = array(of_mcmc[:, k])
        ends = [across.min(), across.max()]
        panel.plot(ends, ends, color=FAINT, linewidth=0.8)
        if of_exact is not None:
            panel.plot(across, array(of_exact[:, k]), color=EXACT, linewidth=1, linestyle=":")
        panel.plot(across, array(of_guide[:, k]), color=GUIDE, linewidth=1.5)
        panel.set_title(literal(names[k]))
        few_ticks(panel)
    lines = [("guide", GUIDE, "-"), ("exact", EXACT, ":"), ("agreement", FAINT, "-")]
    if exact is None:
        lines = [lines[0], lines[2]]
    for label, colour, style in lines:
        axes[0].plot([], [], color=colour, linestyle=style, label=label)
    figure.legend(loc="outside upper right", ncols=3)
    said = _left_out(title, len(shown), len(names), "farthest from MCMC")
    figure.suptitle(said, x=0.01, ha="left")
    figure.supxlabel("quantiles of MCMC")
    figure.supylabel("quantiles of the guide")
    return figure


@styled
def forest(
    guide: Tensor,
    mcmc: Tensor,
    names: Sequence[str],
    exact: tuple[Tensor, Tensor] | None = None,
    scaled: bool = False,
    support: tuple[Tensor, Tensor] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Central intervals of 50 % (thick) and 95 % (thin) and medians, of guide and MCMC, in rows.

    The exact mean ± 2 sd, as far as the support goes, stands below them, where it is known. Of more
    than thirty coordinates, the thirty whose standard deviation or mean is farthest off are shown.

    Args:
        guide: Draws of the guide, (M, K).
        mcmc: Draws of MCMC, (chains, draws, K).
        names: The names of the K coordinates.
        exact: Mean and standard deviation, each (K,), NaN where they are not known.
        scaled: Whether to take the mean of MCMC off and divide by its standard deviation, for
            coordinates of unlike size.
        support: The least and the largest value that each coordinate can take, each (K,), or ∓∞;
            None where they have no ends. The exact interval is cut there.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check_draws(guide, mcmc, names)
    pooled = mcmc.flatten(0, 1).double()
    mean = pooled.mean(0)
    sd = pooled.std(0)
    sd_ratio = guide.double().std(0) / sd
    shift_in_sd = (guide.double().mean(0) - mean) / sd
    badness = sd_ratio.log().abs() + shift_in_sd.abs()
    shown = largest(badness.nan_to_num(math.inf), _MOST_ROWS)
    shift = torch.zeros_like(mean)
    unit = torch.ones_like(sd)
    if scaled:
        shift = mean
        unit = sd

    figure, axes = one_axes(5.2, 0.32 * len(shown) + 1.3, ax=ax)
    rows = torch.arange(len(shown), dtype=torch.float64)
    levels = torch.tensor([0.025, 0.25, 0.5, 0.75, 0.975], dtype=torch.float64)
    of_guide = (_quantiles(guide, levels) - shift) / unit
    of_mcmc = (_quantiles(pooled, levels) - shift) / unit
    _draw_intervals(axes, of_guide[:, shown], rows - 0.2, GUIDE, "guide")
    _draw_intervals(axes, of_mcmc[:, shown], rows + 0.05, MCMC, "MCMC")
    if exact is not None and bool(torch.isfinite(exact[0]).any()):
        low, high = _two_sd_within(exact, support)
        reach = torch.stack([exact[0] - low, high - exact[0]]).clamp(min=0) / unit
        axes.errorbar(
            array(((exact[0] - shift) / unit)[shown]),
            array(rows + 0.28),
            xerr=array(reach[:, shown]),
            fmt="|",
            color=EXACT,
            linewidth=0.8,
            markersize=5,
            label="reference, mean ± 2 sd",
        )
    axes.set_yticks(array(rows), [literal(names[k]) for k in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    if scaled:
        axes.set_xlabel("in standard deviations of MCMC from its mean")
    axes.set_title(_left_out(title, len(shown), len(names), "farthest off"))
    legend_below(figure, columns=3)
    return figure


def _two_sd_within(
    exact: tuple[Tensor, Tensor], support: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """The ends of mean ± 2 sd, each (K,), no farther than those of the support."""
    mean, sd = exact
    low = mean - 2 * sd
    high = mean + 2 * sd
    if support is None:
        return low, high
    return torch.maximum(low, support[0]), torch.minimum(high, support[1])


def _draw_intervals(axes: Any, ends: Tensor, rows: Tensor, colour: str, label: str) -> None:
    """Two intervals and the median of each of R rows, from their five quantiles (5, R)."""
    heights = array(rows)
    low, lower, middle, upper, high = array(ends)
    axes.hlines(heights, low, high, color=colour, linewidth=1)
    axes.hlines(heights, lower, upper, color=colour, linewidth=3.5)
    axes.scatter(middle, heights, color="white", edgecolor=colour, s=12, zorder=3, label=label)


@styled
def traces(mcmc: Tensor, names: Sequence[str], title: str = "", ax: Axes | None = None) -> Figure:
    """Draws of each chain in turn, beside the histogram of their ranks: level where chains agree.

    Of more than eight coordinates, the eight whose chains differ most are shown; of more than eight
    chains, eight.

    Args:
        mcmc: Draws of MCMC, (chains, draws, K).
        names: The names of the K coordinates.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization, section 4.
    """
    _check_draws(mcmc[0], mcmc, names)
    chains = len(mcmc)
    between = mcmc.double().mean(1).var(0, correction=0)
    within = mcmc.double().var(1, correction=0).mean(0)
    shown = largest((between / within).nan_to_num(math.inf), _MOST_TRACES)
    spread = torch.linspace(0, chains - 1, min(chains, _MOST_CHAINS))
    some = spread.round().long().tolist()

    figure = figure_of(6.4, 1.25 * len(shown) + 0.8, ax=ax)
    grid = figure.add_gridspec(len(shown), 2, width_ratios=(3, 1.4))
    for row, k in enumerate(shown):
        trace = figure.add_subplot(grid[row, 0])
        rank = figure.add_subplot(grid[row, 1])
        _draw_traces(trace, mcmc[some, :, k])
        _draw_ranks(rank, mcmc[..., k], some)
        trace.set_ylabel(literal(names[k]))
        for axes in (trace, rank):
            axes.tick_params(labelsize=7, labelbottom=k == shown[-1])
            axes.yaxis.set_major_locator(MaxNLocator(4))
    figure.axes[-2].set_xlabel("draw")
    figure.axes[-1].set_xlabel("rank among all draws")
    figure.axes[1].set_title("density of ranks")
    said = _left_out(title, len(shown), len(names), "whose chains differ most")
    if len(some) < chains:
        said += f", {len(some)} of {chains} chains"
    figure.axes[0].set_title(said)
    return figure


def _draw_traces(axes: Any, chains: Tensor) -> None:
    """Each chain (C, S) as a line."""
    for i, chain in enumerate(chains):
        axes.plot(array(chain), color=SERIES[i % len(SERIES)], linewidth=0.5, alpha=0.8)
    axes.margins(x=0)


def _draw_ranks(axes: Any, chains: Tensor, some: Sequence[int]) -> None:
    """Densities of the ranks of some of the chains among the draws of all, (C, S)."""
    count = chains.shape[1]
    bins = max(5, min(20, count // 10))
    edges = torch.linspace(0, 1, bins + 1)
    order = chains.flatten().argsort()
    ranks = order.argsort().reshape(chains.shape).double()
    highest = 1.0
    for i, chain in enumerate(some):
        heights = torch.histc(ranks[chain], bins, 0, chains.numel()) * bins / count
        highest = max(highest, float(heights.max()))
        axes.stairs(array(heights), array(edges), color=SERIES[i % len(SERIES)], linewidth=0.8)
    axes.axhline(1, color="0.3", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.08 * highest)


def _check_draws(guide: Tensor, mcmc: Tensor, names: Sequence[str]) -> None:
    """Raises ValueError unless there are draws (M, K) and (chains, draws, K), and K names."""
    fit = guide.dim() == 2 and mcmc.dim() == 3 and len(guide) > 1
    if not fit or not guide.shape[1] == mcmc.shape[2] == len(names) > 0:
        raise ValueError(
            "expected draws of the guide (M, K), of MCMC (chains, draws, K), and K names, got "
            f"{tuple(guide.shape)}, {tuple(mcmc.shape)} and {len(names)}"
        )


def _quantiles(draws: Tensor, levels: Tensor) -> Tensor:
    """(levels, K) of draws (M, K): from sorting, since torch.quantile refuses large tensors."""
    ordered = draws.detach().double().sort(0).values
    last = len(ordered) - 1
    at = levels * last
    below = at.long()
    above = (below + 1).clamp(max=last)
    return ordered[below].lerp(ordered[above], (at - below)[:, None])


def _left_out(title: str, shown: int, total: int, which: str) -> str:
    """The title, and how many coordinates are shown where these are not all."""
    if shown == total:
        return title
    note = f"the {shown} of {total} coordinates {which}"
    if not title:
        return note[0].upper() + note[1:]
    return f"{title}: {note}"
