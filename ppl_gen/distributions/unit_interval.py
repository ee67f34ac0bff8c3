"""Densities on [0, 1], and between."""

from __future__ import annotations

__all__ = ["Beta", "ContinuousBernoulli"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn import functional as F

from ppl_gen.distributions.gamma import log_gamma_ratio

# Σₙ Bₙ ℓⁿ / (n · n!), n = 2, 4, …, the even part of log((e^ℓ − 1)/ℓ), with Bernoulli's numbers Bₙ:
# below |ℓ| = ¼ five terms are exact to 1e-17.
_EVEN_PART = (1 / 24, -1 / 2880, 1 / 181_440, -1 / 9_676_800, 1 / 479_001_600)
_NEAR_ZERO = 0.25


class ContinuousBernoulli(TorchDistribution):
    """p(x) = e^{ℓx} ℓ/(e^ℓ − 1) on [0, 1]: the uniform distribution tilted by its logit ℓ.

    log p is linear in x; outside [0, 1] it is −∞. All is computed from ℓ and never from the
    probability σ(ℓ), which is 1 in single precision from ℓ = 17 on.

    Args:
        logits: ℓ, of shape (*batch,).
        validate_args: Whether to check the logits; Pyro's setting if None.

    Examples:
        >>> ContinuousBernoulli(torch.tensor([-2.0, 0.0, 2.0])).mean
        tensor([0.3435, 0.5000, 0.6565])

    Reference:
        Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """½ + s′(ℓ) by the series; else 1/a − 1/(e^a − 1) from the near end, a = |ℓ|."""
        is_near, near, a = self._split()
        slope = near * _series(near.square(), [2 * n * c for n, c in enumerate(_EVEN_PART, 1)])
        from_end = 1 / a - a.neg().exp() / -torch.expm1(-a)
        far = torch.where(self.logits > 0, 1 - from_end, from_end)
        return torch.where(is_near, 0.5 + slope, far)

    @property
    def variance(self) -> Tensor:
        """s″(ℓ) by the series; else 1/a² − e^−a/(1 − e^−a)²."""
        is_near, near, a = self._split()
        curvature = [2 * n * (2 * n - 1) * c for n, c in enumerate(_EVEN_PART, 1)]
        far = a.pow(-2) - a.neg().exp() / torch.expm1(-a).square()
        return torch.where(is_near, _series(near.square(), curvature), far)

    def entropy(self) -> Tensor:
        """−log p(E x), in nats: log p is linear."""
        return -self.log_prob(self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """ℓ(x − ½) − s(ℓ) near ℓ = 0; else ℓ(x − e) − log((1 − e^−a)/a), e the near end, 0 or 1.

        s(ℓ) = log(sinh(ℓ/2)/(ℓ/2)). Counted from the end where the mass is, no term is large.
        """
        is_near, near, a = self._split()
        even_part = near.square() * _series(near.square(), _EVEN_PART)
        log_normaliser = torch.where(is_near, even_part, (-torch.expm1(-a) / a).log())
        end = torch.where(is_near, 0.5, (self.logits > 0).to(self.logits.dtype))
        log_prob = self.logits * (value - end) - log_normaliser
        is_inside = (value >= 0) & (value <= 1)
        return torch.where(is_inside, log_prob, -math.inf)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        half_a_step = torch.finfo(u.dtype).eps / 2
        return self.icdf(u.clamp(half_a_step, 1 - half_a_step))

    def icdf(self, value: Tensor) -> Tensor:
        """log(1 + u(e^ℓ − 1))/ℓ; near ℓ = 0 by four terms, Σₖ κₖ ℓᵏ⁻¹/k!.

        κ are the cumulants of a Bernoulli variable of probability u.
        """
        u = value
        # Where four terms, and the rounding of a quotient of small numbers, err by the same.
        is_near, near, a = self._split(torch.finfo(u.dtype).eps ** 0.25)
        spread = u * (1 - u)
        cumulants = (u, spread, spread * (1 - 2 * u), spread * (1 - 6 * spread))
        by_terms = _series(near, [k / math.factorial(n) for n, k in enumerate(cumulants, 1)])
        is_right = self.logits > 0
        tail = torch.where(is_right, 1 - u, u)
        from_end = (-torch.log1p(tail * torch.expm1(-a)) / a).clamp(0, 1)
        far = torch.where(is_right, 1 - from_end, from_end)
        return torch.where(is_near, by_terms, far)

    def _split(self, border: float = _NEAR_ZERO) -> tuple[Tensor, Tensor, Tensor]:
        """Where |ℓ| is below a border; ℓ there, else 0; and |ℓ| elsewhere, there 1.

        Either branch so has finite numbers and gradients where the other is taken.
        """
        is_near = self.logits.abs() < border
        near = torch.where(is_near, self.logits, 0.0)
        a = torch.where(is_near, 1.0, self.logits.abs())
        return is_near, near, a


def _series(x: Tensor, coefficients: Sequence[Any]) -> Tensor:
    """c₀ + c₁x + c₂x² + …, by Horner's rule."""
    total = torch.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total


class _Inside(constraints.interval):
    """What lies between two ends, without them."""

    def check(self, value: Tensor) -> Tensor:
        return (value > self.lower_bound) & (value < self.upper_bound)


class Beta(TorchDistribution):
    """p(x) = x^(a−1) (1 − x)^(b−1) / B(a, b) on 0 < x < 1, with a = φσ(η) and b = φσ(−η).

    By the logit of its mean σ(η) and its precision φ: the variance is σ(η) σ(−η)/(1 + φ).

    Args:
        logits: η, of shape (*batch,).
        log_precision: log φ, of the same shape.

    Examples:
        >>> x = Beta(torch.tensor(0.0), log_precision=torch.tensor(10.0).log())  # Beta(5, 5)
        >>> round(x.mean.item(), 4), round(x.variance.item(), 4)
        (0.5, 0.0227)
    """

    arg_constraints = {"logits": constraints.real, "log_precision": constraints.real}
    has_rsample = True

    def __init__(self, logits: Tensor, log_precision: Tensor) -> None:
        self.logits, self.log_precision = torch.broadcast_tensors(logits, log_precision)
        super().__init__(self.logits.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return _Inside(0.0, 1.0)

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        return self.mean * self.logits.neg().sigmoid() / (1 + self.log_precision.exp())

    def expand(self, batch_shape: Any, _instance: Any = None) -> Beta:
        return Beta(self.logits.expand(batch_shape), self.log_precision.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        a, b = self._concentrations
        x = torch.distributions.Beta(a, b, validate_args=False).rsample(Size(sample_shape))
        info = torch.finfo(x.dtype)
        return x.clamp(info.tiny, 1 - info.eps / 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """(a − 1) log x + (b − 1) log(1 − x) + log Γ(a + b) − log Γ(a) − log Γ(b)."""
        a, b = self._concentrations
        log_normaliser = log_gamma_ratio(a, b) - b.lgamma()
        return (a - 1) * value.log() + (b - 1) * torch.log1p(-value) + log_normaliser

    @property
    def _concentrations(self) -> tuple[Tensor, Tensor]:
        """a and b, each by its logarithm, lest the smaller be a difference of larger numbers."""
        a = (self.log_precision + F.logsigmoid(self.logits)).exp()
        b = (self.log_precision + F.logsigmoid(-self.logits)).exp()
        return a, b
