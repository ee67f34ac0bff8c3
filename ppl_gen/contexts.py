"""How programs are called: in evaluation mode, with the guide and the context that belong to them."""

from __future__ import annotations

__all__ = [
    "device_of",
    "evaluating",
    "expect_context",
    "forked",
    "guide_of",
    "in_evaluation_mode",
    "modules_of",
    "owner",
    "seeded",
    "simulates",
    "store_kept",
    "takes",
]

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.protocols import Guide, Program


@contextmanager
def evaluating(*parts: Any) -> Iterator[None]:
    """Evaluation mode without gradients or validation; every submodule's own mode comes back
    afterwards.

    Args:
        *parts: Programs and guides; the modules of `modules_of` are put in evaluation mode.
    """
    with in_evaluation_mode(*parts), torch.no_grad(), pyro.validation_enabled(False):
        yield


@contextmanager
def in_evaluation_mode(*parts: Any) -> Iterator[None]:
    """Evaluation mode alone; every submodule's own mode comes back afterwards."""
    modules = modules_of(*parts)
    modes = [m.training for m in modules]
    try:
        for m in modules:
            m.training = False
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode


def modules_of(*parts: Any) -> list[nn.Module]:
    """The modules that programs and guides are, hold, are methods of, or, for functions, close
    over; with all inside them.
    """
    held: list[Any] = []
    for part in map(owner, parts):
        cells = [
            cell.cell_contents
            for cell in getattr(part, "__closure__", None) or ()
            if _is_filled(cell)
        ]
        held += [part, *getattr(part, "__dict__", {}).values(), *cells]
    return list(
        dict.fromkeys(m for part in held if isinstance(part, nn.Module) for m in part.modules())
    )


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


@contextmanager
def forked(device: torch.device, seed: int | None) -> Iterator[None]:
    """Leaves torch's generators, of the CPU and of `device`, as they were found; seeds them first
    if asked to.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextmanager
def seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Draws from `seed`, torch's generators being left as found; from the global generator if None.

    Args:
        device: Where numbers are drawn.
        seed: The seed, or None.
    """
    if seed is None:
        yield
        return
    with forked(device, seed):
        yield


@contextmanager
def store_kept() -> Iterator[None]:
    """Takes out of the global param store what was put there meanwhile."""
    store = pyro.get_param_store()
    before = set(store.keys())
    try:
        yield
    finally:
        for name in set(store.keys()) - before:
            del store[name]


def owner(part: Any) -> Any:
    """The object whose bound method this is, or the thing itself: the VAE of `vae.guide`, also
    inside a `partial`.
    """
    while isinstance(part, functools.partial):
        part = part.func
    return getattr(part, "__self__", part)


def device_of(part: Any, args: Sequence[Any] = ()) -> torch.device:
    """Where a call's tensors lie: its first tensor argument, else the first parameter of its module.

    Args:
        part: A program, model or guide, or anything else; None if there are only arguments.
        args: What it is called with.

    Returns:
        The device; the CPU where there is no tensor.
    """
    for argument in args:
        if torch.is_tensor(argument):
            return argument.device
    module = owner(part)
    if isinstance(module, nn.Module):
        for parameter in module.parameters():
            return parameter.device
    return torch.device("cpu")


def guide_of(program: Program, guide: Guide | None = None) -> Guide:
    """The guide that was given, or else the program's own.

    Raises:
        ValueError: If there is neither.
    """
    guide = getattr(program, "guide", None) if guide is None else guide
    if guide is None:
        raise ValueError(
            f"{type(program).__name__} has no guide of its own: pass one (guide=...); "
            "guides.from_prior(program) is one"
        )
    return guide


def takes(model: Callable[..., Any]) -> int | None:
    """The number of tensors (x, *context) that a model or guide can be called with; None if any
    number.

    Of a program seen under another likelihood, `Observed`, that which the program itself can.
    """
    parameters = _parameters(model)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those of a model; where it hands any number on to the program that it wraps, those of that
    program's model.
    """
    parameters = list(inspect.signature(model).parameters.values())
    wrapped = getattr(getattr(owner(model), "program", None), "model", None)
    if wrapped is not None and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return _parameters(wrapped)
    return parameters


def simulates(model: Callable[..., Any]) -> bool:
    """Whether a model keeps the contract of programs, `model(x, *context, n=)`, or is a Pyro model
    of any other kind.
    """
    parameters = inspect.signature(model).parameters.values()
    return any(p.name == "n" or p.kind is p.VAR_KEYWORD for p in parameters)


def expect_context(program: Program, context: tuple[Tensor, ...]) -> None:
    """Says when a program is given more or less to condition on than it takes.

    Raises:
        ValueError: Then.
    """
    most = takes(program.model)
    if most is None:
        return
    optional = sum(p.default is not p.empty for p in _parameters(program.model)[1:most])
    if not most - 1 - optional <= len(context) <= most - 1:
        raise ValueError(
            f"expected {most - 1} context tensors (labels or attributes) for "
            f"{type(program).__name__}, got {len(context)}"
        )
