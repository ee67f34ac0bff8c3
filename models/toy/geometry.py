"""Densities of an awkward shape, without data, whose moments are closed: a ridge and a funnel."""

from __future__ import annotations

__all__ = ["Banana", "Funnel"]

import math
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.models.toy.contract import Moments, expect_finite, expect_positive


class Banana(nn.Module):
    """x₁ ~ N(0, s²), x₂ ~ N(b (x₁² − s²), 1): a normal bent into a ridge.

    Args:
        scale: s, positive: the standard deviation of x₁.
        curvature: b, finite; 0 leaves a normal.

    Raises:
        ValueError: If s is not positive or b is not finite.

    Examples:
        >>> banana = Banana(scale=2.0, curvature=0.25)
        >>> banana.reference()["x2"].sd  # √(1 + 2 b² s⁴)
        tensor(1.7321)

    Reference:
        Haario, Saksman and Tamminen (1999), Adaptive proposal distribution for random walk
        Metropolis algorithm.
    """

    teaches: ClassVar[str] = (
        "A covariance cannot follow a curved ridge: no one step size or Gaussian fits both of its "
        "ends."
    )
    scale: Tensor
    curvature: Tensor

    def __init__(self, scale: float = 2.0, curvature: float = 0.25) -> None:
        super().__init__()
        expect_positive("scale", scale)
        expect_finite("curvature", torch.tensor(float(curvature)))
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("curvature", torch.tensor(float(curvature)))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Nothing is observed."""
        return ()

    def model(self) -> tuple[Tensor, Tensor]:
        """Samples "x1" and "x2", both of shape ()."""
        zero = torch.zeros_like(self.scale)
        one = torch.ones_like(self.scale)
        x1 = pyro.sample("x1", dist.Normal(zero, self.scale))
        ridge = self.curvature * (x1.square() - self.scale.square())
        x2 = pyro.sample("x2", dist.Normal(ridge, one))
        return x1, x2

    def reference(self) -> dict[str, Moments]:
        """Exact: E x₁ = E x₂ = 0, Var x₁ = s², Var x₂ = 1 + 2 b² s⁴."""
        zero = torch.zeros_like(self.scale)
        variance = 1 + 2 * self.curvature.square() * self.scale**4
        return {
            "x1": Moments(zero, self.scale.clone()),
            "x2": Moments(zero, variance.sqrt()),
        }


class Funnel(nn.Module):
    """v ~ N(0, 3²), xᵢ ~ N(0, exp(v/2)²) for i = 1, …, D − 1.

    Its neck is too narrow for the steps that its mouth needs.

    Args:
        dim: D, the dimension of (v, x), at least 2.
        centred: Whether x is sampled itself; if not, x = exp(v/2) x̃ with "x_raw" x̃ ~ N(0, I)
            sampled.

    Raises:
        ValueError: If dim is below 2.

    Examples:
        >>> funnel = Funnel(dim=10)
        >>> funnel.reference()["v"].sd
        tensor(3.)

    Reference:
        Neal (2003), Slice sampling, section 8.
    """

    teaches: ClassVar[str] = (
        "A scale and what it scales are better sampled apart: the non-centred funnel is a normal."
    )
    scale: Tensor

    def __init__(self, dim: int = 10, centred: bool = True) -> None:
        super().__init__()
        if dim < 2:
            raise ValueError(f"expected a dimension of at least 2, got {dim}")
        self.dim = dim
        self.centred = centred
        self.register_buffer("scale", torch.tensor(3.0))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Nothing is observed."""
        return ()

    def model(self) -> tuple[Tensor, Tensor]:
        """Samples "v" of shape () and "x" of shape (D − 1,), or "x_raw" with "x" made of it."""
        v = pyro.sample("v", dist.Normal(torch.zeros_like(self.scale), self.scale))
        scale = (v / 2).exp()[..., None]
        zeros = self.scale.new_zeros(self.dim - 1)
        if self.centred:
            return v, pyro.sample("x", dist.Normal(zeros, scale).to_event(1))
        raw = pyro.sample("x_raw", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
        return v, pyro.deterministic("x", scale * raw, event_dim=1)

    def reference(self) -> dict[str, Moments]:
        """Exact: E v = E xᵢ = 0, Var v = 9, Var xᵢ = E exp v = exp(9/2)."""
        zeros = self.scale.new_zeros(self.dim - 1)
        moments = {
            "v": Moments(torch.zeros_like(self.scale), self.scale.clone()),
            "x": Moments(zeros, torch.full_like(zeros, math.exp(9 / 4))),
        }
        if not self.centred:
            moments["x_raw"] = Moments(zeros, torch.ones_like(zeros))
        return moments
