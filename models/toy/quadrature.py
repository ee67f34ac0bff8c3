"""Moments of a posterior over one or two numbers, by the trapezoid rule where its mass lies."""

from __future__ import annotations

__all__ = ["cast_like", "plain", "quadrature"]

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_gen.models.toy.contract import Moments

# By the number of axes, 1 or 2: nodes along each axis if the caller names none.
POINTS = {1: 2001, 2: 301}
# By the number of axes: how many nats below the peak the grid ends. The mass left out is some 10⁻²⁶
# on a line and 10⁻¹⁷ in a plane.
CUT = {1: 60.0, 2: 40.0}
# Standard deviations by which the answers of all nodes and of every other node may differ.
AGREE = 1e-6
# Nodes at which a log density is computed at once: it makes a number for each node and datum.
NODES_AT_ONCE = 2**11


def plain(values: dict[str, Tensor]) -> dict[str, Moments]:
    """The conditional moments of quantities that the nodes determine: their values, no spread.

    Args:
        values: By site name, the values at the nodes, of shape (M, *shape).
    """
    return {name: Moments(value, torch.zeros_like(value)) for name, value in values.items()}


def cast_like(x: Tensor, moments: dict[str, Moments]) -> dict[str, Moments]:
    """The same moments in the dtype and on the device of x."""
    return {name: Moments(m.mean.to(x), m.sd.to(x)) for name, m in moments.items()}


def quadrature(
    log_density: Callable[[Tensor], Tensor],
    conditional: Callable[[Tensor], dict[str, Moments]],
    lower: Tensor,
    upper: Tensor,
    points: int | None = None,
) -> dict[str, Moments]:
    """E[f] = ∫ E[f | u] p(u) du and Var[f] = ∫ (Var[f | u] + (E[f | u] − E[f])²) p(u) du.

    The integrals are sums over a grid of nodes u. The box of the grid is narrowed to where p lies
    within 60 nats of its peak (40 in a plane). On it the trapezoid rule is exact to rounding once
    the nodes lie closer than the posterior is wide.

    Args:
        log_density: log p(u) up to a constant, from nodes (M, d) to (M,); d is 1 or 2.
        conditional: From nodes (M, d) to the moments of each site given u, of shape (M, *shape).
        lower: The box's lower corner, of shape (d,), in float64.
        upper: The box's upper corner, of shape (d,), in float64.
        points: Nodes along each axis, odd; 2001 on a line or 301 in a plane if left out.

    Returns:
        E[f] and sd[f] by site name, each of shape (*shape).

    Raises:
        ValueError: If there are fewer than five points, if p has mass at the border of the box, or
            if every other node gives another answer, by more than 10⁻⁶ standard deviations.
    """
    axes = lower.shape[0]
    if points is None:
        points = POINTS[axes]
    if points < 5:
        raise ValueError(f"expected at least 5 quadrature points, got {points}")
    lower, upper = _narrowed(log_density, lower, upper, points // 3 + 1)
    nodes = _grid(lower, upper, points)
    density = _in_parts(log_density, nodes)
    at_border = ((nodes == lower) | (nodes == upper)).any(-1)
    if not density.max() - density[at_border].max() > CUT[axes] / 2:
        raise ValueError(
            "expected a posterior inside ten standard deviations of the prior, got one with mass "
            "at the border of the quadrature; take a wider prior, or data that fit it"
        )
    every_other = _every_other(points, axes).to(nodes.device)
    moments = {}
    for name, given in conditional(nodes).items():
        given_coarse = Moments(given.mean[every_other], given.sd[every_other])
        fine = _mixed(given, density)
        coarse = _mixed(given_coarse, density[every_other])
        _check_agreement(name, fine, coarse, points)
        moments[name] = fine
    return moments


def _narrowed(
    log_density: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor, points: int
) -> tuple[Tensor, Tensor]:
    """The corners of the part of a box in which the density is not negligible."""
    for _ in range(3):
        nodes = _grid(lower, upper, points)
        density = _in_parts(log_density, nodes)
        step = (upper - lower) / (points - 1)
        near = nodes[density > density.max() - CUT[len(lower)]]
        lower = torch.maximum(lower, near.amin(0) - step)
        upper = torch.minimum(upper, near.amax(0) + step)
    return lower, upper


def _grid(lower: Tensor, upper: Tensor, points: int) -> Tensor:
    """All nodes, of shape (points ** d, d)."""
    unit = torch.linspace(0, 1, points, dtype=lower.dtype, device=lower.device)
    sides = []
    for low, high in zip(lower, upper, strict=True):
        side = low + (high - low) * unit
        side[-1] = high  # exactly, since nodes at the border are found by comparing with it
        sides.append(side)
    return torch.cartesian_prod(*sides).reshape(-1, len(sides))


def _every_other(points: int, axes: int) -> Tensor:
    """Which nodes of a grid have even places along all axes, of shape (points ** axes,)."""
    chosen = torch.zeros([points] * axes, dtype=torch.bool)
    even = slice(None, None, 2)
    chosen[(even,) * axes] = True
    return chosen.flatten()


def _in_parts(log_density: Callable[[Tensor], Tensor], nodes: Tensor) -> Tensor:
    return torch.cat([log_density(part) for part in nodes.split(NODES_AT_ONCE)])


def _mixed(at_nodes: Moments, density: Tensor) -> Moments:
    """The moments of the mixture of all nodes: the law of total variance."""
    weights = density.softmax(0)
    mean = torch.tensordot(weights, at_nodes.mean, 1)
    spread = at_nodes.sd.square() + (at_nodes.mean - mean).square()
    variance = torch.tensordot(weights, spread, 1)
    return Moments(mean, variance.sqrt())


def _check_agreement(name: str, fine: Moments, coarse: Moments, points: int) -> None:
    """Raises ValueError if every other node gives another answer than all of them."""
    mean_error = (fine.mean - coarse.mean).abs()
    sd_error = (fine.sd - coarse.sd).abs()
    error = torch.maximum(mean_error, sd_error) / fine.sd
    if not bool((error < AGREE).all()):
        raise ValueError(
            f"expected nodes closer than the posterior is wide, got {points} on an axis, which "
            f"leave {name!r} {float(error.max()):.2g} standard deviations off; raise points"
        )
