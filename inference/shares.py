"""Shares of a count, whose interval stays between 0 and 1 and is wide at the ends as well."""

from __future__ import annotations

__all__ = ["Share"]

from dataclasses import dataclass, field
from statistics import NormalDist

from torch import Tensor

from ppl_gen.inference.estimate import Estimate


@dataclass(frozen=True)
class Share(Estimate):
    """A share p of N points with its standard error s, that of counting or another one.

    Attributes:
        count: N, the number of points that were counted.

    Example:
        >>> import torch
        >>> low, high = Share(torch.tensor(1.0), torch.tensor(0.0), count=100).interval()
        >>> print(f"{low:.3f} to {high:.3f}")
        0.963 to 1.000
    """

    count: int = field(kw_only=True)

    @classmethod
    def of(cls, hits: Tensor) -> Share:
        """The share of points (N,) that are true, s = √(p (1 − p) / N)."""
        p = hits.double().mean()
        return cls(p, (p * (1 - p) / len(hits)).sqrt(), count=len(hits))

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Wilson's (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n), with n the points that
        would have such an error.

        n = q (1 − q)/s² and N at most, with q = (Np + ½)/(N + 1), which is neither 0 nor 1.

        Args:
            level: Between 0 and 1.

        Raises:
            ValueError: If level is not.

        Reference:
            Wilson (1927), Probable inference, the law of succession, and statistical inference.
        """
        if not 0 < level < 1:
            raise ValueError(f"expected a level between 0 and 1, got {level}; 0.95 is usual")
        z, p = NormalDist().inv_cdf(0.5 + level / 2), self.value
        q = (self.count * p + 0.5) / (self.count + 1)
        n = (q * (1 - q) / self.standard_error.square()).clamp(1, self.count)
        reach = z * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()
        low, high = ((p + z**2 / (2 * n) + end) / (1 + z**2 / n) for end in (-reach, reach))
        return low.clamp(min=0), high.clamp(max=1)
