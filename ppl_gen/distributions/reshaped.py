"""A distribution of vectors as one of images."""

from __future__ import annotations

__all__ = ["Reshaped"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class Reshaped(TorchDistribution):
    """The distribution of x.reshape(shape), with x a vector of the base distribution.

    Args:
        base: Of vectors (D,), event shape (D,).
        shape: Of the event, of D values in all.

    Raises:
        ValueError: If the sizes differ.

    Examples:
        >>> vector = dist.Normal(torch.zeros(6), 1.0).to_event(1)
        >>> Reshaped(vector, (1, 2, 3)).sample().shape
        torch.Size([1, 2, 3])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, base: Any, shape: Sequence[int]) -> None:
        if base.event_shape != (math.prod(shape),):
            raise ValueError(
                f"expected a shape of {base.event_shape[0]} values, got {tuple(shape)}"
            )
        self.base_dist = base
        super().__init__(base.batch_shape, torch.Size(shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        support = self.base_dist.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        if support is constraints.real_vector:
            support = constraints.real
        return constraints.independent(support, len(self.event_shape))

    @property
    def has_rsample(self) -> bool:
        return bool(self.base_dist.has_rsample)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Reshaped:
        return Reshaped(self.base_dist.expand(batch_shape), self.event_shape)

    @property
    def mean(self) -> Tensor:
        return self._shaped(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        return self._shaped(self.base_dist.variance)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._shaped(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._shaped(self.base_dist.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self.base_dist.log_prob(value.flatten(-len(self.event_shape)))
        return log_prob

    def _shaped(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, self.event_shape)
