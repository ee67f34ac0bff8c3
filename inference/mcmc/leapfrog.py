"""One transition of Hamiltonian dynamics as functions of tensors: leapfrog steps, and the accept
step.
"""

from __future__ import annotations

__all__ = ["finish", "leapfrog", "log_uniform"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DIVERGENCE = 1000.0


def leapfrog(energies: Callable[..., Any], steps: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """`steps` leapfrog steps of size ε in coordinates scaled by s: (q, p, g, ε, s, *tensors) → (q,
    p, U, g).
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
    """log u, u ~ U(0, 1), of the shape of `like`: finite, where torch.rand is exactly 0 in one of
    2²⁴ draws of float32.
    """
    return torch.rand_like(like).clamp(min=torch.finfo(like.dtype).eps / 4).log()


def finish(*inputs: Tensor) -> tuple[Tensor, ...]:
    """The accept step, and what adaptation learns from it.

    From (q, U, g, p) before, the same after, log u and s, to (q, U, g, α, divergent, moves, ChEES'
    gradient).
    """
    q0, energy0, gradient0, p0, q1, energy1, gradient1, p1, log_u, scale = inputs
    change = energy0 - energy1 + 0.5 * (p0.square().sum(-1) - p1.square().sum(-1))
    change = torch.where(change.isnan(), -torch.inf, change)
    acceptance = change.clamp(max=0).exp()
    accepted = (log_u < change)[..., None]
    before, after = q0 / scale, torch.where(acceptance[..., None] > 0, q1, q0) / scale
    before, after = before - before.mean(0), after - after.mean(0)
    along = (after * torch.where(acceptance[..., None] > 0, p1, 0.0)).sum(-1)
    gain = (after.square().sum(-1) - before.square().sum(-1)) * along
    chees = (acceptance * gain).sum() / (acceptance.sum() + 1e-20)
    return (
        torch.where(accepted, q1, q0),
        torch.where(accepted[..., 0], energy1, energy0),
        torch.where(accepted, gradient1, gradient0),
        acceptance,
        change < -DIVERGENCE,
        chees,
    )
