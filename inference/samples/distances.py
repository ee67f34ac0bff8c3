"""Squared distances between two samples with their standard errors: MMD, energy, Fréchet, sliced
Wasserstein.
"""

from __future__ import annotations

__all__ = ["energy_distance", "frechet_distance", "mmd", "polynomial_mmd", "sliced_wasserstein"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.contexts import seeded
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
)
from ppl_gen.inference.samples.vectors import Features, as_vectors


def mmd(
    x: Tensor, y: Tensor, kernel: Kernel | None = None, features: Features | None = None
) -> Estimate:
    """MMD² = E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y), unbiased; may be below 0 where the
    distributions are close.

    Its variance is 4 V[a(X)]/n + 4 V[b(Y)]/m + 2 ζ_XX/n(n−1) + 2 ζ_YY/m(m−1) + 4 ζ_XY/nm, with a
    and b the first projections of the kernel and ζ the variances of what these leave of it, all
    estimated without bias (a negative V[a] taken as 0). Where the distributions are equal the first
    two vanish and MMD² is a weighted sum of χ²: its error is then too large, by up to √2, and an
    interval of normal quantiles does not hold; take `two_sample_test` to decide whether they
    differ.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        kernel: k; five Gaussians around the median distance of both samples if left out, in which
            case two values can be compared only where the same points are in both.
        features: From (N, *shape) to (N, D); None takes the flattened data.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, values are not finite, or all
            points coincide.

    Reference:
        Gretton et al. (2012), A kernel two-sample test, eq. 3; for the variance Hoeffding (1948), A
        class of statistics with asymptotically normal distribution, section 5, and Székely and
        Rizzo (2014), Partial distance correlation, for ζ.
    """
    x, y = as_vectors(x, y, features, least=4)
    return _pair_averages(default_kernel(x, y) if kernel is None else kernel, x, y)


def polynomial_mmd(
    x: Tensor,
    y: Tensor,
    features: Features | None = None,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int | None = None,
) -> Estimate:
    """MMD² under k(x, y) = (xᵀy/D + 1)³, unbiased: on Inception features, the kernel inception
    distance (KID).

    The average over subsets has the same expectation and more noise; it is there to be compared
    with published numbers. Its error here is √(s² + sd²/subsets), with s that of the whole, and not
    the sd over subsets that is usually printed.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: As in `mmd`.
        subsets: How many pairs of subsets to average over; None takes all points at once.
        subset_size: The number of points in a subset.
        seed: Seeds the subsets and leaves the global generator as it was.

    Raises:
        ValueError: As `mmd` does, or if subsets is below 2 or a subset larger than a sample.

    Reference:
        Bińkowski et al. (2018), Demystifying MMD GANs, section 4.
    """
    x, y = as_vectors(x, y, features, least=4)
    whole = _pair_averages(Polynomial(), x, y)
    if subsets is None:
        return whole
    if subsets < 2 or not 4 <= subset_size <= min(len(x), len(y)):
        raise ValueError(
            f"expected at least 2 subsets of 4 to {min(len(x), len(y))} points, got {subsets} of "
            f"{subset_size}; take smaller ones, or none"
        )
    with seeded(x.device, seed):
        parts = [
            [t[torch.randperm(len(t), device=t.device)[:subset_size]] for t in (x, y)]
            for _ in range(subsets)
        ]
    values = torch.stack([squared_mmd(a, b, Polynomial()) for a, b in parts])
    return Estimate(values.mean(), (whole.standard_error.square() + values.var() / subsets).sqrt())


def energy_distance(x: Tensor, y: Tensor, features: Features | None = None) -> Estimate:
    """2 E|X − Y| − E|X − X′| − E|Y − Y′|, unbiased; zero only where the distributions are equal,
    with nothing to choose.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: As in `mmd`.

    Returns:
        An estimate, in the units of the data; its error as in `mmd`, of which this is the case k(x,
        y) = −|x − y|.

    Raises:
        ValueError: As `mmd` does.

    Reference:
        Székely and Rizzo (2013), Energy statistics, eq. 2.5.
    """
    x, y = as_vectors(x, y, features, least=4)
    return _pair_averages(NegativeDistance(), x, y)


