"""What programs are called with: data and context, looked at before and when something fails."""

from __future__ import annotations

__all__ = [
    "FILL",
    "are_batches",
    "batch_of",
    "described",
    "expect_data",
    "expect_devices",
    "expect_tensor",
    "may_lack",
    "traced",
    "whole",
]

from collections.abc import Callable, Iterable, Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import expect_context, explained, modules_of, owner, takes
from ppl_gen.likelihoods.parameters import takes_missing
from ppl_gen.memory import rows
from ppl_gen.pyro_patches import held_tensors
from ppl_gen.slots import blaming_slots, likelihood_hint

# What users bring where tensors are expected.
_ARRAYS = (np.ndarray, list, tuple)

# What to do where networks meet NaN, which stands for what is missing.
FILL = (
    "let the encoder see no NaN: program.encoder = ppl_gen.nn.ZeroFilled(program.encoder), as "
    "builders do for a likelihood of missing data"
)

# What torch takes of NumPy's types, and computes with.
_TAKEN = tuple(np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"))
_AT_ONCE = 2**24  # numbers that are looked at in one go
# What it stores, and hardly computes with.
_STORED = (torch.uint16, torch.uint32, torch.uint64)


def expect_data(program: Any, data: Sequence[Any]) -> None:
    """Raises ValueError if something is wrong with data and context by themselves.

    They are tensors with N rows each, finite, of the program's floating point type, and as many as
    the program takes.

    Args:
        program: A program, or its model.
        data: (x, *context).
    """
    expect_context(program, tuple(data[1:]))
    for i, argument in enumerate(data):
        expect_tensor(_name_of(i), argument)
        _expect_computable(_name_of(i), argument)
    expect_devices((program,), data)
    x = data[0]
    n = 0
    if x.dim() > 0:
        n = x.shape[0]
    for i, c in enumerate(data[1:]):
        rows = 0
        if c.dim() > 0:
            rows = c.shape[0]
        if rows != n:
            raise ValueError(
                f"expected context {i} to have one row for each of {n} data, got {rows}"
            )
    if n == 0:
        raise ValueError(
            f"expected data of shape (N, *shape) with N of at least 1, got shape {tuple(x.shape)}"
        )
    _expect_known(program, x)
    for c in data[1:]:
        _expect_finite("context", c)
    _expect_dtype(program, x)


def are_batches(data: Any) -> bool:
    """Whether data come in batches: a re-iterable of tuples (x, *context), as a fit takes them.

    It is `split.batches(100)`, a DataLoader, a list of tuples of tensors, or anything else of a
    length that can be walked through anew.

    Args:
        data: Whatever was given in the place of data.
    """
    if isinstance(data, list | tuple):
        return len(data) > 0 and all(map(_may_be_a_batch, data))
    if isinstance(data, str | bytes | Mapping | Set | torch.nn.Module) or hasattr(data, "shape"):
        return False
    return isinstance(data, Iterable) and isinstance(data, Sized)


def _may_be_a_batch(item: Any) -> bool:
    """Whether an item of a list is a tuple, right or wrong, and no nested list of numbers."""
    if not isinstance(item, list | tuple):
        return False
    return not (item and isinstance(item[0], list | int | float))


def batch_of(program: Any, batch: Any) -> tuple[Tensor, ...]:
    """What a program takes of a batch: (x, *context), without labels that it has no use for.

    Args:
        program: A program, or its model; None for x alone.
        batch: As it comes.

    Raises:
        ValueError: If it is no tuple of tensors.
    """
    is_tuple = isinstance(batch, list | tuple) and len(batch) > 0
    if not is_tuple or not all(map(torch.is_tensor, batch)):
        raise ValueError(
            "expected batches as tuples (x, *context) of tensors, got "
            f"{type(batch).__module__}.{type(batch).__qualname__}; give split.batches(size), or a "
            "DataLoader of a TensorDataset"
        )
    if program is None:
        return (batch[0],)
    return tuple(batch)[: takes(getattr(program, "model", program))]


def expect_devices(parts: Sequence[Any], data: Sequence[Any]) -> None:
    """Raises ValueError unless programs and data have values, and lie where they can meet.

    A program of several devices has to have something on that of the data.

    Args:
        parts: Programs, guides and networks.
        data: What they are called with; only the tensors among it are looked at.
    """
    tensors = [argument for argument in data if torch.is_tensor(argument)]
    if any(t.is_meta for t in tensors):
        raise ValueError(
            "expected data with values, got a tensor on the meta device, which has none; make it "
            "on the program's device"
        )
    if any(t.layout is not torch.strided for t in tensors):
        raise ValueError("expected data as a dense tensor, got a sparse one; take .to_dense()")
    places = {t.device: None for t in tensors if t.dim()}
    if len(places) > 1:
        raise ValueError(
            f"expected data and context on one device, got {_listed(places)}; bring them to one, "
            "by .to(...)"
        )
    for part in parts:
        held = _tensors_of(part)
        name = type(owner(part)).__name__
        if any(t.is_meta for t in held):
            raise ValueError(
                f"expected a {name} with values, got parameters on the meta device, which have "
                "none; build it outside of torch.device('meta'), or say .to_empty(device=...) and "
                "load its weights"
            )
        own = {t.device: None for t in held if t.dim()}
        if own and places and not own.keys() & places.keys():
            raise ValueError(
                f"expected data on the device of {name}, {_listed(own)}, got {_listed(places)}; "
                "bring one to the other, by .to(...)"
            )


def _tensors_of(part: Any) -> list[Tensor]:
    """The parameters and buffers of the modules that a program or guide is made of."""
    held: list[Tensor] = []
    for module in modules_of(part):
        for tensors in held_tensors(module):
            held += [t for t in tensors.values() if t is not None]
    return held


def _listed(devices: Iterable[torch.device]) -> str:
    return " and ".join(sorted(map(str, devices)))


def _name_of(i: int) -> str:
    """What to call an argument of a program in an error."""
    if i == 0:
        return "data"
    return f"context {i - 1}"


def expect_tensor(name: str, values: Any) -> None:
    """Raises ValueError unless values are a tensor of real numbers; says how to make one.

    Args:
        name: What they are, for the message: "data", "context 0".
        values: Whatever was given.
    """
    if not torch.is_tensor(values):
        raise ValueError(
            f"expected {name} as a tensor, got {type(values).__module__}."
            f"{type(values).__qualname__}; {_way_to_tensor(values)}"
        )
    if values.is_complex():
        raise ValueError(
            f"expected real {name}, got {values.dtype}; take .real, .abs(), or both parts as two "
            "values"
        )


def _way_to_tensor(values: Any) -> str:
    """How a tensor is made of something: torch takes no big-endian and no long double arrays."""
    if not isinstance(values, np.ndarray):
        return "say torch.as_tensor(...), with the program's dtype"
    if values.dtype.kind not in "buif":
        return f"its entries are of {values.dtype}: give numbers"
    if values.dtype.newbyteorder("=") in _TAKEN and values.dtype.isnative:
        return "say torch.as_tensor(...), with the program's dtype"
    return f"its entries are of {values.dtype}: say torch.as_tensor(x.astype('float32'))"


def _expect_computable(name: str, values: Tensor) -> None:
    """Raises ValueError if torch stores such numbers, and hardly computes with them."""
    if values.dtype in _STORED:
        raise ValueError(
            f"expected {name} of a type that torch computes with, got {values.dtype}; say "
            ".float(), or .long() for labels"
        )


def whole(values: Tensor) -> Tensor:
    """Numbers of a type that torch stores, and hardly computes with, as int64; others as they are.

    Args:
        values: Of any type; those of uint16, uint32 and uint64 are converted.

    Raises:
        ValueError: If they are complex, or one of uint64 is 2⁶³ or more.
    """
    expect_tensor("labels", values)
    if values.dtype not in _STORED:
        return values
    converted = values.long()
    if bool((converted < 0).any()):
        raise ValueError(f"expected whole numbers below 2⁶³, got larger ones of {values.dtype}")
    return converted


def may_lack(program: Any) -> bool:
    """Whether entries of a program's data may be missing (NaN): its likelihood says so.

    Args:
        program: A program, or its model.
    """
    parts = [*modules_of(program), getattr(owner(program), "likelihood", None)]
    return any(takes_missing(part) for part in parts)


def _expect_known(program: Any, x: Tensor) -> None:
    """Raises ValueError if data are infinite, or NaN where the program takes none that are missing.

    Args:
        program: A program, or its model.
        x: Data, (N, *shape).
    """
    if may_lack(program):
        _expect_finite("data", torch.where(x.isnan(), 0, x))
    elif x.is_floating_point() and bool(x.isnan().any()):
        raise ValueError(
            "expected finite data, got NaN; remove or replace them, or, if they are what is "
            "missing, say so: program.likelihood = likelihoods.Masked(program.likelihood), "
            "program.encoder = nn.ZeroFilled(program.encoder)"
        )
    else:
        _expect_finite("data", x)


def _expect_finite(name: str, values: Tensor) -> None:
    if not _are_finite(values):
        raise ValueError(
            f"expected finite {name}, got NaN or infinite values; remove or replace them"
        )


def _are_finite(values: Tensor) -> bool:
    """Whether all numbers are finite; some rows at a time, of a file that is mapped among others.

    Rows of a device are looked at by one wait for it.
    """
    if values.dim() == 0 or not values.is_floating_point():
        return bool(torch.isfinite(values).all())
    at_once = rows(_AT_ONCE, values[:1].numel())
    parts = [torch.isfinite(part).all() for part in values.split(at_once)]
    return bool(torch.stack(parts).all())


def _expect_dtype(program: Any, x: Tensor) -> None:
    """Raises ValueError if data are floating point numbers of another type than the program's."""
    module = owner(program)
    if not isinstance(module, torch.nn.Module) or not x.is_floating_point():
        return
    dtypes = {p.dtype for p in module.parameters() if p.is_floating_point()}
    if dtypes and x.dtype not in dtypes:
        raise ValueError(
            f"expected data of {' or '.join(map(str, dtypes))}, as the program is, got {x.dtype}; "
            "say x.to(...)"
        )


def traced(
    program: Callable[..., Any], args: Sequence[Any], what: str = "model", **options: Any
) -> poutine.Trace:
    """A trace; what a model or guide cannot be run on is a ValueError that says why.

    Args:
        program: Any model or guide.
        args: What it is called with.
        what: What to call it in an error.
        **options: Keywords that it is called with.

    Raises:
        ValueError: If it raises an error of any kind.
    """
    shown = ", ".join([described(argument) for argument in args])
    remedy = _remedy(args)
    if what == "model" and (hint := likelihood_hint(program)):
        remedy += f"; {hint}"
    runnable = f"a {what} that can be run on ({shown})"
    with blaming_slots(owner(program), args), explained(runnable, remedy):
        return poutine.trace(program).get_trace(*args, **options)


def described(argument: Any) -> str:
    """The type and shape of a tensor, the class of anything else, for an error.

    Args:
        argument: Any argument of a call.
    """
    if torch.is_tensor(argument):
        return f"{argument.dtype} of shape {tuple(argument.shape)}"
    return type(argument).__name__


def _remedy(args: Sequence[Any]) -> str:
    """What may help where a model or guide cannot be run on these arguments."""
    for argument in args:
        if isinstance(argument, _ARRAYS):
            return "pass tensors: torch.as_tensor(...)"
        if torch.is_tensor(argument) and not argument.is_floating_point():
            return (
                "where its networks take floating point numbers, pass these: x.float(), or x.to of "
                "their dtype"
            )
        if torch.is_tensor(argument) and bool(argument.isnan().any()):
            return FILL
    return (
        "take priors, likelihoods and encoders of pyro.distributions, and networks for data of "
        "this shape, or run it by itself to see where it stops"
    )
