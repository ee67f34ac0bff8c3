"""Kernels: any callable from (n, D) and (m, D) to (n, m).

Gradients of those here are finite where points coincide.
"""

from __future__ import annotations

__all__ = [
    "Gaussian",
    "Kernel",
    "Mixture",
    "NegativeDistance",
    "Polynomial",
    "RationalQuadratic",
    "blocks",
    "default_kernel",
    "median_heuristic",
    "off_diagonal",
    "squared_distances",
]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.pyro_patches import is_traced

Kernel = Callable[[Tensor, Tensor], Tensor]

_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
_ENOUGH = 1000  # points, of whose half a million distances the median is taken


def blocks(n: int, m: int) -> Iterator[slice]:
    """The rows of an (n, m) matrix of pairs, block by block, each within `memory.KERNEL_VALUES`.

    Args:
        n: The number of rows.
        m: The number of columns.
    """
    size = memory.rows(memory.KERNEL_VALUES, m)
    return (slice(i, i + size) for i in range(0, n, size))


def off_diagonal(kernel: Kernel, x: Tensor, rows: slice) -> Tensor:
    """k(xᵢ, xⱼ) for the rows of a block, with 0 where i = j, of shape (rows, n).

    Args:
        kernel: k.
        x: Points (n, D).
        rows: A block, as `blocks(n, n)` gives them.
    """
    values = kernel(x[rows], x).clone()
    values.diagonal(rows.start).zero_()
    return values


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|xᵢ − yⱼ|², of shape (n, m); exactly 0 where the difference is lost in rounding.

    Args:
        x: Points (n, D).
        y: Points (m, D).
    """
    # Distances do not change under a shift, and far from the origin |x|² + |y|² − 2xy would cancel.
    centre = y.detach().mean(0)
    x = x - centre
    y = y - centre
    sizes = x.square().sum(-1)[:, None] + y.square().sum(-1)
    squares = sizes - 2 * x @ y.T
    rounding = 8 * torch.finfo(squares.dtype).eps * sizes.detach()
    return torch.where(squares <= rounding, 0.0, squares)


@dataclass(frozen=True)
class Gaussian:
    """k(x, y) = exp(−|x − y|² / 2h²).

    Args:
        bandwidth: h, in the units of the data.
    """

    bandwidth: float | Tensor

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-squared_distances(x, y) / (2 * self.bandwidth**2))


@dataclass(frozen=True)
class Mixture:
    """k(x, y) = (1/B) Σ_b exp(−|x − y|² / 2h_b²): sees differences on several scales.

    Args:
        bandwidths: h_1, …, h_B, in the units of the data.
    """

    bandwidths: Sequence[float | Tensor]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squares = squared_distances(x, y)
        total = torch.zeros_like(squares)
        for bandwidth in self.bandwidths:
            total = total + torch.exp(-squares / (2 * bandwidth**2))
        return total / len(self.bandwidths)


@dataclass(frozen=True)
class RationalQuadratic:
    """k(x, y) = (1 + |x − y|² / 2αh²)^(−α): a mixture of Gaussians of all scales.

    Args:
        bandwidth: h, in the units of the data.
        power: α; the smaller, the heavier the tails.

    Reference:
        Bińkowski et al. (2018), Demystifying MMD GANs, section 2.1.
    """

    bandwidth: float | Tensor = 1.0
    power: float = 1.0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (1 + squared_distances(x, y) / (2 * self.power * self.bandwidth**2)) ** -self.power


@dataclass(frozen=True)
class Polynomial:
    """k(x, y) = (s xᵀy + c)^p. Its MMD compares moments up to order p, and those only.

    Args:
        degree: p.
        scale: s; 1/D if left out.
        offset: c.

    Reference:
        Bińkowski et al. (2018), Demystifying MMD GANs, section 4: the kernel inception distance.
    """

    degree: int = 3
    scale: float | None = None
    offset: float = 1.0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        scale = self.scale
        if scale is None:
            scale = 1 / x.shape[-1]
        return (scale * x @ y.T + self.offset) ** self.degree


@dataclass(frozen=True)
class NegativeDistance:
    """k(x, y) = −|x − y|, whose squared MMD is the energy distance; the gradient is 0 where x = y.

    Reference:
        Sejdinovic et al. (2013), Equivalence of distance-based and RKHS-based statistics in
        hypothesis testing, section 4.
    """

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squares = squared_distances(x, y)
        same = squares == 0  # so that NaN stays NaN
        return -torch.where(same, 0.0, torch.where(same, 1.0, squares).sqrt())


def median_heuristic(x: Tensor, y: Tensor) -> Tensor:
    """The median distance between two different points of both samples, a scalar without gradient.

    Of more than 1000 points, every so many are taken in the order of their coordinate sum: the
    outcome depends on the pooled sample alone, not on which points are x and which y, as a
    permutation test needs it.

    Args:
        x: Points (n, D).
        y: Points (m, D).

    Raises:
        ValueError: If all points coincide.

    Reference:
        Gretton et al. (2012), A kernel two-sample test, section 8.
    """
    pooled = torch.cat([x, y]).detach()
    if len(pooled) > _ENOUGH:
        order = pooled.sum(-1).argsort()
        places = torch.linspace(0, len(pooled) - 1, _ENOUGH, device=order.device).long()
        pooled = pooled[order[places]]
    distances = torch.pdist(pooled)
    median = torch.where(distances > 0, distances, torch.nan).nanmedian()
    # A graph has no numbers to look at: its bandwidth would be NaN, and so is the loss then.
    if not is_traced() and bool(median.isnan()):
        raise ValueError(
            "expected points that differ, to take a bandwidth from, got one point only; give a "
            "kernel"
        )
    return median


def default_kernel(x: Tensor, y: Tensor) -> Mixture:
    """Five Gaussians at ¼, ½, 1, 2 and 4 times the median distance of the pooled sample.

    Args:
        x: Points (n, D).
        y: Points (m, D).

    Raises:
        ValueError: If all points coincide.
    """
    median = median_heuristic(x, y)
    return Mixture([multiple * median for multiple in _MULTIPLES])
