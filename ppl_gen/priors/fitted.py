"""p(z) fitted to codes that are known, as an autoencoder's: Gaussians, mixtures, kernels, flows."""

from __future__ import annotations

__all__ = [
    "FittedFlow",
    "KernelDensity",
    "MultivariateMixture",
    "factored_gaussian",
    "flow",
    "full_gaussian",
    "kernel",
    "mixture",
]

import copy
import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.contexts import expect_seed, seeded
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.distributions import Mixture, StoredPoints
from ppl_gen.flows import coupling_flow, drawn_by
from ppl_gen.memory import expect_memory
from ppl_gen.protocols import Distribution

# Added to variances, as a share of their mean: a code may have a dimension that nothing moves.
_RIDGE = 1e-6
# Bandwidths that are tried, in units of Scott's.
_WIDTHS = tuple(2.0 ** (i / 4) for i in range(-16, 9))
# Of the codes, on which the fit of a flow is stopped.
_HELD_OUT = 0.1


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


class KernelDensity(nn.Module):
    """p(z) = (1/N) Σᵢ N(z; zᵢ, h²I), held fixed: buffers, which no optimiser finds.

    Args:
        points: zᵢ, (N, D).
        bandwidth: h, in the unit of the points, positive.

    Raises:
        ValueError: If h is not positive.
    """

    points: Tensor
    bandwidth: Tensor

    def __init__(self, points: Tensor, bandwidth: float) -> None:
        super().__init__()
        expect_positive(bandwidth=bandwidth)
        self.register_buffer("points", points.detach().clone())
        self.register_buffer("bandwidth", torch.tensor(bandwidth).to(points))

    def forward(self, *context: Tensor) -> Distribution:
        return StoredPoints(self.points, self.bandwidth)


class FittedFlow(nn.Module):
    """p(z) = p(u) Πⱼ 1/sⱼ with u = (z − m)/s ~ flow, held fixed: no parameter wants a gradient.

    Args:
        flow: The density of u, of zuko.
        loc: m, of shape (D,).
        scale: s, of shape (D,), positive.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, flow: nn.Module, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.flow = flow.requires_grad_(False)
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, *context: Tensor) -> Distribution:
        to_codes = dist.transforms.AffineTransform(self.loc, self.scale, event_dim=1)
        return dist.TransformedDistribution(drawn_by(self.flow), [to_codes])


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


def kernel(codes: Tensor, bandwidth: float | None = None) -> KernelDensity:
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
    return KernelDensity(codes, bandwidth)


def flow(
    codes: Tensor,
    *,
    transforms: int = 4,
    hidden: Sequence[int] = (64, 64),
    epochs: int = 200,
    patience: int = 10,
    batch_size: int = 200,
    lr: float = 2e-3,
    seed: int = 0,
) -> FittedFlow:
    """argmax Σᵢ log p(zᵢ), p a flow of coupling layers on standardised codes, by Adam.

    A tenth of the codes is held out. The fit stops once their likelihood has not risen for some
    epochs; the flow has the weights of the epoch at which it was the highest.

    Args:
        codes: zᵢ, (N, D), of ten rows or more.
        transforms: The number of coupling layers.
        hidden: The widths of the network of each layer.
        epochs: The most passes over the codes.
        patience: How many epochs in a row may pass without a better likelihood of held-out codes.
        batch_size: Codes per step.
        lr: The learning rate.
        seed: Of weights, of what is held out, and of the order of codes.

    Raises:
        ValueError: If there are fewer than ten codes, they are no finite matrix, or a number is out
            of range.

    Reference:
        Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP.

    Examples:
        >>> flow(torch.randn(50, 2), hidden=(8,), epochs=1)().event_shape
        torch.Size([2])
    """
    expect_at_least(1, epochs=epochs, patience=patience, batch_size=batch_size)
    expect_positive(lr=lr)
    expect_seed(seed)
    z = _codes(codes, 10)
    loc = z.mean(0)
    scale = (z.var(0) + _ridge(z)).sqrt()
    standard = ((z - loc) / scale).to(codes)
    with seeded(codes.device, seed), torch.enable_grad():
        made = coupling_flow(z.shape[1], transforms=transforms, hidden=hidden).to(codes)
        _ascend(made, standard, epochs, patience, batch_size, lr)
    return FittedFlow(made, loc.to(codes), scale.to(codes))


def _ascend(
    made: nn.Module, u: Tensor, epochs: int, patience: int, batch_size: int, lr: float
) -> None:
    """Raises Σ log p(u) of a flow until that of held-out rows rises no more; keeps the best."""
    u = u[torch.randperm(len(u), device=u.device)]
    count = math.ceil(_HELD_OUT * len(u))
    held_out, kept = u[:count], u[count:]
    optimizer = torch.optim.Adam(made.parameters(), lr)
    best, best_epoch = -math.inf, 0
    weights = copy.deepcopy(made.state_dict())
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(kept), device=u.device).split(batch_size):
            optimizer.zero_grad()
            loss = -made().log_prob(kept[rows]).mean()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            likelihood = float(made().log_prob(held_out).mean())
        if likelihood > best:
            best, best_epoch = likelihood, epoch
            weights = copy.deepcopy(made.state_dict())
        if epoch - best_epoch >= patience:
            break
    made.load_state_dict(weights)


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
