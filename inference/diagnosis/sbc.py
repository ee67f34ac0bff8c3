"""Simulation-based calibration: whether a guide or a sampler gives the posterior of the program.

It needs no data but those that it simulates.
"""

from __future__ import annotations

__all__ = ["LIKELIHOOD", "Calibration", "sbc"]

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import device_of, evaluating, forked, guide_of, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.result import Result
from ppl_gen.program import log_density, propose, simulate_sites
from ppl_gen.progress import track
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import data_axis, data_plate, latent_sites

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIKELIHOOD = "log p(x | z)"
_LEVEL = 0.01  # of the tests, all coordinates together
_MOST_BINS = 20  # of a histogram of ranks
_LISTED = 4  # coordinates that a sentence names
_SOME = 400  # coordinates whose effective sample size is looked at: enough for a median


def sbc(
    program: Program,
    n: int,
    *context: Tensor,
    guide: Guide | None = None,
    sampler: Callable[..., Draws] | None = None,
    draws: int = 99,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Calibration:
    """Ranks r = #{l : zₗ < z*} in 0, …, L, of (z*, x) ~ p(z, x | c) and zₗ ~ q(z | x, c), n times.

    If q(z | x) is the posterior, z* and the zₗ are exchangeable and every rank is uniform.
    Coordinates alone do not see a guide that ignores the data, q(z | x) = p(z): the rank of log p(x
    | z*) among log p(x | zₗ) does. Ties are broken at random.

    Args:
        program: Any program with a density, hierarchical or with discrete latents; evaluated in
            evaluation mode.
        n: The number of simulated pairs, at least 20; two hundred show a standard deviation that is
            a quarter off.
        *context: What the program is conditioned on, each of length n.
        guide: q(z | x); `program.guide` if neither guide nor sampler is given.
        sampler: Judged instead of a guide: called as `sampler(program.model, x, *context)`, it
            returns `Draws` of the n posteriors, for example `functools.partial(hmc, local=True,
            chains=16, draws=100)`. Of its draws, L evenly spaced ones are taken, chain after chain.
        draws: L, the number of draws of each posterior, at least 9.
        chunk: How many data are ranked at once; None chooses by their size and the device.
        seed: Seeds simulation and draws, and leaves the global generator as it was; None draws from
            the global generator.
        progress: Whether to show a progress bar.

    Returns:
        A `Calibration`.

    Raises:
        ValueError: If n, draws or chunk is too small, guide and sampler are both given or both
            missing, a context is not of length n, the guide belongs to given data, draws are
            missing or NaN, or program, guide and data do not fit together (see
            `ppl_gen.inference.checks.check`).

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> calibration = sbc(ppca, 100, seed=0)
        >>> print(calibration)
        calibrated as far as 100 simulations show: p = 1 for 2 quantities together

    Reference:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference
        algorithms with simulation-based calibration. Modrák, Moon, Kim, Bürkner, Huurre,
        Faltejsková, Gelman and Vehtari (2023), Simulation-based calibration checking for Bayesian
        computation: the choice of test quantities shapes sensitivity.
    """
    if guide is not None and sampler is not None:
        raise ValueError("expected a guide or a sampler, got both; call once for each")
    if sampler is None:
        guide = guide_of(program, guide)
        _check_amortised(guide)
    expect_at_least(20, n=n)
    expect_at_least(9, draws=draws)
    expect_at_least(1, chunk=chunk)
    device = device_of(program.model, context)
    with seeded(device, seed):
        pairs = _Pairs.simulated(program, n, context)
        checked = guide
        if checked is None:  # of a sampler, which has no sites of its own: the prior
            checked = poutine.block(program.model, hide=["x"])
        nesting, width, _ = check_by_datum(program, checked, pairs.x, *context)
        memory.expect_memory(
            f"{draws} draws for a datum", 4 * draws * width, "take fewer draws", device
        )
        size = chunk
        if size is None:
            size = memory.rows(memory.pairs(width, device), draws + 1)
        sampled: dict[str, Tensor] = {}
        remarks: tuple[str, ...] = ()
        if sampler is not None:
            found = sampler(program.model, pairs.x, *context)
            pairs = pairs.ranked_by(found.samples)
            sampled = pairs.thinned(found, draws)
            remarks = pairs.remarks(found, draws)
        for remark in remarks:
            warnings.warn(remark, RuntimeWarning, stacklevel=2)
        if guide is not None:
            pairs = pairs.ranked_by(_sampled_by(program, guide, pairs))
        ranks: dict[str, list[Tensor]] = {}
        with evaluating(program, guide):
            for start in track(range(0, n, size), "ranking", shown=progress):
                rows = slice(start, start + size)
                part = pairs.part(rows)
                if guide is not None:
                    z = part.proposed(guide, draws, nesting)
                else:
                    z = _rows(sampled, (slice(None), rows))
                for name, of_part in part.ranks(program, z).items():
                    ranks.setdefault(name, []).append(of_part)
    joined = {name: torch.cat(parts).cpu() for name, parts in ranks.items()}
    return Calibration(joined, draws, remarks)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Result):
    """The ranks of simulation-based calibration, and what they say.

    Attributes:
        ranks: By latent site, each (n, *event shape), and (n,) for "log p(x | z)"; from 0 to L.
        draws: L, the number of draws that each truth was ranked among.
        remarks: What limits the test, in words: a sampler's draws that are far from independent.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> calibration = sbc(ppca, 100, seed=0)  # its guide is the exact posterior
        >>> calibration.p_value > 0.05, calibration.ranks["z"].shape
        (True, torch.Size([100, 1]))
    """

    ranks: dict[str, Tensor]
    draws: int
    remarks: tuple[str, ...] = ()

    @cached_property
    def p_values(self) -> dict[str, Tensor]:
        """χ² tests of uniform ranks by site, each of the site's shape.

        In 4 to 20 bins: of ten pairs or more, from 40 pairs on.
        """
        return {name: _uniformity(ranks, self.draws) for name, ranks in self.ranks.items()}

    @property
    def p_value(self) -> float:
        """The smallest p-value times their number, at most 1: Bonferroni's test of all together."""
        return float(_holm(self._flat).min())

    @property
    def worst(self) -> str:
        """The coordinate of the smallest p-value, such as "z[3]"."""
        return self.names[int(self._flat.argmin())]

    @property
    def names(self) -> list[str]:
        """Of all coordinates: "z[0]", "z[1]", …, "log p(x | z)"."""
        names = []
        for site, ranks in self.ranks.items():
            names += coordinates(site, ranks.shape[1:])
        return names

    def passes(self, level: float = _LEVEL) -> bool:
        """Whether the ranks could be uniform.

        Args:
            level: The probability, at most, with which a right posterior does not pass.
        """
        return self.p_value > level

    @property
    def tags(self) -> tuple[str, ...]:
        """The verdict in short: "calibrated", or how coordinates fail at the 1 % level.

        "too-narrow", "too-wide", "biased-up", "biased-down", "misshapen", and of log p(x | z)
        "data-unused", "data-overused".
        """
        return tuple(self._failing) or ("calibrated",)

    @property
    def verdict(self) -> Verdict:
        """The verdict with remedies, at the 1 % level; `remarks` have the tag "dependent-draws"."""
        count = len(self.names)
        findings = []
        for tag, names in self._failing.items():
            listed = ", ".join(names[:_LISTED])
            if len(names) > _LISTED:
                listed += f", … ({len(names)} of {count} quantities)"
            findings.append(Finding(tag, f"{listed}: {_WORDS[tag]}"))
        if not findings:
            n = len(next(iter(self.ranks.values())))
            fine = (
                f"calibrated as far as {n} simulations show: p = {self.p_value:.2g} for {count} "
                "quantities together"
            )
            findings.append(Finding("calibrated", fine))
        for remark in self.remarks:
            findings.append(Finding("dependent-draws", remark))
        return Verdict(tuple(findings), passes=self.passes())

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: its p_value, and slope and spread of its ranks.

        Slope and spread are in standard errors from those of uniform ranks. A slope above 0, of the
        mean, is a posterior that lies too low; a spread above 0, of the mean square about the
        middle, is one that is too narrow.
        """
        import pandas

        slope, spread = self._shapes
        columns = {
            "p_value": self._flat.numpy(),
            "slope": slope.numpy(),
            "spread": spread.numpy(),
        }
        return pandas.DataFrame(columns, index=self.names)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each simulation: the ranks of all coordinates, from 0 to L."""
        import pandas

        return pandas.DataFrame(self._by_simulation.numpy(), columns=self.names)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Histograms of ranks, see `ppl_gen.plots.evidence.rank_histograms`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.evidence import rank_histograms

        return rank_histograms(self.ranks, self.draws, title, ax=ax)

    @property
    def _by_simulation(self) -> Tensor:
        """The ranks of all coordinates, (n, K)."""
        return torch.cat([ranks.reshape(len(ranks), -1) for ranks in self.ranks.values()], 1)

    @cached_property
    def _flat(self) -> Tensor:
        """The p-values of all coordinates."""
        return _joined(self.p_values)

    @cached_property
    def _shapes(self) -> tuple[Tensor, Tensor]:
        """By coordinate: mean of the ranks, and mean square about the middle.

        Both in standard errors from those of uniform ranks.
        """
        levels = self.draws + 1
        uniform = (torch.arange(levels).double() + 0.5) / levels - 0.5
        square = uniform.square()
        ranks = self._by_simulation
        n = len(ranks)
        u = (ranks.double() + 0.5) / levels - 0.5
        slope = u.mean(0) / (square.mean() / n).sqrt()
        spread_error = (square.var(correction=0) / n).sqrt()
        spread = (u.square().mean(0) - square.mean()) / spread_error
        return slope, spread

    @cached_property
    def _failing(self) -> dict[str, list[str]]:
        """The coordinates that fail at the 1 % level by Holm's procedure, by tag."""
        slopes, spreads = self._shapes
        adjusted = _holm(self._flat).tolist()
        failing: dict[str, list[str]] = {}
        for i, name in enumerate(self.names):
            if adjusted[i] <= _LEVEL:
                tag = _shape(float(slopes[i]), float(spreads[i]), name == LIKELIHOOD)
                failing.setdefault(tag, []).append(name)
        return failing


