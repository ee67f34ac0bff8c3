"""Squared distances between two samples with their standard errors.

They are MMD, energy, Fréchet and sliced Wasserstein.
"""

from __future__ import annotations

__all__ = ["energy_distance", "frechet_distance", "mmd", "polynomial_mmd", "sliced_wasserstein"]

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.contexts import seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.samples.discrepancies import (
    couplings,
    directions,
    squared_frechet,
    squared_mmd,
    squared_wasserstein,
)
from ppl_gen.inference.samples.kernels import (
    Kernel,
    NegativeDistance,
    Polynomial,
    blocks,
    default_kernel,
    off_diagonal,
)
from ppl_gen.inference.samples.vectors import Features, as_vectors
from ppl_gen.memory import expect_memory

_GROUPS = 10  # of points, that a jackknife leaves out in turn


def mmd(
    x: Tensor, y: Tensor, kernel: Kernel | None = None, features: Features | None = None
) -> Estimate:
    """MMD² = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), unbiased.

    It may be below 0 where the distributions are close. Its variance is 4 V[a(X)]/n + 4 V[b(Y)]/m +
    2 ζ_XX/n(n−1) + 2 ζ_YY/m(m−1) + 4 ζ_XY/nm, with a and b the first projections of the kernel and
    ζ the variances of what these leave of it, all estimated without bias (a negative V[a] taken as
    0). Where the distributions are equal the first two vanish and MMD² is a weighted sum of χ²: its
    error is then too large, by up to √2, and an interval of normal quantiles does not hold; take
    `two_sample_test` to decide whether they differ.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        kernel: k; five Gaussians around the median distance of both samples if left out, in which
            case two values can be compared only where the same points are in both.
        features: From (N, *shape) to (N, D); None takes the flattened data.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, values are not finite, or all
            points coincide.

    Examples:
        >>> x, y = torch.randn(500, 2), torch.randn(500, 2) + 1
        >>> print(f"{mmd(x, y):.2f}")
        0.12 ± 0.01

    Reference:
        Gretton et al. (2012), A kernel two-sample test, eq. 3; for the variance Hoeffding (1948), A
        class of statistics with asymptotically normal distribution, section 5, and Székely and
        Rizzo (2014), Partial distance correlation, for ζ.
    """
    x, y = as_vectors(x, y, features, least=4)
    if kernel is None:
        kernel = default_kernel(x, y)
    return _pair_averages(kernel, x, y)


def polynomial_mmd(
    x: Tensor,
    y: Tensor,
    features: Features | None = None,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int | None = None,
) -> Estimate:
    """MMD² under k(x, y) = (xᵀy/D + 1)³, unbiased.

    On Inception features this is the kernel inception distance (KID). The average over subsets has
    the same expectation and more noise; it is there to be compared with published numbers. Its
    error here is √(s² + sd²/subsets), with s that of the whole, and not the sd over subsets that is
    usually printed.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: From (N, *shape) to (N, D); None takes the flattened data.
        subsets: How many pairs of subsets to average over; None takes all points at once.
        subset_size: The number of points in a subset.
        seed: Seeds the subsets and leaves the global generator as it was.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, values are not finite, subsets
            is below 2, or a subset of fewer than 4 points or larger than a sample.

    Examples:
        >>> x, y = torch.randn(500, 2), torch.randn(500, 2)
        >>> bool(polynomial_mmd(x, y, seed=0).value < polynomial_mmd(x, y + 1, seed=0).value)
        True

    Reference:
        Bińkowski et al. (2018), Demystifying MMD GANs, section 4.
    """
    x, y = as_vectors(x, y, features, least=4)
    whole = _pair_averages(Polynomial(), x, y)
    if subsets is None:
        return whole
    expect_at_least(1, subsets=subsets, subset_size=subset_size)
    if subsets < 2 or not 4 <= subset_size <= min(len(x), len(y)):
        raise ValueError(
            f"expected at least 2 subsets of 4 to {min(len(x), len(y))} points, got {subsets} of "
            f"{subset_size}; take smaller ones, or none"
        )
    with seeded(x.device, seed):
        pairs = [(_subset(x, subset_size), _subset(y, subset_size)) for _ in range(subsets)]
    values = torch.stack([squared_mmd(a, b, Polynomial()) for a, b in pairs])
    variance = whole.standard_error.square() + values.var() / subsets
    return Estimate(values.mean(), variance.sqrt())


def _subset(x: Tensor, size: int) -> Tensor:
    """As many points of (n, D), drawn at random without replacement."""
    return x[torch.randperm(len(x), device=x.device)[:size]]


