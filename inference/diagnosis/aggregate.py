"""The aggregate posterior q(z) = E_x q(z | x): what latents tell of the data, from N of them."""

from __future__ import annotations

__all__ = ["Aggregate", "Extrapolated", "average"]

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate


class Aggregate(NamedTuple):
    """What is known of log q(z), q(z) = E_x q(z | x), at draws z ~ q(z | xᵢ), K of each of N data.

    Attributes:
        log_q: log q(z | xᵢ), (K, N).
        log_others: log Σ q(z | xⱼ) over the others of two halves of the data, (2, K, N).
        sizes: How many others are in each half, (2, N).
    """

    log_q: Tensor
    log_others: Tensor
    sizes: Tensor

    @property
    def at_least(self) -> Tensor:
        """log q(z | xᵢ) − log (1/N) Σⱼ q(z | xⱼ), i among the j: below I in expectation, (K, N)."""
        return self._pooled(1.0)

    @property
    def at_most(self) -> Tensor:
        """The same over the N − 1 others alone: above I in expectation, (K, N)."""
        return self._pooled(0.0)

    @property
    def information(self) -> Tensor:
        """2 I(N) − I(N/2), (K, N).

        I(N) counts half of the datum's own density: a whole one is too low, none too high, by as
        much in the first order of 1/N. The rest is extrapolated.
        """
        return 2 * self._pooled(0.5) - self._pooled_by_halves()

    def estimate(self, terms: Tensor) -> Extrapolated:
        """The average of draws that were extrapolated, datum by datum.

        Args:
            terms: Of K draws for each of N data, (K, N), in nats.
        """
        step = (self._pooled(0.5) - self._pooled_by_halves()).mean().abs()
        plain = average(terms)
        return Extrapolated(plain.value, plain.standard_error, extrapolation_error=step)

    def _pooled(self, own: float) -> Tensor:
        return self._over(self.log_others.logsumexp(0), self.sizes.sum(0), own)

    def _pooled_by_halves(self) -> Tensor:
        """I(N/2), the average over both halves, (K, N)."""
        return self._over(self.log_others, self.sizes[:, None], 0.5).mean(0)

    def _over(self, log_others: Tensor, size: Tensor, own: float) -> Tensor:
        """log q(z | xᵢ) − log ((own q(z | xᵢ) + Σ q(z | xⱼ)) / (own + size))."""
        log_sum = log_others
        if own > 0:
            log_sum = torch.logaddexp(log_others, self.log_q + math.log(own))
        return self.log_q - log_sum + (size + own).log()


@dataclass(frozen=True, eq=False, repr=False)
class Extrapolated(Estimate):
    """An estimate from N data of what infinitely many would give.

    Attributes:
        extrapolation_error: What all its entries may be off by together: the last step of the
            extrapolation, from N/2 data to N.
    """

    extrapolation_error: Tensor = field(kw_only=True)

    def mean(self) -> Estimate:
        """The average over data, with the error of the extrapolation in its standard error."""
        average = super().mean()
        error = torch.hypot(average.standard_error, self.extrapolation_error)
        return replace(average, standard_error=error)


def average(terms: Tensor) -> Estimate:
    """The average of draws, datum by datum.

    Args:
        terms: Of K draws for each of N data, (K, N).
    """
    return Estimate(terms.mean(0), terms.std(0) / len(terms) ** 0.5)
