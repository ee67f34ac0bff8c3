"""The posterior of every datum of an amortised model: its guide, weighted, or mended by HMC."""

from __future__ import annotations

__all__ = ["correct"]

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import evaluating, forked, guide_of, seeded
from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.checks import few_data, needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.diagnostics import effective_size, split_r_hat
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.evidence.weights import evidence_of, k_hat_limit, smoothed
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.left_out import expect_density, left_out
from ppl_gen.inference.mcmc.convergence import ConvergenceWarning
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.inference.posteriors.corrected import GUIDE, HMC, WEIGHTED, Corrected
from ppl_gen.program import log_density, propose
from ppl_gen.progress import track
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import data_axis, data_plate, latent_sites, stochastic_sites

_FEWEST = 100  # particles, below which a tail of weights has no shape to rely on
_SHORTEST = 8  # draws of a chain, below which it has no autocovariances


def correct(
    program: Program,
    x: Tensor,
    *context: Tensor,
    guide: Guide | None = None,
    particles: int = 4000,
    draws: int = 1000,
    min_ess: int = 400,
    good: float = 0.9,
    chains: int = 16,
    warmup: int = 100,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Corrected:
    """p(z | x, c) of every datum, from its guide: as it is, weighted, or as the start of HMC.

    Of zₖ ~ q(z | x, c) with wₖ = p(x, zₖ | c) / q(zₖ | x, c), k = 1, …, K, each datum goes one way:

    - "guide", where k̂ is below its limit and ESS / K at least `good`: the draws are q's own. For
      any f, |E_p f − E_q f| ≤ sd_q(f) √χ² with χ² = E_q w² / (E_q w)² − 1, estimated by K/ESS − 1.
    - "weighted", where k̂ is below its limit and ESS at least `min_ess`: means are Σ w f / Σ w with
      Pareto smoothed weights, draws are picked by them.
    - "hmc" elsewhere: the weighted draws are where chains begin, all data at once.

    The bound is estimated and holds as far as χ² can be estimated: where k̂ is low, and q covers
    the support of p.

    Args:
        program: Any program with a density, whose latents are continuous and lie in the plate of
            the data; evaluated in evaluation mode.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, c); `program.guide` if left out.
        particles: K, how many latents of the guide are weighed for each datum, at least 100.
        draws: S, how many draws are returned for each datum, at most K.
        min_ess: The effective number of draws that every mean is to be over; the error of a mean is
            then at most 1/√min_ess posterior standard deviations, 0.05 for 400.
        good: The ESS/K from which the guide is left as it is, between 0 and 1: 0.9 bounds what its
            means are off by 0.33 of its standard deviations, and 1 weighs wherever it can.
        chains: The number of chains of HMC for each datum.
        warmup: The number of its iterations before the first draw.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show progress bars.
        engine: How HMC's leapfrog steps are computed: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps.

    Returns:
        `Corrected`: draws, means and their errors by site; `.how`, `.bound`, `.ess` and `.k_hat` by
        datum.

    Raises:
        ValueError: Before work starts, if a number is out of range, the program has no continuous
            latents, discrete ones that the guide draws, or latents shared by all data, or if
            program, guide and data do not fit together (see `ppl_gen.inference.checks.check`).

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.tensor([[4.0, 4.0, 4.0]])
        >>> found = correct(ppca, x, particles=500, draws=100, min_ess=100, seed=0)
        >>> bool((found.mean["z"] - 3).abs() < 4 * found.error["z"]), found.how.tolist()
        (True, ['guide'])

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling; Hoffman
        (2017), Learning deep latent Gaussian models with Markov chain Monte Carlo.
    """
    guide = guide_of(program, guide)
    expect_at_least(_FEWEST, particles=particles)
    expect_counts(draws=draws, chains=chains, warmup=warmup, min_ess=min_ess)
    expect_engine(engine)
    _expect_share(good)
    if max(draws, chains) > particles:
        raise ValueError(
            f"expected at most as many draws and chains as particles, {particles}, got {draws} and "
            f"{chains}; raise particles"
        )
    data = (x, *context)
    nesting, width, _ = check_by_datum(program, guide, *data)
    expect_density(guide, *data)
    latents = _Latents.of(program, guide, nesting, data)
    asked = _Asked(particles=particles, draws=draws, starts=chains, min_ess=min_ess, good=good)
    latents.expect_room(asked, width, data)
    missed = left_out(program, guide, nesting, *data)
    with seeded(x.device, seed):
        found = _weighed(program, guide, latents, data, asked, width, progress)
        how = found.how
        if missed:
            how[:] = HMC
        size = found.ess.clone()
        size[torch.from_numpy(how == GUIDE)] = particles
        r_hat = torch.full_like(size, torch.nan)
        gradients = 0
        rows = torch.from_numpy((how == HMC).nonzero()[0]).to(x.device)
        if len(rows):
            starts = {name: z[:, rows] for name, z in found.starts.items()}
            sampled = _sampled(
                program,
                latents,
                [t[rows] for t in data],
                starts,
                draws=max(_SHORTEST, math.ceil(draws / chains)),
                warmup=warmup,
                progress=progress,
                engine=engine,
            )
            found.moments.take(rows, sampled)
            size[rows] = sampled.size
            r_hat[rows] = sampled.r_hat
            gradients = sampled.gradients * len(rows)
        with evaluating(program):
            joint = latents.log_joint(program, found.moments.draws, data, width)
    known = asked.known(found.k_hat)
    if missed:
        known = torch.zeros_like(known)
    bound = (particles / found.ess - 1).clamp(min=0).sqrt()
    return Corrected(
        draws=found.moments.draws,
        mean=found.moments.mean,
        sd=found.moments.sd,
        error=found.moments.error,
        log_density=joint,
        how=how,
        bound=bound.where(known, torch.nan),
        ess=found.ess,
        k_hat=found.k_hat,
        r_hat=r_hat,
        size=size,
        min_ess=min_ess,
        particles=particles,
        gradients=gradients,
        left_out=missed,
    )


def _expect_share(good: float) -> None:
    """Raises ValueError unless the share of effective draws lies between 0 and 1."""
    expect_number(good=good)
    if not 0 < good <= 1:
        raise ValueError(
            f"expected good, the least ESS/K of a guide that is left as it is, between 0 and 1, "
            f"got {good}; 0.9 is usual"
        )


class _Asked(NamedTuple):
    """How many draws are weighed, kept and begun from, for each datum, and when which will do."""

    particles: int
    draws: int
    starts: int
    min_ess: int
    good: float

    def known(self, k_hat: Tensor) -> Tensor:
        """Where weights are to be trusted."""
        return k_hat < k_hat_limit(self.particles)

    def routes(self, ess: Tensor, k_hat: Tensor) -> NDArray[np.str_]:
        """The route of each datum."""
        known = self.known(k_hat)
        how = np.full(len(ess), HMC, dtype="<U8")
        enough = known & (ess >= self.min_ess)
        nearly_all = known & (ess >= self.good * self.particles)
        how[enough.cpu().numpy()] = WEIGHTED
        how[nearly_all.cpu().numpy()] = GUIDE
        return how


@dataclass(frozen=True)
class _Latents:
    """The latent sites of a program.

    Attributes:
        nesting: The number of axes that plates take.
        axes: By site, the axis of the data in its value, counted from the right.
        shapes: By site, the shape of a datum's value.
    """

    nesting: int
    axes: dict[str, int]
    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, program: Program, guide: Guide, nesting: int, data: tuple[Tensor, ...]) -> _Latents:
        """Finds them by running program and guide on a few data.

        Raises:
            ValueError: If there are no continuous ones, or discrete ones that the guide draws.
        """
        few = few_data(guide, data)
        potential = Potential(program.model, few, local=True)
        with forked(data[0].device, 0), evaluating(program, guide):
            sites = stochastic_sites(poutine.trace(program.model).get_trace(*few))
            guided = latent_sites(poutine.trace(guide).get_trace(*few))
        discrete = sorted(set(potential.summed_out) & guided.keys())
        if discrete:
            raise ValueError(
                f"expected a guide of continuous latents, got one that draws the discrete "
                f"{discrete}, which HMC sums out; leave them out of the guide"
            )
        plate = data_plate(sites)
        axes = {}
        shapes = {}
        for name in potential.names:
            axes[name] = data_axis(sites[name], plate)
            shapes[name] = sites[name]["value"].movedim(axes[name], 0).shape[1:]
        return cls(nesting, axes, shapes)

    def proposed(
        self, guide: Guide, particles: int, some: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Draws of a guide: as they are, by site (K, n, *shape), and log q (K, n)."""
        proposal = propose(guide, particles, self.nesting, *some)
        n = len(some[0])
        drawn = {}
        for name, axis in self.axes.items():
            # A guide with more plates than the model leaves axes of size one in between.
            value = proposal.latents[name].movedim(axis, 1)
            drawn[name] = value.reshape(particles, n, *self.shapes[name])
        return proposal.latents, drawn, proposal.log_prob

    def in_place(self, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values (S, n, *shape) by site, with the axis of the data where the program has it."""
        return {name: value.movedim(1, self.axes[name]) for name, value in drawn.items()}

    def log_joint(
        self, program: Program, drawn: Mapping[str, Tensor], data: Sequence[Tensor], width: int
    ) -> Tensor:
        """log p(x, z) of draws (S, N, *shape) by site, (S, N)."""
        n = len(data[0])
        count = len(next(iter(drawn.values())))
        size = max(1, memory.pairs(width, data[0].device) // count)
        parts = []
        for start in range(0, n, size):
            rows = slice(start, start + size)
            some = [t[rows] for t in data]
            values = self.in_place({name: value[:, rows] for name, value in drawn.items()})
            joint = log_density(program.model, values, *some).joint
            parts.append(joint.reshape(-1, len(some[0])).expand(count, -1))
        return torch.cat(parts, 1)

    def expect_room(self, asked: _Asked, width: int, data: Sequence[Tensor]) -> None:
        """Raises ValueError if the draws that are kept, or a datum's particles, are too many."""
        size = sum(shape.numel() for shape in self.shapes.values())
        kept = asked.draws + asked.starts
        x = data[0]
        memory.expect_memory(
            f"{kept} draws of the latents of {len(x)} data",
            2 * memory.SINGLE * kept * size * len(x),
            "take fewer draws, or fewer data at once",
            x.device,
        )
        memory.expect_memory(
            f"{asked.particles} particles of a datum",
            2 * memory.SINGLE * asked.particles * max(width, size),
            "take fewer particles",
            x.device,
        )


class _Moments(NamedTuple):
    """Of n data: by site means, standard deviations and errors (n, *shape), draws (S, n, *shape).

    Attributes:
        mean: E[z | x].
        sd: The standard deviation.
        error: The Monte Carlo error of the mean.
        draws: Draws of equal weight.
    """

    mean: dict[str, Tensor]
    sd: dict[str, Tensor]
    error: dict[str, Tensor]
    draws: dict[str, Tensor]

    @classmethod
    def of(cls, drawn: Mapping[str, Tensor], weights: Tensor, places: Tensor) -> _Moments:
        """Those under weights.

        Args:
            drawn: By site, (K, n, *shape).
            weights: Of sum 1 over the draws, (K, n), in float64.
            places: Which of the draws to keep, (S, n).
        """
        mean = {}
        sd = {}
        error = {}
        draws = {}
        for name, z in drawn.items():
            share = weights.reshape(*weights.shape, *[1] * (z.dim() - 2))
            centre = (share * z).sum(0)
            squares = (z - centre).square()
            mean[name] = centre.to(z.dtype)
            sd[name] = (share * squares).sum(0).sqrt().to(z.dtype)
            variance = (share.square() * squares).sum(0)
            error[name] = variance.sqrt().to(z.dtype)
            draws[name] = _picked(z, places)
        return cls(mean, sd, error, draws)

    @classmethod
    def joined(cls, parts: Sequence[_Moments]) -> _Moments:
        """Those of some data after those of others."""
        return cls(
            mean=_joined([part.mean for part in parts], 0),
            sd=_joined([part.sd for part in parts], 0),
            error=_joined([part.error for part in parts], 0),
            draws=_joined([part.draws for part in parts], 1),
        )

    def take(self, rows: Tensor, sampled: _Sampled) -> None:
        """Puts what HMC drew of some data in their places.

        Args:
            rows: Which data they are.
            sampled: Its chains.
        """
        for name, z in sampled.chains.items():
            pooled = z.flatten(0, 1)
            evenly = torch.linspace(0, len(pooled) - 1, len(self.draws[name])).round()
            sd = pooled.std(0)
            self.mean[name][rows] = pooled.mean(0)
            self.sd[name][rows] = sd
            self.error[name][rows] = sd / sampled.sizes[name].sqrt().to(sd)
            self.draws[name][:, rows] = pooled[evenly.long().to(z.device)]


def _joined(parts: Sequence[Mapping[str, Tensor]], axis: int) -> dict[str, Tensor]:
    """Values of some data after those of others, by site."""
    return {name: torch.cat([part[name] for part in parts], axis) for name in parts[0]}


def _picked(z: Tensor, places: Tensor) -> Tensor:
    """Of draws (K, n, *shape) those at places (S, n), which differ by datum."""
    return z[places, torch.arange(z.shape[1], device=z.device)]


class _Weighed(NamedTuple):
    """What the weights of a guide's draws say of n data.

    Attributes:
        moments: By the draws as they are, or by their weights.
        starts: Draws, by their weights and without replacement, by site, (C, n, *shape).
        ess: The effective number of draws, (n,).
        k_hat: k̂ of the weights, (n,).
        how: The route of each datum.
    """

    moments: _Moments
    starts: dict[str, Tensor]
    ess: Tensor
    k_hat: Tensor
    how: NDArray[np.str_]


def _weighed(
    program: Program,
    guide: Guide,
    latents: _Latents,
    data: Sequence[Tensor],
    asked: _Asked,
    width: int,
    progress: bool,
) -> _Weighed:
    """Weighs a guide's draws, some data at a time; only what may be needed of them is kept."""
    n = len(data[0])
    size = max(1, memory.pairs(width, data[0].device) // asked.particles)
    if needs_all_data(guide):
        size = n
    parts = []
    with evaluating(program, guide):
        for start in track(range(0, n, size), "weighing the guide", shown=progress):
            some = [t[start : start + size] for t in data]
            parts.append(_weighed_at_once(program, guide, latents, some, asked))
    return _Weighed(
        moments=_Moments.joined([part.moments for part in parts]),
        starts=_joined([part.starts for part in parts], 1),
        ess=torch.cat([part.ess for part in parts]),
        k_hat=torch.cat([part.k_hat for part in parts]),
        how=np.concatenate([part.how for part in parts]),
    )


def _weighed_at_once(
    program: Program,
    guide: Guide,
    latents: _Latents,
    some: Sequence[Tensor],
    asked: _Asked,
) -> _Weighed:
    values, drawn, log_q = latents.proposed(guide, asked.particles, some)
    joint = log_density(program.model, values, *some).joint
    log_weights = (joint.reshape(-1, joint.shape[-1]) - log_q).double()
    log_weights = log_weights.nan_to_num(nan=-math.inf, neginf=-math.inf, posinf=math.inf)
    evidence = evidence_of(log_weights)
    assert evidence.ess is not None
    assert evidence.k_hat is not None
    how = asked.routes(evidence.ess, evidence.k_hat)
    # Where all weights are zero, as those of a guide beside the posterior, any draw will do.
    smooth = smoothed(log_weights).softmax(0)
    equal = torch.full_like(smooth, 1 / asked.particles)
    smooth = torch.where(smooth.isfinite(), smooth, equal)
    first = torch.arange(asked.draws, device=smooth.device)[:, None]
    by_weight = torch.multinomial(smooth.T, asked.draws, replacement=True).T
    as_it_is = torch.from_numpy(how == GUIDE).to(smooth.device)
    return _Weighed(
        moments=_Moments.of(
            drawn,
            torch.where(as_it_is, equal, smooth),
            torch.where(as_it_is, first, by_weight),
        ),
        starts=_starts(drawn, smooth, asked.starts),
        ess=evidence.ess,
        k_hat=evidence.k_hat,
        how=how,
    )


def _starts(drawn: Mapping[str, Tensor], weights: Tensor, count: int) -> dict[str, Tensor]:
    """Draws without replacement by their weights (K, n), by the Gumbel trick.

    Those of no weight at all are replaced by the one of the largest.
    """
    noise = -torch.empty_like(weights).exponential_().log()
    score = weights.log() + noise
    places = score.topk(count, 0).indices
    heaviest = weights.argmax(0, keepdim=True)
    places = torch.where(weights.gather(0, places) > 0, places, heaviest)
    return {name: _picked(z, places) for name, z in drawn.items()}


class _Sampled(NamedTuple):
    """What HMC drew of n data.

    Attributes:
        chains: By site, (C, draws of a chain, n, *shape).
        sizes: By site, the effective number of draws of each coordinate, (n, *shape).
        size: The smallest of them over a datum's latents, (n,).
        r_hat: The largest split R̂ of a datum's latents, (n,).
        gradients: How many gradients of a datum's density that took, about: warm-up is counted at
            as many leapfrogs as the draws.
    """

    chains: dict[str, Tensor]
    sizes: dict[str, Tensor]
    size: Tensor
    r_hat: Tensor
    gradients: int


def _sampled(
    program: Program,
    latents: _Latents,
    data: Sequence[Tensor],
    starts: Mapping[str, Tensor],
    *,
    draws: int,
    warmup: int,
    progress: bool,
    engine: Engine,
) -> _Sampled:
    """HMC of some data, each chain from a start (C, n, *shape) by site.

    R̂ is judged by whoever gets the draws, datum by datum.
    """
    chains = len(next(iter(starts.values())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = hmc(
            program.model,
            *data,
            draws=draws,
            warmup=warmup,
            chains=chains,
            local=True,
            init=latents.in_place(starts),
            engine=engine,
            progress=progress,
        )
    drawn = {}
    sizes = {}
    smallest = []
    largest = []
    for name, axis in latents.axes.items():
        drawn[name] = found.samples[name].movedim(axis, 2)
        shape = drawn[name].shape[2:]
        coordinates = drawn[name].flatten(2)
        # Draws that are all equal, or too few, count as one.
        sizes[name] = effective_size(coordinates).nan_to_num(1.0).reshape(shape)
        smallest.append(sizes[name].reshape(len(data[0]), -1).amin(1))
        r_hat = split_r_hat(coordinates).nan_to_num(math.inf)
        largest.append(r_hat.reshape(len(data[0]), -1).amax(1))
    iterations = chains * (warmup + found.draws)
    return _Sampled(
        chains=drawn,
        sizes=sizes,
        size=torch.stack(smallest).amin(0),
        r_hat=torch.stack(largest).amax(0),
        gradients=round(found.settings["leapfrogs"] * iterations),
    )
