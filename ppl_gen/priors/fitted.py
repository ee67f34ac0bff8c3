"""p(z) fitted to codes that are known, as an autoencoder's: Gaussians, mixtures, kernels."""

from __future__ import annotations

__all__ = ["MultivariateMixture", "factored_gaussian", "full_gaussian", "kernel", "mixture"]

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.contexts import expect_seed
from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import Mixture
from ppl_gen.memory import expect_memory
from ppl_gen.priors.empirical import Empirical
from ppl_gen.protocols import Distribution

# Added to variances, as a share of their mean: a code may have a dimension that nothing moves.
_RIDGE = 1e-6
# Bandwidths that are tried, in units of Scott's.
_WIDTHS = tuple(2.0 ** (i / 4) for i in range(-16, 9))


class MultivariateMixture(nn.Module):
    """p(z) = Σₖ πₖ N(z; μₖ, Lₖ Lₖᵀ), held fixed: buffers, which no optimiser finds.

    Args:
        weights: π, of shape (K,), positive, summing to 1.
        locs: μ, of shape (K, D).
        scale_trils: L, lower triangular, of shape (K, D, D).
    """

    weights: Tensor
    locs: Tensor
    scale_trils: Tensor

    def __init__(self, weights: Tensor, locs: Tensor, scale_trils: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights.detach().clone())
        self.register_buffer("locs", locs.detach().clone())
        self.register_buffer("scale_trils", scale_trils.detach().clone())

    def forward(self, *context: Tensor) -> Distribution:
        if len(self.weights) == 1:
            return _normal(self.locs[0], self.scale_trils[0])

        def chosen(k: Tensor) -> Distribution:
            return _normal(self.locs[k], self.scale_trils[k])

        return Mixture(self.weights.log(), _normal(self.locs, self.scale_trils), chosen)


def factored_gaussian(codes: Tensor) -> MultivariateMixture:
    """N(z; μ̂, diag σ̂²), of the means and variances of codes.

    Args:
        codes: (N, D), of two rows or more.

    Raises:
        ValueError: If there are fewer than two codes, or they are no finite matrix.
    """
    z = _codes(codes, 2)
    variances = z.var(0, correction=0)
    return _one(codes, (variances + _ridge(z)).sqrt().diag())


def full_gaussian(codes: Tensor) -> MultivariateMixture:
    """N(z; μ̂, Σ̂), of the mean and covariance of codes.

    Args:
        codes: (N, D), of two rows or more.

    Raises:
        ValueError: If there are fewer than two codes, or they are no finite matrix.
    """
    z = _codes(codes, 2)
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z)
    covariance.diagonal().add_(_ridge(z))
    return _one(codes, torch.linalg.cholesky(covariance))


def mixture(codes: Tensor, components: int = 10, *, seed: int = 0) -> MultivariateMixture:
    """A mixture of K Gaussians of full covariance, by EM from k-means.

    Args:
        codes: (N, D), of K rows or more.
        components: K.
        seed: Of k-means.

    Raises:
        ValueError: If there are fewer codes than components, or they are no finite matrix.
    """
    from sklearn.mixture import GaussianMixture

    expect_at_least(1, components=components)
    expect_seed(seed)
    z = _codes(codes, max(2, components))
    ridge = float(_ridge(z))
    fit = GaussianMixture(components, reg_covar=ridge, random_state=seed, max_iter=500)
    found = fit.fit(z.cpu().numpy())
    trils = torch.linalg.cholesky(torch.as_tensor(found.covariances_))
    weights = torch.as_tensor(found.weights_)
    locs = torch.as_tensor(found.means_)
    return MultivariateMixture(weights.to(codes), locs.to(codes), trils.to(codes))


def kernel(codes: Tensor, bandwidth: float | None = None) -> Empirical:
    """(1/N) Σᵢ N(z; zᵢ, h²I): a Gaussian kernel density of codes.

    Args:
        codes: zᵢ, (N, D), of two rows or more.
        bandwidth: h, in the unit of the codes; that of the largest leave-one-out likelihood among
            multiples of Scott's, σ N^(−1/(D+4)), if left out.

    Raises:
        ValueError: If there are fewer than two codes, they are no finite matrix or do not fit into
            memory against each other, or h is not positive.

    Reference:
        Scott (1992), Multivariate density estimation; Duin (1976), on the choice of smoothing
        parameters for Parzen estimators.
    """
    z = _codes(codes, 2)
    if bandwidth is None:
        bandwidth = _best_bandwidth(z)
    return Empirical(codes.detach(), jitter=bandwidth)


def _best_bandwidth(z: Tensor) -> float:
    """h of the largest Σᵢ log p₋ᵢ(zᵢ), p₋ᵢ the density without zᵢ."""
    n, dim = z.shape
    expect_memory(f"{n} × {n} distances", 8 * 2 * n * n, "give bandwidth, or fewer codes", z.device)
    distances = torch.cdist(z, z).square()
    distances.fill_diagonal_(math.inf)
    spread = z.var(0).mean().sqrt()
    scott = float(spread) * n ** (-1 / (dim + 4))
    best = (-math.inf, scott)
    for width in _WIDTHS:
        h = width * scott
        exponents = -distances / (2 * h**2)
        left_out = float(exponents.logsumexp(1).sum())
        best = max(best, (left_out - n * dim * math.log(h), h))
    return best[1]


def _one(codes: Tensor, tril: Tensor) -> MultivariateMixture:
    """One Gaussian around the mean of codes."""
    loc = codes.detach().double().mean(0)
    return MultivariateMixture(
        torch.ones(1).to(codes), loc[None].to(codes), tril[None].to(codes.detach())
    )


def _ridge(z: Tensor) -> Tensor:
    """A small share of the mean variance, and no less than rounding."""
    return _RIDGE * z.var(0).mean() + 1e-12


def _normal(loc: Tensor, tril: Tensor) -> Distribution:
    return dist.MultivariateNormal(loc, scale_tril=tril, validate_args=False)


def _codes(codes: Tensor, least: int) -> Tensor:
    """Codes in double precision; raises ValueError unless they are a finite matrix of rows."""
    if not torch.is_tensor(codes) or codes.dim() != 2 or len(codes) < least:
        got = type(codes).__name__
        if torch.is_tensor(codes):
            got = f"shape {tuple(codes.shape)}"
        raise ValueError(
            f"expected codes (N, D) of at least {least} rows, got {got}; give encoder(x) of more "
            "data"
        )
    if not bool(codes.isfinite().all()):
        raise ValueError("expected finite codes, got NaN or infinite ones; look at the encoder")
    return codes.detach().double()
