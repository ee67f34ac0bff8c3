"""Sums of importance weights, taken in as they come: log evidence, its error, ESS and Pareto k̂."""

from __future__ import annotations

__all__ = ["LogWeights", "Weights", "k_hat_limit", "summarised"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate


def k_hat_limit(particles: int) -> float:
    """min(1 − 1/log₁₀ K, 0.7): the k̂ above which the average of K weights is not to be trusted.

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling,
        section 3.2.
    """
    if particles == 1:
        return 0.7
    return min(1 - 1 / math.log10(particles), 0.7)


class Weights(NamedTuple):
    """Of all log weights (K, n) seen so far: log Σw and log Σw², and the largest ones, for the
    tail.
    """

    log_sum: Tensor
    log_sum_square: Tensor
    tail: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> Weights:
        nothing = torch.full((n,), -math.inf, dtype=torch.float64, device=device)
        return cls(nothing, nothing, nothing.expand(_tail_length(particles) + 1, n))

    def add(self, new: Tensor) -> Weights:
        return Weights(
            torch.logaddexp(self.log_sum, new.logsumexp(0)),
            torch.logaddexp(self.log_sum_square, (2 * new).logsumexp(0)),
            torch.cat([self.tail, new]).topk(self.tail.shape[0], dim=0).values,
        )

    def estimate(self, particles: int) -> Estimate:
        ess = (2 * self.log_sum - self.log_sum_square).exp()
        variance = (
            (particles / ess - 1).clamp(min=0) / (particles - 1)
            if particles > 1
            else ess * torch.nan
        )
        k_hat = _pareto_shape(self.tail) if _tail_length(particles) > 4 else None
        return Estimate(self.log_sum - math.log(particles), variance.sqrt(), ess, k_hat)


class LogWeights(NamedTuple):
    """Of all log weights (K, n) seen so far: their number, mean and sum of squared deviations,
    merged pairwise.
    """

    seen: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, n: int, particles: int, device: torch.device) -> LogWeights:
        nothing = torch.zeros(n, dtype=torch.float64, device=device)
        return cls(0, nothing, nothing)

    def add(self, new: Tensor) -> LogWeights:
        seen = self.seen + len(new)
        shift = new.mean(0) - self.mean
        within = (new - new.mean(0)).square().sum(0)
        between = shift.square() * self.seen * len(new) / seen
        return LogWeights(
            seen, self.mean + shift * len(new) / seen, self.squares + within + between
        )

    def estimate(self, particles: int) -> Estimate:
        variance = self.squares / (particles - 1) if particles > 1 else self.squares * torch.nan
        return Estimate(self.mean, (variance / particles).sqrt())


def summarised(log_weights: Tensor) -> tuple[Estimate, Estimate]:
    """What `log_evidence` and `elbo` return, of log weights (K, N) that are at hand."""
    particles, n = log_weights.shape
    log_weights = log_weights.double()
    weights = Weights.empty(n, particles, log_weights.device).add(log_weights)
    return weights.estimate(particles), LogWeights.empty(n, particles, log_weights.device).add(
        log_weights
    ).estimate(particles)


def _tail_length(particles: int) -> int:
    """The number of largest weights that the Pareto tail is fitted to (Vehtari et al. 2024)."""
    return math.ceil(min(0.2 * particles, 3 * math.sqrt(particles)))


def _pareto_shape(tail: Tensor) -> Tensor:
    """k̂ of a generalised Pareto fitted to the excess of the largest weights (M, n) over the (M +
    1)-th, column by column.

    The profile posterior mean of Zhang and Stephens (2009), A new and efficient estimation method
    for the generalized Pareto distribution, shrunk towards 1/2 with the weight of ten observations
    (Vehtari et al. 2024, Pareto smoothed importance sampling). Minus infinity where a quarter of
    the tail's weights are equal, infinity where the largest dwarfs them.
    """
    ordered = (tail - tail[0]).exp().flip(0)
    excess = (ordered[1:] - ordered[0]).T
    count = excess.shape[1]
    grid = 30 + int(math.sqrt(count))
    quartile, largest = excess[:, [int(count / 4 + 0.5) - 1]], excess[:, [-1]]
    steps = torch.arange(1, grid + 1, dtype=tail.dtype, device=tail.device) - 0.5
    theta = 1 / largest + (1 - (grid / steps).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta[:, :, None] * excess[:, None]).mean(-1)
    likelihood = count * (torch.log(-theta / shape) - shape - 1)
    theta = (theta * likelihood.softmax(-1)).sum(-1, keepdim=True)
    shape = torch.log1p(-theta * excess).mean(-1)
    shrunk = (count * shape + 10 * 0.5) / (count + 10)
    # No quartile to fit: either the tail is of a few equal weights, as discrete latents give, and
    # bounded; or the smaller weights are lost beside the largest, by some 10³⁰⁰, and no tail is
    # heavier.
    ascending = tail.flip(0)
    bounded = (ascending[int(count / 4 + 0.5)] == ascending[0]) | (largest[:, 0] == 0)
    lost = (quartile[:, 0] == 0) | shrunk.isnan()
    return torch.where(bounded, -math.inf, torch.where(lost, math.inf, shrunk))
