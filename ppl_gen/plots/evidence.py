"""Pictures of how far an inference is to be trusted: ranks, unused latents, gaps and bounds, as
matplotlib figures.
"""

from __future__ import annotations

__all__ = ["bounds", "collapse_panel", "gap_bars", "rank_histograms", "sandwich"]

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ppl_gen.plots.posterior import EXACT, GUIDE, MCMC

UNUSED = "0.65"
_MOST_PANELS = 16


def rank_histograms(ranks: Mapping[str, Tensor], draws: int, title: str = "") -> Figure:
    """Ranks of the truth among L draws, a panel for each coordinate: level, within the band, where
    a posterior is calibrated.

    ∪ is too narrow, ∩ too wide, a slope is a bias. The band holds 99 % of the heights of each bar
    if ranks are uniform. Of more than sixteen coordinates, the sixteen that are least uniform are
    shown.

    Args:
        ranks: By name, each of shape (n, *shape), from 0 to L, such as the `ranks` of a
            calibration.
        draws: L.
        title: Stands above.

    Raises:
        ValueError: If there are none, they are of unlike number, or one is out of range.
    """
    names, columns = _columns(ranks, draws)
    n = len(columns)
    bins = min(draws + 1, max(4, min(20, n // 10)))
    held = torch.bincount(torch.arange(draws + 1) * bins // (draws + 1), minlength=bins)
    edges = [0, *itertools.accumulate(held.tolist())]
    expected = n * held.double() / (draws + 1)
    heights = torch.stack(
        [torch.bincount(c * bins // (draws + 1), minlength=bins) / expected for c in columns.T]
    )
    low, high = (
        _binomial(n, held.double() / (draws + 1), level) / expected for level in (0.005, 0.995)
    )
    order = (
        ((heights - 1).square() * expected)
        .sum(1)
        .argsort(descending=True)[:_MOST_PANELS]
        .sort()
        .values.tolist()
    )
    across = min(4, len(order))
    down = -(-len(order) // across)
    figure = Figure(figsize=(2.2 * across + 0.6, 1.7 * down + 0.9), layout="constrained", dpi=150)
    for at, k in enumerate(order):
        axes = figure.add_subplot(down, across, at + 1)
        axes.stairs(high.numpy(), edges, baseline=low.numpy(), fill=True, color="0.85")
        axes.stairs(heights[k].numpy(), edges, fill=True, color=GUIDE, alpha=0.6)
        axes.axhline(1, color=EXACT, linewidth=0.8, linestyle="--")
        axes.set_ylim(0, max(1.1 * float(heights[k].max()), 1.15 * float(high.max())))
        axes.set_xlim(0, draws + 1)
        axes.set_title(names[k], fontsize=8)
        axes.tick_params(labelsize=7)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    left_out = f"the {len(order)} least uniform of {len(names)}" if len(order) < len(names) else ""
    figure.suptitle(": ".join(filter(None, (title, left_out))), fontsize=9)
    figure.supxlabel(f"rank of the truth among {draws} draws, {n} simulations", fontsize=8)
    figure.supylabel("frequency / uniform", fontsize=8)
    return figure


def collapse_panel(
    means: Tensor,
    sds: Tensor,
    kl: Tensor,
    active: Tensor,
    prior: tuple[Tensor, Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Four panels: KL of each latent, sorted; where posterior means lie; how wide posteriors are;
    and both by latent.

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

    Raises:
        ValueError: If shapes do not fit.
    """
    if (
        means.dim() != 2
        or sds.shape != means.shape
        or not kl.shape == active.shape == means.shape[1:]
        or len(means) < 2
    ):
        raise ValueError(
            "expected means and sds (N, D) with N of at least 2, kl and active (D,), got "
            f"{tuple(means.shape)}, {tuple(sds.shape)}, {tuple(kl.shape)} and "
            f"{tuple(active.shape)}"
        )
    centre, unit = (
        (t.detach().cpu() for t in prior) if prior is not None else (torch.zeros(1), torch.ones(1))
    )
    shift, width = (means.detach().cpu() - centre) / unit, sds.detach().cpu() / unit
    used, kl = active.detach().cpu().bool(), kl.detach().cpu()
    figure = Figure(figsize=(7.0, 5.2), layout="constrained", dpi=150)
    (bars, places), (widths, both) = figure.subplots(2, 2)
    _sorted_bars(bars, kl, used)
    _means_against_prior(places, shift, used)
    top = max(1.25, 1.05 * float(width.max()))
    for which, colour in ((used, GUIDE), (~used, UNUSED)):
        if bool(which.any()):
            spread = torch.linspace(0, top, 61).numpy()
            widths.hist(
                width[:, which].flatten().numpy(), spread, color=colour, alpha=0.7, density=True
            )
        both.scatter(
            shift.std(0)[which].numpy(), width.mean(0)[which].numpy(), color=colour, s=14, alpha=0.8
        )
    widths.axvline(1, color=EXACT, linewidth=0.8, linestyle="--")
    _labelled(widths, "posterior sds / prior sd", "density")
    both.plot(
        torch.linspace(0, 1, 99).numpy(),
        (1 - torch.linspace(0, 1, 99).square()).sqrt().numpy(),
        color=EXACT,
        linewidth=0.8,
    )
    _labelled(both, "spread of posterior means / prior sd", "mean posterior sd / prior sd")
    both.set_ylim(0, max(1.1, 1.05 * float(width.mean(0).max())))
    handles = [Patch(color=GUIDE), Patch(color=UNUSED), *both.lines, places.lines[0]]
    labels = ["active", "not active", "together as wide as the prior", "prior"]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def gap_bars(
    parts: Mapping[str, tuple[float, float]], title: str = "", label: str = "nats per datum"
) -> Figure:
    """A horizontal bar for each part of a gap, from zero, with its standard error: what costs how
    many nats.

    Args:
        parts: Value and standard error by name, in nats; an error that is NaN is left out.
        title: Stands above.
        label: Stands below the axis.

    Raises:
        ValueError: If there are none.
    """
    axes = _rows_of(parts, title, label)
    values, errors = _values(parts)
    heights = range(len(parts))
    colours = [f"C{i % 10}" for i in heights]
    axes.barh(
        heights,
        values,
        xerr=errors,
        color=colours,
        alpha=0.75,
        height=0.65,
        ecolor=EXACT,
        capsize=3,
    )
    axes.axvline(0, color=EXACT, linewidth=0.8)
    return axes.figure


def bounds(
    estimates: Mapping[str, tuple[float, float]],
    exact: float | None = None,
    title: str = "",
    label: str = "log p(x), nats per datum",
) -> Figure:
    """A dot with bars of one (thick) and two (thin) standard errors for each estimate of one
    evidence, such as ELBO and AIS.

    Args:
        estimates: Value and standard error by name, in nats; an error that is NaN is left out.
        exact: The true value, as a vertical line.
        title: Stands above.
        label: Stands below the axis.

    Raises:
        ValueError: If there are none.
    """
    axes = _rows_of(estimates, title, label)
    values, errors = _values(estimates)
    heights = range(len(estimates))
    for factor, width in ((1, 3.5), (2, 1.0)):
        ends = [
            [v + sign * factor * e for v, e in zip(values, errors, strict=True)] for sign in (-1, 1)
        ]
        axes.hlines(heights, *ends, color=MCMC, linewidth=width)
    axes.scatter(values, heights, color="white", edgecolor=MCMC, s=26, zorder=3)
    if exact is not None:
        axes.axvline(exact, color=EXACT, linewidth=0.9, linestyle="--")
        axes.annotate(
            f"exact {_written(exact, 0)}",
            (exact, 1),
            (3, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7,
        )
    axes.margins(x=0.08)
    return axes.figure


def sandwich(lower: Tensor, upper: Tensor, exact: Tensor | None = None, title: str = "") -> Figure:
    """The interval between lower and upper bound of each datum's log evidence, sorted, and below it
    its length.

    Args:
        lower: Stochastic lower bounds, (N,), in nats.
        upper: Stochastic upper bounds, (N,), in nats; below the lower ones by chance now and then.
        exact: The true values, (N,).
        title: Stands above.

    Raises:
        ValueError: If shapes do not fit.
    """
    if (
        lower.dim() != 1
        or upper.shape != lower.shape
        or (exact is not None and exact.shape != lower.shape)
        or not len(lower)
    ):
        raise ValueError(
            f"expected bounds of shape (N,), got {tuple(lower.shape)} and {tuple(upper.shape)}"
            + ("" if exact is None else f", and exact values {tuple(exact.shape)}")
        )
    low, high = (t.detach().double().cpu() for t in (lower, upper))
    order = (low + high).argsort()
    at = range(1, len(low) + 1)
    figure = Figure(figsize=(5.6, 4.6), layout="constrained", dpi=150)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    mean = (high - low).mean()
    thick = min(4.0, max(0.6, 250 / len(low)))
    above.vlines(
        at,
        low[order].numpy(),
        high[order].numpy(),
        color=MCMC,
        linewidth=thick,
        label="lower to upper bound",
    )
    # Marks as well, so that an interval of no visible length is seen.
    for bound, mark in ((low, 2), (high, 3)):
        above.scatter(at, bound[order].numpy(), color=MCMC, s=14, marker=mark, linewidths=0.8)
    below.vlines(at, 0, (high - low)[order].numpy(), color=MCMC, linewidth=thick)
    below.axhline(
        float(mean), color=GUIDE, linewidth=1.2, label=f"mean length, {float(mean):.3g} nats"
    )
    for bound, style, name in ((low, ":", "lower"), (high, "--", "upper")):
        value = float(bound.mean())
        above.axhline(
            value,
            color=GUIDE,
            linewidth=1,
            linestyle=style,
            label=f"mean {name} bound, {_written(value, 0)}",
        )
    if exact is not None:
        true = exact.detach().double().cpu()
        above.scatter(
            at,
            true[order].numpy(),
            color=EXACT,
            s=5,
            zorder=3,
            linewidths=0,
            label=f"exact, mean {_written(float(true.mean()), 0)}",
        )
        below.scatter(
            at,
            (true - low)[order].numpy(),
            color=EXACT,
            s=5,
            zorder=3,
            linewidths=0,
            label="exact − lower",
        )
    _labelled(above, "", "log p(x), nats")
    _labelled(below, "data, sorted", "upper − lower, nats")
    below.axhline(0, color="0.3", linewidth=0.6)
    below.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    drawn = [axes.get_legend_handles_labels() for axes in (above, below)]
    handles, labels = (first + second for first, second in zip(*drawn, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def _columns(ranks: Mapping[str, Tensor], draws: int) -> tuple[list[str], Tensor]:
    """Names and ranks (n, K) of all coordinates."""
    if not ranks or len({len(r) for r in ranks.values()}) > 1:
        raise ValueError(
            "expected ranks (n, *shape) of one number n, got "
            f"{[tuple(r.shape) for r in ranks.values()]}"
        )
    names = [
        f"{name}[{', '.join(map(str, at))}]" if at else name
        for name, r in ranks.items()
        for at in itertools.product(*map(range, r.shape[1:]))
    ]
    columns = torch.cat([r.detach().cpu().reshape(len(r), -1) for r in ranks.values()], 1)
    if not columns.numel() or int(columns.min()) < 0 or int(columns.max()) > draws:
        raise ValueError(f"expected ranks from 0 to {draws}, got some from outside, or none")
    return names, columns


def _binomial(n: int, p: Tensor, level: float) -> Tensor:
    """Quantiles of Binomial(n, p), by summing its masses."""
    counts = torch.arange(n + 1, dtype=torch.float64)
    masses = torch.distributions.Binomial(n, p[:, None]).log_prob(counts).exp()
    return (masses.cumsum(1) < level).sum(1).double()


def _sorted_bars(axes: Any, kl: Tensor, used: Tensor) -> None:
    order = kl.argsort(descending=True)
    colours = [GUIDE if used[k] else UNUSED for k in order]
    axes.bar(range(1, len(order) + 1), kl[order].numpy(), color=colours, width=0.85)
    axes.set_xlim(0.3, len(order) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _labelled(
        axes,
        f"latents, sorted ({int(used.sum())} of {len(used)} active)",
        "KL from the prior, nats",
    )


def _means_against_prior(axes: Any, shift: Tensor, used: Tensor) -> None:
    """Histograms of posterior means in units of the prior, beside its density; those of unused
    latents may be cut off.
    """
    edge = max(3.5, min(6.0, float(shift.abs().max())))
    z = torch.linspace(-edge, edge, 201)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    axes.plot(z.numpy(), density.numpy(), color=EXACT, linewidth=0.9, linestyle="--")
    highest = 0.4
    for which, colour, counts in ((~used, UNUSED, False), (used, GUIDE, True)):
        if bool(which.any()):
            heights, *_ = axes.hist(
                shift[:, which].flatten().numpy(),
                z[::4].numpy(),
                color=colour,
                alpha=0.7,
                density=True,
            )
            highest = max(highest, float(heights.max())) if counts else highest
    axes.set_ylim(0, min(1.15 * highest, 1.2))
    _labelled(axes, "posterior means, in prior sds", "density")


def _rows_of(parts: Mapping[str, tuple[float, float]], title: str, label: str) -> Any:
    """Axes with a row for each name, the first on top."""
    if not parts:
        raise ValueError("expected at least one named value with its error, got none")
    figure = Figure(figsize=(5.6, 0.42 * len(parts) + 1.1), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.set_yticks(range(len(parts)), list(parts), fontsize=8)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    for at, part in enumerate(parts.values()):
        beside: Any = ("axes fraction", "data")
        axes.annotate(
            _written(*part), (1, at), (5, 0), beside, "offset points", va="center", fontsize=8
        )
    axes.grid(axis="x", alpha=0.3)
    _labelled(axes, label, "")
    axes.tick_params(axis="y", labelsize=8)
    figure.suptitle(title, fontsize=9)
    return axes


def _values(parts: Mapping[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Values and errors as numbers, an unknown error as none."""
    errors = [float(error) for _, error in parts.values()]
    return [float(value) for value, _ in parts.values()], [
        0.0 if math.isnan(e) else e for e in errors
    ]


def _written(value: float, error: float) -> str:
    """With two decimals, or as many as the error has zeros and one more."""
    known = error > 0 and math.isfinite(error)
    digits = min(max(2, -math.floor(math.log10(error))), 6) if known else 2
    return (f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if known else "")).replace("-", "−")


def _labelled(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