_LEARN = "train the guide longer or give its network more units, or run longer chains"
_ENRICH = "take a richer family (full covariance, flow), or longer chains"
_WORDS = {
    "too-narrow": "too narrow, the truth is often at either end of the draws (∪): too small "
    f"standard deviations; {_ENRICH}",
    "too-wide": "too wide, the truth is often amid the draws (∩): too large standard "
    f"deviations; {_LEARN}",
    "biased-up": f"biased upwards, the truth lies below the draws too often; {_LEARN}",
    "biased-down": f"biased downwards, the truth lies above the draws too often; {_LEARN}",
    "misshapen": "neither biased nor wrong in scale, yet of another shape: skewness, tails or "
    f"modes; {_ENRICH}",
    "data-unused": "draws explain the data worse than the truth does, so that too little is "
    f"learnt from them; {_LEARN}",
    "data-overused": "draws explain the data better than the truth does: too narrow, or without "
    f"the prior; {_ENRICH}",
}


def _joined(by_site: Mapping[str, Tensor]) -> Tensor:
    """The entries of all sites in one row."""
    return torch.cat([values.flatten() for values in by_site.values()])


def _shape(slope: float, spread: float, of_likelihood: bool) -> str:
    """The tag of a histogram of ranks that are not uniform.

    All ranks at one end have a spread 1.3 times their slope, and are no ∪.

    Args:
        slope: Of the ranks' mean, in standard errors.
        spread: Of their mean square about the middle, in standard errors.
        of_likelihood: Whether they are those of log p(x | z).
    """
    if max(abs(slope), abs(spread)) < 3:
        return "misshapen"
    if abs(spread) > 1.5 * abs(slope):
        return "too-narrow" if spread > 0 else "too-wide"
    if of_likelihood:
        return "data-unused" if slope > 0 else "data-overused"
    return "biased-down" if slope > 0 else "biased-up"