def energy_distance(x: Tensor, y: Tensor, features: Features | None = None) -> Estimate:
    """2 E|X − Y| − E|X − X′| − E|Y − Y′|, unbiased.

    Its expectation is zero only where the distributions are equal, and there is nothing to choose.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: From (N, *shape) to (N, D); None takes the flattened data.

    Returns:
        An estimate, in the units of the data. It is the MMD² under k(x, y) = −|x − y|, and its
        error is that of `mmd`: where the distributions are equal it is up to √2 times too large.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, or values are not finite.

    Examples:
        >>> x, y = torch.randn(500, 2), torch.randn(500, 2) + 1
        >>> print(f"{energy_distance(x, y):.1f}")
        0.8 ± 0.1

    Reference:
        Székely and Rizzo (2013), Energy statistics, eq. 2.5.
    """
    x, y = as_vectors(x, y, features, least=4)
    return _pair_averages(NegativeDistance(), x, y)


def frechet_distance(
    x: Tensor, y: Tensor, features: Features | None = None, extrapolate: bool = False
) -> Estimate:
    """|μ − μ′|² + tr(S + S′ − 2 (S S′)^½), with means μ, μ′ and covariances S, S′.

    This is the squared 2-Wasserstein distance between Gaussians with these moments. It is biased
    upwards by about c/n, with c growing with D², so that values of different sample sizes cannot be
    compared. `extrapolate` takes that off by a jackknife, G d(n) − (G − 1) × the mean of d(n − n/G)
    without one of G = 10 groups of points, which is right once both sizes are far above D. On
    Inception features the plain one is the Fréchet inception distance (FID).

    Its error is the infinitesimal jackknife's, √(Σ IFᵢ² / n² + …) with the influence IF of each
    point. Where the distributions are equal the influence vanishes, the distance is a weighted sum
    of r = D + D(D + 1)/2 χ², and that error is on average about √2 times too large, but small where
    the samples happen to be close. The extrapolated one therefore has an error of at least
    b √(2/r), with b the bias that was taken off: the least that such a sum can have. An interval of
    normal quantiles holds only about there; take `two_sample_test` to decide whether the
    distributions differ.

    Args:
        x: A sample (n, *shape), in random order.
        y: Another one (m, *shape), in random order.
        features: From (N, *shape) to (N, D); None takes the flattened data.
        extrapolate: Whether to take off the bias of order 1/n.

    Returns:
        An estimate, in the squared units of the data.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, or values are not finite.

    Examples:
        >>> x, y = torch.randn(1000, 2), torch.randn(1000, 2) + torch.tensor([3.0, 4.0])
        >>> print(f"{frechet_distance(x, y):.1f}")  # |μ − μ′|² = 25
        24.4 ± 0.4

    Reference:
        Heusel et al. (2017), GANs trained by a two time-scale update rule, section 4; Chong and
        Forsyth (2020), Effectively unbiased FID and inception score, for the bias; Efron and
        Tibshirani (1993), An introduction to the bootstrap, chapter 11, for the jackknife.
    """
    x, y = as_vectors(x, y, features, least=4)
    value = squared_frechet(x, y)
    variance_x = _variance_of_mean(_frechet_influence(x, y))
    variance_y = _variance_of_mean(_frechet_influence(y, x))
    variance = variance_x + variance_y
    if extrapolate:
        bias = _jackknifed_bias(squared_frechet, value, x, y)
        value = value - bias
        dim = x.shape[1]
        terms = dim + dim * (dim + 1) / 2
        variance = torch.maximum(variance, 2 * bias.square() / terms)
    return Estimate(value, variance.sqrt())


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    features: Features | None = None,
    projections: int = 128,
    extrapolate: bool = False,
    seed: int | None = None,
) -> Estimate:
    """E_θ W₂²(θᵀX, θᵀY) over unit vectors θ, with W₂² = ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du.

    F⁻¹ and G⁻¹ are the quantile functions of the two. It is biased upwards by about c/n, as far as
    the distributions have no gaps. `extrapolate` takes that off by a jackknife, G d(n) − (G − 1) ×
    the mean of d(n − n/G) without one of G = 10 groups of points. Its error is √(V[φ(X)]/n +
    V[ψ(Y)]/m + V_θ[W₂²]/L), with φ and ψ the mean Kantorovich potentials, which are the influences
    of the points; where the distributions are equal it is about √2 times too large.

    Args:
        x: A sample (n, *shape), in random order.
        y: Another one (m, *shape), in random order, m of any size.
        features: From (N, *shape) to (N, D); None takes the flattened data.
        projections: L, the number of directions.
        extrapolate: Whether to take off the bias of order 1/n.
        seed: Seeds the directions and leaves the global generator as it was.

    Returns:
        An estimate, in the squared units of the data.

    Raises:
        ValueError: If there are fewer than 4 points or 2 projections, shapes differ, or values are
            not finite.

    Examples:
        >>> x, y = torch.randn(500, 2), torch.randn(500, 2) + 2
        >>> round(sliced_wasserstein(x, y, seed=0).value.item())  # E (θᵀ(μ − μ′))² = 8/2
        4

    Reference:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures, section 3; del
        Barrio and Loubes (2019), Central limit theorems for empirical transportation cost in
        general dimension, for the error.
    """
    x, y = as_vectors(x, y, features, least=4)
    expect_at_least(1, projections=projections)
    if projections < 2:
        raise ValueError(
            f"expected at least 2 projections, got {projections}; some hundred are usual"
        )
    needed = x.element_size() * projections * (x.shape[1] + len(x) + len(y))
    expect_memory(f"{projections} projections", needed, "take fewer of them", x.device)
    with seeded(x.device, seed):
        theta = directions(x, projections)
    x = x @ theta
    y = y @ theta
    quantiles_x, order_x = x.sort(0)
    quantiles_y, order_y = y.sort(0)
    values = squared_wasserstein(quantiles_x, quantiles_y)
    if extrapolate:
        values = values - _jackknifed_bias(_sorted_distances, values, x, y)
    # Where the points of each sample are carried to: the mean of the other's quantiles over their
    # own piece of (0, 1).
    first, second, lengths = couplings(len(x), len(y), x)
    weights = lengths[:, None]
    x_carried = torch.zeros_like(x).index_add(0, first, weights * quantiles_y[second]) * len(x)
    y_carried = torch.zeros_like(y).index_add(0, second, weights * quantiles_x[first]) * len(y)
    variance_x = _variance_of_mean(_potential(quantiles_x, x_carried, order_x))
    variance_y = _variance_of_mean(_potential(quantiles_y, y_carried, order_y))
    variance = variance_x + variance_y + _variance_of_mean(values)
    return Estimate(values.mean(), variance.sqrt())


