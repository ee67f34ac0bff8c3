"""How programs are called: in evaluation mode, at a seed, with their guide and their context."""

from __future__ import annotations

__all__ = [
    "ONE_THREAD",
    "copied",
    "device_of",
    "evaluating",
    "expect_context",
    "expect_drawing",
    "expect_program",
    "expect_seed",
    "explained",
    "forked",
    "guide_of",
    "in_evaluation_mode",
    "modules_of",
    "one_at_a_time",
    "owner",
    "reason",
    "reproducible",
    "seeded",
    "simulates",
    "store_kept",
    "takes",
]

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.memory import is_exhausted, shortage
from ppl_gen.protocols import Guide, Program

# Held while programs are run. Pyro's stack of handlers and its param store, torch's generator, what
# is patched of both and the modes of modules are the process's: what another thread found, or
# changed, halfway would be wrong for both. It waits instead.
ONE_THREAD = threading.RLock()

_P = ParamSpec("_P")
_R = TypeVar("_R")


def one_at_a_time(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, for which other threads that evaluate or fit anything wait.

    Args:
        function: What runs programs.
    """

    @functools.wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ONE_THREAD:
            return function(*args, **kwargs)

    return alone


@contextmanager
def evaluating(*parts: Any) -> Iterator[None]:
    """Evaluation mode without gradients or validation; each submodule gets its own mode back.

    What programs put into Pyro's global param store meanwhile, as `pyro.module` does, is taken out
    again. Other threads that evaluate or fit anything wait.

    Args:
        *parts: Programs and guides; all modules that `modules_of` finds in them are put in
            evaluation mode.
    """
    with in_evaluation_mode(*parts), torch.no_grad(), pyro.validation_enabled(False), store_kept():
        yield


@contextmanager
def in_evaluation_mode(*parts: Any) -> Iterator[None]:
    """Evaluation mode alone, gradients as they are; each submodule gets its own mode back.

    Args:
        *parts: Programs and guides; all modules that `modules_of` finds in them are put in
            evaluation mode.
    """
    modules = modules_of(*parts)
    with ONE_THREAD:
        modes = [module.training for module in modules]
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode


def modules_of(*parts: Any) -> list[nn.Module]:
    """Every module, once, that programs and guides are, hold, are methods of or close over.

    Args:
        *parts: Programs, guides and functions. The submodules of a module count as well.
    """
    found: dict[nn.Module, None] = {}  # for its keys: a set that keeps their order
    for part in parts:
        for thing in _held_by(owner(part)):
            if isinstance(thing, nn.Module):
                found.update(dict.fromkeys(thing.modules()))
    return list(found)


def _held_by(part: Any) -> list[Any]:
    """The part itself, its attributes and, of a function, the variables that it closes over."""
    held = [part, *getattr(part, "__dict__", {}).values()]
    for cell in getattr(part, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # the variable has no value yet
            continue
    return held


@contextmanager
def forked(device: torch.device, seed: int | None) -> Iterator[None]:
    """Puts torch's generators, of the CPU and of `device`, back as they were found.

    Args:
        device: Where numbers are drawn.
        seed: What the generators are seeded with; None lets them go on from where they are.

    Raises:
        ValueError: If the seed is none that torch takes.
    """
    expect_seed(seed)
    devices = []
    if device.type == "cuda":
        devices = [device]
    with ONE_THREAD, torch.random.fork_rng(devices=devices):
        if seed is not None and devices:
            torch.manual_seed(seed)
        elif seed is not None:  # no generator but that which is put back
            torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Draws from `seed` and puts torch's generators back; draws from the global one if None.

    Args:
        device: Where numbers are drawn.
        seed: What torch's generators are seeded with meanwhile; None leaves the global generator
            to be used, and to move on.
    """
    if seed is None:
        yield
        return
    with forked(device, seed):
        yield


@contextmanager
def reproducible() -> Iterator[None]:
    """One thread and deterministic algorithms: the same call gives the same bits on this machine.

    Sums over several threads are cut by how many there are, which changes their last bits.
    """
    with ONE_THREAD:
        threads = torch.get_num_threads()
        was_deterministic = torch.are_deterministic_algorithms_enabled()
        only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=only_warns)
            torch.set_num_threads(threads)


def expect_seed(seed: int | None) -> None:
    """Raises ValueError unless a seed is one that torch takes; None is passed over.

    Args:
        seed: Of torch's generators.
    """
    if seed is not None and not -(2**63) <= seed < 2**64:
        raise ValueError(f"expected a seed from 0 to 2⁶³ − 1, got {seed}")


def copied(part: Any) -> Any:
    """A deep copy of a program, guide or module; what flows keep of their last draw is left behind.

    torch copies no tensor that a gradient would flow through, and Pyro's transforms keep some.

    Args:
        part: A program, guide or module.
    """
    kept: dict[int, Any] = {}
    for module in modules_of(part):
        for value in _flat_values(vars(module)):
            if value.grad_fn is not None:
                kept[id(value)] = value.detach()
    return copy.deepcopy(part, kept)


