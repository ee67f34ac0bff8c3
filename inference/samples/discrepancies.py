"""Squared distances between two samples as bare numbers: to descend in, or to permute.

Points are rows of (n, D).
"""

from __future__ import annotations

__all__ = [
    "couplings",
    "directions",
    "squared_energy",
    "squared_frechet",
    "squared_mmd",
    "squared_sliced_wasserstein",
    "squared_wasserstein",
]

import torch
from torch import Tensor

from ppl_gen.inference.samples.kernels import Kernel, NegativeDistance, default_kernel


def squared_mmd(
    x: Tensor, y: Tensor, kernel: Kernel | None = None, unbiased: bool = True
) -> Tensor:
    """MMD² = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), differentiable in x and y.

    The unbiased form leaves out the pairs of a point with itself, and may be below 0; the other
    never is.

    Args:
        x: Points (n, D).
        y: Points (m, D).
        kernel: k; five Gaussians around the median distance if left out, with no gradient through
            that.
        unbiased: Whether X′ is another point than X.

    Raises:
        ValueError: If there are fewer than two points, or all coincide and no kernel is given.

    Reference:
        Gretton et al. (2012), A kernel two-sample test, eqs. 3 and 5.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"expected at least 2 points in each sample, got {len(x)} and {len(y)}; give larger "
            "batches"
        )
    if kernel is None:
        kernel = default_kernel(x, y)
    within_x = _mean_within(kernel(x, x), unbiased)
    within_y = _mean_within(kernel(y, y), unbiased)
    return within_x + within_y - 2 * kernel(x, y).mean()


def squared_energy(x: Tensor, y: Tensor, unbiased: bool = True) -> Tensor:
    """2 E|X − Y| − E|X − X′| − E|Y − Y′|, differentiable in x and y, also where points coincide.

    Args:
        x: Points (n, D).
        y: Points (m, D).
        unbiased: Whether X′ is another point than X.

    Raises:
        ValueError: If there are fewer than two points.

    Reference:
        Székely and Rizzo (2013), Energy statistics, eq. 2.5.
    """
    return squared_mmd(x, y, NegativeDistance(), unbiased)


def squared_frechet(x: Tensor, y: Tensor) -> Tensor:
    """|μ − μ′|² + tr(S + S′ − 2 (S S′)^½), differentiable in x and y.

    μ and μ′ are the sample means, S and S′ the covariances of n − 1 degrees of freedom. tr (S S′)^½
    is the sum of the singular values of R R′ᵀ for any S = RᵀR, so that no root of a matrix is taken
    and covariances may be singular.

    Args:
        x: Points (n, D).
        y: Points (m, D).

    Reference:
        Dowson and Landau (1982), The Fréchet distance between multivariate normal distributions,
        eq. 16.
    """
    mode = "r"
    if x.requires_grad or y.requires_grad:
        mode = "reduced"  # gradients need Q, which is half the work
    root_x = _covariance_root(x, mode)
    root_y = _covariance_root(y, mode)
    shared = torch.linalg.svdvals(root_x @ root_y.T).sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    variances = root_x.square().sum() + root_y.square().sum()
    return shift + variances - 2 * shared


def _covariance_root(x: Tensor, mode: str) -> Tensor:
    """R with RᵀR = S, the covariance of points (n, D)."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode).R


def squared_sliced_wasserstein(x: Tensor, y: Tensor, projections: int = 128) -> Tensor:
    """E_θ W₂²(θᵀX, θᵀY) over unit vectors θ, with W₂² = ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du.

    F⁻¹ and G⁻¹ are the quantile functions of the two. Differentiable in x and y.

    Args:
        x: Points (n, D).
        y: Points (m, D), m of any size.
        projections: The number of directions, drawn from torch's generator.

    Reference:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures, section 3.
    """
    theta = directions(x, projections)
    projected_x = (x @ theta).sort(0).values
    projected_y = (y @ theta).sort(0).values
    return squared_wasserstein(projected_x, projected_y).mean()


def directions(x: Tensor, count: int) -> Tensor:
    """Random unit vectors for points (n, D), of shape (D, count).

    Args:
        x: The points (n, D), of which the vectors take dtype and device.
        count: The number of vectors.
    """
    theta = torch.randn(x.shape[-1], count, dtype=x.dtype, device=x.device)
    return theta / theta.norm(dim=0)


def squared_wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """W₂² = ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du of each column, (L,), F⁻¹ and G⁻¹ being quantile functions.

    Args:
        x: Numbers (n, L), in ascending order.
        y: Numbers (m, L), in ascending order, m of any size.
    """
    first, second, weights = couplings(len(x), len(y), x)
    return weights @ (x[first] - y[second]).square()


def couplings(n: int, m: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pieces of (0, 1) on which two empirical quantile functions are both constant.

    Args:
        n: The number of points of the first.
        m: The number of points of the second.
        like: A tensor of the wished dtype and device.

    Returns:
        For each piece, in order: the index of the point of the first sample, that of the second,
        and the length of the piece.
    """
    # In units of 1/nm the jumps lie at whole numbers, and nothing is rounded.
    if n == m:
        jumps = torch.arange(1, n + 1, device=like.device) * m
    else:
        # On the processor, which else would have to wait for their number.
        of_first = torch.arange(1, n + 1) * m
        of_second = torch.arange(1, m + 1) * n
        jumps = torch.cat([of_first, of_second]).unique().to(like.device)
    lengths = torch.diff(jumps, prepend=jumps.new_zeros(1))
    return (jumps - 1) // m, (jumps - 1) // n, lengths.to(like.dtype) / (n * m)


def _mean_within(pairs: Tensor, unbiased: bool) -> Tensor:
    """The mean of a kernel's values (n, n) within a sample; without the diagonal if unbiased."""
    if not unbiased:
        return pairs.mean()
    return (pairs.sum() - pairs.diagonal().sum()) / (len(pairs) * (len(pairs) - 1))
