"""A function of one draw, applied to many: all at once by vmap, else one after the other."""

from __future__ import annotations

__all__ = ["at_each"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
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
        randomness: "different" or "same" random numbers at each draw, as `torch.func.vmap` has it.

    Returns:
        What the function returns, with the draws on the first axis.
    """
    if width is None:
        result = function(*_draw(draws, 0))
        width = sum(map(torch.numel, _tensors(result)))
    chunk = memory.rows(memory.VECTORISED, width)
    try:
        with drawing():
            return vmap(function, randomness=randomness, chunk_size=chunk)(*draws)
    except Exception:  # whatever keeps vmap from following
        count = len(_tensors(draws)[0])
        results = [function(*_draw(draws, i)) for i in range(count)]
        return _mapped(lambda *values: torch.stack(values), *results)


def _draw(draws: Any, i: int) -> Any:
    """The i-th draw."""
    return _mapped(lambda value: value[i], draws)


def _mapped(function: Callable[..., Tensor], *values: Any) -> Any:
    """The function of tensors, of the entries of dicts, or of those of tuples, in the same form."""
    first = values[0]
    if isinstance(first, dict):
        return {name: _mapped(function, *[value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple([_mapped(function, *parts) for parts in zip(*values, strict=True)])
    return function(*values)


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a dict or tuple, or the tensor itself."""
    if isinstance(value, dict):
        return _tensors(tuple(value.values()))
    if not isinstance(value, tuple):
        return [value]
    found = []
    for part in value:
        found += _tensors(part)
    return found
