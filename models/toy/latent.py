"""Latent models whose evidence is known exactly, to hold estimators against."""

from __future__ import annotations

__all__ = ["PPCA", "Curve", "GaussianMixture"]

import math
from collections.abc import Callable
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.models.toy.contract import expect_positive
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Distribution

# Data whose joint density at all nodes of a `Curve` is held in memory at once.
DATA_AT_ONCE = 256
# Nats by which the evidence from all nodes and from every other node may differ.
AGREE = 1e-3


class PPCA(nn.Module):
    """z ~ N(0, I), x ~ N(Wz + μ, σ²I), hence x ~ N(μ, WWᵀ + σ²I): probabilistic PCA.

    Args:
        weight: W, of shape (D, q).
        loc: μ, of shape (D,).
        scale: σ, positive.

    Raises:
        ValueError: If the shapes do not fit or σ is not positive.

    Examples:
        >>> program = PPCA(torch.ones(2, 1), torch.zeros(2), scale=1.0)
        >>> program.exact_log_evidence(torch.zeros(1, 2))
        tensor([-2.3872])
        >>> program.exact_posterior(torch.tensor([[3.0, 3.0]])).mean
        tensor([[2.]])

    Reference:
        Tipping and Bishop (1999), Probabilistic principal component analysis.
    """

    teaches: ClassVar[str] = (
        "Linear and Gaussian, all is closed: evidence, posterior and the best fit itself."
    )
    weight: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, loc: Tensor, scale: Tensor | float) -> None:
        super().__init__()
        if weight.dim() != 2 or loc.shape != weight.shape[:1]:
            raise ValueError(
                f"expected weight (D, q) and loc (D,), got {tuple(weight.shape)} and "
                f"{tuple(loc.shape)}"
            )
        expect_positive("scale", scale)
        scale = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())
        self.prior = StandardNormal(weight.shape[1]).to(weight)

    @classmethod
    def maximum_likelihood(cls, x: Tensor, latent_dim: int) -> PPCA:
        """The maximum-likelihood fit, in closed form (eq. 7 and 8) and computed in float64.

        Args:
            x: Data, of shape (N, D).
            latent_dim: q, from 1 to D − 1.

        Raises:
            ValueError: If latent_dim is not from 1 to D − 1.
        """
        size = x.shape[-1]
        if not 1 <= latent_dim < size:
            raise ValueError(f"expected a latent dimension from 1 to {size - 1}, got {latent_dim}")
        data = x.double()
        values, vectors = torch.linalg.eigh(torch.cov(data.T, correction=0))
        variance = values[:-latent_dim].mean()
        weight = vectors[:, -latent_dim:] * (values[-latent_dim:] - variance).sqrt()
        return cls(weight.to(x), data.mean(0).to(x), variance.sqrt().to(x))

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, D) is scored; without x, n data are drawn."""
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            likelihood = dist.Normal(z @ self.weight.T + self.loc, self.scale).to_event(1)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """The exact posterior, as a guide: every importance weight is p(x)."""
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.exact_posterior(x))

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log N(x; μ, WWᵀ + σ²I), of shape (N,)."""
        noise = self.scale.square().expand(self.loc.shape)
        return dist.LowRankMultivariateNormal(self.loc, self.weight, noise).log_prob(x)

    def exact_posterior(self, x: Tensor) -> Distribution:
        """p(z | x) = N(M⁻¹Wᵀ(x − μ), σ²M⁻¹) with M = WᵀW + σ²I; batch shape (N,)."""
        noise = self.scale.square()
        identity = torch.eye(self.weight.shape[1]).to(self.weight)
        inverse = torch.linalg.inv(self.weight.T @ self.weight + noise * identity)
        mean = (x - self.loc) @ self.weight @ inverse
        covariance = noise * (inverse + inverse.T) / 2
        return dist.MultivariateNormal(mean, covariance)


