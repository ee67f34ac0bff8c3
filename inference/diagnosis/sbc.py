"""Simulation-based calibration: whether a guide or a sampler gives the posterior of the program,
from simulated data alone.
"""

from __future__ import annotations

__all__ = ["LIKELIHOOD", "Calibration", "sbc"]

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from pyro import poutine
from rich.progress import track
from torch import Tensor

from ppl_gen.contexts import device_of, evaluating, guide_of, seeded
from ppl_gen.inference.checks import check, needs_all_data
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.program import data_axis, log_density, propose, simulate_sites
from ppl_gen.protocols import Guide, Program

if TYPE_CHECKING:
    import pandas

LIKELIHOOD = "log p(x | z)"
_LEVEL = 0.01
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
    """Ranks r = #{l : zₗ < z*} in 0, …, L of the truth, with (z*, x) ~ p(z, x | c) and z₁, …, z_L ~
    q(z | x, c), n times.

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
            missing or NaN, or as `ppl_gen.inference.checks.check` says.

    Reference:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference
        algorithms with simulation-based calibration. Modrák, Moon, Kim, Bürkner, Huurre,
        Faltejsková, Gelman and Vehtari (2023), Simulation-based calibration checking for Bayesian
        computation: the choice of test quantities shapes sensitivity.
    """
    if guide is not None and sampler is not None:
        raise ValueError("expected a guide or a sampler, got both; call once for each")
    guide = guide_of(program, guide) if sampler is None else None
    _check_input(n, guide, draws, chunk)
    device = device_of(program.model, context)
    with seeded(device, seed):
        pairs = _Pairs.simulated(program, n, context)
        stand_in = poutine.block(program.model, hide=["x"])
        nesting, width, _ = check(program, stand_in if guide is None else guide, pairs.x, *context)
        rows = chunk or max(
            1, (2**26 if device.type == "cuda" else 2**21) // (max(width, 256) * (draws + 1))
        )
        samples: dict[str, Tensor] = {}
        remarks: tuple[str, ...] = ()
        if sampler is not None:
            found = sampler(program.model, pairs.x, *context)
            samples, remarks = pairs.thinned(found, draws), pairs.remarks(found, draws)
        parts: dict[str, list[Tensor]] = {}
        with evaluating(program, guide):
            for start in track(range(0, n, rows), "ranking", disable=not progress, transient=True):
                now = slice(start, start + rows)
                part, z = (
                    pairs.part(now),
                    {name: values[:, now] for name, values in samples.items()},
                )
                for name, ranks in part.ranks(
                    program, z if guide is None else part.proposed(guide, draws, nesting)
                ):
                    parts.setdefault(name, []).append(ranks)
    return Calibration(
        {name: torch.cat(ranks).cpu() for name, ranks in parts.items()}, draws, remarks
    )