def _uniformity(ranks: Tensor, draws: int) -> Tensor:
    """P(χ² ≥ Σ_b (O_b − E_b)² / E_b) of ranks (n, *shape) in bins, of this shape.

    E_b is in proportion to the number of ranks that a bin holds. To rounding this is
    `scipy.stats.chisquare` of each column, whose import takes longer than the test.
    """
    n = len(ranks)
    levels = draws + 1
    bins = max(4, min(_MOST_BINS, levels, n // 10))
    held = torch.bincount(torch.arange(levels) * bins // levels).double()
    expected = n / levels * held
    bin_of = (ranks.reshape(n, -1) * bins // levels).T
    counts = torch.zeros(len(bin_of), bins, dtype=torch.float64)
    counts = counts.scatter_add(1, bin_of, torch.ones(bin_of.shape).double())
    statistic = ((counts - expected).square() / expected).sum(1)
    half_freedom = torch.full_like(statistic, (bins - 1) / 2)
    return torch.special.gammaincc(half_freedom, statistic / 2).reshape(ranks.shape[1:])


def _holm(p: Tensor) -> Tensor:
    """Holm's adjusted p-values, of p-values (m,).

    Those below α may be rejected together, wrong in any with probability α at most.
    """
    ordered, order = p.sort()
    not_rejected_before = torch.arange(len(p), 0, -1)
    adjusted = (ordered * not_rejected_before).clamp(max=1).cummax(0).values
    return torch.empty_like(p).scatter(0, order, adjusted)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Simulated data with the latents that they came from.

    Attributes:
        x: The data, (n, *shape).
        context: What they are conditioned on.
        truth: The latents z* by site, (n, *rest).
        axes: By site, where the program has the axis of the data in a value, counted from the
            right.
        summable: The discrete sites that can be summed out.
    """

    x: Tensor
    context: tuple[Tensor, ...]
    truth: dict[str, Tensor]
    axes: dict[str, int]
    summable: tuple[str, ...]

    @classmethod
    def simulated(cls, program: Program, n: int, context: tuple[Tensor, ...]) -> _Pairs:
        """Draws n pairs from the program."""
        sites = simulate_sites(program, n, *context)
        plate = data_plate(sites)
        x = sites.pop("x")["value"]
        truth = {}
        axes = {}
        for name, site in sites.items():
            axes[name] = data_axis(site, plate)
            truth[name] = site["value"].movedim(axes[name], 0)
        summable = tuple([name for name, site in sites.items() if is_enumerable(site["fn"])])
        return cls(x, context, truth, axes, summable)

    def ranked_by(self, names: Collection[str]) -> _Pairs:
        """The same pairs without the discrete latents that are summed out.

        Args:
            names: The sites that are drawn by what is judged.
        """
        left_out = [name for name in self.summable if name not in names]
        truth = {name: z for name, z in self.truth.items() if name not in left_out}
        return replace(self, truth=truth, axes={name: self.axes[name] for name in truth})

    def part(self, rows: slice) -> _Pairs:
        """Some of the pairs."""
        context = tuple([c[rows] for c in self.context])
        return replace(self, x=self.x[rows], context=context, truth=_rows(self.truth, rows))

    def proposed(self, guide: Guide, draws: int, nesting: int) -> dict[str, Tensor]:
        """L draws of the guide by site, (L, n, *rest)."""
        latents = propose(guide, draws, nesting, self.x, *self.context).latents
        proposed = {}
        for name, truth in self.truth.items():
            z = latents[name].movedim(self.axes[name], 1)
            # A guide with more plates than the model leaves axes of size one in between.
            proposed[name] = z.reshape(draws, *truth.shape)
        return proposed

    def thinned(self, found: Draws, draws: int) -> dict[str, Tensor]:
        """L evenly spaced draws of a sampler by site, (L, n, *rest).

        Raises:
            ValueError: If there are fewer, or those of a site are missing or of another shape.
        """
        total = found.chains * found.draws
        if total < draws:
            raise ValueError(
                f"expected the sampler to give {draws} draws or more, got {found.chains} × "
                f"{found.draws}; ask it for more"
            )
        evenly = torch.linspace(0, total - 1, draws).round()
        kept = evenly.long().to(self.x.device)
        thinned = {}
        for name, axis in self.axes.items():
            self._check_shape(name, found)
            thinned[name] = found.samples[name].flatten(0, 1)[kept].movedim(axis, 1)
        return thinned

    def remarks(self, found: Draws, draws: int) -> tuple[str, ...]:
        """What is to be said where the L draws cannot be independent.

        That alone makes ranks pile up at the ends.
        """
        count = sum(z.numel() for z in self.truth.values())
        every = max(1, count // _SOME)
        some = {}
        for name, axis in self.axes.items():
            some[name] = found.samples[name].movedim(axis, 2)[:, :, ::every]
        ess = _joined(replace(found, samples=some).ess)
        median = float(ess.nan_to_num(0.0).median())
        if median >= draws:
            return ()
        times = math.ceil(1.5 * draws / max(median, 1))
        remark = (
            f"the median effective sample size, {median:.0f}, is below the {draws} draws that are "
            "ranked: ranks at either end may only mean too few; ask the sampler for "
            f"{times} times as many draws"
        )
        return (remark,)

    def ranks(self, program: Program, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ranks of the truth among draws (L, n, *rest).

        Returns:
            By site (n, *rest), and those of log p(x | z), (n,).
        """
        ranks = {}
        placed = {}
        for name, truth in self.truth.items():
            # Truth and draws are scored in one call, so that equal latents have equal densities
            # but for rounding.
            both = torch.cat([truth[None], samples[name]])
            ranks[name] = _ranks(name, both)
            placed[name] = both.movedim(1, self.axes[name])
        likelihood = log_density(program.model, placed, self.x, *self.context).likelihood
        draws = len(next(iter(samples.values())))
        likelihood = likelihood.expand(1 + draws, len(self.x))
        ranks[LIKELIHOOD] = _ranks(LIKELIHOOD, likelihood.double(), tolerance=1e-6)
        return ranks

    def _check_shape(self, name: str, found: Draws) -> None:
        """Raises ValueError unless a sampler's draws of a site are of the shape of the truth."""
        expected = tuple(self.truth[name].movedim(0, self.axes[name]).shape)
        got: tuple[int, ...] = ()
        if name in found.samples:
            got = tuple(found.samples[name].shape[2:])
        if expected != got:
            raise ValueError(
                f"expected the sampler to draw {name!r} of shape {expected} behind chains and "
                f"draws, got {got}; let it sample all latents of all data"
            )


def _sampled_by(program: Program, guide: Guide, pairs: _Pairs) -> Collection[str]:
    """The sites that a guide samples; the random state is left as found."""
    one = slice(0, 1)
    context = [c[one] for c in pairs.context]
    with forked(pairs.x.device, None), evaluating(program, guide):
        return latent_sites(poutine.trace(guide).get_trace(pairs.x[one], *context))


def _rows(values: Mapping[str, Tensor], index: Any) -> dict[str, Tensor]:
    """The same entries of each value."""
    return {name: value[index] for name, value in values.items()}


def _ranks(name: str, values: Tensor, tolerance: float = 0.0) -> Tensor:
    """The rank of the first of (1 + L, *shape) among the others; ties are broken at random.

    Args:
        name: What is ranked, for the message.
        values: The truth, then the draws.
        tolerance: The relative difference below which values are tied.

    Raises:
        ValueError: If a value is NaN.
    """
    if bool(values.isnan().any()):
        raise ValueError(
            f"expected draws that can be ranked, got NaN for {name}; look at the parameters for NaN"
        )
    truth = values[0]
    others = values[1:]
    tied = others == truth
    if tolerance:
        tied |= (others - truth).abs() <= tolerance * truth.abs().clamp(min=1)
    below = ((others < truth) & ~tied).sum(0)
    ties = tied.sum(0)
    uniform = torch.rand(ties.shape, device=ties.device)
    ties_below = (uniform * (ties + 1)).long().minimum(ties)
    return below + ties_below


def _check_amortised(guide: Guide) -> None:
    """Raises ValueError if the guide belongs to the data that it was fitted to."""
    if needs_all_data(guide):
        raise ValueError(
            f"expected a guide that is a function of the data, got {type(guide).__name__}, which "
            "belongs to those that it was fitted to; give an amortised guide, or a sampler that "
            "fits one anew"
        )