def frechet_distance(
    x: Tensor, y: Tensor, features: Features | None = None, extrapolate: bool = False
) -> Estimate:
    """|μ − μ′|² + tr(S + S′ − 2 (S S′)^½): the squared 2-Wasserstein distance between Gaussians
    with these moments.

    It is biased upwards by about c/n, with c growing with D², so that values of different sample
    sizes cannot be compared. `extrapolate` takes that off: 2 d(n) − the mean of d(n/2) over the two
    halves of each sample, which is right once n is far above D. On Inception features the plain one
    is the Fréchet inception distance (FID).

    Its error is the infinitesimal jackknife's, √(Σ IFᵢ² / n² + …) with the influence IF of each
    point. Where the distributions are equal the influence vanishes, and the error is about √2 times
    too large.

    Args:
        x: A sample (n, *shape), in random order.
        y: Another one (m, *shape), in random order.
        features: As in `mmd`.
        extrapolate: Whether to take off the bias of order 1/n.

    Returns:
        An estimate, in the squared units of the data.

    Raises:
        ValueError: If there are fewer than 4 points, shapes differ, or values are not finite.

    Reference:
        Heusel et al. (2017), GANs trained by a two time-scale update rule, section 4; Chong and
        Forsyth (2020), Effectively unbiased FID and inception score, for the bias.
    """
    x, y = as_vectors(x, y, features, least=4)
    value = squared_frechet(x, y)
    if extrapolate:
        value = (
            2 * value - (squared_frechet(x[::2], y[::2]) + squared_frechet(x[1::2], y[1::2])) / 2
        )
    return Estimate(
        value,
        (
            _variance_of_mean(_frechet_influence(x, y))
            + _variance_of_mean(_frechet_influence(y, x))
        ).sqrt(),
    )


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    features: Features | None = None,
    projections: int = 128,
    extrapolate: bool = False,
    seed: int | None = None,
) -> Estimate:
    """E_θ W₂²(θᵀX, θᵀY) over unit vectors θ, with W₂² = ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du.

    Biased upwards by about c/n, as far as the distributions have no gaps; `extrapolate` takes that
    off, as in `frechet_distance`. Its error is √(V[φ(X)]/n + V[ψ(Y)]/m + V_θ[W₂²]/L), with φ and ψ
    the mean Kantorovich potentials, which are the influences of the points; where the distributions
    are equal it is too large, as Fréchet's is.

    Args:
        x: A sample (n, *shape), in random order.
        y: Another one (m, *shape), in random order, m of any size.
        features: As in `mmd`.
        projections: L, the number of directions.
        extrapolate: Whether to take off the bias of order 1/n.
        seed: Seeds them and leaves the global generator as it was.

    Returns:
        An estimate, in the squared units of the data.

    Raises:
        ValueError: If there are fewer than 4 points or 2 projections, shapes differ, or values are
            not finite.

    Reference:
        Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures, section 3; del
        Barrio and Loubes (2019), Central limit theorems for empirical transportation cost in
        general dimension, for the error.
    """
    x, y = as_vectors(x, y, features, least=4)
    if projections < 2:
        raise ValueError(
            f"expected at least 2 projections, got {projections}; some hundred are usual"
        )
    with seeded(x.device, seed):
        theta = directions(x, projections)
    x, y = x @ theta, y @ theta
    (a, order_a), (b, order_b) = x.sort(0), y.sort(0)
    first, second, weights = couplings(len(x), len(y), x)
    values = squared_wasserstein(a, b)
    if extrapolate:
        halves = [
            squared_wasserstein(x[i::2].sort(0).values, y[i::2].sort(0).values) for i in (0, 1)
        ]
        values = 2 * values - sum(halves) / 2
    # Where the points of each sample are carried to: the mean of the other's quantiles over their
    # own piece of (0, 1).
    to_b = torch.zeros_like(a).index_add(0, first, weights[:, None] * b[second]) * len(x)
    to_a = torch.zeros_like(b).index_add(0, second, weights[:, None] * a[first]) * len(y)
    influences = (_potential(a, to_b, order_a), _potential(b, to_a, order_b))
    return Estimate(
        values.mean(), (sum(map(_variance_of_mean, influences)) + _variance_of_mean(values)).sqrt()
    )


