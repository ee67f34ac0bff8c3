"""Distributions that shrink: much mass near zero, and tails that let large values be."""

from __future__ import annotations

__all__ = ["MarginalHorseshoe", "scaled_exponential_integral"]

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

_EULER = 0.5772156649015329
_BORDER = 1.5  # between a power series and a sum of simple fractions
# By precision, how many terms either takes: 1e-7 and 1e-13 of the integral at the border.
_TERMS = {torch.float32: (14, 16), torch.float64: (24, 64)}


class MarginalHorseshoe(TorchDistribution):
    """z = τ λ ε with λ half-Cauchy and ε ~ N(0, 1): p(z) = e^a E₁(a) / (τ √(2π³)), a = z²/(2τ²).

    The density without its local scale λ, which is integrated out exactly: infinite at 0, with
    Cauchy's tails, so that there is neither a mean nor a variance.

    Args:
        scale: τ, positive, (*batch,).

    Examples:
        >>> z = MarginalHorseshoe(torch.tensor(1.0))
        >>> z.log_prob(torch.tensor([0.01, 1.0, 10.0]))  # a pole at 0, and heavy tails
        tensor([ 0.1692, -2.1439, -5.9951])

    Reference:
        Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale
        super().__init__(scale.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MarginalHorseshoe:
        return MarginalHorseshoe(self.scale.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        return torch.full_like(self.scale, math.nan)

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.scale, math.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        u = torch.rand(shape, dtype=self.scale.dtype, device=self.scale.device)
        return self.scale * torch.tan(0.5 * math.pi * u) * torch.randn_like(u)

    def log_prob(self, value: Tensor) -> Tensor:
        a = 0.5 * (value / self.scale).square()
        constant = 0.5 * math.log(2 * math.pi**3)
        return scaled_exponential_integral(a).log() - self.scale.log() - constant


def scaled_exponential_integral(a: Tensor) -> Tensor:
    """e^a E₁(a) = ∫₀^∞ e^{−t}/(a + t) dt, to the last digits of the precision.

    By the series E₁(a) = −γ − log a − Σₙ (−a)ⁿ/(n n!) near 0; else by Gauss and Laguerre's
    quadrature of the integral, Σᵢ wᵢ/(a + tᵢ). At 0, where it is infinite, it is the value at the
    smallest normal number.

    Args:
        a: At least 0, of any shape.
    """
    coefficients, nodes, weights = [
        torch.tensor(rule, dtype=a.dtype, device=a.device) for rule in _rules(a.dtype)
    ]
    near = a.clamp(torch.finfo(a.dtype).tiny, _BORDER)
    powers = near[..., None] ** torch.arange(1, len(coefficients) + 1, device=a.device)
    series = powers @ coefficients - near.log() - _EULER
    far = a.clamp(min=_BORDER)
    fractions = (weights / (far[..., None] + nodes)).sum(-1)
    return torch.where(a < _BORDER, near.exp() * series, fractions)


@cache
def _rules(dtype: torch.dtype) -> tuple[list[float], list[float], list[float]]:
    """The coefficients of the series, and the nodes and weights of the quadrature."""
    terms, points = _TERMS.get(dtype, _TERMS[torch.float32])
    coefficients = []
    for n in range(1, terms + 1):
        coefficients.append((-1) ** (n + 1) / (n * math.factorial(n)))
    nodes, weights = np.polynomial.laguerre.laggauss(points)
    return coefficients, nodes.tolist(), weights.tolist()
