"""Classical density models with exact log p(x): Gaussians, their mixtures, factor analysis."""

from __future__ import annotations

__all__ = [
    "CovarianceMixture",
    "FactorAnalysis",
    "expect_room_for_covariances",
    "factor_analysis",
    "gaussian",
    "gaussian_mixture",
    "ppca",
]

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.contexts import expect_seed
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.distributions import Reshaped
from ppl_gen.memory import expect_memory
from ppl_gen.models.toy import PPCA
from ppl_gen.priors import StandardNormal
from ppl_gen.protocols import Distribution

# Added to the variance of each value: data have values that never change.
_RIDGE = 1e-4


class CovarianceMixture(nn.Module):
    """z ~ Categorical(π), x ~ N(μ_z, L_z L_zᵀ): the evidence is a sum over the K components.

    Args:
        weights: π, of shape (K,), positive, summing to 1.
        locs: μ, of shape (K, D).
        scale_trils: L, lower triangular, of shape (K, D, D).
        shape: The shape of one datum, of D values; (D,) if left out.

    Examples:
        >>> x, _ = data.ring(500, modes=3, seed=0)
        >>> program = gaussian_mixture(x, components=3)
        >>> round(program.exact_log_evidence(x).mean().item(), 1)  # nats per datum
        0.7
        >>> program.exact_posterior(x).probs.amax(-1).min() > 0.99  # each point knows its mode
        tensor(True)
    """

    weights: Tensor
    locs: Tensor
    scale_trils: Tensor

    def __init__(
        self,
        weights: Tensor,
        locs: Tensor,
        scale_trils: Tensor,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if shape is None:
            shape = locs.shape[1:]
        self.shape = tuple(shape)
        self.register_buffer("weights", weights.detach().clone())
        self.register_buffer("locs", locs.detach().clone())
        self.register_buffer("scale_trils", scale_trils.detach().clone())

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, *shape) is scored; without x, n data are drawn."""
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", dist.Categorical(self.weights))
            component = dist.MultivariateNormal(
                self.locs[z], scale_tril=self.scale_trils[z], validate_args=False
            )
            return pyro.sample("x", Reshaped(component, self.shape), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """The exact posterior, as a guide: every importance weight is p(x)."""
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.exact_posterior(x))

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log Σₖ πₖ N(x; μₖ, Lₖ Lₖᵀ), of shape (N,)."""
        return self._joint(x).logsumexp(-1)

    def exact_posterior(self, x: Tensor) -> Distribution:
        """P(z = k | x), a categorical of batch shape (N,)."""
        return dist.Categorical(logits=self._joint(x))

    def _joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) for every component, of shape (N, K)."""
        flat = x.flatten(-len(self.shape))
        by_component = []
        for weight, loc, tril in zip(self.weights, self.locs, self.scale_trils, strict=True):
            component = dist.MultivariateNormal(loc, scale_tril=tril, validate_args=False)
            by_component.append(weight.log() + component.log_prob(flat))
        return torch.stack(by_component, -1)


class FactorAnalysis(nn.Module):
    """z ~ N(0, I), x ~ N(Wz + μ, diag ψ²), hence x ~ N(μ, WWᵀ + diag ψ²).

    Args:
        weight: W, of shape (D, q).
        loc: μ, of shape (D,).
        scales: ψ, of shape (D,), positive: a noise of its own for each value.
        shape: The shape of one datum, of D values; (D,) if left out.

    Examples:
        >>> scales = torch.tensor([1.0, 2.0])
        >>> program = FactorAnalysis(torch.ones(2, 1), torch.zeros(2), scales)
        >>> program.exact_posterior(torch.tensor([[3.0, 0.0], [0.0, 3.0]])).mean
        tensor([[1.3333],
                [0.3333]])

    Reference:
        Rubin and Thayer (1982), EM algorithms for ML factor analysis.
    """

    weight: Tensor
    loc: Tensor
    scales: Tensor

    def __init__(
        self, weight: Tensor, loc: Tensor, scales: Tensor, shape: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if shape is None:
            shape = loc.shape
        self.shape = tuple(shape)
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scales", scales.detach().clone())
        self.prior = StandardNormal(weight.shape[1]).to(weight)

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, *shape) is scored; without x, n data are drawn."""
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            mean = (z @ self.weight.T + self.loc).unflatten(-1, self.shape)
            noise = self.scales.unflatten(-1, self.shape)
            likelihood = dist.Normal(mean, noise).to_event(len(self.shape))
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """The exact posterior, as a guide: every importance weight is p(x)."""
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.exact_posterior(x))

    def exact_log_evidence(self, x: Tensor) -> Tensor:
        """log N(x; μ, WWᵀ + diag ψ²), of shape (N,)."""
        density = dist.LowRankMultivariateNormal(self.loc, self.weight, self.scales.square())
        log_evidence: Tensor = density.log_prob(x.flatten(-len(self.shape)))
        return log_evidence

    def exact_posterior(self, x: Tensor) -> Distribution:
        """p(z | x) = N(M⁻¹Wᵀψ⁻²(x − μ), M⁻¹) with M = I + Wᵀψ⁻²W; batch shape (N,)."""
        weighted = self.weight / self.scales.square()[:, None]
        identity = torch.eye(self.weight.shape[1]).to(self.weight)
        precision = identity + self.weight.T @ weighted
        centred = x.flatten(-len(self.shape)) - self.loc
        mean = torch.linalg.solve(precision, (centred @ weighted).T)
        return dist.MultivariateNormal(mean.T, precision_matrix=precision)