def _flat_values(attributes: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among some attributes, and in tuples among these."""
    found = []
    for value in attributes.values():
        parts = [value]
        if isinstance(value, tuple):
            parts = list(value)
        found += [part for part in parts if torch.is_tensor(part)]
    return found


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turns whatever is raised inside into a ValueError with expected, got and remedy.

    A ValueError that says already what was expected is left as it is.

    Args:
        what: What is expected of the user's program, after the word "expected".
        remedy: What to do about it.
    """
    try:
        yield
    except Exception as error:  # whatever a user's program, or a class of Pyro's, may raise
        said, pyros_shapes, _ = str(error).partition("\nTrace Shapes:")
        if isinstance(error, ValueError) and said.startswith("expected"):
            if pyros_shapes:
                raise ValueError(said) from error
            raise
        if is_exhausted(error):
            raise ValueError(shortage(error)) from error
        kind = type(error).__name__
        got = reason(error)
        if got != kind:
            got = f"{kind}: {got}"
        raise ValueError(f"expected {what}, got {got}; {remedy}") from error


def reason(error: Exception) -> str:
    """The first line of a message that says anything; the kind of the error if none does."""
    for line in str(error).splitlines():
        if line.strip() and not line.strip().startswith("Trace Shapes"):
            return line.strip()[:300]
        if line.strip():
            break
    return type(error).__name__


@contextmanager
def store_kept() -> Iterator[None]:
    """Removes from Pyro's global param store what was put there meanwhile."""
    store = pyro.get_param_store()
    with ONE_THREAD:
        before = set(store.keys())
        try:
            yield
        finally:
            added = set(store.keys()) - before
            for name in added:
                del store[name]


def owner(part: Any) -> Any:
    """The object whose bound method this is, or else the thing itself: the VAE of `vae.guide`.

    Args:
        part: A program, model or guide, also inside a `functools.partial`.
    """
    while isinstance(part, functools.partial):
        part = part.func
    return getattr(part, "__self__", part)


def device_of(part: Any, args: Sequence[Any] = ()) -> torch.device:
    """The device of the first tensor argument of a call, else of the first parameter called.

    Args:
        part: The program, model or guide that is called; None if there are only arguments.
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

    Args:
        program: Any program, with a guide or without.
        guide: q(z | x, context), or None.

    Raises:
        ValueError: If there is neither.
    """
    if guide is None:
        guide = getattr(program, "guide", None)
    if guide is None:
        raise ValueError(
            f"{type(program).__name__} has no guide of its own: pass one (guide=...); "
            "guides.from_prior(program) is one"
        )
    return guide


def takes(model: Callable[..., Any]) -> int | None:
    """The number of tensors (x, *context) that a model or guide can be called with; None if any.

    Args:
        model: A model or guide. Of a program seen under another likelihood, `Observed`, the answer
            is that of the program itself.
    """
    _expect_callable(model)
    parameters = _parameters(model)
    if _takes_any_number(parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a model, or of the model that it hands any number of tensors on to."""
    parameters = list(inspect.signature(model).parameters.values())
    wrapped = getattr(owner(model), "program", None)
    wrapped_model = getattr(wrapped, "model", None)
    if wrapped_model is not None and _takes_any_number(parameters):
        return _parameters(wrapped_model)
    return parameters


def _takes_any_number(parameters: list[inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _expect_callable(model: Any) -> None:
    """Raises ValueError unless a model can be called."""
    if callable(model):
        return
    raise ValueError(
        f"expected a model that can be called, got {_kind_of(model)}; pass a function, or a "
        "program's method `model`"
    )


def simulates(model: Callable[..., Any]) -> bool:
    """Whether a model keeps the contract of programs, `model(x, *context, n=)`.

    Args:
        model: A program's model, or a Pyro model of any other kind.
    """
    _expect_callable(model)
    parameters = inspect.signature(model).parameters.values()
    return any(p.name == "n" or p.kind is p.VAR_KEYWORD for p in parameters)


def expect_program(program: Any) -> None:
    """Raises ValueError unless something has a model that can be called.

    Args:
        program: Whatever was given as one.
    """
    if callable(getattr(program, "model", None)):
        return
    raise ValueError(
        f"expected a program, an object with a method `model`, got {_kind_of(program)}; give its "
        "networks such a method, or take one of ppl_gen.models"
    )


def _kind_of(part: Any) -> str:
    """What something is, in a word: its class, or the function or class itself."""
    return str(getattr(part, "__qualname__", type(part).__name__))


def expect_drawing(program: Any) -> None:
    """Raises ValueError unless a program's model draws data when it is called without any.

    Args:
        program: Any program.
    """
    expect_program(program)
    if simulates(program.model):
        return
    name = type(owner(program)).__name__
    raise ValueError(
        f"expected a program that draws data by model(None, *context, n=n), got {name}.model"
        f"{inspect.signature(program.model)}, which takes no n: give it `x=None, *, n=1`, plates "
        "of size n where x is None, and a site 'x' (obs=x) that it returns; log_evidence, elbo, "
        "ais, compare and hmc need none of this"
    )


def expect_context(program: Any, context: tuple[Any, ...]) -> None:
    """Raises ValueError if a program is given more or fewer context tensors than it takes.

    Args:
        program: Any program, or its model.
        context: What it is to be conditioned on; parameters with a default may be left out.
    """
    model = getattr(program, "model", program)
    tensors = takes(model)
    if tensors is None:
        return
    most = tensors - 1  # the first one is x
    parameters = _parameters(model)[1:tensors]
    optional = sum(p.default is not p.empty for p in parameters)
    if not most - optional <= len(context) <= most:
        raise ValueError(
            f"expected {most} context tensors (labels or attributes) for "
            f"{type(owner(program)).__name__}, got {len(context)}"
        )
