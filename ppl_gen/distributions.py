"""Distributions that Pyro does not have: by log scale, on a grid in [0, 1], on stored points."""

from __future__ import annotations

__all__ = ["DiscretizedLogistic", "Grid", "LogScaleNormal", "NoDensity", "StoredPoints"]

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn import functional as F


class LogScaleNormal(dist.Normal):
    """N(x; μ, exp(η)²): a normal that keeps η, so that its density never takes the log of an exp.

    Args:
        loc: μ, of shape (*batch,).
        log_scale: η, of the same shape.
    """

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        self.log_scale = log_scale
        super().__init__(loc, log_scale.exp(), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogScaleNormal:
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return LogScaleNormal(self.loc.expand(batch_shape), self.log_scale.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        standardised = (value - self.loc) / self.scale
        return -0.5 * standardised.square() - self.log_scale - 0.5 * math.log(2 * math.pi)


class _OnGrid(constraints.Constraint):
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


class Grid(TorchDistribution):
    """P(x = k/(K−1)) = softmax(η)ₖ: any mass on K evenly spaced values in [0, 1].

    Args:
        logits: η, of shape (*batch, K).
        validate_args: Whether to check the logits; Pyro's setting if None.
    """

    arg_constraints = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits.log_softmax(-1)
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    @property
    def levels(self) -> int:
        """K, the number of values."""
        return self.logits.shape[-1]

    @property
    def support(self) -> constraints.Constraint:
        return _OnGrid(self.levels)

    @property
    def mean(self) -> Tensor:
        probs = self.logits.exp()
        values = torch.linspace(0, 1, self.levels, dtype=probs.dtype, device=probs.device)
        return probs @ values

    def expand(self, batch_shape: Any, _instance: Any = None) -> Grid:
        return Grid(self.logits.expand((*batch_shape, self.levels)), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        index = dist.Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        return index.to(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        index = (value * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(index.shape, self.batch_shape)
        logits = self.logits.expand((*shape, self.levels))
        return logits.gather(-1, index.expand(shape)[..., None]).squeeze(-1)


class DiscretizedLogistic(TorchDistribution):
    """A logistic variable rounded to K evenly spaced values in [0, 1]; the ends take the tails.

    Args:
        loc: μ, the location, of shape (*batch,) or broadcast to it.
        scale: s, positive, of shape (*batch,) or broadcast to it.
        levels: K.
        validate_args: Whether to check the parameters; Pyro's setting if None.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(
        self, loc: Tensor, scale: Tensor, levels: int, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return _OnGrid(self.levels)

    @property
    def mean(self) -> Tensor:
        """δ Σₖ P(x ≥ kδ) = δ Σₖ σ((μ − (k − ½)δ) / s), k = 1, …, K − 1, with δ = 1/(K − 1)."""
        exceeded = torch.zeros_like(self.loc)
        for k in range(1, self.levels):
            border = (k - 0.5) / (self.levels - 1)
            exceeded = exceeded + torch.sigmoid((self.loc - border) / self.scale)
        return exceeded / (self.levels - 1)

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


class NoDensity(NotImplementedError, ValueError):
    """A density was asked of a distribution that has draws only.

    torch raises NotImplementedError for this; it is a ValueError too, as all bad input is here.
    """


class StoredPoints(TorchDistribution):
    """(1/N) Σᵢ δ(z − xᵢ): one of N points; or, with jitter ε, (1/N) Σᵢ N(z; xᵢ, ε²I), a density.

    Args:
        points: x, of shape (N, *shape); a point is one event.
        jitter: ε, in the units of x; None leaves the points as they are, without a density.
        batch_shape: The shape of independent draws, as `.expand` gives it.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, points: Tensor, jitter: float | None = None, batch_shape: Any = ()) -> None:
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
        jitter = self.jitter or 0.0
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
        log_scale = math.log(self.jitter * math.sqrt(2 * math.pi))
        normaliser = math.log(len(self.points)) + size * log_scale
        log_prob = (scores.logsumexp(-1) - normaliser).reshape(batch)
        return log_prob.expand(torch.broadcast_shapes(batch, self.batch_shape))
