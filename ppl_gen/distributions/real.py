"""Heavy tails on the line, and a normal on the logarithms of positive numbers."""

from __future__ import annotations

__all__ = ["LogNormal", "StudentT"]

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from ppl_gen.distributions.gamma import log_gamma_ratio


class StudentT(TorchDistribution):
    """p(x) ∝ (1 + y²/ν)^(−(ν+1)/2) / s with y = (x − μ)/s: the constant is computed once for all.

    Args:
        loc: μ, of shape (*batch,).
        scale: s, positive, one number or of shape (*batch,).
        df: ν, positive, one number or of shape (*batch,).

    Examples:
        >>> x = StudentT(torch.tensor(0.0), torch.tensor(1.0), df=torch.tensor(4.0))
        >>> x.variance, x.log_prob(torch.tensor([0.0, 10.0]))
        (tensor(2.), tensor([-0.9808, -9.1261]))
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "df": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, df: Tensor) -> None:
        shape = torch.broadcast_shapes(loc.shape, scale.shape, df.shape)
        self.loc = loc.expand(shape)
        self.scale = scale
        self.df = df
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        finite = self.scale.square() * self.df / (self.df - 2)
        variance = torch.where(self.df > 2, finite, math.inf)
        return torch.where(self.df > 1, variance, math.nan).expand(self.batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> StudentT:
        return StudentT(self.loc.expand(batch_shape), self.scale, self.df)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        half = (self.df / 2).expand(self.batch_shape)
        gamma = torch.distributions.Gamma(half, half, validate_args=False)
        return self.loc + self.scale * normal * gamma.rsample(Size(sample_shape)).rsqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        half = self.df / 2
        constant = log_gamma_ratio(half, half.new_tensor(0.5)) - 0.5 * (self.df * math.pi).log()
        square = ((value - self.loc) / self.scale).square()
        return constant - self.scale.log() - (half + 0.5) * torch.log1p(square / self.df)


class LogNormal(TorchDistribution):
    """p(x) = N(log x; μ, s²) / x on x > 0.

    Args:
        loc: μ, the mean of log x, of shape (*batch,).
        scale: s, the standard deviation of log x, positive, one number or of shape (*batch,).

    Examples:
        >>> LogNormal(torch.tensor(0.0), torch.tensor(1.0)).mean  # exp(1/2)
        tensor(1.6487)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        shape = torch.broadcast_shapes(loc.shape, scale.shape)
        self.loc = loc.expand(shape)
        self.scale = scale
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale.square() / 2).exp()

    @property
    def variance(self) -> Tensor:
        return self.mean.square() * torch.expm1(self.scale.square())

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogNormal:
        return LogNormal(self.loc.expand(batch_shape), self.scale)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return (self.loc + self.scale * normal).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        log_value = value.log()
        square = ((log_value - self.loc) / self.scale).square()
        return -0.5 * square - self.scale.log() - 0.5 * math.log(2 * math.pi) - log_value