def gaussian(x: Tensor, *, ridge: float = _RIDGE) -> CovarianceMixture:
    """The Gaussian of the mean and covariance of data: one component.

    Args:
        x: Data (N, *shape).
        ridge: Added to the variance of each value, in its unit squared.

    Raises:
        ValueError: If there are fewer than two data, or the ridge is not positive.

    Examples:
        >>> x = torch.randn(2000, 2) @ torch.tensor([[1.0, 0.5], [0.0, 1.0]])
        >>> program = gaussian(x)
        >>> round(program.exact_log_evidence(x).mean().item(), 1)  # −1 − log 2π
        -2.8
    """
    _expect_fit(x, 1, ridge)
    flat = x.flatten(1).double()
    loc = flat.mean(0)
    centred = flat - loc
    covariance = centred.T @ centred / len(x)
    covariance.diagonal().add_(ridge)
    tril = torch.linalg.cholesky(covariance)
    weights = torch.ones(1).to(x)
    return CovarianceMixture(weights, loc[None].to(x), tril[None].to(x), x.shape[1:])


def gaussian_mixture(
    x: Tensor, components: int, *, ridge: float = _RIDGE, seed: int = 0
) -> CovarianceMixture:
    """A mixture of Gaussians of full covariance, by EM from k-means.

    Args:
        x: Data (N, *shape).
        components: K, at most the number of data.
        ridge: Added to the variances in each step, in the unit of x squared.
        seed: Of k-means.

    Raises:
        ValueError: If there are fewer data than components, or the ridge is not positive.

    Examples:
        >>> x, _ = data.ring(500, modes=3, seed=0)
        >>> program = gaussian_mixture(x, components=3)
        >>> program.weights.sort().values.round(decimals=2)
        tensor([0.2900, 0.3400, 0.3600])

    Reference:
        Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM
        algorithm; scikit-learn's GaussianMixture.
    """
    from sklearn.mixture import GaussianMixture

    expect_seed(seed)
    _expect_fit(x, components, ridge)
    flat = _matrix(x)
    found = GaussianMixture(components, reg_covar=ridge, random_state=seed, max_iter=500).fit(flat)
    trils = torch.linalg.cholesky(torch.as_tensor(found.covariances_))
    weights = torch.as_tensor(found.weights_)
    locs = torch.as_tensor(found.means_)
    return CovarianceMixture(weights.to(x), locs.to(x), trils.to(x), x.shape[1:])


