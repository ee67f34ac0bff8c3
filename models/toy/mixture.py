"""Mixtures: discrete latents that are summed out, and a posterior with two modes."""

from __future__ import annotations

__all__ = ["HiddenMarkov", "OrderedMixture", "SignFlip"]

from collections.abc import Callable
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from ppl_gen.models.toy.contract import Moments, expect_finite, expect_positive, expect_shape
from ppl_gen.models.toy.quadrature import cast_like, plain, quadrature

SPREAD = (3.0, 1.0)  # of the first mean, and of the log of its distance to the second


class OrderedMixture(nn.Module):
    """μ₁ ~ N(0, 3²), log(μ₂ − μ₁) ~ N(0, 1), zᵢ ~ Categorical(π), xᵢ ~ N(μ_zᵢ, σ²): two components,
    kept in order.

    Args:
        x: The data, of shape (N,).
        weights: π, of shape (2,), positive; normalised here. Even if left out.
        scale: σ, positive.

    Raises:
        ValueError: If the shapes do not fit, a datum is not finite, or a weight or scale is not
            positive.
    """

    teaches: ClassVar[str] = (
        "Which component made a datum is summed out; an order of the means stops them from "
        "trading names."
    )
    x: Tensor
    weights: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, weights: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        _register(self, x, scale)
        weights = x.new_ones(2) if weights is None else weights
        expect_shape("weights", weights, "(2,)", weights.shape == (2,))
        expect_positive("weights", weights)
        self.register_buffer("weights", (weights / weights.sum()).to(x).detach().clone())

    @classmethod
    def simulated(cls, n: int = 60, seed: int = 0) -> OrderedMixture:
        """An instance with data drawn at π = (0.4, 0.6), μ = (−1, 2) and σ = 1."""
        generator, weights = torch.Generator().manual_seed(seed), torch.tensor([0.4, 0.6])
        z = (torch.rand(n, generator=generator) < weights[1]).long()
        return cls(torch.tensor([-1.0, 2.0])[z] + torch.randn(n, generator=generator), weights)

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(x,), of shape (N,)."""
        return (self.x,)

    def model(self, x: Tensor) -> Tensor:
        """Samples "locs" (2,), in ascending order, and "z", to be enumerated; observes "x" in the
        plate "data".
        """
        locs = pyro.sample("locs", _ordered(x))
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            return pyro.sample("x", dist.Normal(Vindex(locs)[..., z], self.scale), obs=x)

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over μ₁ and log(μ₂ − μ₁), z summed out; exact to rounding.

        Args:
            points: Nodes along each axis.

        Raises:
            ValueError: As `quadrature` says.
        """
        return _reference(self.x, self._log_likelihood, points)

    def _log_likelihood(self, locs: Tensor) -> Tensor:
        """Σᵢ log Σₖ πₖ N(xᵢ; μₖ, σ²) at each row of locs (M, 2)."""
        joint = dist.Normal(locs[:, None], self.scale.double()).log_prob(self.x.double()[:, None])
        return (joint + self.weights.double().log()).logsumexp(-1).sum(-1)


class SignFlip(nn.Module):
    """θ ~ N(0, 3²), xᵢ ~ ½ N(θ, σ²) + ½ N(−θ, σ²): the data know |θ| and nothing of its sign.

    Args:
        x: The data, of shape (N,).
        scale: σ, positive.

    Raises:
        ValueError: If x is not of shape (N,) or not finite, or σ is not positive.
    """

    teaches: ClassVar[str] = (
        "Of two equal modes a guide that seeks modes finds one, and a chain may never see the "
        "other."
    )
    x: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, scale: float = 0.5) -> None:
        super().__init__()
        _register(self, x, scale)

    @classmethod
    def simulated(cls, n: int = 8, seed: int = 0) -> SignFlip:
        """An instance with data drawn at θ = 2 and σ = 0.5."""
        generator = torch.Generator().manual_seed(seed)
        sign = 2 * torch.bernoulli(torch.full((n,), 0.5), generator=generator) - 1
        return cls(2 * sign + 0.5 * torch.randn(n, generator=generator))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(x,), of shape (N,)."""
        return (self.x,)

    def model(self, x: Tensor) -> Tensor:
        """Samples "theta", of shape (); observes "x" in the plate "data"."""
        theta = pyro.sample("theta", dist.Normal(x.new_zeros(()), x.new_full((), 3.0)))
        either = dist.Normal(torch.stack([theta, -theta], -1), self.scale)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(
                "x", dist.MixtureSameFamily(dist.Categorical(x.new_full((2,), 0.5)), either), obs=x
            )

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over θ, exact to rounding; by symmetry E θ = 0.

        Args:
            points: Nodes along each axis.

        Raises:
            ValueError: As `quadrature` says.
        """
        x, scale = self.x.double(), self.scale.double()

        def log_density(theta: Tensor) -> Tensor:
            either = dist.Normal(torch.cat([theta, -theta], -1)[:, None], scale).log_prob(
                x[:, None]
            )
            return either.logsumexp(-1).sum(-1) - 0.5 * (theta[:, 0] / 3).square()

        corner = x.new_full((1,), 30.0).double()
        moments = quadrature(
            log_density, lambda theta: plain({"theta": theta[:, 0]}), -corner, corner, points
        )
        return cast_like(self.x, moments)