def _jackknifed_bias(
    distance: Callable[[Tensor, Tensor], Tensor], value: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """(G − 1) (the mean of d without one of G groups − d): the bias of order 1/n of a distance d.

    Args:
        distance: d, of points (n, D) and (m, D).
        value: d of all points.
        x: Points (n, D), in random order.
        y: Points (m, D), in random order.
    """
    groups = min(_GROUPS, len(x), len(y))
    without = []
    for group in range(groups):
        rest_x = x[torch.arange(len(x), device=x.device) % groups != group]
        rest_y = y[torch.arange(len(y), device=y.device) % groups != group]
        without.append(distance(rest_x, rest_y))
    return (groups - 1) * (torch.stack(without).mean(0) - value)


def _sorted_distances(x: Tensor, y: Tensor) -> Tensor:
    """W₂² of each column, (L,), of numbers (n, L) and (m, L) in any order."""
    return squared_wasserstein(x.sort(0).values, y.sort(0).values)


class _Pairs(NamedTuple):
    """Sums of a kernel's values k(xᵢ, yⱼ) over pairs of points.

    Attributes:
        rows: Σⱼ k(xᵢ, yⱼ), (n,).
        columns: Σᵢ k(xᵢ, yⱼ), (m,).
        squares: Σᵢⱼ k(xᵢ, yⱼ)², a scalar.
    """

    rows: Tensor
    columns: Tensor
    squares: Tensor

    @classmethod
    def between(cls, kernel: Kernel, x: Tensor, y: Tensor) -> _Pairs:
        """Over all pairs of a point of x and one of y."""
        values = (kernel(x[part], y) for part in blocks(len(x), len(y)))
        return cls._of_blocks(values, y)

    @classmethod
    def within(cls, kernel: Kernel, x: Tensor) -> _Pairs:
        """Over all pairs of different points of x."""
        values = (off_diagonal(kernel, x, part) for part in blocks(len(x), len(x)))
        return cls._of_blocks(values, x)

    @classmethod
    def _of_blocks(cls, values: Iterable[Tensor], y: Tensor) -> _Pairs:
        """Of the kernel's values at rows of points, block by block, with the points y."""
        rows = []
        columns = y.new_zeros(len(y))
        squares = y.new_zeros(())
        for block in values:
            rows.append(block.sum(1))
            columns = columns + block.sum(0)
            squares = squares + block.square().sum()
        return cls(torch.cat(rows), columns, squares)


def _pair_averages(kernel: Kernel, x: Tensor, y: Tensor) -> Estimate:
    """E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), a U-statistic, with its error.

    The variance is that of Hoeffding's decomposition: of the first projections, and of the rest ζ
    that they leave of the kernel.
    """
    n = len(x)
    m = len(y)
    with torch.no_grad():
        xx = _Pairs.within(kernel, x)
        yy = _Pairs.within(kernel, y)
        xy = _Pairs.between(kernel, x, y)
    total = xy.rows.sum()
    value = xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * total / (n * m)
    rest_x = _rest_within(xx)
    rest_y = _rest_within(yy)
    rest = _rest_between(xy)
    # Row sums hold the projections and the noise of a finite sum; what that noise adds is taken
    # off.
    noisy_x = (xx.rows / (n - 2) - xy.rows / m).var()
    noisy_y = (yy.rows / (m - 2) - xy.columns / n).var()
    first_x = noisy_x - rest_x / (n - 2) - rest / m
    first_y = noisy_y - rest_y / (m - 2) - rest / n
    first = 4 * first_x.clamp(min=0) / n + 4 * first_y.clamp(min=0) / m
    second = 2 * rest_x / (n * (n - 1)) + 2 * rest_y / (m * (m - 1)) + 4 * rest / (n * m)
    return Estimate(value, (first + second).sqrt())


def _rest_within(pairs: _Pairs) -> Tensor:
    """ζ, the variance of k(X, X′) that its projections leave: the U-centred sum of squares."""
    n = len(pairs.rows)
    total = pairs.rows.sum()
    of_rows = 2 * pairs.rows.square().sum() / (n - 2)
    of_total = total.square() / ((n - 1) * (n - 2))
    rest = pairs.squares - of_rows + of_total
    return (rest / (n * (n - 3))).clamp(min=0)


def _rest_between(pairs: _Pairs) -> Tensor:
    """ζ, the variance of k(X, Y) that its projections leave: the doubly centred sum of squares."""
    n = len(pairs.rows)
    m = len(pairs.columns)
    of_rows = pairs.rows.square().sum() / m
    of_columns = pairs.columns.square().sum() / n
    of_total = pairs.rows.sum().square() / (n * m)
    rest = pairs.squares - of_rows - of_columns + of_total
    return (rest / ((n - 1) * (m - 1))).clamp(min=0)


def _variance_of_mean(values: Tensor) -> Tensor:
    return values.var() / len(values)


def _frechet_influence(x: Tensor, y: Tensor) -> Tensor:
    """2 (μ − μ′)ᵀc + |c|² − 2 ∂ν with c = x − μ: the influence of each point of x, (n,).

    How the distance answers to the weight of a point, up to a constant. ν = |A Bᵀ|_* is the nuclear
    norm, with A = c/√(n−1) and B the same of y; by the singular vectors of A Bᵀ = U Σ Vᵀ, ∂ν = n/2
    (U Vᵀ B)ᵢ · Aᵢ.
    """
    n = len(x)
    centred = x - x.mean(0)
    q, r = torch.linalg.qr(centred / math.sqrt(n - 1))
    other = torch.linalg.qr((y - y.mean(0)) / math.sqrt(len(y) - 1)).R
    u, _, v = torch.linalg.svd(r @ other.T, full_matrices=False)
    carried = q @ (u @ v @ other) * n / math.sqrt(n - 1)
    shift = x.mean(0) - y.mean(0)
    return 2 * centred @ shift + centred.square().sum(-1) - (carried * centred).sum(-1)


def _potential(quantiles: Tensor, carried: Tensor, order: Tensor) -> Tensor:
    """The mean over directions of φ with φ′(t) = 2 (t − T(t)), of each point, up to a constant.

    Args:
        quantiles: The points t along each direction, in ascending order, (n, L).
        carried: T(t), where they are carried to, (n, L).
        order: The place that each had before, (n, L).

    Returns:
        φ of each point, (n,), in the order that they had before.
    """
    slope = quantiles - carried
    steps = torch.diff(quantiles, dim=0) * (slope[1:] + slope[:-1])
    phi = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])
    # The constant of each direction would otherwise be added to single points.
    phi = phi - phi.mean(0)
    return torch.zeros_like(phi).scatter(0, order, phi).mean(1)
