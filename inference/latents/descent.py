"""Down from where a density is hopelessly steep, before anything else begins there."""

from __future__ import annotations

__all__ = ["descended"]

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_gen.inference.latents.potential import Energies

# A start is steep if a coordinate's force |∂U/∂q|, averaged over coordinates, is above this: from
# less, HMC comes down by itself in the first sixth of its warm-up.
_STEEP = 1e4
# A descent looks every so many steps whether it still pays, and is given up after so many looks.
_WINDOW = 10
_MOST_WINDOWS = 20


def descended(energies: Energies, q: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """q ← q − δ sign(∂U/∂q) from steep starts until U falls by less than ½ nat a coordinate.

    So much in ten steps: what is left to fall is then no more than the spread of U under the
    posterior, D/2 about its mean, so that chains stop on the way to a mode and not in it. Each
    coordinate has a step δ of its own, which grows by a fifth while the sign stays and halves when
    it turns (Rprop): only signs count, so that forces of 10³⁰ are as good as any. Each chain goes
    down from its own start, and starts that are not steep stay where they are: chains in different
    modes remain so. No random numbers are drawn.

    Args:
        energies: From (q, *tensors) to U (C, B) and ∂U/∂q (C, B, D).
        q: The starts, (C, B, D).
        tensors: What the program depends on.

    Returns:
        The starts to take, of the shape of q.

    Reference:
        Riedmiller and Braun (1993), A direct adaptive method for faster backpropagation learning:
        the RPROP algorithm.
    """
    energy, gradient = energies(q, *tensors)
    steep = gradient.abs().mean(-1) > _STEEP
    chains = steep.any(1)
    if not bool(chains.any()):
        return q
    falling = steep[chains]
    best = q[chains].clone()
    lowest = energy[chains]
    point = torch.nn.Parameter(best.clone())
    point.grad = _direction(gradient[chains])
    optimiser = torch.optim.Rprop([point], lr=0.05, etas=(0.5, 1.2), step_sizes=(1e-9, 1e3))
    for _ in range(_MOST_WINDOWS):
        before = lowest
        for _ in range(_WINDOW):
            optimiser.step()
            energy, gradient = energies(point.detach(), *tensors)
            lower = falling & (energy < lowest)
            best = torch.where(lower[..., None], point.detach(), best)
            lowest = torch.where(lower, energy, lowest)
            point.grad = _direction(gradient)
        falling = falling & (before - lowest > q.shape[-1] / 2)
        if not bool(falling.any()):
            break
    led = q.clone()
    led[chains] = best
    return led


def _direction(gradient: Tensor) -> Tensor:
    """The signs of the forces; 0 where there is none to speak of, so that a coordinate waits."""
    return gradient.nan_to_num(0.0).sign()
