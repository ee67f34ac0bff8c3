"""Hamiltonian dynamics as pure functions of tensors: leapfrog steps, and the accept step.

Shapes: C chains, B blocks with a step size and an accept step of their own (the data where latents
are local, else 1), D coordinates of a block.
"""

from __future__ import annotations

__all__ = ["Metric", "accept_step", "bent", "leapfrog", "log_uniform"]

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

# A transition diverged if the energy rose by more than this, in nats.
DIVERGENCE = 1000.0


class Metric(NamedTuple):
    """M⁻¹ = L Lᵀ, the inverse of the mass matrix, with L = diag(s) (I + V diag(r) Vᵀ).

    In coordinates L⁻¹ q all directions are about as wide, and momenta are N(0, I).

    Attributes:
        scale: s, (B, D).
        basis: V, K orthonormal columns, (D, K), of a single block; None where L is diagonal.
        stretch: r > −1, (K,): along a column of V, L is 1 + r times as long as without.
    """

    scale: Tensor
    basis: Tensor | None = None
    stretch: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are, in order."""
        if self.basis is None or self.stretch is None:
            return (self.scale,)
        return (self.scale, self.basis, self.stretch)

    @property
    def rank(self) -> int:
        """The number of directions along which L stretches; 0 where it is diagonal."""
        if self.stretch is None:
            return 0
        return int((self.stretch != 0).sum())


def bent(u: Tensor, basis: Tensor | None = None, stretch: Tensor | None = None) -> Tensor:
    """(I + V diag(r) Vᵀ) u; u itself where there is no V.

    Args:
        u: (C, 1, D), of a single block.
        basis: V, (D, K).
        stretch: r, (K,).
    """
    if basis is None or stretch is None:
        return u
    return u + (u @ basis * stretch) @ basis.T


def leapfrog(
    energies: Callable[..., Any], steps: int, parts: int, *inputs: Tensor
) -> tuple[Tensor, ...]:
    """p ← p − ε Lᵀg / 2, q ← q + ε L p, p ← p − ε Lᵀg / 2, in coordinates L⁻¹ q.

    Args:
        energies: From (q, *tensors) to the energy U and its gradient g.
        steps: How many leapfrog steps to make.
        parts: How many tensors make up the metric: 1 where it is diagonal, else 3.
        *inputs: q (C, B, D), the momentum p (C, B, D), g (C, B, D), the step size ε (C, B, 1), the
            tensors of the `Metric`, and those that the program depends on.

    Returns:
        q, p, U (C, B) and g after the steps.
    """
    q, p, gradient, step, *rest = inputs
    scale, *bend = rest[:parts]
    tensors = rest[parts:]
    energy = q.new_zeros(q.shape[:2])
    for _ in range(steps):
        p = p - bent(0.5 * step * scale * gradient, *bend)
        q = q + step * scale * bent(p, *bend)
        energy, gradient = energies(q, *tensors)
        p = p - bent(0.5 * step * scale * gradient, *bend)
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
            the tensors of the `Metric`.

    Returns:
        q, U and g of the new state; α (C, B); whether the trajectory diverged (C, B); and the
        gradient of ChEES, a scalar, that `TrajectoryLength` learns from.
    """
    q0, energy0, gradient0, p0, q1, energy1, gradient1, p1, log_u, *metric = inputs
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
        _chees_gradient(_rounded(q0, *metric), _rounded(q1, *metric), p1, acceptance),
    )


def _rounded(
    q: Tensor, scale: Tensor, basis: Tensor | None = None, stretch: Tensor | None = None
) -> Tensor:
    """L⁻¹ q, in which all directions are about as wide."""
    if stretch is None:
        return q / scale
    return bent(q / scale, basis, -stretch / (1 + stretch))


def _chees_gradient(before: Tensor, after: Tensor, momentum: Tensor, acceptance: Tensor) -> Tensor:
    """Σ α (‖q′ − E q′‖² − ‖q − E q‖²) (q′ − E q′)·p′ / Σ α, in coordinates L⁻¹ q.

    Proposals without any density, which may be NaN, are left out.
    """
    possible = acceptance[..., None] > 0
    after = torch.where(possible, after, before)
    before = before - before.mean(0)
    after = after - after.mean(0)
    along = (after * torch.where(possible, momentum, 0.0)).sum(-1)
    gain = (after.square().sum(-1) - before.square().sum(-1)) * along
    return (acceptance * gain).sum() / (acceptance.sum() + 1e-20)
