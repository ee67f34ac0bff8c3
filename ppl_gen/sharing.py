"""What guide and model compute alike: in a step it is computed, and differentiated, once."""

from __future__ import annotations

__all__ = ["shared", "sharing"]

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

_R = TypeVar("_R")

# By what was called with which objects: these, kept so that no other gets their id, and the result.
_Results = dict[tuple[int, ...], tuple[Any, Any]]
_results: ContextVar[_Results | None] = ContextVar("results", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """A context in which `shared` computes nothing twice.

    Parameters and modes are not to change meanwhile. Results are kept until it ends, as those that
    a gradient is taken of are anyway.
    """
    token = _results.set({})
    try:
        yield
    finally:
        _results.reset(token)


def shared(part: Callable[..., _R], *inputs: Any) -> _R:
    """part(*inputs); within `sharing()`, what it gave to the very same tensors before.

    A guide that goes through a part of the model calls it by this, as the model does: under the
    guide's own draws both have one pass through it, and back. Equal values are not enough, so that
    a model by itself, or at other draws, computes its own. What a part draws at random, such as the
    masks of dropout, is the same for both.

    Args:
        part: A module or function.
        *inputs: Tensors, or tuples of them.
    """
    results = _results.get()
    if results is None:
        return part(*inputs)
    objects = [part, *_leaves(inputs)]
    key = (torch.is_grad_enabled(), *map(id, objects))
    if key not in results:
        results[key] = (objects, part(*inputs))
    _, result = results[key]
    return result


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """What tuples within tuples hold."""
    for value in values:
        if isinstance(value, tuple):
            yield from _leaves(value)
        else:
            yield value
