"""What arguments have to be, in one wording each: expected, got, remedy."""

from __future__ import annotations

__all__ = [
    "expect_clip",
    "expect_counts",
    "expect_finite",
    "expect_level",
    "expect_optimizers",
    "expect_rate",
    "expect_room_for_draws",
    "expect_target_accept",
]

import math
from collections.abc import Sequence
from typing import Any

import torch

from ppl_gen.arguments import expect_devices, may_lack
from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.memory import SINGLE, expect_memory

_PER_ITERATION = 32  # bytes of a Python number and its place in a list


def expect_counts(**counts: int | None) -> None:
    """Raises ValueError unless each count is at least 1, or 0 for `warmup`; None is passed over."""
    for name, count in counts.items():
        least = 1
        if name == "warmup":
            least = 0
        expect_at_least(least, **{name: count})


def expect_room_for_draws(
    draws: int, chains: int, width: int, device: torch.device, *, warmup: int = 0
) -> None:
    """Raises ValueError if the draws of a sampler do not fit into memory.

    Args:
        draws: The number of draws of each chain.
        chains: The number of chains.
        width: The number of coordinates of a draw.
        device: Where they are held.
        warmup: The number of iterations of each chain before its draws.
    """
    # As they are kept one by one, and once more where they are put together.
    held = 2 * SINGLE * draws * chains * (width + 2)
    remedy = "take fewer draws or chains"
    expect_memory(f"{draws} draws of {chains} chains", held, remedy, device)
    iterations = _PER_ITERATION * (draws + warmup)
    expect_memory(f"{draws + warmup} iterations", iterations, "take fewer draws, a shorter warmup")


def expect_level(level: float) -> None:
    """Raises ValueError unless the level of an interval or a test lies between 0 and 1."""
    expect_number(level=level)
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}; 0.95 is usual")


def expect_target_accept(target_accept: float, usual: float = 0.8) -> None:
    """Raises ValueError unless the acceptance probability to adapt to lies between 0 and 1."""
    expect_number(target_accept=target_accept)
    if not 0 < target_accept < 1:
        raise ValueError(
            f"expected target_accept between 0 and 1, got {target_accept}; {usual} is usual"
        )


def expect_clip(clip: float | None) -> None:
    """Raises ValueError unless the largest norm of a gradient is a number above 0, or None."""
    if clip is None:
        return
    expect_number(clip=clip)
    if not clip > 0:
        raise ValueError(f"expected clip above 0, got {clip}; leave it out to clip nothing")


def expect_rate(rate: float, usual: float) -> None:
    """Raises ValueError unless a learning rate is a finite number above 0."""
    expect_number(rate=rate)
    if not 0 < rate < math.inf:
        raise ValueError(f"expected a finite rate above 0, got {rate}; {usual} is usual")


def expect_optimizers(*optimizers: torch.optim.Optimizer) -> None:
    """Raises ValueError if a learning rate is not finite, or nothing of an optimiser's can move."""
    for optimizer in optimizers:
        parameters: list[torch.Tensor] = []
        for group in optimizer.param_groups:
            parameters.extend(group["params"])
            rate = float(group.get("lr", 0.0))
            if not 0 <= rate < math.inf:
                raise ValueError(
                    f"expected an optimiser with a finite learning rate, got {rate}; 1e-3 is usual"
                )
        if not any(parameter.requires_grad for parameter in parameters):
            raise ValueError(
                "expected an optimiser of parameters that require a gradient, got "
                f"{len(parameters)} that do not; say requires_grad_(True) of what is to be fitted"
            )


def expect_finite(args: Sequence[Any], model: Any = None) -> None:
    """Raises ValueError if a tensor among the arguments holds NaN, infinite or no values.

    Args:
        args: What is called with, or data.
        model: What is called; the first argument of a program may lack entries, if it says so.
    """
    expect_devices((), args)
    for i, argument in enumerate(args):
        if i == 0 and torch.is_tensor(argument) and model is not None and may_lack(model):
            argument = torch.where(argument.isnan(), 0, argument)
        if torch.is_tensor(argument) and not bool(torch.isfinite(argument).all()):
            raise ValueError(
                f"expected finite data, got NaN or infinite values in argument {i}; remove or "
                "replace them"
            )