@dataclass(frozen=True, eq=False)
class Calibration:
    """The ranks of simulation-based calibration, and what they say.

    Attributes:
        ranks: By latent site, each (n, *event shape), and (n,) for "log p(x | z)"; from 0 to L.
        draws: L, the number of draws that each truth was ranked among.
        remarks: What limits the test, in words: a sampler's draws that are far from independent.
    """

    ranks: dict[str, Tensor]
    draws: int
    remarks: tuple[str, ...] = ()

    @cached_property
    def p_values(self) -> dict[str, Tensor]:
        """χ² tests of uniform ranks by site, of its shape, in 4 to 20 bins: of ten pairs or more,
        from 40 pairs on.
        """
        return {name: _uniformity(ranks, self.draws) for name, ranks in self.ranks.items()}

    @property
    def p_value(self) -> float:
        """The smallest of all p-values times their number (Bonferroni), at most 1: a test of all
        coordinates together.
        """
        return float(_holm(self._flat).min())

    @property
    def worst(self) -> str:
        """The coordinate of the smallest p-value, such as "z[3]"."""
        return self.names[int(self._flat.argmin())]

    @property
    def names(self) -> list[str]:
        """Of all coordinates: "z[0]", "z[1]", …, "log p(x | z)"."""
        return [
            row for name, ranks in self.ranks.items() for row in coordinates(name, ranks.shape[1:])
        ]

    def passes(self, level: float = _LEVEL) -> bool:
        """Whether the ranks could be uniform: false for a right posterior with probability `level`
        at most.
        """
        return self.p_value > level

    @cached_property
    def _flat(self) -> Tensor:
        return torch.cat([p.flatten() for p in self.p_values.values()])

    @cached_property
    def _shapes(self) -> tuple[Tensor, Tensor]:
        """By coordinate: mean of the ranks and mean square about the middle, in standard errors
        from those of uniform ranks.
        """
        square = ((torch.arange(self.draws + 1).double() + 0.5) / (self.draws + 1) - 0.5).square()
        ranks = torch.cat([r.reshape(len(r), -1) for r in self.ranks.values()], 1)
        u = (ranks.double() + 0.5) / (self.draws + 1) - 0.5
        slope = u.mean(0) / (square.mean() / len(u)).sqrt()
        return slope, (u.square().mean(0) - square.mean()) / (
            square.var(correction=0) / len(u)
        ).sqrt()

    @cached_property
    def _failing(self) -> dict[str, list[str]]:
        """The coordinates that fail at the 1 % level by Holm's procedure, by the tag of their
        histogram's shape.
        """
        found: dict[str, list[str]] = {}
        adjusted = _holm(self._flat).tolist()
        for name, p, slope, spread in zip(
            self.names, adjusted, *(s.tolist() for s in self._shapes), strict=True
        ):
            if p <= _LEVEL:
                found.setdefault(_shape(slope, spread, name == LIKELIHOOD), []).append(name)
        return found

    @property
    def tags(self) -> tuple[str, ...]:
        """The verdict in short: "calibrated", or the ways in which coordinates fail at the 1 %
        level.

        "too-narrow", "too-wide", "biased-up", "biased-down", "misshapen", and of log p(x | z)
        "data-unused", "data-overused".
        """
        return tuple(self._failing) or ("calibrated",)

    @property
    def verdict(self) -> list[str]:
        """The verdict in plain words, with remedies."""
        n, count = len(next(iter(self.ranks.values()))), len(self.names)
        fine = f"calibrated as far as {n} simulations show: p = {self.p_value:.2g} for {count} quantities together"
        sentences = []
        for tag, names in self._failing.items():
            listed = ", ".join(names[:4]) + (
                f", … ({len(names)} of {count} quantities)" if len(names) > 4 else ""
            )
            sentences.append(f"{listed}: {_WORDS[tag]}")
        return [*(sentences or [fine]), *self.remarks]

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: its p_value, and slope and spread of its ranks, in standard
        errors from uniform ones.

        A slope above 0, of the mean, is a posterior that lies too low; a spread above 0, of the
        mean square about the middle, is one that is too narrow.
        """
        import pandas

        slope, spread = self._shapes
        columns = {"p_value": self._flat, "slope": slope, "spread": spread}
        return pandas.DataFrame(
            {name: column.numpy() for name, column in columns.items()}, index=self.names
        )

    def __str__(self) -> str:
        return "\n".join(self.verdict)


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


def _shape(slope: float, spread: float, of_likelihood: bool) -> str:
    """The tag of a histogram. All ranks at one end have a spread 1.3 times their slope, and are not
    a ∪.
    """
    if max(abs(slope), abs(spread)) < 3:
        return "misshapen"
    if abs(spread) > 1.5 * abs(slope):
        return "too-narrow" if spread > 0 else "too-wide"
    if of_likelihood:
        return "data-unused" if slope > 0 else "data-overused"
    return "biased-down" if slope > 0 else "biased-up"


def _uniformity(ranks: Tensor, draws: int) -> Tensor:
    """P(χ² ≥ Σ_b (O_b − E_b)² / E_b) of ranks (n, *shape) in bins, with E_b in proportion to the
    ranks that a bin holds.
    """
    n, bins = len(ranks), max(4, min(20, draws + 1, len(ranks) // 10))
    expected = (
        n / (draws + 1) * torch.bincount(torch.arange(draws + 1) * bins // (draws + 1)).double()
    )
    where = (ranks.reshape(n, -1) * bins // (draws + 1)).T
    counts = torch.zeros(len(where), bins, dtype=torch.float64).scatter_add(
        1, where, torch.ones(where.shape).double()
    )
    statistic = ((counts - expected).square() / expected).sum(1)
    return torch.special.gammaincc(
        torch.full_like(statistic, (bins - 1) / 2), statistic / 2
    ).reshape(ranks.shape[1:])


def _holm(p: Tensor) -> Tensor:
    """Holm's adjusted p-values: those below α may be rejected together, wrong in any with
    probability α at most.
    """
    ordered, order = p.sort()
    adjusted = (ordered * torch.arange(len(p), 0, -1)).clamp(max=1).cummax(0).values
    return torch.empty_like(p).scatter(0, order, adjusted)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Simulated data with the latents z* that they came from, (n, *rest) by site.

    The program has the axis of the data elsewhere in a site's value: at `axes`, counted from the
    right.
    """

    x: Tensor
    context: tuple[Tensor, ...]
    truth: dict[str, Tensor]
    axes: dict[str, int]

    @classmethod
    def simulated(cls, program: Program, n: int, context: tuple[Tensor, ...]) -> _Pairs:
        sites = simulate_sites(program, n, *context)
        x = sites.pop("x")["value"]
        axes = {name: data_axis(site) for name, site in sites.items()}
        return cls(
            x,
            context,
            {name: site["value"].movedim(axes[name], 0) for name, site in sites.items()},
            axes,
        )

    def part(self, rows: slice) -> _Pairs:
        truth = {name: z[rows] for name, z in self.truth.items()}
        return _Pairs(self.x[rows], tuple(c[rows] for c in self.context), truth, self.axes)

    def proposed(self, guide: Guide, draws: int, nesting: int) -> dict[str, Tensor]:
        """Draws of the guide by site, (L, n, *rest)."""
        latents = propose(guide, draws, nesting, self.x, *self.context).latents
        # A guide with more plates than the model leaves axes of size one between draws and data.
        moved = {name: latents[name].movedim(axis, 1) for name, axis in self.axes.items()}
        return {name: moved[name].reshape(draws, *z.shape) for name, z in self.truth.items()}

    def thinned(self, found: Draws, draws: int) -> dict[str, Tensor]:
        """L evenly spaced draws of a sampler by site, (L, n, *rest)."""
        total = found.chains * found.draws
        if total < draws:
            have = f"{found.chains} × {found.draws}"
            raise ValueError(
                f"expected the sampler to give {draws} draws or more, got {have}; ask it for more"
            )
        for name, axis in self.axes.items():
            want, got = (
                self.truth[name].movedim(0, axis).shape,
                getattr(found.samples.get(name), "shape", (0, 0))[2:],
            )
            if want != got:
                raise ValueError(
                    f"expected the sampler to draw {name!r} of shape {tuple(want)} behind chains "
                    f"and draws, got {tuple(got)}; let it sample all latents of all data"
                )
        kept = torch.linspace(0, total - 1, draws).round().long().to(self.x.device)
        return {
            name: found.samples[name].flatten(0, 1)[kept].movedim(axis, 1)
            for name, axis in self.axes.items()
        }

    def remarks(self, found: Draws, draws: int) -> tuple[str, ...]:
        """What is to be said where the L draws cannot be independent: that alone makes ranks pile
        up at the ends.
        """
        every = max(1, sum(z.numel() for z in self.truth.values()) // _SOME)
        some = {
            name: found.samples[name].movedim(axis, 2)[:, :, ::every]
            for name, axis in self.axes.items()
        }
        ess = torch.cat([e.flatten() for e in replace(found, samples=some).ess.values()])
        median = float(ess.nan_to_num(0.0).median())
        if median >= draws:
            return ()
        remark = (
            f"the median effective sample size, {median:.0f}, is below the {draws} draws that are "
            "ranked: ranks at either end may only mean too few; ask the sampler for "
            f"{math.ceil(1.5 * draws / max(median, 1))} times as many draws"
        )
        warnings.warn(remark, RuntimeWarning, stacklevel=3)
        return (remark,)

    def ranks(
        self, program: Program, samples: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Ranks by site, (n, *rest), and those of the log likelihood, (n,)."""
        # Truth and draws are scored in one call, so that equal latents have equal densities but for
        # rounding.
        both = {name: torch.cat([truth[None], samples[name]]) for name, truth in self.truth.items()}
        yield from ((name, _ranks(name, z)) for name, z in both.items())
        placed = {name: z.movedim(1, self.axes[name]) for name, z in both.items()}
        likelihood = log_density(program.model, placed, self.x, *self.context).likelihood
        likelihood = likelihood.expand(len(next(iter(both.values()))), len(self.x))
        yield LIKELIHOOD, _ranks(LIKELIHOOD, likelihood.double(), tolerance=1e-6)


def _ranks(name: str, values: Tensor, tolerance: float = 0.0) -> Tensor:
    """The rank of the first among the others, along the first axis; of ties, a random number counts
    as below.
    """
    if bool(values.isnan().any()):
        raise ValueError(
            f"expected draws that can be ranked, got NaN for {name}; look at the parameters for NaN"
        )
    truth, others = values[0], values[1:]
    tied = others == truth
    if tolerance:
        tied |= (others - truth).abs() <= tolerance * truth.abs().clamp(min=1)
    below, ties = ((others < truth) & ~tied).sum(0), tied.sum(0)
    return below + (torch.rand(ties.shape, device=ties.device) * (ties + 1)).long().minimum(ties)


def _check_input(n: int, guide: Guide | None, draws: int, chunk: int | None) -> None:
    for name, number, least in (
        ("n", n, 20),
        ("draws", draws, 9),
        ("chunk", 1 if chunk is None else chunk, 1),
    ):
        if number < least:
            raise ValueError(f"expected {name} of at least {least}, got {number}")
    if guide is not None and needs_all_data(guide):
        raise ValueError(
            f"expected a guide that is a function of the data, got {type(guide).__name__}, which "
            "belongs to those that it was fitted to; give an amortised guide, or a sampler that "
            "fits one anew"
        )