def factor_analysis(x: Tensor, latent_dim: int, *, ridge: float = _RIDGE) -> FactorAnalysis:
    """Factor analysis of data, by EM, its noise variances at least the ridge.

    Args:
        x: Data (N, *shape).
        latent_dim: q, from 1 to the size of a datum.
        ridge: The least variance of the noise, in the unit of x squared.

    Raises:
        ValueError: If q is out of range, there are fewer than two data, or the ridge is not
            positive.

    Examples:
        >>> x = torch.randn(1000, 1) @ torch.tensor([[2.0, 1.0, 0.0]]) + torch.randn(1000, 3)
        >>> program = factor_analysis(x, latent_dim=1)
        >>> program.weight.abs().round(decimals=0)[:, 0]
        tensor([2., 1., 0.])

    Reference:
        Barber (2012), Bayesian reasoning and machine learning, algorithm 21.1; scikit-learn's
        FactorAnalysis.
    """
    from sklearn.decomposition import FactorAnalysis as Fit

    _expect_fit(x, 1, ridge)
    _expect_dim(latent_dim, x)
    flat = _matrix(x)
    found = Fit(latent_dim, svd_method="lapack", max_iter=5000, tol=1e-4).fit(flat)
    scales = torch.as_tensor(found.noise_variance_).clamp(min=ridge).sqrt()
    weight = torch.as_tensor(found.components_.T)
    loc = torch.as_tensor(found.mean_)
    return FactorAnalysis(weight.to(x), loc.to(x), scales.to(x), x.shape[1:])


def ppca(x: Tensor, latent_dim: int) -> FactorAnalysis:
    """Probabilistic PCA of data: factor analysis with one noise for all values, in closed form.

    Args:
        x: Data (N, *shape).
        latent_dim: q, from 1 to the size of a datum less 1.

    Raises:
        ValueError: If q is out of range.

    Examples:
        >>> x = data.load("digits").train.x
        >>> program = ppca(x, latent_dim=10)
        >>> round(program.exact_log_evidence(x).mean().item())  # nats per image
        18

    Reference:
        Tipping and Bishop (1999), Probabilistic principal component analysis, eq. 7 and 8.
    """
    found = PPCA.maximum_likelihood(x.flatten(1), latent_dim)
    scales = found.scale.expand(found.loc.shape)
    return FactorAnalysis(found.weight, found.loc, scales, x.shape[1:])


def _matrix(x: Tensor) -> np.ndarray:
    """Data as a matrix (N, D) in double precision, as scikit-learn takes them."""
    flat = x.flatten(1).double()
    return flat.cpu().numpy()


def _expect_fit(x: Tensor, components: int, ridge: float) -> None:
    expect_at_least(1, components=components)
    expect_positive(ridge=ridge)
    if x.dim() < 2 or len(x) < max(2, components):
        raise ValueError(
            f"expected data (N, *shape) of at least {max(2, components)} rows, got "
            f"{tuple(x.shape)}; take more data, or fewer components"
        )
    expect_room_for_covariances(components, math.prod(x.shape[1:]))


def expect_room_for_covariances(components: int, size: int) -> None:
    """Raises ValueError if a fit of covariances of all values does not fit into memory.

    Args:
        components: K, the number of covariances.
        size: D, the number of values of a datum.
    """
    needed = 8 * 3 * (components + 1) * size * size
    expect_memory(f"{components} covariances of {size} values", needed, "take smaller images")


def _expect_dim(latent_dim: Any, x: Tensor) -> None:
    expect_at_least(0, **{"a latent dimension": latent_dim})
    most = math.prod(x.shape[1:])
    if not 1 <= latent_dim <= most:
        raise ValueError(f"expected a latent dimension from 1 to {most}, got {latent_dim}")
