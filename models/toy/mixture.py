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

# Prior standard deviations of the first of two ordered means, and of the log of their distance.
SPREAD = (3.0, 1.0)


class _NoisyData(nn.Module):
    """Data x of shape (N,), each with normal noise of known standard deviation σ."""

    x: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, scale: float) -> None:
        super().__init__()
        expect_shape("data", x, "(N,) with N of at least 1", x.dim() == 1 and x.shape[0] > 0)
        expect_finite("data", x)
        expect_positive("scale", scale)
        self.register_buffer("x", x.detach().clone())
        self.register_buffer("scale", x.new_tensor(scale))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(x,), of shape (N,)."""
        return (self.x,)


class OrderedMixture(_NoisyData):
    """μ₁ ~ N(0, 3²), log(μ₂ − μ₁) ~ N(0, 1), zᵢ ~ Categorical(π), xᵢ ~ N(μ_zᵢ, σ²).

    Two components, whose means are kept in order.

    Args:
        x: The data, of shape (N,).
        weights: π, of shape (2,), positive; normalised here. Even if left out.
        scale: σ, positive.

    Raises:
        ValueError: If the shapes do not fit, a datum is not finite, or a weight or scale is not
            positive.

    Examples:
        >>> mixture = OrderedMixture(torch.tensor([-2.1, -1.9, 1.9, 2.1]))
        >>> mixture.reference()["locs"].mean.round(decimals=1)
        tensor([-1.5000,  1.6000])
    """

    teaches: ClassVar[str] = (
        "Which component made a datum is summed out; an order of the means stops them from "
        "trading names."
    )
    weights: Tensor

    def __init__(self, x: Tensor, weights: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__(x, scale)
        if weights is None:
            weights = x.new_ones(2)
        expect_shape("weights", weights, "(2,)", weights.shape == (2,))
        expect_positive("weights", weights)
        weights = weights / weights.sum()
        self.register_buffer("weights", weights.to(x).detach().clone())

    @classmethod
    def simulated(cls, n: int = 60, seed: int = 0) -> OrderedMixture:
        """An instance with data drawn at π = (0.4, 0.6), μ = (−1, 2) and σ = 1."""
        generator = torch.Generator().manual_seed(seed)
        weights = torch.tensor([0.4, 0.6])
        locs = torch.tensor([-1.0, 2.0])
        z = (torch.rand(n, generator=generator) < weights[1]).long()
        return cls(locs[z] + torch.randn(n, generator=generator), weights)

    def model(self, x: Tensor) -> Tensor:
        """Samples "locs" (2,), in ascending order, and "z", to be enumerated; observes "x".

        "z" and "x" are in the plate "data"; x is of shape (N,).
        """
        locs = pyro.sample("locs", _ordered(x))
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            return pyro.sample("x", dist.Normal(Vindex(locs)[..., z], self.scale), obs=x)

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over μ₁ and log(μ₂ − μ₁), z summed out; exact to rounding.

        Args:
            points: Nodes along each axis, odd, at least 5; 301 if left out.

        Raises:
            ValueError: If there are too few points, so that every other node gives another answer,
                or the posterior reaches further than ten standard deviations of the prior.
        """
        return _moments_of_locs(self.x, self._log_likelihood, points)

    def _log_likelihood(self, locs: Tensor) -> Tensor:
        """Σᵢ log Σₖ πₖ N(xᵢ; μₖ, σ²) at each row of locs (M, 2)."""
        x = self.x.double()[:, None]
        components = dist.Normal(locs[:, None], self.scale.double())
        joint = components.log_prob(x) + self.weights.double().log()
        return joint.logsumexp(-1).sum(-1)


