"""Toy data drawn from formulas: manifolds in two and three dimensions, and Gaussians on a ring."""

from __future__ import annotations

__all__ = ["MANIFOLDS", "Coverage", "feature_map", "manifold", "modes_covered", "ring"]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.counts import expect_at_least, expect_positive


def feature_map(h: Tensor) -> Tensor:
    """(h, h²/2 − 1/2), of shape (N, 2): one latent h ~ N(0, 1) seen in two dimensions."""
    return torch.stack([h, h.square() / 2 - 0.5], -1)


def _line(u: Tensor) -> Tensor:
    return (2 * u[:, :1] - 1) * torch.tensor([0.98, 0.2])


def _circle(u: Tensor) -> Tensor:
    angle = 2 * math.pi * u[:, 0]
    return torch.stack([angle.cos(), angle.sin()], -1)


def _swiss_roll(u: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * u[:, 0])
    return torch.stack([angle * angle.cos(), 10 * u[:, 1], angle * angle.sin()], -1) / 7


def _curve(u: Tensor) -> Tensor:
    return feature_map(torch.special.ndtri(u[:, 0].clamp(1e-6, 1)))


# What each draws from uniform numbers (N, 2), before noise.
MANIFOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "line": _line,
    "circle": _circle,
    "swiss-roll": _swiss_roll,
    "curve": _curve,
}


def manifold(name: str, n: int, seed: int, noise: float = 0.05) -> Tensor:
    """Points (n, 2), or (n, 3) of the Swiss roll, near one of `MANIFOLDS`.

    Args:
        name: One of `MANIFOLDS`.
        n: The number of points.
        seed: Seeds a generator of its own.
        noise: The standard deviation of the Gaussian noise on every coordinate.
    """
    generator = torch.Generator().manual_seed(seed)
    points = MANIFOLDS[name](torch.rand(n, 2, generator=generator))
    return points + noise * torch.randn(points.shape, generator=generator)


class Coverage(NamedTuple):
    """What a sample covers: the number of modes, the share of the sample near any of them, and each
    mode's share (K,).

    Examples:
        >>> x, _ = ring(1000, modes=8, seed=0)
        >>> coverage = modes_covered(x)
        >>> coverage.modes, round(coverage.share, 2), coverage.shares.shape
        (8, 0.99, torch.Size([8]))
    """

    modes: int
    share: float
    shares: Tensor


def ring(
    n: int, modes: int = 8, radius: float = 2.0, scale: float = 0.1, *, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """x ~ N(r (cos 2πk/K, sin 2πk/K), σ²I) with k uniform on 0, …, K − 1.

    Args:
        n: The number of points.
        modes: K, the number of Gaussians.
        radius: r, the distance of their centres from the origin.
        scale: σ, their standard deviation along each axis.
        seed: Seeds a generator of its own; torch's global one is drawn from if left out.

    Returns:
        Points (n, 2), and k as Long (n,).

    Raises:
        ValueError: If n or K is below 1, or r or σ is not positive.

    Examples:
        >>> x, mode = ring(1000, modes=8, radius=2.0, scale=0.1, seed=0)
        >>> x.shape, round(x.norm(dim=-1).mean().item(), 2), mode.unique().tolist()
        (torch.Size([1000, 2]), 2.0, [0, 1, 2, 3, 4, 5, 6, 7])

    Reference:
        Metz et al. (2017), Unrolled generative adversarial networks, section 3.1.
    """
    _check(n, modes, radius, scale)
    own = None
    if seed is not None:
        own = torch.Generator().manual_seed(seed)
    k = torch.randint(modes, (n,), generator=own)
    return _centres(modes, radius)[k] + scale * torch.randn(n, 2, generator=own), k


def modes_covered(
    x: Tensor,
    modes: int = 8,
    radius: float = 2.0,
    scale: float = 0.1,
    *,
    within: float = 3.0,
    least: float = 0.1,
) -> Coverage:
    """How many of the ring's modes a sample covers, and the share of it that lies near one.

    Of the ring's own points, a share 1 − exp(−w²/2) is near: 0.989 at w = 3. A mode is covered when
    what is near it is at least a tenth of what would fall to it if all were even: one stray point
    covers nothing.

    Args:
        x: Sample (N, 2).
        modes: K, the number of Gaussians.
        radius: r, the distance of their centres from the origin.
        scale: σ, their standard deviation along each axis.
        within: w, the distance from a mode's centre, in σ, up to which a point is near.
        least: The fraction of an even share that covers a mode.

    Raises:
        ValueError: If x is not of shape (N, 2), or a number is out of range.

    Examples:
        >>> modes_covered(torch.tensor([[2.0, 0.0], [2.1, 0.0], [0.0, 2.0], [0.0, 0.0]]))[:2]
        (2, 0.75)
    """
    if x.dim() != 2 or x.shape[1] != 2:
        raise ValueError(f"expected points (N, 2), got {tuple(x.shape)}")
    _check(len(x), modes, radius, scale)
    if not (within > 0 and 0 < least <= 1):
        raise ValueError(
            f"expected a positive within, and least in (0, 1], got {within} and {least}"
        )
    distance, nearest = torch.cdist(x.detach(), _centres(modes, radius).to(x)).min(1)
    shares = torch.bincount(nearest[distance <= within * scale], minlength=modes) / len(x)
    return Coverage(int((shares >= least / modes).sum()), float(shares.sum()), shares)


def _centres(modes: int, radius: float) -> Tensor:
    angle = 2 * math.pi * torch.arange(modes) / modes
    return radius * torch.stack([angle.cos(), angle.sin()], -1)


def _check(n: int, modes: int, radius: float, scale: float) -> None:
    expect_at_least(1, n=n, modes=modes)
    expect_positive(radius=radius, scale=scale)
