"""Stored points, as they are or jittered."""

from __future__ import annotations

__all__ = ["NoDensity", "StoredPoints"]

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor


class NoDensity(NotImplementedError, ValueError):
    """A density was asked of a distribution that has draws only.

    torch raises NotImplementedError for this; it is a ValueError too, as all bad input is here.

    Examples:
        >>> try:
        ...     StoredPoints(torch.zeros(3, 2)).log_prob(torch.zeros(2))
        ... except NoDensity as error:
        ...     print(error)
        stored points have draws and no density: ...
    """


class StoredPoints(TorchDistribution):
    """(1/N) Σᵢ δ(z − xᵢ): one of N points; or, with jitter ε, (1/N) Σᵢ N(z; xᵢ, ε²I), a density.

    Args:
        points: x, of shape (N, *shape); a point is one event.
        jitter: ε, in the units of x, a number or a tensor (); None leaves the points as they are,
            without a density.
        batch_shape: The shape of independent draws, as `.expand` gives it.

    Examples:
        >>> points = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> StoredPoints(points).mean
        tensor([1., 2.])
        >>> StoredPoints(points, jitter=0.1).log_prob(torch.zeros(2)).round(decimals=3)
        tensor(2.0740)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, points: Tensor, jitter: float | Tensor | None = None, batch_shape: Any = ()
    ) -> None:
        self.points = points
        self.jitter = jitter
        super().__init__(Size(batch_shape), points.shape[1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.points.mean(0).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        jitter = 0.0 if self.jitter is None else self.jitter
        variance = self.points.var(0, correction=0) + jitter**2
        return variance.expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> StoredPoints:
        return StoredPoints(self.points, self.jitter, batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            index = torch.randint(len(self.points), shape, device=self.points.device)
            z = self.points[index]
            if self.jitter is None:
                return z
            return z + self.jitter * torch.randn_like(z)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.jitter is None:
            raise NoDensity(
                "stored points have draws and no density: judge what is drawn (moments, "
                "two-sample tests), or smooth them (Empirical(x, jitter=0.1))"
            )
        size = self.event_shape.numel()
        batch = value.shape[: value.dim() - len(self.event_shape)]
        # Differences, not products: at a stored point itself a product leaves rounding errors that
        # jitter² magnifies.
        distances = torch.cdist(
            value.reshape(-1, size),
            self.points.reshape(-1, size),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        scores = -0.5 * (distances / self.jitter).square()
        width = self.jitter * math.sqrt(2 * math.pi)
        log_scale = width.log() if torch.is_tensor(width) else math.log(width)
        normaliser = math.log(len(self.points)) + size * log_scale
        log_prob = (scores.logsumexp(-1) - normaliser).reshape(batch)
        return log_prob.expand(torch.broadcast_shapes(batch, self.batch_shape))
