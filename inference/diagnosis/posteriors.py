"""The posteriors of a guide beside the priors of a program: draws, densities and moments."""

from __future__ import annotations

__all__ = ["Latents", "Moments", "Seen"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import (
    Sites,
    data_axis,
    data_plate,
    is_auxiliary,
    log_prob_per_datum,
    stochastic_sites,
    unwrapped,
)
from ppl_gen.supports import is_discrete

# A mixture over all posteriors is computed from so many data at once: few, so that the guide's
# network sees each of them seldom.
_MIXED_AT_ONCE = 64


class Latents(NamedTuple):
    """The latent sites of a program, and their values as one tensor (K, n, D).

    Attributes:
        nesting: The number of axes that plates take.
        axes: By site, the axis of the data in its value, counted from the right.
        shapes: By site, the shape of the rest.
    """

    nesting: int
    axes: dict[str, int]
    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, program: Program, guide: Guide, nesting: int, data: tuple[Tensor, ...]) -> Latents:
        """Finds the latents by running program and guide on two data.

        Args:
            program: The program.
            guide: The guide.
            nesting: The number of axes that plates take.
            data: x and context.

        Raises:
            ValueError: If a latent is discrete or has a prior without a finite variance, or the
                guide has auxiliary sites or point masses.
        """
        few = _rows(data, slice(2))
        sites = stochastic_sites(poutine.trace(program.model).get_trace(*few))
        guide_sites = stochastic_sites(poutine.trace(guide).get_trace(*few))
        plate = data_plate(sites)
        discrete = []
        unmeasurable = []
        axes = {}
        shapes = {}
        for name, site in sites.items():
            if site["is_observed"]:
                continue
            if is_discrete(site["fn"]):
                discrete.append(name)
                continue
            if _is_without_moments(site["fn"]):
                unmeasurable.append(f"{type(unwrapped(site['fn'])).__name__} of {name!r}")
            axes[name] = data_axis(site, plate)
            shapes[name] = site["value"].movedim(axes[name], 0).shape[1:]
        if discrete:
            raise ValueError(
                f"expected continuous latents, got the discrete sites {sorted(discrete)}, without "
                "mean and variance; hold the entropy of q(z | x) against that of its average over "
                "data"
            )
        if unmeasurable:
            raise ValueError(
                "expected a prior with a mean and a variance, in whose units latents are measured, "
                f"got {', '.join(unmeasurable)}; ask log_evidence and gaps, which need neither"
            )
        without_density = []
        for name, site in guide_sites.items():
            if is_auxiliary(site) or isinstance(unwrapped(site["fn"]), dist.Delta):
                without_density.append(name)
        if without_density:
            raise ValueError(
                "expected a guide whose density is known at any z, got auxiliary sites or point "
                f"masses at {sorted(without_density)}; sample the latents directly, from "
                "distributions with a density (DiagonalGaussian)"
            )
        return cls(nesting, axes, shapes)

    @property
    def places(self) -> dict[str, slice]:
        """By site, which of the D entries are its own."""
        places = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + shape.numel()
            places[name] = slice(start, stop)
            start = stop
        return places

    @property
    def names(self) -> list[str]:
        """The names of the D entries."""
        names = []
        for site, shape in self.shapes.items():
            names += coordinates(site, shape)
        return names

    def look_at(
        self,
        program: Program,
        guide: Guide,
        data: tuple[Tensor, ...],
        particles: int,
        chunk: int,
    ) -> Seen:
        """Draws latents of all data and reads their densities and moments, in chunks.

        Args:
            program: The program.
            guide: The guide.
            data: x and context.
            particles: K, the number of draws per datum.
            chunk: How many (draw, datum) pairs are in work at once.
        """
        x, *context = data
        next_context = [c.roll(-1, 0) for c in context]
        parts = []
        size = max(1, chunk // particles)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            here = _rows(context, rows)
            there = _rows(next_context, rows)
            z, log_q, posterior = self._drawn(guide, particles, x[rows], *here)
            _, _, prior = self._drawn(program.model, particles, x[rows], *here)
            log_prior = self._log_prob(program.model, z, x[rows], *here)
            by_site = (log_q - log_prior)[None]
            if len(self.axes) > 1:
                of_guide = self._by_site(guide, z, x[rows], *here)
                by_site = of_guide - self._by_site(program.model, z, x[rows], *here)
            seen = Seen(
                latents=z,
                log_q=log_q,
                log_prior=log_prior,
                elsewhere=self._log_prob(program.model, z[:1], x[rows], *there),
                posterior=posterior,
                prior=prior,
                by_site=by_site,
            )
            parts.append(seen)
        return Seen.joined(parts)

    def pools(self, guide: Guide, z: Tensor, data: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """log Σⱼ q(z | xⱼ) of draws z (K, N, D) over the other data, without their own.

        Args:
            guide: The guide.
            z: Draws of the posterior of each datum, (K, N, D).
            data: x and context, each of length N.

        Returns:
            The sums over two random halves of the data, (2, K, N), and how many others are in each,
            (2, N).
        """
        count, n, latents = z.shape
        draws = z.flatten(0, 1)
        own = torch.arange(n, device=z.device).repeat(count)
        size = memory.rows(memory.MIXTURE_VALUES, _MIXED_AT_ONCE * latents)
        total = torch.full((2, count * n), -math.inf, dtype=torch.float64, device=z.device)
        sizes = torch.empty((2, n), dtype=torch.long, device=z.device)
        for side, half in enumerate(_halves(n)):
            sizes[side] = len(half)
            sizes[side, half] -= 1
            for others in half.to(z.device).split(_MIXED_AT_ONCE):
                x, *context = [values[others] for values in data]
                for start in range(0, count * n, size):
                    rows = slice(start, start + size)
                    pairs = draws[rows, None].expand(-1, len(x), -1)
                    log_q = self._log_prob(guide, pairs, x, *context)
                    log_q = log_q.masked_fill(own[rows, None] == others, -math.inf)
                    total[side, rows] = torch.logaddexp(total[side, rows], log_q.logsumexp(-1))
        return total.reshape(2, count, n), sizes

    def _drawn(
        self, sampled: Any, particles: int, x: Tensor, *context: Tensor
    ) -> tuple[Tensor, Tensor, Moments]:
        """Draws (K, n, D) of a guide, or of the prior in a model; log density (K, n); moments."""
        with poutine.trace() as recorder:
            proposal = propose(sampled, particles, self.nesting, x, *context)
        means = {}
        variances = {}
        for name in self.axes:
            fn = recorder.trace.nodes[name]["fn"]
            try:
                means[name], variances[name] = fn.mean, fn.variance
            except NotImplementedError:
                means[name] = proposal.latents[name]
                variances[name] = torch.zeros_like(means[name])
        moments = Moments.of(self._flat(means, x).double(), self._flat(variances, x).double())
        return self._flat(proposal.latents, x), proposal.log_prob.double(), moments

    def _log_prob(self, model: Any, z: Tensor, x: Tensor, *context: Tensor) -> Tensor:
        """The log density of the latents of a model or guide at z (K, n, D), of shape (K, n)."""
        prior = log_density(model, self._values(z), x, *context).prior
        return prior.reshape(-1, len(x)).double()

    def _by_site(self, model: Any, z: Tensor, x: Tensor, *context: Tensor) -> Tensor:
        """The log densities of the latent sites of a model or guide at z, (sites, K, n)."""
        at_latents = poutine.condition(model, data=self._values(z))
        sites: Sites = stochastic_sites(poutine.trace(at_latents).get_trace(x, *context))
        plate = data_plate(sites)
        densities = []
        for name in self.axes:
            log_prob = log_prob_per_datum(sites[name], self.nesting, plate)
            densities.append(log_prob.reshape(-1, len(x)).double().expand(len(z), -1))
        return torch.stack(densities)

    def _values(self, z: Tensor) -> dict[str, Tensor]:
        """Draws z (K, n, D) by the names of their sites."""
        values = {}
        for name, latents in self.places.items():
            shape = self.shapes[name]
            value = z[..., latents].reshape(*z.shape[:2], *shape)
            values[name] = value.movedim(1, self.axes[name])
        return values

    def _flat(self, values: dict[str, Tensor], x: Tensor) -> Tensor:
        """Values of the sites at K draws, one behind the other: (K, n, D)."""
        parts = []
        for name, axis in self.axes.items():
            value = values[name].movedim(axis, 1)
            parts.append(value.reshape(len(value), len(x), self.shapes[name].numel()))
        return torch.cat(parts, -1)


class Seen(NamedTuple):
    """What was seen of n of the data, at K draws of their latents.

    Attributes:
        latents: The draws z ~ q(z | x), (K, n, D).
        log_q: log q(z | x), (K, n).
        log_prior: log p(z), (K, n).
        elsewhere: log p(z) of the first draw under the next datum's context, (1, n).
        posterior: Moments of q(z | x).
        prior: Moments of p(z).
        by_site: log q − log p of each latent site, (sites, K, n).
    """

    latents: Tensor
    log_q: Tensor
    log_prior: Tensor
    elsewhere: Tensor
    posterior: Moments
    prior: Moments
    by_site: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Some data after others.

        Args:
            parts: Of different data, with the same number of draws.
        """
        latents, log_q, log_prior, elsewhere, posterior, prior, by_site = zip(*parts, strict=True)
        return cls(
            latents=torch.cat(latents, 1),
            log_q=torch.cat(log_q, 1),
            log_prior=torch.cat(log_prior, 1),
            elsewhere=torch.cat(elsewhere, 1),
            posterior=Moments.joined(posterior),
            prior=Moments.joined(prior),
            by_site=torch.cat(by_site, -1),
        )


class Moments(NamedTuple):
    """Moments of each latent given each datum, (N, D), or (1, D) where they are the same for all.

    Attributes:
        mean: The mean.
        variance: The variance.
        noise: The variance of `mean` as an estimate from draws.
    """

    mean: Tensor
    variance: Tensor
    noise: Tensor

    @classmethod
    def of(cls, means: Tensor, variances: Tensor) -> Moments:
        """By the law of total variance, from conditional moments at K draws.

        Args:
            means: E[u | what it is drawn from], (K, N, D).
            variances: Var[u | what it is drawn from], (K, N, D).
        """
        between = means.var(0)
        return cls(means.mean(0), variances.mean(0) + between, between / len(means))

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Those of some data after those of others.

        Args:
            parts: Moments of different data.
        """
        means, variances, noises = zip(*parts, strict=True)
        return cls(torch.cat(means), torch.cat(variances), torch.cat(noises))

    def pooled(self) -> Moments:
        """Those of a distribution that is the same for all data, (1, D)."""
        mean = self.mean.mean(0, keepdim=True)
        variance = self.variance.mean(0, keepdim=True)
        return Moments(mean, variance, torch.zeros_like(mean))

    def divergence(self, prior: Moments) -> Tensor:
        """KL(N(m, s²) ‖ N(m₀, s₀²)) averaged over data, in nats, (D,).

        Args:
            prior: m₀ and s₀².
        """
        shift, noise = self._shift(prior)
        ratio = self.variance / prior.variance
        by_datum = ratio - ratio.log() + shift.square() - noise - 1
        return 0.5 * by_datum.mean(0)

    def activity(self, prior: Moments) -> Tensor:
        """Var_x((m − m₀) / s₀), what the draws' noise adds taken off, (D,).

        Args:
            prior: m₀ and s₀².
        """
        shift, noise = self._shift(prior)
        return (shift.var(0) - noise.mean(0)).clamp(min=0)

    def _shift(self, prior: Moments) -> tuple[Tensor, Tensor]:
        """(m − m₀) / s₀ of each latent and datum, and the variance of its noise."""
        shift = (self.mean - prior.mean) / prior.variance.sqrt()
        noise = (self.noise + prior.noise) / prior.variance
        return shift, noise


def _is_without_moments(fn: Any) -> bool:
    """Whether a distribution knows that its variance is infinite, or that it has none."""
    try:
        variance = fn.variance
    except NotImplementedError:  # which draws will tell
        return False
    return not bool(torch.isfinite(variance).all())


def _halves(n: int) -> tuple[Tensor, ...]:
    """The indices of n data in two halves, at random but always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)).chunk(2)


def _rows(tensors: Sequence[Tensor], rows: slice) -> list[Tensor]:
    """The same rows of each tensor."""
    return [values[rows] for values in tensors]
