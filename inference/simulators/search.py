"""Gauss and Newton's search for the parameters at which simulated moments are those of data."""

from __future__ import annotations

__all__ = ["Point", "Target", "found_from"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.inference.simulators.simulated import Simulated

_STEPS = 60
_TRIES = 12  # of a step, each shorter than the one before
_SETTLED = 1e-3  # the last step, in standard errors, where the simulator is differentiated
_FEWEST, _WHOLE = 8, 25  # last steps, where it is not
_FARTHEST = 3.0  # of which none is longer, in standard errors
_LAST_WIDTH = 0.1  # of the last differences, in units of u or of 1
_WIDTH = 2.0  # of differences, in standard errors
_SINGULAR = 1e-10  # of the smallest eigenvalue to the largest, columns being scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What simulated moments are to meet.

    Attributes:
        mean: m(x), (K,).
        root: R, with W = RᵀR, (L, K).
        spread: V, the covariance of m(x) − m(u), (K, K).
        draws: S, how many simulated data there are for each datum.
    """

    mean: Tensor
    root: Tensor
    spread: Tensor
    draws: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a search has ended.

    Attributes:
        u: The parameters on the whole line, (D,).
        gap: m(x) − m(u), (K,).
        jacobian: The derivatives of m, (K, D).
        covariance: Of u, (D, D).
        value: gapᵀ W gap.
        has_converged: Whether another step would be short.
        is_identified: Whether the moments move in as many directions as there are parameters.
    """

    u: Tensor
    gap: Tensor
    jacobian: Tensor
    covariance: Tensor
    value: float
    has_converged: bool
    is_identified: bool


def found_from(simulated: Simulated, target: Target, start: Tensor) -> Point:
    """min over u of |R (m(x) − m(u))|² from a start, by damped steps of Gauss and Newton.

    Draws of a discrete distribution make m(u) ragged, by about the standard error of its draws. The
    last steps are then whole ones: from near the minimum, a step ends at an error that is the
    draws' at one point, which the covariance has.

    Args:
        simulated: m.
        target: m(x), its weights and its spread.
        start: u₀, (D,).
    """
    root, spread = target.root, target.spread
    u = start
    mean, jacobian = simulated.linearised(u)
    smooth = simulated.derivatives == "pathwise"
    noise = 0.0
    if not smooth:
        noise = 8 * float((root @ spread @ root.T).trace()) / target.draws
        mean, jacobian = simulated.linearised(u, _widths(root, jacobian, spread, u))
    gap = target.mean - mean
    value = _value(root, gap)
    damping = 1e-3
    for _ in range(_STEPS):
        step, error = _step(root, jacobian, gap, spread, 0.0)
        gain = float((root @ jacobian @ step).square().sum())
        if gain <= noise or bool((step.abs() <= _SETTLED * error).all()):
            break
        moved = False
        for _ in range(_TRIES):
            step, _ = _step(root, jacobian, gap, spread, damping)
            step = _bounded(step, u.abs().clamp(min=1.0))
            other = target.mean - simulated.mean(u + step)
            new = _value(root, other)
            if new < value:
                moved = True
                damping = max(damping / 10, 1e-9)
                break
            damping = 10 * damping
        if not moved:
            break
        u = u + step
        mean, jacobian = simulated.linearised(u, _widths(root, jacobian, spread, u))
        gap = target.mean - mean
        value = _value(root, gap)
    if not smooth:
        return _whole_steps(simulated, target, u, jacobian)
    return _point(u, gap, jacobian, root, spread, _SETTLED)


def _whole_steps(simulated: Simulated, target: Target, u: Tensor, jacobian: Tensor) -> Point:
    """Whole steps from near the minimum of a ragged function, by the average of the slopes there.

    Args:
        simulated: m.
        target: m(x), its weights and its spread.
        u: Near the minimum.
        jacobian: Slopes there.
    """
    root, spread = target.root, target.spread
    # What is taken for no step, in standard errors.
    settled = 4 * math.sqrt(2 / target.draws)
    slopes = []
    for _ in range(_WHOLE):
        mean, jacobian = simulated.linearised(u, _widths(root, jacobian, spread, u))
        slopes.append(jacobian)
        # The first are of points that may still lie far.
        recent = slopes[len(slopes) // 2 :]
        jacobian = torch.stack(recent).mean(0)
        gap = target.mean - mean
        step, error = _step(root, jacobian, gap, spread, 0.0)
        u = u + _bounded(step, _FARTHEST * error)
        if len(slopes) >= _FEWEST and bool((step.abs() <= settled * error).all()):
            break
    jacobian = simulated.averaged_slopes(u, _LAST_WIDTH * u.abs().clamp(min=1.0))
    step, error = _step(root, jacobian, target.mean - simulated.mean(u), spread, 0.0)
    u = u + _bounded(step, _FARTHEST * error)
    gap = target.mean - simulated.mean(u)
    return _point(u, gap, jacobian, root, spread, settled)


def _bounded(step: Tensor, most: Tensor) -> Tensor:
    """A step shortened as a whole, so that no entry is longer than it may be."""
    share = (most / step.abs().clamp(min=1e-300)).amin().clamp(max=1.0)
    return share * step


def _point(
    u: Tensor, gap: Tensor, jacobian: Tensor, root: Tensor, spread: Tensor, settled: float
) -> Point:
    identified = _is_identified(root @ jacobian)
    covariance = torch.full((len(u), len(u)), torch.nan, dtype=u.dtype, device=u.device)
    converged = False
    if identified:
        covariance = _covariance(root, jacobian, spread)
        step, error = _step(root, jacobian, gap, spread, 0.0)
        converged = bool((step.abs() <= max(2 * settled, 0.01) * error).all())
    return Point(
        u=u,
        gap=gap,
        jacobian=jacobian,
        covariance=covariance,
        value=_value(root, gap),
        has_converged=converged,
        is_identified=identified,
    )


def _value(root: Tensor, gap: Tensor) -> float:
    value = float((root @ gap).square().sum())
    if math.isnan(value):
        return math.inf
    return value


def _step(
    root: Tensor, jacobian: Tensor, gap: Tensor, spread: Tensor, damping: float
) -> tuple[Tensor, Tensor]:
    """The damped step of Levenberg and Marquardt, and standard errors of u, both (D,)."""
    slope = root @ jacobian
    curvature = slope.T @ slope
    ridge = damping * curvature.diagonal().clamp(min=1e-300)
    step = torch.linalg.pinv(curvature + torch.diag(ridge), hermitian=True) @ (
        slope.T @ (root @ gap)
    )
    return step, _covariance(root, jacobian, spread).diagonal().clamp(min=0).sqrt()


def _covariance(root: Tensor, jacobian: Tensor, spread: Tensor) -> Tensor:
    """(DᵀWD)⁻¹ DᵀW V WD (DᵀWD)⁻¹, (D, D)."""
    slope = root @ jacobian
    gain = torch.linalg.pinv(slope.T @ slope, hermitian=True) @ slope.T @ root
    return gain @ spread @ gain.T


def _widths(root: Tensor, jacobian: Tensor, spread: Tensor, u: Tensor) -> Tensor:
    """How far apart the runs of differences are, (D,): some standard errors, within bounds."""
    error = _covariance(root, jacobian, spread).diagonal().clamp(min=0).sqrt()
    size = u.abs().clamp(min=1.0)
    widths = (_WIDTH * error).clamp(min=1e-3)
    return torch.where(error > 0, torch.minimum(widths, size / 5), size / 10)


def _is_identified(slope: Tensor) -> bool:
    """Whether the columns of R D (L, D) are linearly independent."""
    sizes = slope.norm(dim=0)
    if not bool((sizes > 0).all()) or not bool(slope.isfinite().all()):
        return False
    scaled = slope / sizes
    eigenvalues = torch.linalg.eigvalsh(scaled.T @ scaled)
    return bool(eigenvalues[0] > _SINGULAR * eigenvalues[-1])