class GaussianMixture(nn.Module):
    """z ~ Categorical(π), x ~ N(μ_z, diag σ_z²): the evidence is a sum over the K components.

    Args:
        weights: π, of shape (K,), positive; normalised here.
        locs: μ, of shape (K, D).
        scales: σ, a number, one per component (K,), or broadcast to (K, D).

    Raises:
        ValueError: If the shapes do not fit or a weight or scale is not positive.

    Examples:
        >>> program = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[-2.0], [2.0]]), 1.0)
        >>> program.exact_posterior(torch.tensor([[0.0], [1.0]])).probs
        tensor([[0.5000, 0.5000],
                [0.0180, 0.9820]])
    """

    teaches: ClassVar[str] = (
        "A discrete latent is summed out: the evidence is a log-sum-exp, the posterior a softmax."
    )
    weights: Tensor
    locs: Tensor
    scales: Tensor

    def __init__(self, weights: Tensor, locs: Tensor, scales: Tensor | float) -> None:
        super().__init__()
        if weights.dim() != 1 or locs.dim() != 2 or locs.shape[0] != weights.shape[0]:
            raise ValueError(
                f"expected weights (K,), locs (K, D), got {tuple(weights.shape)} and "
                f"{tuple(locs.shape)}"
            )
        expect_positive("weights", weights)
        expect_positive("scales", scales)
        scales = torch.as_tensor(scales, dtype=locs.dtype, device=locs.device)
        if scales.dim() == 1 and scales.shape == weights.shape:
            scales = scales[:, None]
        weights = weights / weights.sum()
        self.register_buffer("weights", weights.detach().clone())
        self.register_buffer("locs", locs.detach().clone())
        self.register_buffer("scales", scales.expand(locs.shape).detach().clone())

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, D) is scored; without x, n data are drawn."""
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", dist.Categorical(self.weights))
            return pyro.sample("x", dist.Normal(self.locs[z], self.scales[z]).to_event(1), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """The exact posterior, as a guide: every importance weight is p(x)."""
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.exact_posterior(x))

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log Σₖ πₖ N(x; μₖ, diag σₖ²), of shape (N,)."""
        return self._joint(x).logsumexp(-1)

    def exact_posterior(self, x: Tensor) -> Distribution:
        """P(z = k | x), a categorical of batch shape (N,)."""
        return dist.Categorical(logits=self._joint(x))

    def _joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) for every component, of shape (N, K)."""
        components = dist.Normal(self.locs, self.scales).to_event(1)
        return self.weights.log() + components.log_prob(x[:, None])


class Curve(nn.Module):
    """z ~ N(0, 1), x ~ N(f(z), σ²I): a noisy curve in D dimensions.

    Its evidence is an integral over z, taken by quadrature.

    Args:
        feature_map: f, from (*batch, 1) to (*batch, D); any function or network.
        scale: σ, positive, in the unit of x.
        points: Nodes of the trapezoid rule on [−8, 8]; the prior's mass outside is 10⁻¹⁵, and the
            rule is exact to rounding once the nodes lie closer than the posterior is wide.

    Raises:
        ValueError: If σ is not positive or there are fewer than three points. The exact answers
            raise it if every other node gives another evidence, by more than 10⁻³ nats.

    Examples:
        >>> parabola = Curve(lambda z: torch.cat([z, z.square()], -1), scale=0.1)
        >>> x = torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # on the curve, and far from it
        >>> parabola.exact_log_evidence(x).round(decimals=1)
        tensor([ -0.8000, -14.7000])
    """

    teaches: ClassVar[str] = (
        "Bent by any decoder, a posterior over one number is still known, node by node."
    )
    scale: Tensor

    def __init__(
        self, feature_map: Callable[[Tensor], Tensor], scale: float, points: int = 4001
    ) -> None:
        super().__init__()
        expect_positive("scale", scale)
        if points < 3:
            raise ValueError(f"expected at least 3 quadrature points, got {points}")
        self.feature_map = feature_map
        self.prior = StandardNormal(1)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.points = points

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, D) is scored; without x, n data are drawn."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            likelihood = dist.Normal(self.feature_map(z), self.scale)
            return pyro.sample("x", per_datum(likelihood, z.dim() - prior.event_dim), obs=x)

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log ∫ N(x; f(z), σ²I) N(z; 0, 1) dz, of shape (N,)."""
        evidence = []
        for part in x.split(DATA_AT_ONCE):
            joint = self._joint(part)
            self._check_nodes(joint)
            evidence.append(_integral(joint, self._spacing))
        return torch.cat(evidence)

    def exact_posterior(self, x: Tensor) -> dist.Empirical:
        """p(z | x) on the nodes, of batch shape (N,) and event shape (1,).

        It has a `.mean`, a `.variance` and `.sample()`.
        """
        joint = self._joint(x)
        self._check_nodes(joint)
        return dist.Empirical(self._nodes.expand(x.shape[0], -1, -1), joint)

    @property
    def _spacing(self) -> float:
        return 16 / (self.points - 1)

    @property
    def _nodes(self) -> Tensor:
        """z at the nodes, of shape (points, 1)."""
        nodes = torch.linspace(-8, 8, self.points, dtype=self.scale.dtype, device=self.scale.device)
        return nodes[:, None]

    def _joint(self, x: Tensor) -> Tensor:
        """log p(x, z) at every node, of shape (N, points)."""
        z = self._nodes
        likelihood = dist.Normal(self.feature_map(z), self.scale).to_event(1)
        return likelihood.log_prob(x[:, None]) + self.prior().log_prob(z)

    def _check_nodes(self, joint: Tensor) -> None:
        """Raises ValueError if every other node gives another evidence than all of them."""
        joint = joint.detach()
        fine = _integral(joint, self._spacing)
        coarse = _integral(joint[:, ::2], 2 * self._spacing)
        error = float((fine - coarse).abs().max())
        if not error < AGREE:
            raise ValueError(
                f"expected nodes closer than the posterior is wide, got {self.points}, which are "
                f"{error:.2g} nats off; raise points"
            )


def _integral(log_values: Tensor, spacing: float) -> Tensor:
    """log ∫ exp f(z) dz, from f at evenly spaced nodes on the last axis."""
    return log_values.logsumexp(-1) + math.log(spacing)
