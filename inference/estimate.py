"""What every evaluator returns: a number with its error."""

from __future__ import annotations

__all__ = ["Estimate"]

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


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
        """The average over data: standard error √(Σ sᵢ²) / N, the smallest ESS and the largest k̂
        among the data.
        """
        value = self.value.double()
        n = value.numel()
        return Estimate(
            value.mean(),
            self.standard_error.double().square().sum().sqrt() / n,
            None if self.ess is None else self.ess.min(),
            None if self.k_hat is None else self.k_hat.max(),
            value.std() / n**0.5 if n > 1 else torch.full_like(value.mean(), torch.nan),
        )

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """value ± z s, the normal interval that holds the truth with probability `level`, entry by
        entry.

        Args:
            level: Between 0 and 1.

        Raises:
            ValueError: If level is not.

        Example:
            >>> Estimate(torch.tensor(1.0), torch.tensor(0.5)).interval()
            (tensor(0.0200), tensor(1.9800))
        """
        if not 0 < level < 1:
            raise ValueError(f"expected a level between 0 and 1, got {level}; 0.95 is usual")
        reach = NormalDist().inv_cdf(0.5 + level / 2) * self.standard_error
        return self.value - reach, self.value + reach

    def __str__(self) -> str:
        mean = self if self.value.dim() == 0 else self.mean()
        error = float(mean.standard_error)
        # Three decimals suit nats; a smaller error is shown with two digits of its own.
        decimals = 1 - math.floor(math.log10(error)) if 1e-12 < error < 5e-4 else 3
        return f"{float(mean.value):.{decimals}f} ± " + (
            "unknown" if math.isnan(error) else f"{error:.{decimals}f}"
        )