class _Pairs(NamedTuple):
    """Sums of k(xᵢ, yⱼ) over j, (n,), over i, (m,), and of its squares."""

    rows: Tensor
    columns: Tensor
    squares: Tensor

    @classmethod
    def of(cls, kernel: Kernel, x: Tensor, y: Tensor | None = None) -> _Pairs:
        """Summed up block by block; without y, over the pairs of different points of x."""
        other = x if y is None else y
        rows, columns, squares = [], x.new_zeros(len(other)), x.new_zeros(())
        for part in blocks(len(x), len(other)):
            block = kernel(x[part], other)
            if y is None:
                block = block.clone()
                block.diagonal(part.start).zero_()
            rows.append(block.sum(1))
            columns = columns + block.sum(0)
            squares = squares + block.square().sum()
        return cls(torch.cat(rows), columns, squares)


def _pair_averages(kernel: Kernel, x: Tensor, y: Tensor) -> Estimate:
    """The U-statistic E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y) and its standard error, by Hoeffding's
    decomposition.
    """
    n, m = len(x), len(y)
    with torch.no_grad():
        xx, yy, xy = _Pairs.of(kernel, x), _Pairs.of(kernel, y), _Pairs.of(kernel, x, y)
    total = xy.rows.sum()
    value = xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * total / (n * m)
    rest_x, rest_y = _rest(xx), _rest(yy)
    rest = (
        xy.squares
        - xy.rows.square().sum() / m
        - xy.columns.square().sum() / n
        + total.square() / (n * m)
    )
    rest = (rest / ((n - 1) * (m - 1))).clamp(min=0)
    # Row sums hold the projections and the noise of a finite sum; what that noise adds is taken
    # off.
    first_x = (xx.rows / (n - 2) - xy.rows / m).var() - rest_x / (n - 2) - rest / m
    first_y = (yy.rows / (m - 2) - xy.columns / n).var() - rest_y / (m - 2) - rest / n
    first = 4 * first_x.clamp(min=0) / n + 4 * first_y.clamp(min=0) / m
    second = 2 * rest_x / (n * (n - 1)) + 2 * rest_y / (m * (m - 1)) + 4 * rest / (n * m)
    return Estimate(value, (first + second).sqrt())


def _rest(pairs: _Pairs) -> Tensor:
    """ζ, the variance of k(X, X′) that its projections leave: the U-centred sum of squares."""
    n, total = len(pairs.rows), pairs.rows.sum()
    squares = (
        pairs.squares
        - 2 * pairs.rows.square().sum() / (n - 2)
        + total.square() / ((n - 1) * (n - 2))
    )
    return (squares / (n * (n - 3))).clamp(min=0)


def _variance_of_mean(values: Tensor) -> Tensor:
    return values.var() / len(values)


def _frechet_influence(x: Tensor, y: Tensor) -> Tensor:
    """How the distance answers to the weight of each point of x, (n,), up to a constant.

    2 (μ − μ′)ᵀc + |c|² − 2 ∂ν, with c = x − μ and ν = |A Bᵀ|_*, the nuclear norm of A = c/√(n−1)
    and B; by the singular vectors of A Bᵀ = U Σ Vᵀ, ∂ν = n/2 (U Vᵀ B)ᵢ · Aᵢ.
    """
    centred = x - x.mean(0)
    q, r = torch.linalg.qr(centred / math.sqrt(len(x) - 1))
    other = torch.linalg.qr((y - y.mean(0)) / math.sqrt(len(y) - 1)).R
    u, _, v = torch.linalg.svd(r @ other.T, full_matrices=False)
    carried = q @ (u @ v @ other) * len(x) / math.sqrt(len(x) - 1)
    shift = x.mean(0) - y.mean(0)
    return 2 * centred @ shift + centred.square().sum(-1) - (carried * centred).sum(-1)


def _potential(ordered: Tensor, carried: Tensor, order: Tensor) -> Tensor:
    """The mean over directions of φ with φ′(t) = 2 (t − T(t)), of each point (n,), up to a
    constant.
    """
    slope = ordered - carried
    steps = torch.diff(ordered, dim=0) * (slope[1:] + slope[:-1])
    phi = torch.cat([torch.zeros_like(steps[:1]), steps.cumsum(0)])
    phi = phi - phi.mean(
        0
    )  # a constant of each direction, which would otherwise be added to single points
    return torch.zeros_like(phi).scatter(0, order, phi).mean(1)
