"""Distributions of directions, points on a sphere in any number of dimensions.

Densities are with respect to the area of the sphere. Pyro's own have no density from five
dimensions on (ProjectedNormal) or no draws (VonMises3D).
"""

from __future__ import annotations

__all__ = ["PowerSpherical", "Stereographic", "UniformOnSphere"]

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.distributions import Transform


class UniformOnSphere(TorchDistribution):
    """p(x) = Γ(D/2)/(2 π^{D/2}), one over the area of the sphere |x| = 1 in D dimensions.

    Args:
        origin: The centre of the sphere, zeros (*batch, D): its size, type and device are used.

    Examples:
        >>> z = UniformOnSphere(torch.zeros(3))
        >>> z.log_prob(z.sample()).exp()  # one over the area, 1/(4π)
        tensor(0.0796)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.sphere

    def __init__(self, origin: Tensor) -> None:
        self.origin = origin
        super().__init__(origin.shape[:-1], origin.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.origin

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.origin, 1 / self.origin.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> UniformOnSphere:
        return UniformOnSphere(self.origin.expand((*batch_shape, *self.event_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.origin.shape
        drawn = torch.randn(shape, dtype=self.origin.dtype, device=self.origin.device)
        return _normalised(drawn)

    def log_prob(self, value: Tensor) -> Tensor:
        half = self.event_shape[0] / 2
        log_area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_area)


class PowerSpherical(TorchDistribution):
    """p(x) ∝ (1 + μᵀx)^κ on the sphere |x| = 1 in D dimensions.

    Nearly von Mises and Fisher's distribution, with a density in closed form and draws that are
    reparameterised without rejection: t = μᵀx is 2b − 1 with b ~ Beta(½(D − 1) + κ, ½(D − 1)).

    Args:
        direction: A vector along μ of any length but 0, (*batch, D), D of at least 2.
        concentration: κ, positive, (*batch,).

    Examples:
        >>> z = PowerSpherical(torch.tensor([0.0, 0.0, 2.0]), concentration=torch.tensor(10.0))
        >>> z.mean, z.rsample((4,)).norm(dim=-1).round(decimals=3)
        (tensor([0.0000, 0.0000, 0.8333]), tensor([1., 1., 1., 1.]))

    Reference:
        De Cao and Aziz (2020), The power spherical distribution, eqs. 7 to 10.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.sphere
    has_rsample = True

    def __init__(self, direction: Tensor, concentration: Tensor) -> None:
        self.loc = _normalised(direction)
        self.concentration = concentration
        super().__init__(direction.shape[:-1], direction.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PowerSpherical:
        if Size(batch_shape) == self.batch_shape:
            return self
        loc = self.loc.expand((*batch_shape, *self.event_shape))
        return PowerSpherical(loc, self.concentration.expand(batch_shape))

    @property
    def _shapes(self) -> tuple[Tensor, Tensor]:
        """α = ½(D − 1) + κ and β = ½(D − 1) of the Beta distribution of b."""
        half = 0.5 * (self.event_shape[0] - 1)
        return half + self.concentration, torch.full_like(self.concentration, half)

    @property
    def mean(self) -> Tensor:
        """E[t] μ."""
        alpha, beta = self._shapes
        return ((alpha - beta) / (alpha + beta))[..., None] * self.loc

    @property
    def variance(self) -> Tensor:
        """Var(t) μᵢ² + (1 − E[t²]) (1 − μᵢ²)/(D − 1), of each entry."""
        alpha, beta = self._shapes
        total = alpha + beta
        along = 4 * alpha * beta / (total.square() * (total + 1))
        across = (1 - along - ((alpha - beta) / total).square()) / (self.event_shape[0] - 1)
        square = self.loc.square()
        return along[..., None] * square + across[..., None] * (1 - square)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        both = torch.stack(self._shapes, -1)
        shares = dist.Dirichlet(both, validate_args=False).rsample(Size(sample_shape))
        shares = shares.clamp(min=torch.finfo(shares.dtype).tiny)  # b and 1 − b
        along = shares[..., :1] - shares[..., 1:]
        across = 2 * shares.prod(-1, keepdim=True).sqrt()
        tangent = torch.randn(
            (*shape, self.event_shape[0] - 1), dtype=self.loc.dtype, device=self.loc.device
        )
        around_first_axis = torch.cat([along, across * _normalised(tangent)], -1)
        return self._turned(around_first_axis)

    def _turned(self, x: Tensor) -> Tensor:
        """x with the first axis and μ exchanged, by the reflection that does so."""
        one = torch.ones_like(self.loc[..., :1])
        first = torch.cat([one, torch.zeros_like(self.loc[..., 1:])], -1)
        u = _normalised(first - self.loc)
        return x - 2 * u * (u * x).sum(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        alpha, beta = self._shapes
        total = alpha + beta
        log_normaliser = total * math.log(2) + beta * math.log(math.pi)
        log_normaliser = log_normaliser + alpha.lgamma() - total.lgamma()
        cosine = (value * self.loc).sum(-1)
        least = torch.finfo(value.dtype).eps - 1
        return self.concentration * cosine.clamp(min=least).log1p() - log_normaliser


class Stereographic(Transform):
    """x = (2y, |y|² − 1)/(1 + |y|²): from D − 1 real numbers to the sphere in D dimensions.

    All points but one, (0, …, 0, 1), are reached. The Jacobian is that of areas,
    (2/(1 + |y|²))^{D−1}.
    """

    domain = constraints.real_vector
    codomain = constraints.sphere
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stereographic)

    def __hash__(self) -> int:
        return hash(Stereographic)

    def _call(self, x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return torch.cat([2 * x, square - 1], -1) / (1 + square)

    def _inverse(self, y: Tensor) -> Tensor:
        least = torch.finfo(y.dtype).eps
        return y[..., :-1] / (1 - y[..., -1:]).clamp(min=least)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.shape[-1] * (math.log(2) - x.square().sum(-1).log1p())

    def forward_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] - 1))


def _normalised(x: Tensor) -> Tensor:
    """x / |x|, for any x but 0."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
