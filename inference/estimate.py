"""What every evaluator returns: a number with its error."""

from __future__ import annotations

__all__ = ["Estimate", "Share"]

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import Tensor

from ppl_gen.inference.expect import expect_level


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo estimate, per datum (N,) or, after `.mean()`, of the average over data.

    Attributes:
        value: The estimate, in nats per datum for an evidence.
        standard_error: Its Monte Carlo standard error: what more particles would shrink.
        ess: Effective sample size (Σw)² / Σw², from 1 to the number of particles; None where there
            are no weights.
        k_hat: Pareto shape of the weights' upper tail. Above min(1 − 1/log₁₀ K, 0.7), for K
            particles, the estimate and its error are not to be trusted (Vehtari et al. 2024, Pareto
            smoothed importance sampling). None where there are no weights, or too few.
        sampling_error: After `.mean()`, the spread over data, sd / √N: what more test data would
            shrink.

    Example:
        >>> print(Estimate(torch.tensor([-1.0, -3.0]), torch.tensor([0.03, 0.04])).mean())
        -2.000 ± 0.025
    """

    value: Tensor
    standard_error: Tensor
    ess: Tensor | None = None
    k_hat: Tensor | None = None
    sampling_error: Tensor | None = None

    def mean(self) -> Estimate:
        """The average over data, with the standard error √(Σ sᵢ²) / N.

        Its ESS is the smallest, and its k̂ the largest, among the data. Its sampling error is NaN
        for a single datum.
        """
        value = self.value.double()
        n = value.numel()
        average = value.mean()
        summed_variance = self.standard_error.double().square().sum()
        sampling_error = torch.full_like(average, torch.nan)
        if n > 1:
            sampling_error = value.std() / n**0.5
        ess = self.ess
        if ess is not None:
            ess = ess.min()
        k_hat = self.k_hat
        if k_hat is not None:
            k_hat = k_hat.max()
        return Estimate(
            value=average,
            standard_error=summed_variance.sqrt() / n,
            ess=ess,
            k_hat=k_hat,
            sampling_error=sampling_error,
        )

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """value ± z s, which holds the truth with probability `level` if errors are normal.

        Args:
            level: The probability, between 0 and 1, for each entry by itself.

        Returns:
            The lower and the upper end, of the shape of `value`.

        Raises:
            ValueError: If level is not between 0 and 1.

        Example:
            >>> Estimate(torch.tensor(1.0), torch.tensor(0.5)).interval()
            (tensor(0.0200), tensor(1.9800))
        """
        reach = _normal_reach(level) * self.standard_error
        return self.value - reach, self.value + reach

    def __str__(self) -> str:
        mean = self
        if self.value.dim() > 0:
            mean = self.mean()
        error = float(mean.standard_error)
        decimals = 3  # suits nats
        if 1e-12 < error < 5e-4:
            decimals = 1 - math.floor(math.log10(error))  # two digits of the error
        value = f"{float(mean.value):.{decimals}f}"
        if math.isnan(error):
            return f"{value} ± unknown"
        return f"{value} ± {error:.{decimals}f}"


@dataclass(frozen=True)
class Share(Estimate):
    """A share p of N points with its standard error s, that of counting or another one.

    Its interval stays between 0 and 1, and has a width at the ends as well.

    Attributes:
        count: N, the number of points that were counted.

    Example:
        >>> low, high = Share(torch.tensor(1.0), torch.tensor(0.0), count=100).interval()
        >>> print(f"{low:.3f} to {high:.3f}")
        0.963 to 1.000
    """

    count: int = field(kw_only=True)

    @classmethod
    def of(cls, hits: Tensor) -> Share:
        """The share of points that are hits, with the error of counting, s = √(p (1 − p) / N).

        Args:
            hits: Whether each point is one, (N,).
        """
        p = hits.double().mean()
        error = (p * (1 - p) / len(hits)).sqrt()
        return cls(p, error, count=len(hits))

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Wilson's (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n).

        n is the number of points of which counting would have the error s: q (1 − q)/s², and N at
        most, with q = (Np + ½)/(N + 1), which is neither 0 nor 1.

        Args:
            level: The probability to hold the truth, between 0 and 1.

        Returns:
            The lower and the upper end.

        Raises:
            ValueError: If level is not between 0 and 1.

        Reference:
            Wilson (1927), Probable inference, the law of succession, and statistical inference.
        """
        z = _normal_reach(level)
        p = self.value
        q = (self.count * p + 0.5) / (self.count + 1)
        n = (q * (1 - q) / self.standard_error.square()).clamp(1, self.count)
        centre = p + z**2 / (2 * n)
        reach = z * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()
        shrinkage = 1 + z**2 / n
        low = (centre - reach) / shrinkage
        high = (centre + reach) / shrinkage
        return low.clamp(min=0), high.clamp(max=1)


def _normal_reach(level: float) -> float:
    """z with P(|Z| ≤ z) = level for Z ~ N(0, 1); raises ValueError if there is none."""
    expect_level(level)
    return NormalDist().inv_cdf(0.5 + level / 2)
