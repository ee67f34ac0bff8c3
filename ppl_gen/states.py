"""States that are to be loaded, held against what they are loaded into, before anything changes.

torch's optimisers trust the shapes of their state: a compiled update writes past the end of one
that is too small.
"""

from __future__ import annotations

__all__ = ["checksum_of", "expect_module_state", "expect_optimizer_state"]

import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.parameter import is_lazy

# Optimisers that keep, of each parameter, tensors of its shape beside the numbers named below.
_BY_ELEMENT = (
    optim.Adadelta,
    optim.Adagrad,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.ASGD,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
)
_NUMBERS = ("step", "eta", "mu", "mu_product")
_OF_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_OF_AMSGRAD = _OF_ADAM | {"max_exp_avg_sq"}


def checksum_of(state: Mapping[str, Tensor]) -> str:
    """A checksum of all numbers of a state, which tells those of two fits apart.

    Args:
        state: What `state_dict` of a module gives.
    """
    checksum = 0
    for tensor in state.values():
        numbers = tensor.detach().cpu().contiguous().numpy()
        checksum = zlib.crc32(numbers.tobytes(), checksum)
    return f"{checksum:08x}"


def expect_module_state(module: nn.Module, held: Any, *, finite: bool = False) -> None:
    """Raises ValueError unless a state has the names, shapes and types of a module's own.

    Args:
        module: What it is to be loaded into.
        held: The state, as it was read from a file.
        finite: Whether its parameters have to be finite.
    """
    _expect_mapping(held)
    own = module.state_dict()
    for name in own:
        if name not in held:
            raise ValueError(f"no {name}")
    for name in held:
        if name not in own:
            raise ValueError(f"{name} too many")
    parameters = {name for name, _ in module.named_parameters()}
    for name, like in own.items():
        value = held[name]
        if not torch.is_tensor(like):
            continue
        _expect_tensor(name, value)
        if not is_lazy(like):
            _expect_alike(name, value, like)
        if finite and name in parameters and not bool(value.isfinite().all()):
            raise ValueError(f"{name} not finite")


def expect_optimizer_state(optimizer: optim.Optimizer, held: Any, *, options: bool = True) -> None:
    """Raises ValueError unless a state is of an optimiser of these parameters.

    Args:
        optimizer: What it is to be loaded into.
        held: The state, as it was read from a file.
        options: Whether the options of its groups, such as learning rates, are to be loaded too.
    """
    _expect_mapping(held)
    groups, states = held.get("param_groups"), held.get("state")
    if not isinstance(groups, list) or len(groups) != len(optimizer.param_groups):
        raise ValueError(f"other than {len(optimizer.param_groups)} groups of parameters")
    _expect_mapping(states)
    parameters: dict[int, Tensor] = {}
    for group, own in zip(groups, optimizer.param_groups, strict=True):
        _expect_mapping(group)
        places = group.get("params")
        if not isinstance(places, list) or len(places) != len(own["params"]):
            raise ValueError(f"a group of other than {len(own['params'])} parameters")
        for place, parameter in zip(places, own["params"], strict=True):
            if type(place) is not int or place in parameters:
                raise ValueError(f"a parameter numbered {place!r}")
            parameters[place] = parameter
        if options:
            _expect_options(group, own)
    for place, state in states.items():
        if place not in parameters:
            raise ValueError(f"state of a parameter {place!r}, which there is not")
        _expect_mapping(state)
        try:
            _expect_state(optimizer, parameters[place], state)
        except ValueError as error:
            raise ValueError(f"parameter {place}: {error}") from error


def _expect_state(optimizer: optim.Optimizer, parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Raises ValueError unless what an optimiser keeps of a parameter is of its shape."""
    is_adam = type(optimizer) in (optim.Adam, optim.AdamW)
    if is_adam and state and state.keys() not in (_OF_ADAM, _OF_AMSGRAD):
        raise ValueError(f"expected {', '.join(sorted(_OF_ADAM))}, got {', '.join(state)}")
    for name, value in state.items():
        if torch.is_tensor(value):
            _expect_tensor(name, value)
        if type(optimizer) not in _BY_ELEMENT:
            continue
        if name in _NUMBERS:
            _expect_number(name, value)
        elif value is not None or is_adam:
            _expect_tensor(name, value)
            _expect_alike(name, value, parameter)
            _expect_strides(name, value, parameter)
            if bool(value.isnan().any()):
                raise ValueError(f"{name} has NaN")


def _expect_options(group: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises ValueError if an option is missing that is a number, or several, or is none."""
    for name, value in own.items():
        if _is_number(value):
            _expect_number(name, group.get(name))
        elif name != "params" and isinstance(value, tuple | list):
            held = group.get(name)
            if not isinstance(held, tuple | list) or len(held) != len(value):
                raise ValueError(f"{name} of other than {len(value)} numbers")
            for number, mine in zip(held, value, strict=True):
                if _is_number(mine):
                    _expect_number(name, number)


def _expect_mapping(held: Any) -> None:
    if not isinstance(held, Mapping):
        raise ValueError(f"a {type(held).__name__} in the place of a state")


def _expect_tensor(name: str, value: Any) -> None:
    """Raises ValueError unless a value is a plain tensor whose numbers are in memory."""
    is_plain = type(value) in (Tensor, nn.Parameter)
    if not is_plain or value.layout != torch.strided or value.is_nested or value.is_quantized:
        raise ValueError(f"{name} no dense tensor")
    if value.is_meta:
        raise ValueError(f"{name} a tensor without numbers (on the device meta)")


def _expect_alike(name: str, value: Tensor, like: Tensor) -> None:
    """Raises ValueError unless a tensor has the shape and the type of another."""
    if value.shape != like.shape:
        raise ValueError(f"{name} of shape {tuple(value.shape)}, not {tuple(like.shape)}")
    if value.dtype != like.dtype:
        raise ValueError(f"{name} of {value.dtype}, not {like.dtype}")


def _expect_strides(name: str, value: Tensor, parameter: Tensor) -> None:
    """Raises ValueError unless a tensor lies in memory as a new one like the parameter would."""
    like = torch.empty_like(parameter, device="meta")
    if value.stride() == like.stride():
        return
    if not (value.is_contiguous() and like.is_contiguous()):
        raise ValueError(f"{name} of strides {value.stride()}, not {like.stride()}")


def _expect_number(name: str, value: Any) -> None:
    """Raises ValueError unless a value is a finite real number, or a tensor of one."""
    if torch.is_tensor(value):
        _expect_tensor(name, value)
        if value.dim() or value.is_complex():
            raise ValueError(f"{name} of shape {tuple(value.shape)}, not one number")
        value = value.item()
    if not _is_number(value) or not abs(value) < math.inf:
        raise ValueError(f"{name} {value!r}, no finite number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