class HiddenMarkov(nn.Module):
    """zₜ ~ Categorical(A_zₜ₋₁), xₜ ~ N(μ_zₜ, σ²), z₀ of even odds, and μ₁ ~ N(0, 3²), log(μ₂ − μ₁)
    ~ N(0, 1).

    Args:
        x: The series, of shape (T,).
        transition: A, of shape (2, 2): positive rows, normalised here. Stays with 0.9 if left out.
        scale: σ, positive.

    Raises:
        ValueError: If the shapes do not fit, a datum is not finite, or a probability or scale is
            not positive.
    """

    teaches: ClassVar[str] = (
        "A chain of discrete states is summed out at a cost linear in its length, not exponential."
    )
    x: Tensor
    transition: Tensor
    initial: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, transition: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        _register(self, x, scale)
        transition = x.new_tensor([[0.9, 0.1], [0.1, 0.9]]) if transition is None else transition
        expect_shape("transition", transition, "(2, 2)", transition.shape == (2, 2))
        expect_positive("transition", transition)
        self.register_buffer(
            "transition", (transition / transition.sum(-1, keepdim=True)).to(x).detach().clone()
        )
        self.register_buffer("initial", x.new_full((2,), 0.5))

    @classmethod
    def simulated(cls, steps: int = 20, seed: int = 0) -> HiddenMarkov:
        """An instance with a series drawn at stays of 0.9, μ = (−1, 2) and σ = 1."""
        generator = torch.Generator().manual_seed(seed)
        leaves = torch.bernoulli(torch.full((steps,), 0.1), generator=generator)
        z = leaves.cumsum(0).long() % 2
        return cls(torch.tensor([-1.0, 2.0])[z] + torch.randn(steps, generator=generator))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(x,), of shape (T,)."""
        return (self.x,)

    def model(self, x: Tensor) -> Tensor:
        """Samples "locs" (2,), in ascending order, and states "z_0", "z_1", …, to be enumerated;
        observes "x_0", "x_1", …
        """
        locs = pyro.sample("locs", _ordered(x))
        chances = self.initial
        for t in pyro.markov(range(x.shape[0])):
            z = pyro.sample(f"z_{t}", dist.Categorical(chances), infer={"enumerate": "parallel"})
            pyro.sample(f"x_{t}", dist.Normal(Vindex(locs)[..., z], self.scale), obs=x[t])
            chances = self.transition[z]
        return locs

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over μ₁ and log(μ₂ − μ₁), the states summed out by the forward algorithm;
        exact to rounding.

        Args:
            points: Nodes along each axis.

        Raises:
            ValueError: As `quadrature` says.
        """
        return _reference(self.x, self._log_likelihood, points)

    def _log_likelihood(self, locs: Tensor) -> Tensor:
        """log p(x | μ) at each row of locs (M, 2): αₜ(k) = N(xₜ; μₖ, σ²) Σⱼ αₜ₋₁(j) Aⱼₖ, in logs."""
        moves, ahead = (
            self.transition.double().log(),
            self.initial.double().log().expand(locs.shape),
        )
        for value in self.x.double():
            alpha = ahead + dist.Normal(locs, self.scale.double()).log_prob(value)
            ahead = (alpha[:, :, None] + moves).logsumexp(1)
        return alpha.logsumexp(-1)


def _register(module: nn.Module, x: Tensor, scale: float) -> None:
    expect_shape("data", x, "(N,) with N of at least 1", x.dim() == 1 and x.shape[0] > 0)
    expect_finite("data", x)
    expect_positive("scale", scale)
    module.register_buffer("x", x.detach().clone())
    module.register_buffer("scale", x.new_tensor(scale))


def _ordered(x: Tensor) -> dist.TorchDistribution:
    """The prior of two ascending means: N(0, 3²) for the first, N(0, 1) for the log of its distance
    to the second.
    """
    base = dist.Normal(x.new_zeros(2), x.new_tensor(SPREAD)).to_event(1)
    return dist.TransformedDistribution(base, [OrderedTransform()])


def _reference(
    x: Tensor, log_likelihood: Callable[[Tensor], Tensor], points: int | None
) -> dict[str, Moments]:
    """The moments of "locs" under the ordered prior and a likelihood, on a grid of the prior's own
    normal coordinates.
    """
    spread, ordered = x.new_tensor(SPREAD).double(), OrderedTransform()
    moments = quadrature(
        lambda u: log_likelihood(ordered(u)) - 0.5 * (u / spread).square().sum(-1),
        lambda u: plain({"locs": ordered(u)}),
        -10 * spread,
        10 * spread,
        points,
    )
    return cast_like(x, moments)
