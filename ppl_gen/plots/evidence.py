"""Pictures of how far to trust an inference: ranks, unused latents, gaps and bounds."""

from __future__ import annotations

__all__ = ["bounds", "collapse_panel", "gap_bars", "rank_histograms", "sandwich"]

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.style import (
    EXACT,
    GUIDE,
    MCMC,
    SERIES,
    array,
    describe_axes,
    few_ticks,
    figure_of,
    largest,
    legend_below,
    literal,
    one_axes,
    panels,
    styled,
)

UNUSED = "0.65"
_BAND = "0.85"
_MOST_PANELS = 16


@styled
def rank_histograms(
    ranks: Mapping[str, Tensor], draws: int, title: str = "", ax: Axes | None = None
) -> Figure:
    """Ranks of the truth among L draws, a panel for each coordinate: level where calibrated.

    ∪ is too narrow, ∩ too wide, a slope is a bias. The band holds 99 % of the heights of each bar
    if ranks are uniform. Of more than sixteen coordinates, the sixteen that are least uniform are
    shown.

    Args:
        ranks: By name, each of shape (n, *shape), from 0 to L, such as the `ranks` of a
            calibration.
        draws: L, the number of posterior draws among which the truth is ranked.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there are none, they are of unlike number, or one is out of range.
    """
    names, columns = _columns(ranks, draws)
    n = len(columns)
    bins = min(draws + 1, max(4, min(20, n // 10)))
    bin_of_rank = torch.arange(draws + 1) * bins // (draws + 1)
    held = torch.bincount(bin_of_rank, minlength=bins)  # ranks, by each bin
    edges = [0, *itertools.accumulate(held.tolist())]
    expected = n * held.double() / (draws + 1)
    counts = [torch.bincount(bin_of_rank[column], minlength=bins) for column in columns.T]
    heights = torch.stack(counts) / expected
    share = held.double() / (draws + 1)
    low = _binomial_quantiles(n, share, 0.005) / expected
    high = _binomial_quantiles(n, share, 0.995) / expected
    unevenness = ((heights - 1).square() * expected).sum(1)
    shown = largest(unevenness, _MOST_PANELS)

    figure, axes = panels(len(shown), width=2.2, height=1.7, margins=(0.6, 0.9), ax=ax)
    for panel, k in zip(axes, shown, strict=True):
        panel.stairs(array(high), edges, baseline=array(low), fill=True, color=_BAND)
        panel.stairs(array(heights[k]), edges, fill=True, color=GUIDE, alpha=0.6)
        panel.axhline(1, color=EXACT, linewidth=0.8, linestyle="--")
        top = max(1.1 * float(heights[k].max()), 1.15 * float(high.max()))
        panel.set_ylim(0, top)
        panel.set_xlim(0, draws + 1)
        panel.set_title(literal(names[k]))
        few_ticks(panel, whole=True)
    said = [title] if title else []
    if len(shown) < len(names):
        said.append(f"the {len(shown)} least uniform of {len(names)}")
    figure.suptitle(": ".join(said))
    figure.supxlabel(f"rank of the truth among {draws} draws, {n} simulations")
    figure.supylabel("frequency / uniform")
    return figure


def _columns(ranks: Mapping[str, Tensor], draws: int) -> tuple[list[str], Tensor]:
    """Names and ranks (n, K) of all coordinates.

    Raises:
        ValueError: If there are none, they are of unlike number, or one is out of range.
    """
    lengths = {len(values) for values in ranks.values()}
    if len(lengths) != 1:
        raise ValueError(
            "expected ranks (n, *shape) of one number n, got "
            f"{[tuple(values.shape) for values in ranks.values()]}"
        )
    names: list[str] = []
    columns: list[Tensor] = []
    for name, values in ranks.items():
        names += _coordinate_names(name, values.shape[1:])
        columns.append(values.detach().cpu().reshape(len(values), -1))
    joined = torch.cat(columns, 1)
    if not joined.numel() or int(joined.min()) < 0 or int(joined.max()) > draws:
        raise ValueError(f"expected ranks from 0 to {draws}, got some from outside, or none")
    return names, joined


def _coordinate_names(name: str, shape: torch.Size) -> list[str]:
    """ "z[0, 0]", "z[0, 1]", …; the name itself for a scalar."""
    if not shape:
        return [name]
    places = itertools.product(*map(range, shape))
    return [f"{name}[{', '.join(map(str, place))}]" for place in places]


def _binomial_quantiles(n: int, p: Tensor, level: float) -> Tensor:
    """Quantiles of Binomial(n, p), by summing its masses."""
    counts = torch.arange(n + 1, dtype=torch.float64)
    masses = torch.distributions.Binomial(n, p[:, None]).log_prob(counts).exp()
    return (masses.cumsum(1) < level).sum(1).double()


@styled
def collapse_panel(
    means: Tensor,
    sds: Tensor,
    kl: Tensor,
    active: Tensor,
    prior: tuple[Tensor, Tensor] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Four panels: KL of each latent, posterior means, posterior widths, and both by latent.

    A latent that is not used has the prior for its posterior: means of no spread, and standard
    deviations of 1.

    Args:
        means: Posterior means, (N, D).
        sds: Posterior standard deviations, (N, D).
        kl: Divergence of each latent from the prior, in nats, (D,).
        active: Which latents are used, (D,).
        prior: Mean and standard deviation of the prior, each (D,) or (N, D), in which the others
            are measured; 0 and 1 if None.
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit.
    """
    pairs = means.dim() == 2 and means.shape == sds.shape and len(means) > 1
    if not pairs or not kl.shape == active.shape == means.shape[1:]:
        raise ValueError(
            "expected means and sds (N, D) with N of at least 2, kl and active (D,), got "
            f"{tuple(means.shape)}, {tuple(sds.shape)}, {tuple(kl.shape)} and "
            f"{tuple(active.shape)}"
        )
    shift = means.detach().cpu()
    width = sds.detach().cpu()
    if prior is not None:
        centre, unit = prior
        shift = (shift - centre.detach().cpu()) / unit.detach().cpu()
        width = width / unit.detach().cpu()
    used = active.detach().cpu().bool()

    figure = figure_of(7.0, 5.2, ax=ax)
    (bars, places), (widths, both) = figure.subplots(2, 2)
    _sorted_bars(bars, kl.detach().cpu(), used)
    _means_against_prior(places, shift, used)
    _widths_against_prior(widths, width, used)
    _spread_against_width(both, shift, width, used)
    handles = [Patch(color=GUIDE), Patch(color=UNUSED), *both.lines, places.lines[0]]
    labels = ["active", "not active", "together as wide as the prior", "prior"]
    legend_below(figure, handles, labels, columns=4)
    figure.suptitle(title)
    return figure


def _sorted_bars(axes: Any, kl: Tensor, used: Tensor) -> None:
    """The KL of each latent (D,), the largest first."""
    order = kl.argsort(descending=True)
    colours = [GUIDE if used[k] else UNUSED for k in order]
    axes.bar(range(1, len(order) + 1), array(kl[order]), color=colours, width=0.85)
    axes.set_xlim(0.3, len(order) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    said = f"latents, sorted ({int(used.sum())} of {len(used)} active)"
    describe_axes(axes, said, "KL from the prior, nats")


def _means_against_prior(axes: Any, shift: Tensor, used: Tensor) -> None:
    """Histograms of posterior means (N, D) in units of the prior, beside its density.

    Those of unused latents may be cut off.
    """
    edge = max(3.5, min(6.0, float(shift.abs().max())))
    z = torch.linspace(-edge, edge, 201)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    axes.plot(array(z), array(density), color=EXACT, linewidth=0.9, linestyle="--")
    _histogram(axes, shift[:, ~used], z[::4], UNUSED)
    highest = max(0.4, _histogram(axes, shift[:, used], z[::4], GUIDE))
    axes.set_ylim(0, min(1.15 * highest, 1.2))
    describe_axes(axes, "posterior means, in prior sds", "density")


def _widths_against_prior(axes: Any, width: Tensor, used: Tensor) -> None:
    """Histograms of posterior standard deviations (N, D) in units of the prior's."""
    edges = torch.linspace(0, max(1.25, 1.05 * float(width.max())), 61)
    _histogram(axes, width[:, used], edges, GUIDE)
    _histogram(axes, width[:, ~used], edges, UNUSED)
    axes.axvline(1, color=EXACT, linewidth=0.8, linestyle="--")
    describe_axes(axes, "posterior sds / prior sd", "density")


def _histogram(axes: Any, values: Tensor, edges: Tensor, colour: str) -> float:
    """Draws a histogram; the height of its highest bar, 0 where there are no values."""
    if not values.numel():
        return 0.0
    heights, *_ = axes.hist(
        array(values.flatten()), array(edges), color=colour, alpha=0.7, density=True
    )
    return float(heights.max())


def _spread_against_width(axes: Any, shift: Tensor, width: Tensor, used: Tensor) -> None:
    """A dot for each latent; on the arc, means and posteriors are together as wide as the prior."""
    spread = shift.std(0)
    mean_width = width.mean(0)
    for which, colour in ((used, GUIDE), (~used, UNUSED)):
        axes.scatter(array(spread[which]), array(mean_width[which]), color=colour, s=14, alpha=0.8)
    across = torch.linspace(0, 1, 99)
    up = (1 - across.square()).sqrt()
    axes.plot(array(across), array(up), color=EXACT, linewidth=0.8)
    describe_axes(axes, "spread of posterior means / prior sd", "mean posterior sd / prior sd")
    axes.set_ylim(0, max(1.1, 1.05 * float(mean_width.max())))


@styled
def gap_bars(
    parts: Mapping[str, tuple[float, float]],
    title: str = "",
    label: str = "nats per datum",
    ax: Axes | None = None,
) -> Figure:
    """A horizontal bar for each part of a gap, from zero, with its standard error.

    Args:
        parts: Value and standard error by name, in nats; an error that is NaN is left out.
        title: Stands above.
        label: Stands below the axis.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there are none.
    """
    figure, axes = _rows_of(parts, title, label, ax)
    values, errors = _values_and_errors(parts)
    rows = range(len(parts))
    axes.barh(
        rows,
        array(values),
        xerr=array(errors),
        color=[SERIES[row % len(SERIES)] for row in rows],
        alpha=0.75,
        height=0.65,
        ecolor=EXACT,
        capsize=3,
    )
    axes.axvline(0, color=EXACT, linewidth=0.8)
    return figure


@styled
def bounds(
    estimates: Mapping[str, tuple[float, float]],
    exact: float | None = None,
    title: str = "",
    label: str = "log p(x), nats per datum",
    ax: Axes | None = None,
) -> Figure:
    """A dot for each estimate of one evidence, with bars of one (thick) and two standard errors.

    Args:
        estimates: Value and standard error by name, such as ELBO and AIS, in nats; an error that is
            NaN is left out.
        exact: The true value, as a vertical line.
        title: Stands above.
        label: Stands below the axis.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If there are none.
    """
    figure, axes = _rows_of(estimates, title, label, ax)
    values, errors = _values_and_errors(estimates)
    rows = range(len(estimates))
    for factor, thickness in ((1, 3.5), (2, 1.0)):
        low = values - factor * errors
        high = values + factor * errors
        axes.hlines(rows, array(low), array(high), color=MCMC, linewidth=thickness)
    axes.scatter(array(values), rows, color="white", edgecolor=MCMC, s=26, zorder=3)
    if exact is not None:
        axes.axvline(exact, color=EXACT, linewidth=0.9, linestyle="--")
        axes.annotate(
            f"exact {_written(exact)}",
            xy=(exact, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=7,
        )
    axes.margins(x=0.08)
    return figure


def _rows_of(
    parts: Mapping[str, tuple[float, float]],
    title: str,
    label: str,
    ax: Axes | None = None,
) -> tuple[Figure, Any]:
    """A figure and its axes with a row for each name, the first on top, and its numbers beside it.

    Raises:
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError("expected at least one named value with its error, got none")
    figure, axes = one_axes(5.6, 0.42 * len(parts) + 1.1, ax=ax)
    axes.set_yticks(range(len(parts)), list(map(literal, parts)))
    axes.set_ylim(len(parts) - 0.4, -0.6)
    for row, (value, error) in enumerate(parts.values()):
        axes.annotate(
            _written(value, error),
            xy=(1, row),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.grid(axis="x", alpha=0.3)
    describe_axes(axes, label, "")
    figure.suptitle(title)
    return figure, axes


def _values_and_errors(parts: Mapping[str, tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Values and standard errors, each (K,); an unknown error is zero, so that it is not drawn."""
    table = torch.tensor(list(parts.values()), dtype=torch.float64)
    values, errors = table.unbind(1)
    return values, torch.where(errors.isnan(), 0.0, errors)


def _written(value: float, error: float = 0.0) -> str:
    """With two decimals, or as many as the error has zeros and one more."""
    if error > 0 and math.isfinite(error):
        decimals = max(2, -math.floor(math.log10(error)))
        decimals = min(decimals, 6)
        text = f"{value:.{decimals}f} ± {error:.{decimals}f}"
    else:
        text = f"{value:.2f}"
    return text.replace("-", "−")


@styled
def sandwich(
    lower: Tensor,
    upper: Tensor,
    exact: Tensor | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Lower and upper bound of each datum's log evidence, sorted, and below them their distance.

    Args:
        lower: Stochastic lower bounds, (N,), in nats.
        upper: Stochastic upper bounds, (N,), in nats; below the lower ones by chance now and then.
        exact: The true values, (N,).
        title: Stands above.
        ax: Axes that the picture takes the place of; it is a figure of its own if left out.

    Raises:
        ValueError: If shapes do not fit.
    """
    _check_bounds(lower, upper, exact)
    low = lower.detach().double().cpu()
    high = upper.detach().double().cpu()
    order = (low + high).argsort()
    at = range(1, len(low) + 1)
    thick = min(4.0, max(0.6, 250 / len(low)))

    figure = figure_of(5.6, 4.6, ax=ax)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    bars: dict[str, Any] = {"color": MCMC, "linewidth": thick}
    above.vlines(at, array(low[order]), array(high[order]), label="lower to upper bound", **bars)
    # Marks as well, so that an interval of no visible length is seen.
    for bound, mark in ((low, 2), (high, 3)):
        above.scatter(at, array(bound[order]), color=MCMC, s=14, marker=mark, linewidths=0.8)
    length = high - low
    mean = float(length.mean())
    below.vlines(at, 0, array(length[order]), **bars)
    below.axhline(mean, color=GUIDE, linewidth=1.2, label=f"mean length, {mean:.3g} nats")
    for bound, style, name in ((low, ":", "lower"), (high, "--", "upper")):
        value = float(bound.mean())
        label = f"mean {name} bound, {_written(value)}"
        above.axhline(value, color=GUIDE, linewidth=1, linestyle=style, label=label)
    if exact is not None:
        true = exact.detach().double().cpu()
        dots: dict[str, Any] = {"color": EXACT, "s": 5, "zorder": 3, "linewidths": 0}
        label = f"exact, mean {_written(float(true.mean()))}"
        above.scatter(at, array(true[order]), label=label, **dots)
        below.scatter(at, array((true - low)[order]), label="exact − lower", **dots)
    describe_axes(above, "", "log p(x), nats")
    describe_axes(below, "data, sorted", "upper − lower, nats")
    below.axhline(0, color="0.3", linewidth=0.6)
    below.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend_below(figure, columns=2, size=7)
    figure.suptitle(title)
    return figure


def _check_bounds(lower: Tensor, upper: Tensor, exact: Tensor | None) -> None:
    """Raises ValueError unless all are of one shape (N,)."""
    fit = lower.dim() == 1 and len(lower) > 0 and upper.shape == lower.shape
    message = f"expected bounds of shape (N,), got {tuple(lower.shape)} and {tuple(upper.shape)}"
    if exact is None:
        if not fit:
            raise ValueError(message)
    elif not fit or exact.shape != lower.shape:
        raise ValueError(f"{message}, and exact values {tuple(exact.shape)}")
