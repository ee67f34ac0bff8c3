"""Moments of a posterior over one or two numbers, by the trapezoid rule where its mass lies."""

from __future__ import annotations

__all__ = ["cast_like", "plain", "quadrature"]

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_gen.models.toy.contract import Moments

AGREE = 1e-6  # of a standard deviation, between all nodes and every other node
CUT = {
    1: 60.0,
    2: 40.0,
}  # nats below the peak, on a line and in a plane: the mass left out is some 10⁻²⁶ or 10⁻¹⁷
POINTS = {1: 2001, 2: 301}


def plain(values: dict[str, Tensor]) -> dict[str, Moments]:
    """The conditional moments of quantities that the nodes determine: their values, without spread."""
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
    """E[f] = ∫ E[f | u] p(u) du and Var[f] = ∫ (Var[f | u] + (E[f | u] − E[f])²) p(u) du, on a grid
    of nodes u.

    The box is narrowed to where p lies within 60 nats of its peak (40 in a plane). On it the
    trapezoid rule is exact to rounding once the nodes lie closer than the posterior is wide.

    Args:
        log_density: log p(u) up to a constant, from nodes (M, d) to (M,); d is 1 or 2.
        conditional: From nodes (M, d) to the moments of each site given u, of shape (M, *shape).
        lower: The box's lower corner, of shape (d,), in float64.
        upper: Its upper corner.
        points: Nodes along each axis, odd; 2001 or 301 if left out.

    Raises:
        ValueError: If there are fewer than five points, if p has mass at the border of the box, or
            if every other node gives another answer, by more than 10⁻⁶ standard deviations.
    """
    size = lower.shape[0]
    points = POINTS[size] if points is None else points
    if points < 5:
        raise ValueError(f"expected at least 5 quadrature points, got {points}")
    lower, upper = _narrowed(log_density, lower, upper, points // 3 + 1)
    nodes = _grid(lower, upper, points)
    density = _in_parts(log_density, nodes)
    border = ((nodes == lower) | (nodes == upper)).any(-1)
    if not density.max() - density[border].max() > CUT[size] / 2:
        raise ValueError(
            "expected a posterior inside ten standard deviations of the prior, got one with mass "
            "at the border of the quadrature; take a wider prior, or data that fit it"
        )
    every_other = torch.zeros([points] * size, dtype=torch.bool, device=nodes.device)
    every_other[(slice(None, None, 2),) * size] = True
    coarse = every_other.flatten()
    at_nodes = conditional(nodes)
    fine = {name: _mixed(m, density) for name, m in at_nodes.items()}
    for name, m in at_nodes.items():
        _compare(
            name, fine[name], _mixed(Moments(m.mean[coarse], m.sd[coarse]), density[coarse]), points
        )
    return fine


def _narrowed(
    log_density: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor, points: int
) -> tuple[Tensor, Tensor]:
    for _ in range(3):
        nodes = _grid(lower, upper, points)
        density = _in_parts(log_density, nodes)
        near, step = (
            nodes[density > density.max() - CUT[len(lower)]],
            (upper - lower) / (points - 1),
        )
        lower, upper = (
            torch.maximum(lower, near.amin(0) - step),
            torch.minimum(upper, near.amax(0) + step),
        )
    return lower, upper


def _grid(lower: Tensor, upper: Tensor, points: int) -> Tensor:
    """All nodes, of shape (points ** d, d)."""
    unit = torch.linspace(0, 1, points, dtype=lower.dtype, device=lower.device)
    sides = [low + (high - low) * unit for low, high in zip(lower, upper, strict=True)]
    for side, high in zip(sides, upper, strict=True):
        side[-1] = high
    return torch.cartesian_prod(*sides).reshape(-1, len(sides))


def _in_parts(log_density: Callable[[Tensor], Tensor], nodes: Tensor) -> Tensor:
    return torch.cat([log_density(part) for part in nodes.split(2**11)])


def _mixed(at_nodes: Moments, density: Tensor) -> Moments:
    """The moments of the mixture of all nodes: the law of total variance."""
    weights = density.softmax(0)
    mean = torch.tensordot(weights, at_nodes.mean, 1)
    variance = torch.tensordot(weights, at_nodes.sd.square() + (at_nodes.mean - mean).square(), 1)
    return Moments(mean, variance.sqrt())


def _compare(name: str, fine: Moments, coarse: Moments, points: int) -> None:
    error = torch.maximum((fine.mean - coarse.mean).abs(), (fine.sd - coarse.sd).abs()) / fine.sd
    if not bool((error < AGREE).all()):
        raise ValueError(
            f"expected nodes closer than the posterior is wide, got {points} on an axis, which "
            f"leave {name!r} {float(error.max()):.2g} standard deviations off; raise points"
        )
