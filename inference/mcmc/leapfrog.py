"""Hamiltonian dynamics as pure functions of tensors: leapfrog steps, and the accept step.

Shapes: C chains, B blocks with a step size and an accept step of their own (the data where latents
are local, else 1), D coordinates of a block.
"""

from __future__ import annotations

__all__ = ["accept_step", "leapfrog", "log_uniform"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# A transition diverged if the energy rose by more than this, in nats.
DIVERGENCE = 1000.0


def leapfrog(energies: Callable[..., Any], steps: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """p ← p − ε s g / 2, q ← q + ε s p, p ← p − ε s g / 2, in coordinates scaled by s.

    Args:
        energies: From (q, *tensors) to the energy U and its gradient g.
        steps: How many leapfrog steps to make.
        *inputs: q (C, B, D), the momentum p (C, B, D), g (C, B, D), the step size ε (C, B, 1),
            s (B, D), and the tensors that the program depends on.

    Returns:
        q, p, U (C, B) and g after the steps.
    """
    q, p, gradient, step, scale, *tensors = inputs
    energy = q.new_zeros(q.shape[:2])
    for _ in range(steps):
        p = p - 0.5 * step * scale * gradient
        q = q + step * scale * p
        energy, gradient = energies(q, *tensors)
        p = p - 0.5 * step * scale * gradient
    return q, p, energy, gradient


def log_uniform(like: Tensor) -> Tensor:
    """log u with u ~ U(0, 1), of the shape of `like`, and always finite.

    torch.rand alone is exactly 0 in one of 2²⁴ draws of float32.
    """
    return torch.rand_like(like).clamp(min=torch.finfo(like.dtype).eps / 4).log()


def accept_step(*inputs: Tensor) -> tuple[Tensor, ...]:
    """α = min(1, exp(H − H′)) with H = U + ½ |p|²: accepts where u < α, else stays.

    Args:
        *inputs: q, U, g and p before the trajectory; q′, U′, g′ and p′ after it; log u (C, B); and
            the scales s (B, D) of the coordinates.

    Returns:
        q, U and g of the new state; α (C, B); whether the trajectory diverged (C, B); and the
        gradient of ChEES, a scalar, that `TrajectoryLength` learns from.
    """
    q0, energy0, gradient0, p0, q1, energy1, gradient1, p1, log_u, scale = inputs
    change = energy0 - energy1 + 0.5 * (p0.square().sum(-1) - p1.square().sum(-1))
    change = torch.where(change.isnan(), -torch.inf, change)
    acceptance = change.clamp(max=0).exp()
    accepted = log_u < change
    moved = accepted[..., None]
    return (
        torch.where(moved, q1, q0),
        torch.where(accepted, energy1, energy0),
        torch.where(moved, gradient1, gradient0),
        acceptance,
        change < -DIVERGENCE,
        _chees_gradient(q0 / scale, q1 / scale, p1, acceptance),
    )


def _chees_gradient(before: Tensor, after: Tensor, momentum: Tensor, acceptance: Tensor) -> Tensor:
    """Σ α (‖q′ − E q′‖² − ‖q − E q‖²) (q′ − E q′)·p′ / Σ α, in scaled coordinates.

    Proposals without any density, which may be NaN, are left out.
    """
    possible = acceptance[..., None] > 0
    after = torch.where(possible, after, before)
    before = before - before.mean(0)
    after = after - after.mean(0)
    along = (after * torch.where(possible, momentum, 0.0)).sum(-1)
    gain = (after.square().sum(-1) - before.square().sum(-1)) * along
    return (acceptance * gain).sum() / (acceptance.sum() + 1e-20)
