"""Sums of importance weights, taken in as they come: log evidence, its error, ESS and Pareto k̂."""

from __future__ import annotations

__all__ = [
    "LogWeights",
    "Weights",
    "elbo_of",
    "evidence_of",
    "k_hat_limit",
    "smoothed",
    "tail_length",
]

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate

# A tail of fewer weights has no shape to speak of: k̂ exists from 21 weights on.
_SHORTEST_TAIL = 5


def k_hat_limit(particles: int) -> float:
    """min(1 − 1/log₁₀ K, 0.7): the k̂ above which the average of K weights is not to be trusted.

    Args:
        particles: K, the number of weights of each datum.

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling,
        section 3.2.
    """
    if particles == 1:
        return 0.7
    return min(1 - 1 / math.log10(particles), 0.7)


def evidence_of(log_weights: Tensor) -> Estimate:
    """log (1/K) Σₖ wₖ of log weights (K, N) that are at hand, with its error, ESS and k̂."""
    return Weights.of(log_weights.double()).estimate(log_weights.shape[0])


def elbo_of(log_weights: Tensor) -> Estimate:
    """(1/K) Σₖ log wₖ of log weights (K, N) that are at hand, with its error."""
    return LogWeights.of(log_weights.double()).estimate(log_weights.shape[0])


class Weights(NamedTuple):
    """What the evidence needs of all log weights (K, N) seen so far.

    Attributes:
        log_sum: log Σₖ wₖ, (N,), float64.
        log_sum_square: log Σₖ wₖ², (N,), float64.
        tail: The largest log weights, in descending order, one more than the Pareto tail is long.
    """

    log_sum: Tensor
    log_sum_square: Tensor
    tail: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> Self:
        """No weights yet, of `particles` to come for each of n data."""
        nothing = torch.full((n,), -math.inf, dtype=torch.float64, device=device)
        return cls(nothing, nothing, nothing.expand(tail_length(particles) + 1, n))

    @classmethod
    def of(cls, log_weights: Tensor) -> Self:
        """All weights at once, (K, N) in float64."""
        particles, n = log_weights.shape
        return cls.empty(n, particles, log_weights.device).add(log_weights)

    def add(self, new: Tensor) -> Self:
        """Takes in more log weights, (k, N) in float64."""
        return type(self)(
            torch.logaddexp(self.log_sum, new.logsumexp(0)),
            torch.logaddexp(self.log_sum_square, (2 * new).logsumexp(0)),
            torch.cat([self.tail, new]).topk(self.tail.shape[0], dim=0).values,
        )

    def estimate(self, particles: int) -> Estimate:
        """log (1/K) Σₖ wₖ, once all K = `particles` weights are in; no error for a single one."""
        ess = (2 * self.log_sum - self.log_sum_square).exp()
        variance = ess * torch.nan
        if particles > 1:
            variance = (particles / ess - 1).clamp(min=0) / (particles - 1)
        k_hat = None
        if tail_length(particles) >= _SHORTEST_TAIL:
            k_hat = _pareto(self.tail).shape
        return Estimate(
            value=self.log_sum - math.log(particles),
            standard_error=variance.sqrt(),
            ess=ess,
            k_hat=k_hat,
        )


class LogWeights(NamedTuple):
    """What the ELBO needs of all log weights (K, N) seen so far, merged pairwise.

    Attributes:
        seen: How many weights of each datum.
        mean: Their mean, (N,), float64.
        squares: The sum of their squared deviations from it, (N,), float64.
    """

    seen: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> Self:
        """No weights yet, of `particles` to come for each of n data."""
        nothing = torch.zeros(n, dtype=torch.float64, device=device)
        return cls(0, nothing, nothing)

    @classmethod
    def of(cls, log_weights: Tensor) -> Self:
        """All weights at once, (K, N) in float64."""
        particles, n = log_weights.shape
        return cls.empty(n, particles, log_weights.device).add(log_weights)

    def add(self, new: Tensor) -> Self:
        """Takes in more log weights, (k, N) in float64."""
        seen = self.seen + len(new)
        mean = new.mean(0)
        shift = mean - self.mean
        within = (new - mean).square().sum(0)
        between = shift.square() * self.seen * len(new) / seen
        return type(self)(
            seen, self.mean + shift * len(new) / seen, self.squares + within + between
        )

    def estimate(self, particles: int) -> Estimate:
        """(1/K) Σₖ log wₖ, once all K = `particles` weights are in; no error for a single one."""
        variance = self.squares * torch.nan
        if particles > 1:
            variance = self.squares / (particles - 1)
        return Estimate(self.mean, (variance / particles).sqrt())


