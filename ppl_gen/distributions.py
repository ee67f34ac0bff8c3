"""Distributions that Pyro does not have, or has less exactly than they are needed here.

The continuous Bernoulli by its logits, the normal by its log scale, masses on a grid in [0, 1], and
stored points.
"""

from __future__ import annotations

__all__ = [
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Grid",
    "LogScaleNormal",
    "NoDensity",
    "Revealed",
    "StoredPoints",
    "revealed",
]

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints, is_validation_enabled
from torch import Size, Tensor
from torch.nn import functional as F

from ppl_gen.arguments import whole
from ppl_gen.nn.condition import check_labels


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


def _grid(levels: int, like: Tensor) -> Tensor:
    """K evenly spaced values in [0, 1], (K,)."""
    return torch.linspace(0, 1, levels, dtype=like.dtype, device=like.device)


def _enumerated(values: Tensor, batch_shape: Size, expand: bool) -> Tensor:
    """Values as Pyro enumerates them: (K, *1), or (K, *batch) if they are to be expanded."""
    values = values.reshape(-1, *(1,) * len(batch_shape))
    if not expand:
        return values
    return values.expand(-1, *batch_shape)


class Grid(TorchDistribution):
    """P(x = k/(K−1)) = softmax(η)ₖ: any mass on K evenly spaced values in [0, 1].

    Args:
        logits: η, of shape (*batch, K).
        validate_args: Whether to check the logits; Pyro's setting if None.
    """

    arg_constraints = {"logits": constraints.real_vector}
    has_enumerate_support = True

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
        return self.logits.exp() @ _grid(self.levels, self.logits)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _enumerated(_grid(self.levels, self.logits), self.batch_shape, expand)

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
    has_enumerate_support = True

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


class NoDensity(NotImplementedError, ValueError):
    """A density was asked of a distribution that has draws only.

    torch raises NotImplementedError for this; it is a ValueError too, as all bad input is here.
    """


# A log probability of what cannot be: finite, so that the difference of two is 0 and not NaN.
_IMPOSSIBLE = -1e30


class Revealed(dist.Categorical):
    """p(k | y): softmax(ℓ)ₖ where the label y is missing, all mass at k = y where it is known.

    Attributes:
        log_revealed: log softmax(ℓ) at the label, (*batch,), in nats; 0 where it is missing.

    Args:
        logits: ℓ, of shape (*batch, K).
        y: Labels in 0, …, K − 1, or −1 where missing, broadcast with (*batch,).
    """

    log_revealed: Tensor

    def __init__(self, logits: Tensor, y: Tensor) -> None:
        log_probs = logits.log_softmax(-1)
        y = y[..., None]
        is_label = y == torch.arange(logits.shape[-1], device=logits.device)
        self.log_revealed = torch.where(is_label, log_probs, 0.0).sum(-1)
        point = torch.where(is_label, 0.0, _IMPOSSIBLE).to(log_probs.dtype)
        super().__init__(logits=torch.where(y < 0, log_probs, point), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Revealed:
        new = self._get_checked_instance(Revealed, _instance)
        new.log_revealed = self.log_revealed.expand(batch_shape)
        return super().expand(batch_shape, _instance=new)


def revealed(d: dist.Categorical, y: Tensor | None) -> dist.Categorical:
    """The distribution of labels, given those that are known.

    Args:
        d: Of labels without knowledge of any, batch shape () or (N,).
        y: Labels (N,), −1 where missing; None where all are.

    Raises:
        ValueError: If a label is not in −1, …, K − 1, while validation is on.
    """
    if y is None:
        return d
    y = whole(y)
    if is_validation_enabled():
        check_labels(y, d.logits.shape[-1])
    return Revealed(d.logits, y)


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
