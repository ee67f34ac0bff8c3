"""A function of one draw, applied to many: all at once by vmap, else one after the other."""

from __future__ import annotations

__all__ = ["at_each"]

from collections.abc import Callable
from typing import Any

import torch
from torch.func import vmap

from ppl_gen import memory
from ppl_gen.pyro_patches import drawing


def at_each(
    function: Callable[..., Any],
    *draws: Any,
    width: int | None = None,
    randomness: str = "different",
) -> Any:
    """function(draw) at each draw, stacked on the first axis.

    Args:
        function: From one draw to a tensor, a dict of tensors, or a tuple of these.
        *draws: Its arguments, tensors or dicts of tensors, with the draws on the first axis.
        width: How many numbers one call computes, which bounds how many are made at once; found
            by a first call if None.
        randomness: "different" or "same" random numbers at each draw, as in `torch.func.vmap`.

    Returns:
        What the function returns, with the draws on the first axis.
    """
    if width is None:
        width = _size(function(*_draw(draws, 0)))
    chunk = memory.rows(memory.VECTORISED, width)
    try:
        with drawing():
            return vmap(function, randomness=randomness, chunk_size=chunk)(*draws)
    except Exception:  # whatever keeps vmap from following
        count = len(_first(draws))
        return _stacked([function(*_draw(draws, i)) for i in range(count)])


def _draw(draws: Any, i: int) -> Any:
    """The i-th draw of a tensor, of each in a dict, or of each in a tuple."""
    if isinstance(draws, dict):
        return {name: value[i] for name, value in draws.items()}
    if isinstance(draws, tuple):
        return tuple([_draw(value, i) for value in draws])
    return draws[i]


def _first(value: Any) -> torch.Tensor:
    """The first tensor in a dict or tuple."""
    if isinstance(value, dict):
        return next(iter(value.values()))
    if isinstance(value, tuple):
        return _first(value[0])
    return value


def _size(value: Any) -> int:
    """How many numbers a tensor, a dict or a tuple holds."""
    if isinstance(value, dict):
        return sum(v.numel() for v in value.values())
    if isinstance(value, tuple):
        return sum(_size(v) for v in value)
    return value.numel()


def _stacked(values: list[Any]) -> Any:
    """Results of one form, stacked."""
    first = values[0]
    if isinstance(first, dict):
        return {name: torch.stack([value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple([_stacked(list(part)) for part in zip(*values, strict=True)])
    return torch.stack(values)