def tail_length(particles: int) -> int:
    """The number of largest weights that the Pareto tail is fitted to (Vehtari et al. 2024).

    Args:
        particles: K, the number of weights of each datum.
    """
    return math.ceil(min(0.2 * particles, 3 * math.sqrt(particles)))


def smoothed(log_weights: Tensor) -> Tensor:
    """Log weights whose tail is replaced by that of the Pareto fitted to it, (K, N) in float64.

    The M largest weights of each datum become the quantiles (j − ½)/M of the generalised Pareto
    distribution, none above the largest. They are left where there is no tail to fit: of K ≤ 20
    weights, of a few equal ones, and where one dwarfs all others.

    Args:
        log_weights: (K, N).

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling,
        algorithm 1.
    """
    log_weights = log_weights.double()
    count = tail_length(len(log_weights))
    if count < _SHORTEST_TAIL:
        return log_weights
    tail, places = log_weights.topk(count + 1, dim=0)
    shape, scale = _pareto(tail)
    rank = torch.arange(count, 0, -1, dtype=tail.dtype, device=tail.device)[:, None]
    beyond = torch.log1p(-(rank - 0.5) / count)
    quantile = scale * torch.expm1(-shape * beyond) / shape
    threshold = (tail[-1] - tail[0]).exp()
    fitted = tail[0] + (threshold + quantile).log().clamp(max=0)
    fitted = torch.where(shape.isfinite() & scale.isfinite(), fitted, tail[:-1])
    return log_weights.scatter(0, places[:-1], fitted)


class _Pareto(NamedTuple):
    """A generalised Pareto fitted to the tail of each datum's weights.

    Attributes:
        shape: k̂, (N,).
        scale: σ, (N,), in units of the largest weight.
    """

    shape: Tensor
    scale: Tensor


def _pareto(tail: Tensor) -> _Pareto:
    """The generalised Pareto fitted to the excess of the largest weights over the next one.

    The profile posterior mean of Zhang and Stephens (2009), A new and efficient estimation method
    for the generalized Pareto distribution, shrunk towards 1/2 with the weight of ten observations
    (Vehtari et al. 2024, Pareto smoothed importance sampling).

    Args:
        tail: The M + 1 largest log weights of each datum in descending order, (M + 1, N).

    Returns:
        k̂ is minus infinity where a quarter of the tail's weights are equal, infinity where the
        largest dwarfs them.
    """
    ordered = (tail - tail[0]).exp().flip(0)
    excess = (ordered[1:] - ordered[0]).T
    count = excess.shape[1]
    at_quartile = int(count / 4 + 0.5)
    quartile = excess[:, [at_quartile - 1]]
    largest = excess[:, [-1]]
    theta = _profile_mean(excess, quartile, largest)
    shape = torch.log1p(-theta * excess).mean(-1)
    shrunk = (count * shape + 10 * 0.5) / (count + 10)
    # No quartile to fit: either the tail is of a few equal weights, as discrete latents give, and
    # bounded; or the smaller weights are lost beside the largest, by some 10³⁰⁰, and no tail is
    # heavier.
    ascending = tail.flip(0)
    bounded = (ascending[at_quartile] == ascending[0]) | (largest[:, 0] == 0)
    lost = (quartile[:, 0] == 0) | shrunk.isnan()
    k_hat = torch.where(lost, math.inf, shrunk)
    return _Pareto(shape=torch.where(bounded, -math.inf, k_hat), scale=-shape / theta.squeeze(-1))


def _profile_mean(excess: Tensor, quartile: Tensor, largest: Tensor) -> Tensor:
    """The posterior mean of θ = −k/σ on Zhang and Stephens' grid, (N, 1), of an excess (N, M)."""
    count = excess.shape[1]
    grid = 30 + int(math.sqrt(count))
    steps = torch.arange(1, grid + 1, dtype=excess.dtype, device=excess.device) - 0.5
    theta = 1 / largest + (1 - (grid / steps).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta[:, :, None] * excess[:, None]).mean(-1)
    log_likelihood = count * (torch.log(-theta / shape) - shape - 1)
    return (theta * log_likelihood.softmax(-1)).sum(-1, keepdim=True)