class SignFlip(_NoisyData):
    """θ ~ N(0, 3²), xᵢ ~ ½ N(θ, σ²) + ½ N(−θ, σ²): the data know |θ| and nothing of its sign.

    Args:
        x: The data, of shape (N,).
        scale: σ, positive.

    Raises:
        ValueError: If x is not of shape (N,) or not finite, or σ is not positive.

    Examples:
        >>> flip = SignFlip(torch.tensor([2.0, -2.0, 2.1]))
        >>> round(flip.reference()["theta"].sd.item(), 1)  # modes near −2 and 2, and their mean 0
        2.0
    """

    teaches: ClassVar[str] = (
        "Of two equal modes a guide that seeks modes finds one, and a chain may never see the "
        "other."
    )

    def __init__(self, x: Tensor, scale: float = 0.5) -> None:
        super().__init__(x, scale)

    @classmethod
    def simulated(cls, n: int = 8, seed: int = 0) -> SignFlip:
        """An instance with data drawn at θ = 2 and σ = 0.5."""
        generator = torch.Generator().manual_seed(seed)
        sign = 2 * torch.bernoulli(torch.full((n,), 0.5), generator=generator) - 1
        return cls(2 * sign + 0.5 * torch.randn(n, generator=generator))

    def model(self, x: Tensor) -> Tensor:
        """Samples "theta", of shape (); observes "x" (N,) in the plate "data"."""
        theta = pyro.sample("theta", dist.Normal(x.new_zeros(()), x.new_full((), 3.0)))
        even = dist.Categorical(x.new_full((2,), 0.5))
        either = dist.Normal(torch.stack([theta, -theta], -1), self.scale)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("x", dist.MixtureSameFamily(even, either), obs=x)

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over θ, exact to rounding; by symmetry E θ = 0.

        Args:
            points: Nodes on the line, odd, at least 5; 2001 if left out.

        Raises:
            ValueError: If there are too few points, so that every other node gives another answer,
                or the posterior reaches further than ten standard deviations of the prior.
        """
        x = self.x.double()
        scale = self.scale.double()

        def log_density(theta: Tensor) -> Tensor:
            both = torch.cat([theta, -theta], -1)[:, None]
            likelihood = dist.Normal(both, scale).log_prob(x[:, None]).logsumexp(-1)
            return likelihood.sum(-1) - 0.5 * (theta[:, 0] / 3).square()

        def conditional(theta: Tensor) -> dict[str, Moments]:
            return plain({"theta": theta[:, 0]})

        corner = x.new_full((1,), 30.0)
        moments = quadrature(log_density, conditional, -corner, corner, points)
        return cast_like(self.x, moments)


class HiddenMarkov(_NoisyData):
    """zₜ ~ Categorical(A_zₜ₋₁), xₜ ~ N(μ_zₜ, σ²), with z₀ of even odds.

    The means are ordered: μ₁ ~ N(0, 3²), log(μ₂ − μ₁) ~ N(0, 1).

    Args:
        x: The series, of shape (T,).
        transition: A, of shape (2, 2): positive rows, normalised here. If left out, a state stays
            with probability 0.9.
        scale: σ, positive.

    Raises:
        ValueError: If the shapes do not fit, a datum is not finite, or a probability or scale is
            not positive.

    Examples:
        >>> chain = HiddenMarkov.simulated(6)
        >>> chain.reference()["locs"].mean.round(decimals=1)  # with the states summed out
        tensor([0.1000, 1.8000])
    """

    teaches: ClassVar[str] = (
        "A chain of discrete states is summed out at a cost linear in its length, not exponential."
    )
    transition: Tensor
    initial: Tensor

    def __init__(self, x: Tensor, transition: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__(x, scale)
        if transition is None:
            transition = x.new_tensor([[0.9, 0.1], [0.1, 0.9]])
        expect_shape("transition", transition, "(2, 2)", transition.shape == (2, 2))
        expect_positive("transition", transition)
        transition = transition / transition.sum(-1, keepdim=True)
        self.register_buffer("transition", transition.to(x).detach().clone())
        self.register_buffer("initial", x.new_full((2,), 0.5))

    @classmethod
    def simulated(cls, steps: int = 20, seed: int = 0) -> HiddenMarkov:
        """An instance with a series drawn at stays of 0.9, μ = (−1, 2) and σ = 1."""
        generator = torch.Generator().manual_seed(seed)
        leaves = torch.bernoulli(torch.full((steps,), 0.1), generator=generator)
        locs = torch.tensor([-1.0, 2.0])
        z = leaves.cumsum(0).long() % 2
        return cls(locs[z] + torch.randn(steps, generator=generator))

    def model(self, x: Tensor) -> Tensor:
        """Samples "locs" (2,), ascending, and "z_0", "z_1", …; observes "x_0", "x_1", …

        The states "z_0", "z_1", … are to be enumerated; x is of shape (T,).
        """
        locs = pyro.sample("locs", _ordered(x))
        probs = self.initial
        for t in pyro.markov(range(x.shape[0])):
            z = pyro.sample(f"z_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
            pyro.sample(f"x_{t}", dist.Normal(Vindex(locs)[..., z], self.scale), obs=x[t])
            probs = self.transition[z]
        return locs

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over μ₁ and log(μ₂ − μ₁), exact to rounding.

        The states are summed out by the forward algorithm.

        Args:
            points: Nodes along each axis, odd, at least 5; 301 if left out.

        Raises:
            ValueError: If there are too few points, so that every other node gives another answer,
                or the posterior reaches further than ten standard deviations of the prior.
        """
        return _moments_of_locs(self.x, self._log_likelihood, points)

    def _log_likelihood(self, locs: Tensor) -> Tensor:
        """log p(x | μ) at each row of locs (M, 2), by the forward algorithm, in logs.

        αₜ(k) = N(xₜ; μₖ, σ²) Σⱼ αₜ₋₁(j) Aⱼₖ is p(x₀, …, xₜ, zₜ = k | μ).
        """
        transition = self.transition.double().log()
        predicted = self.initial.double().log().expand(locs.shape)
        for value in self.x.double():
            alpha = predicted + dist.Normal(locs, self.scale.double()).log_prob(value)
            predicted = (alpha[:, :, None] + transition).logsumexp(1)
        return alpha.logsumexp(-1)


def _ordered(x: Tensor) -> dist.TorchDistribution:
    """The prior of two ascending means: μ₁ ~ N(0, 3²), log(μ₂ − μ₁) ~ N(0, 1)."""
    base = dist.Normal(x.new_zeros(2), x.new_tensor(SPREAD)).to_event(1)
    return dist.TransformedDistribution(base, [OrderedTransform()])


def _moments_of_locs(
    x: Tensor, log_likelihood: Callable[[Tensor], Tensor], points: int | None
) -> dict[str, Moments]:
    """The moments of "locs" under the ordered prior, on a grid over u = (μ₁, log(μ₂ − μ₁))."""
    spread = x.new_tensor(SPREAD).double()
    locs_of = OrderedTransform()

    def log_density(u: Tensor) -> Tensor:
        return log_likelihood(locs_of(u)) - 0.5 * (u / spread).square().sum(-1)

    def conditional(u: Tensor) -> dict[str, Moments]:
        return plain({"locs": locs_of(u)})

    moments = quadrature(log_density, conditional, -10 * spread, 10 * spread, points)
    return cast_like(x, moments)
