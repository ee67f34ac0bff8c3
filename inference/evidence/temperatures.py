"""Inverse temperatures β₀ = 0, …, β_T = 1 of an annealing run."""

from __future__ import annotations

__all__ = [
    "Schedule",
    "betas_of",
    "equalised_times",
    "interpolated",
    "linear",
    "moving_average",
    "sigmoid",
]

from collections.abc import Callable

import torch
from torch import Tensor

# From T to β₀, …, β_T, a tensor (T + 1,).
Schedule = Callable[[int], Tensor]


def linear(temperatures: int) -> Tensor:
    """βₜ = t / T, for t = 0, …, T.

    Args:
        temperatures: T.
    """
    return torch.linspace(0, 1, temperatures + 1, dtype=torch.float64)


def sigmoid(temperatures: int, steepness: float = 4.0) -> Tensor:
    """βₜ = (σ(δ(2t/T − 1)) − σ(−δ)) / (σ(δ) − σ(−δ)), for t = 0, …, T.

    Its steps are small at both ends, where they matter.

    Args:
        temperatures: T.
        steepness: δ.

    Reference:
        Wu, Burda, Salakhutdinov and Grosse (2017), On the quantitative analysis of decoder-based
        generative models.
    """
    t = torch.sigmoid(steepness * (2 * linear(temperatures) - 1))
    return (t - t[0]) / (t[-1] - t[0])


def betas_of(schedule: Schedule, temperatures: int) -> Tensor:
    """β₀, …, β_T of a schedule, in float64.

    Args:
        schedule: From T to the β.
        temperatures: T.

    Raises:
        ValueError: If they do not rise from 0 to 1, or are not T + 1.
    """
    betas = schedule(temperatures).double().cpu()
    if betas.shape != (temperatures + 1,):
        raise ValueError(
            f"expected a schedule of {temperatures + 1} values β₀, …, β_T, got shape "
            f"{tuple(betas.shape)}"
        )
    rise = bool((betas.diff() > 0).all())
    if betas[0] != 0 or betas[-1] != 1 or not rise:
        raise ValueError(
            "expected a schedule that rises from 0 to 1 at every step, got one from "
            f"{betas[0]:.3g} to {betas[-1]:.3g}"
        )
    return betas


def equalised_times(spread: Tensor, betas: Tensor, last: int) -> Tensor:
    """Times 0, …, T, (T + 1,), half of them so that sd[log w] dβ is the same from each to the next.

    The other half are spread evenly.

    Args:
        spread: sd[log w] at the P temperatures of a pilot run, (P,).
        betas: These temperatures, (P,).
        last: T.

    Reference:
        Gelman and Meng (1998), Simulating normalizing constants: from importance sampling to bridge
        sampling to path sampling.
    """
    length = (spread[1:] + spread[:-1]) / 2 * betas.diff()
    even = torch.full_like(length, 1 / len(length))
    share = even
    if bool(length.sum() > 0):
        share = length / length.sum()
    start = torch.zeros(1, dtype=torch.float64)
    progress = torch.cat([start, (0.5 * share + 0.5 * even).cumsum(0)])
    wanted = torch.linspace(0, 1, last + 1, dtype=torch.float64) * progress[-1]
    right = torch.searchsorted(progress, wanted).clamp(1, len(progress) - 1)
    left = right - 1
    part = (wanted - progress[left]) / (progress[right] - progress[left])
    return (left + part.clamp(0, 1)) * last / (len(progress) - 1)


def interpolated(t: Tensor, values: Tensor) -> Tensor:
    """Values (P, *) at the times 0, …, P − 1, interpolated linearly at t (T,)."""
    right = t.ceil().long().clamp(1, len(values) - 1)
    left = right - 1
    share = (t - left).clamp(0, 1).to(values)
    share = share.reshape(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values[left], values[right], share)


def moving_average(values: Tensor) -> Tensor:
    """Averages of each row (P, N) and its neighbours, P/50 of them on either side."""
    width = max(len(values) // 50, 1)
    before = values[:1].expand(width, -1)
    after = values[-1:].expand(width, -1)
    padded = torch.cat([before, values, after])
    return padded.unfold(0, 2 * width + 1, 1).mean(-1)
