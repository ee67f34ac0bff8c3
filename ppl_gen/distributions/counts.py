"""Masses of counts, by logarithms of their means."""

from __future__ import annotations

__all__ = ["NegativeBinomial", "Poisson", "ZeroInflated"]

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn import functional as F

from ppl_gen.distributions.gamma import log_gamma_ratio
from ppl_gen.protocols import Distribution


class Poisson(TorchDistribution):
    """P(x) = e^(xη − e^η) / x! for x = 0, 1, 2, …: the mean is e^η.

    Args:
        log_rate: η, of shape (*batch,).

    Examples:
        >>> counts = Poisson(torch.tensor(3.0).log())
        >>> counts.mean, counts.log_prob(torch.tensor(2.0)).exp()
        (tensor(3.), tensor(0.2240))
    """

    arg_constraints = {"log_rate": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> Poisson:
        return Poisson(self.log_rate.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.expand(Size(sample_shape) + self.batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.log_rate - self.log_rate.exp() - torch.lgamma(value + 1)


class NegativeBinomial(TorchDistribution):
    """P(x) = Γ(x + r) / (Γ(r) x!) (r/(r + μ))^r (μ/(r + μ))^x for x = 0, 1, 2, …

    Its mean is μ = e^η and its variance μ + μ²/r, with r = e^ρ; at large r it is Poisson's.

    Args:
        log_mean: η, of shape (*batch,).
        log_dispersion: ρ, one number or of shape (*batch,).

    Examples:
        >>> counts = NegativeBinomial(torch.tensor(4.0).log(), torch.tensor(2.0).log())
        >>> counts.mean, counts.variance  # μ and μ + μ²/r
        (tensor(4.), tensor(12.))
    """

    arg_constraints = {"log_mean": constraints.real, "log_dispersion": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor) -> None:
        shape = torch.broadcast_shapes(log_mean.shape, log_dispersion.shape)
        self.log_mean = log_mean.expand(shape)
        self.log_dispersion = log_dispersion
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 + (self.log_mean - self.log_dispersion).exp())

    def expand(self, batch_shape: Any, _instance: Any = None) -> NegativeBinomial:
        return NegativeBinomial(self.log_mean.expand(batch_shape), self.log_dispersion)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            r = self.log_dispersion.exp().expand(shape)
            gamma = torch.distributions.Gamma(r, torch.ones_like(r), validate_args=False).sample()
            return torch.poisson(gamma * (self.log_mean - self.log_dispersion).exp())

    def log_prob(self, value: Tensor) -> Tensor:
        r = self.log_dispersion.exp()
        log_odds = self.log_mean - self.log_dispersion
        coefficient = log_gamma_ratio(r, value) - torch.lgamma(value + 1)
        return coefficient - r * F.softplus(log_odds) - value * F.softplus(-log_odds)


class ZeroInflated(TorchDistribution):
    """P(x) = π [x = 0] + (1 − π) f(x), with π = σ(η): a zero of its own beside those of f.

    Args:
        base: f, a distribution of single counts, of shape (*batch,).
        logits: η, of shape (*batch,).

    Examples:
        >>> counts = ZeroInflated(dist.Poisson(torch.tensor(2.0)), logits=torch.tensor(0.0))
        >>> counts.mean, counts.log_prob(torch.tensor(0.0)).exp()
        (tensor(1.), tensor(0.5677))
    """

    arg_constraints = {"logits": constraints.real}

    def __init__(self, base: Distribution, logits: Tensor) -> None:
        self.base = base
        self.logits = logits
        super().__init__(base.batch_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self.base.support

    @property
    def mean(self) -> Tensor:
        return self.logits.neg().sigmoid() * self.base.mean

    @property
    def variance(self) -> Tensor:
        square = self.base.variance + self.base.mean.square()
        return self.logits.neg().sigmoid() * square - self.mean.square()

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZeroInflated:
        return ZeroInflated(self.base.expand(batch_shape), self.logits.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            counts = self.base.sample(Size(sample_shape))
            u = torch.rand(counts.shape, dtype=self.logits.dtype, device=counts.device)
            is_gated = u < self.logits.sigmoid()
            return torch.where(is_gated, 0.0, counts)

    def log_prob(self, value: Tensor) -> Tensor:
        counted = self.base.log_prob(value) + F.logsigmoid(-self.logits)
        at_zero = torch.logaddexp(F.logsigmoid(self.logits), counted)
        return torch.where(value == 0, at_zero, counted)
