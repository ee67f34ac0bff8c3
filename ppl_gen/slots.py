"""What a slot of a program returns: which of a user's parts is no Conditional, and why."""

from __future__ import annotations

__all__ = ["blaming_slots"]

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_REMEDY = "return a distribution of pyro.distributions"


@contextmanager
def blaming_slots(program: Any, args: Sequence[Any]) -> Iterator[None]:
    """Turns a ValueError raised inside into one that names a slot, where one is to blame.

    Args:
        program: Whatever owns a model: its slots are `prior`, `decoder`, `likelihood`, `encoder`.
        args: Data x (N, *shape), or None, and the context.

    Raises:
        ValueError: If one is raised inside.
    """
    try:
        yield
    except ValueError as error:
        if flaw := _flaw_of_slots(program, args):
            raise ValueError(flaw) from error
        raise


def _flaw_of_slots(program: Any, args: Sequence[Any]) -> str:
    """What is wrong with the first part of a program that returns no distribution of one event.

    Each part is called by itself, in the order in which a model calls them.

    Args:
        program: Whatever owns a model: its slots are `prior`, `decoder`, `likelihood`, `encoder`.
        args: Data x (N, *shape), or None, and the context.

    Returns:
        One sentence; empty if the parts return what they should, or stop by themselves.
    """
    x, *context = args or [None]
    prior, flaw = _called(program, "prior", context)
    if flaw:
        return flaw
    flaw = _flaw_of_latent("prior", prior, ())
    if flaw:
        return flaw
    rows = [len(c) for c in args if torch.is_tensor(c) and c.dim() > 0]
    if prior is not None and rows:
        with torch.no_grad():
            z = _one_per_datum(prior, rows[0]).sample()
        decoded, _ = _output(program, "decoder", [z, *context])
        if decoded is not None:
            _, flaw = _called(program, "likelihood", [decoded])
            if flaw:
                return flaw
    if not torch.is_tensor(x):
        return ""
    encoder, flaw = _called(program, "encoder", [x, *context])
    return flaw or _flaw_of_latent("encoder", encoder, x.shape[:1])


def _one_per_datum(prior: Any, rows: int) -> Any:
    """A prior of so many latents, if it does not have them by its context."""
    if prior.batch_shape:
        return prior
    return prior.expand((rows,))


def _output(program: Any, slot: str, args: Sequence[Any]) -> tuple[Any, bool]:
    """What a slot returns, and whether it was called; None where it stops by itself."""
    part = getattr(program, slot, None)
    if not callable(part):
        return None, False
    try:
        with torch.no_grad():
            return part(*args), True
    except Exception:  # what a user's part may raise; whoever called the program says it
        return None, False


def _called(program: Any, slot: str, args: Sequence[Any]) -> tuple[Any, str]:
    """The distribution that a slot returns, or what is wrong with it."""
    returned, was_called = _output(program, slot, args)
    if not was_called or hasattr(returned, "log_prob"):
        return returned, ""
    if isinstance(returned, Tensor):
        got = f"a tensor of shape {tuple(returned.shape)}"
    else:
        got = f"a {type(returned).__name__}"
    return None, f"expected the {slot} to return a distribution, got {got}; {_REMEDY}"


def _flaw_of_latent(slot: str, fn: Any, rows: Sequence[int]) -> str:
    """What is wrong with the axes of a distribution of latents, of which each datum has one."""
    if fn is None or fn.event_shape or len(fn.batch_shape) != len(rows) + 1:
        return ""
    shape = tuple(fn.batch_shape)
    return (
        f"expected the {slot} to return one event for each datum, got {type(fn).__name__} of "
        f"batch shape {shape}, whose last axis counts as data; say .to_event(1)"
    )
