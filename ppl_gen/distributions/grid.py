"""Masses on evenly spaced values in [0, 1], as images have them."""

from __future__ import annotations

__all__ = ["DiscretizedLogistic", "Grid", "OnGrid"]

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn import functional as F


class OnGrid(constraints.Constraint):
    """Multiples of 1/(levels − 1) in [0, 1]."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        step = value * (self.levels - 1)
        return (value >= 0) & (value <= 1) & ((step - step.round()).abs() < 1e-3)

    def __repr__(self) -> str:
        return f"{self.levels} evenly spaced values in [0, 1]"


def _grid(levels: int, like: Tensor) -> Tensor:
    """K evenly spaced values in [0, 1], (K,)."""
    return torch.linspace(0, 1, levels, dtype=like.dtype, device=like.device)


def _enumerated(values: Tensor, batch_shape: Size, expand: bool) -> Tensor:
    """Values as Pyro enumerates them: (K, *1), or (K, *batch) if they are to be expanded."""
    values = values.reshape(-1, *(1,) * len(batch_shape))
    if not expand:
        return values
    return values.expand(-1, *batch_shape)


def _axis_of_levels(logits: Tensor) -> int:
    """Where the last axis lies in memory, a negative index.

    Axes that are finer there, those of an image, are kept behind it: to go along it is as fast then
    as along a last axis, and nothing is copied.
    """
    *others, own = logits.stride()
    return -1 - sum([stride < own for stride in others])


class Grid(TorchDistribution):
    """P(x = k/(K−1)) = softmax(η)ₖ: any mass on K evenly spaced values in [0, 1].

    Args:
        logits: η, of shape (*batch, K).
        validate_args: Whether to check the logits; Pyro's setting if None.

    Examples:
        >>> pixel = Grid(torch.tensor([0.0, 0.0, 0.0]))
        >>> pixel.enumerate_support(), pixel.mean
        (tensor([0.0000, 0.5000, 1.0000]), tensor(0.5000))
    """

    arg_constraints = {"logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self._given = logits
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    @property
    def logits(self) -> Tensor:
        """log P(x = k/(K−1)), of shape (*batch, K)."""
        axis = _axis_of_levels(self._given)
        return self._given.movedim(-1, axis).log_softmax(axis).movedim(axis, -1)

    @property
    def levels(self) -> int:
        """K, the number of values."""
        return self._given.shape[-1]

    @property
    def support(self) -> constraints.Constraint:
        return OnGrid(self.levels)

    @property
    def mean(self) -> Tensor:
        return self.logits.exp() @ _grid(self.levels, self._given)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _enumerated(_grid(self.levels, self._given), self.batch_shape, expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Grid:
        return Grid(self._given.expand((*batch_shape, self.levels)), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        index = dist.Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        return index.to(self._given.dtype) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        index = (value * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(index.shape, self.batch_shape)
        logits = self.logits.expand((*shape, self.levels))
        axis = _axis_of_levels(logits)
        index = index.expand(shape).unsqueeze(axis)
        return logits.movedim(-1, axis).gather(axis, index).squeeze(axis)


class Classes(dist.Categorical):
    """P(x = k) = softmax(η)ₖ; its draws have the dtype of η, as networks and tables take them.

    Examples:
        >>> labels = Classes(logits=torch.zeros(4))
        >>> labels.sample((3,)).dtype, labels.log_prob(torch.tensor(2.0)).exp()
        (torch.float32, tensor(0.2500))
    """

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return super().sample(sample_shape).to(self.logits.dtype)


class DiscretizedLogistic(TorchDistribution):
    """A logistic variable rounded to K evenly spaced values in [0, 1]; the ends take the tails.

    Args:
        loc: μ, the location, of shape (*batch,) or broadcast to it.
        scale: s, positive, of shape (*batch,) or broadcast to it.
        levels: K.
        validate_args: Whether to check the parameters; Pyro's setting if None.

    Examples:
        >>> pixel = DiscretizedLogistic(torch.tensor(0.3), torch.tensor(0.1), levels=4)
        >>> pixel.enumerate_support()
        tensor([0.0000, 0.3333, 0.6667, 1.0000])
        >>> pixel.log_prob(pixel.enumerate_support()).exp().sum().round(decimals=4)
        tensor(1.)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    has_enumerate_support = True

    def __init__(
        self, loc: Tensor, scale: Tensor, levels: int, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return OnGrid(self.levels)

    @property
    def mean(self) -> Tensor:
        """δ Σₖ P(x ≥ kδ) = δ Σₖ σ((μ − (k − ½)δ) / s), k = 1, …, K − 1, with δ = 1/(K − 1)."""
        exceeded = torch.zeros_like(self.loc)
        for k in range(1, self.levels):
            border = (k - 0.5) / (self.levels - 1)
            exceeded = exceeded + torch.sigmoid((self.loc - border) / self.scale)
        return exceeded / (self.levels - 1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _enumerated(_grid(self.levels, self.loc), self.batch_shape, expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretizedLogistic:
        loc = self.loc.expand(batch_shape)
        scale = self.scale.expand(batch_shape)
        return DiscretizedLogistic(loc, scale, self.levels, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            x = self.loc + self.scale * u.logit(eps=torch.finfo(u.dtype).eps)
            return (x.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        half = 0.5 / (self.levels - 1)
        upper = (value + half - self.loc) / self.scale
        lower = (value - half - self.loc) / self.scale
        # σ(u) − σ(l) = σ(u) σ(−l) (1 − exp(l − u)): no difference of nearly equal numbers, in
        # either tail.
        width = 2 * half / self.scale
        first = F.logsigmoid(upper)
        last = F.logsigmoid(-lower)
        inside = first + last + torch.log(-torch.expm1(-width))
        not_first = torch.where(value > 1 - half, last, inside)
        return torch.where(value < half, first, not_first)
