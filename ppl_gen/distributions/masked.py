"""A distribution of values some of which are missing."""

from __future__ import annotations

__all__ = ["Masked"]

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from ppl_gen.protocols import Distribution
from ppl_gen.supports import point_in, support_of


class Masked(TorchDistribution):
    """p(x) where x is known, and 1 where it is NaN: ∫ p(x) dx over what is missing.

    Draws are complete. Neither values nor gradients depend on NaN: the base scores a point of its
    support in its place, of which nothing is kept.

    Args:
        base: A distribution of independent single values, of event shape ().

    Examples:
        >>> x = Masked(dist.Normal(torch.zeros(2), 1.0))
        >>> x.log_prob(torch.tensor([0.0, torch.nan]))
        tensor([-0.9189,  0.0000])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, base: Distribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return support_of(self.base)

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.base.variance

    @property
    def has_rsample(self) -> bool:
        return self.base.has_rsample

    @property
    def has_enumerate_support(self) -> bool:
        return self.base.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self.base.enumerate_support(expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Masked:
        return Masked(self.base.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.sample(Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.rsample(Size(sample_shape))

    def filled(self, value: Tensor) -> Tensor:
        """Values with a point of the support where they are missing.

        Args:
            value: Data, NaN where missing.
        """
        return torch.where(value.isnan(), point_in(self.support), value)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value.isnan(), 0.0, self.base.log_prob(self.filled(value)))
