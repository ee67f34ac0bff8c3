"""A device without hardware: tensors that say they lie on cuda:0, and hold their numbers here.

Whatever is computed of them is computed on the processor, so that numbers, and with them the
control flow, are real. What CUDA refuses is refused: no tensor of the processor of one or more axes
is mixed with one of the device, and a number without axes is only where CUDA's kernels take it.
What would make the processor wait for the device is counted, and so is what is copied to it.

The device has a generator of its own, which `torch.manual_seed` seeds as well.
"""

from __future__ import annotations

__all__ = ["DEVICE", "Device", "pretended"]

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
    has_proxy_slot,
    track_tensor_tree,
)
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)

# What torch itself takes these tensors to lie on: a device without memory, for which autograd needs
# nothing.
_META = torch.device("meta")

# Operations in which CUDA takes a number of the processor, a tensor without axes, as an operand.
_TAKE_NUMBERS = """
    add add_ sub sub_ rsub mul mul_ div div_ pow pow_ atan2 maximum minimum fmax fmin where lerp
    lerp_ eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor
    floor_divide remainder fmod hypot xlogy copysign nextafter fill_ fill masked_fill masked_fill_
    addcmul addcdiv _foreach_add_ _foreach_mul_ _foreach_div_ _foreach_lerp_ clamp clamp_min
    clamp_max
"""
# Operations whose outcome has a shape, or is a number, that the processor has to know.
_WAITS = """
    _local_scalar_dense nonzero masked_select _unique2 unique_dim unique_consecutive equal bincount
    _linalg_check_errors repeat_interleave is_nonzero histc
"""
_NUMBERS_TAKEN, _WAITED_FOR = frozenset(_TAKE_NUMBERS.split()), frozenset(_WAITS.split())
# Where an index of the processor is brought to the device.
_INDEXES = frozenset(("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"))


class _Held(Tensor):
    """A tensor of the device, whose numbers `held` has."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _Held:
        made: _Held = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_META,
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if _DEVICES:
            return _DEVICES[-1].run(function, args, kwargs or {})
        return Device().run(function, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.held!r} on {DEVICE}"


_DEVICES: list[Device] = []


class Device:
    """What was seen of the device.

    Attributes:
        waits: How often the processor waited for the device, by what for.
        copies: How often something was copied to the device, by what.
        where: Of each wait and copy, the line of the library that it came from.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.where: Counter[str] = Counter()
        self.state = torch.Generator().manual_seed(0).get_state()

    def forget(self) -> None:
        """Counts anew."""
        for counts in (self.waits, self.copies, self.where):
            counts.clear()

    def place(self, thing: Any) -> Any:
        """A module or tensors, in tuples, lists and dicts too, on the device; a module is a copy.

        Of a method, that of the copy. What else is found is left as it is. Nothing is counted.
        """
        if isinstance(thing, nn.Module):
            with self.uncounted():
                return copy.deepcopy(thing).to(DEVICE)
        owner = getattr(thing, "__self__", None)
        if isinstance(owner, nn.Module):
            return getattr(self.place(owner), thing.__name__)
        return self.lay(thing)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is done meanwhile is not counted."""
        before = [counts.copy() for counts in (self.waits, self.copies, self.where)]
        yield
        self.waits, self.copies, self.where = before

    def lay(self, thing: Any) -> Any:
        """Tensors, in tuples, lists and dicts too, laid on the device."""
        return _each(lambda t: _Held(t) if _is_here(t) else t, thing)

    def wait(self, why: str) -> None:
        """Counts that the processor waits for the device."""
        self.waits[why] += 1
        self.where[f"wait, {why}: {_line()}"] += 1

    def copy(self, what: str) -> None:
        """Counts that something is copied to the device."""
        self.copies[what] += 1
        self.where[f"copy, {what}: {_line()}"] += 1

    def run(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """An operation of tensors of the device, or one that makes or moves one."""
        to = kwargs.get("device")
        tensors = _tensors((args, kwargs))
        there = any(map(_is_there, tensors))
        if not there and to != _META:
            return function(*args, **kwargs)
        name = function.overloadpacket.__name__
        stays = to is None or to == _META
        if there:
            self._expect_one_device(name, args, tensors)
        if there and not stays:
            self.wait("a copy to the processor")
        if not there and tensors:
            self.copy("a tensor")
        if to is not None and stays:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        kwargs.pop("pin_memory", None)
        if there and name in ("copy_", "copy"):
            stays = self._copied_between(args)
        if name in _WAITED_FOR and there:
            self.wait(name.removeprefix("_"))
        if name in _INDEXES:
            self._index(name, args)
        with self._own_generator(function):
            found = function(*_each(_numbers, args), **_each(_numbers, kwargs))
        return self._returned(function, args, kwargs, found, stays)

    def _expect_one_device(self, name: str, args: Sequence[Any], tensors: list[Tensor]) -> None:
        """Raises RuntimeError, as CUDA does, where tensors of both devices are mixed."""
        if name in ("copy_", "copy"):
            return
        if name in _INDEXES:
            args = (args[0], *args[2:3])
            if _is_there(args[0]) and len(args) > 1 and _is_here(args[1]) and args[1].dim():
                raise RuntimeError(_mixed(name))
            if _is_here(args[0]):
                raise RuntimeError(_mixed(name))
            return
        for t in tensors:
            if _is_here(t) and (t.dim() or name not in _NUMBERS_TAKEN):
                raise RuntimeError(_mixed(name))
        written = args and _is_here(args[0]) and name.endswith("_")
        if written:
            raise RuntimeError(_mixed(name))

    def _copied_between(self, args: Sequence[Any]) -> bool:
        """Counts a copy from one device to the other; returns whether it ends on the device."""
        to, of = args[:2]
        if _is_here(to):
            self.wait("a copy to the processor")
            return False
        if _is_here(of) and of.dim():
            self.copy("a tensor")
        return True

    def _index(self, name: str, args: Sequence[Any]) -> None:
        """Counts what an index costs: a mask has to be counted, one of the processor copied."""
        one_value = len(args) > 2 and torch.is_tensor(args[2]) and args[2].numel() == 1
        for index in args[1]:
            if index is None:
                continue
            if _is_here(index):
                self.copy("an index")
            elif index.dtype in (torch.bool, torch.uint8):
                # One number for what a single mask takes is filled in without a count.
                if name != "index" and one_value and len(args[1]) == 1:
                    continue
                self.wait("a mask")

    @contextmanager
    def _own_generator(self, function: Any) -> Iterator[None]:
        """Lets an operation draw from the device's generator."""
        if torch.Tag.nondeterministic_seeded not in function.tags:
            yield
            return
        processor = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(processor)

    def _returned(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        found: Any,
        stays: bool,
    ) -> Any:
        """What an operation returns: its own argument where it wrote to it, else laid out anew."""
        if torch.Tag.inplace_view in function.tags:
            with no_dispatch():  # shape and strides of the tensor itself
                function(*args, **kwargs)
        returns = function._schema.returns
        if len(returns) == 1 and returns[0].alias_info and returns[0].alias_info.is_write:
            return _written(function, args, kwargs)[0]
        if any(r.alias_info and r.alias_info.is_write for r in returns):
            return tuple(_written(function, args, kwargs))
        if not stays:
            return found
        return self.lay(found)


def _written(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operation writes to."""
    found = []
    for i, argument in enumerate(function._schema.arguments):
        if argument.alias_info and argument.alias_info.is_write:
            found.append(args[i] if i < len(args) else kwargs[argument.name])
    return found


def _is_there(t: Any) -> bool:
    return isinstance(t, _Held)


def _is_here(t: Any) -> bool:
    return torch.is_tensor(t) and not isinstance(t, _Held)


def _numbers(t: Any) -> Any:
    if isinstance(t, _Held):
        return t.held
    return t


def _each(function: Callable[[Any], Any], tree: Any) -> Any:
    """What a function makes of each leaf of tuples, lists and dicts."""
    if isinstance(tree, (tuple, list)):
        made = [_each(function, branch) for branch in tree]
        if isinstance(tree, list):
            return made
        return tuple(made)
    if isinstance(tree, dict):
        return {key: _each(function, branch) for key, branch in tree.items()}
    return function(tree)


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts."""
    if torch.is_tensor(tree):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [t for branch in tree for t in _tensors(branch)]


def _mixed(name: str) -> str:
    return (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{DEVICE} and cpu! (in {name})"
    )


def _line() -> str:
    """The innermost line of the library on the stack, else of anything but torch."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        ours = "/lib/python" not in name and name != __file__
        if name.endswith(".py") and ours:
            return f"{'/'.join(name.split('/')[-3:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class _Operations(TorchDispatchMode):
    """Hands operations to the device: those that make a tensor of it have none among theirs."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler at the first operation

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        mode = get_proxy_mode()
        if mode is None:
            return self.device.run(function, args, kwargs)
        return self._traced(mode.tracer, function, args, kwargs)

    def _traced(
        self, tracer: Any, function: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """An operation while a graph is traced, which takes note of tensors that it knows alone."""
        for t in _tensors((args, kwargs)):
            if _is_there(t) and not has_proxy_slot(t, tracer):
                name = f"_of_device{len(vars(tracer.root))}"
                setattr(tracer.root, name, t)
                known = tracer.create_proxy("get_attr", name, (), {})
                track_tensor_tree(t, known, constant=None, tracer=tracer)
        found = function(*args, **kwargs)
        if kwargs.get("device") != _META or not _is_here(found):
            return found
        with disable_proxy_modes_tracing():
            laid = self.device.run(function, args, kwargs)
        known = get_proxy_slot(found, tracer).proxy
        track_tensor_tree(laid, known, constant=None, tracer=tracer)
        return laid


_OF_DEVICE: dict[Any, Callable[[Tensor], Any]] = {
    Tensor.device.__get__: lambda t: DEVICE,
    Tensor.is_cuda.__get__: lambda t: True,
    Tensor.is_meta.__get__: lambda t: False,
    Tensor.get_device: lambda t: 0,
    Tensor.data_ptr: lambda t: _unwrapped(t).held.data_ptr(),
}


class _Words(TorchFunctionMode):
    """Answers what Python asks of a tensor of the device, and takes the device's name."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _OF_DEVICE and _is_there(_unwrapped(args[0])):
            return _OF_DEVICE[function](args[0])
        if function is Tensor.tolist and _is_there(args[0]):
            self.device.wait("tolist")
            return args[0].held.tolist()
        if function in (Tensor.numpy, Tensor.__array__) and _is_there(args[0]):
            raise TypeError(
                f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        if function is Tensor.data.__set__ and _is_there(args[0]):
            args[0].held = args[1].held
        if function is Tensor.cuda:
            return args[0].to(_META)
        if function is Tensor.new and _is_there(_unwrapped(args[0])):
            return torch.empty(*args[1:], dtype=args[0].dtype, device=_META)
        if function is Tensor.new_tensor and _is_there(args[0]):
            kwargs.setdefault("dtype", args[0].dtype)
            return self._made(torch.tensor, args[1:], kwargs)
        if function in (torch.tensor, torch.as_tensor):
            to = kwargs.pop("device", None)
            if to is not None and torch.device(to).type == "cuda":
                return self._made(function, args, kwargs)
            if to is not None:
                kwargs["device"] = to
        if function is Tensor.to:
            args = tuple(map(_as_meta, args))
        return function(*args, **_with_meta(kwargs))

    def _made(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        """A tensor of Python's numbers, brought to the device, as a constant of graphs."""
        found = function(*args, **kwargs)
        if _is_there(_unwrapped(args[0])):
            return found
        self.device.copy("a number")
        laid: Tensor = self.device.lay(_unwrapped(found.detach()))
        if found.requires_grad:
            laid.requires_grad_()
        return laid


def _unwrapped(t: Any) -> Any:
    """The tensor inside of those that vmap and grad put around it."""
    while torch.is_tensor(t) and torch._C._functorch.is_functorch_wrapped_tensor(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


def _as_meta(value: Any) -> Any:
    """An argument, the device's name replaced."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return _META
    if isinstance(value, str) and value.split(":")[0] == "cuda":
        return _META
    return value


def _with_meta(kwargs: dict[str, Any]) -> dict[str, Any]:
    if "device" in kwargs:
        return {**kwargs, "device": _as_meta(kwargs["device"])}
    return kwargs


@contextmanager
def pretended(seed: int = 0) -> Iterator[Device]:
    """There is a device: `Device` of it.

    Args:
        seed: Of the device's generator.
    """
    device = Device()

    def seeded(seed: int) -> None:
        device.state = torch.Generator().manual_seed(seed).get_state()

    def put(state: Tensor, where: Any = DEVICE) -> None:
        device.state = state

    seeded(seed)
    instead: dict[str, Callable[..., Any]] = {
        "get_rng_state": lambda where=DEVICE: device.state,
        "set_rng_state": put,
        "manual_seed_all": seeded,
        "mem_get_info": lambda where=DEVICE: (2**33, 2**33),
        "memory_reserved": lambda where=DEVICE: 0,
        "memory_allocated": lambda where=DEVICE: 0,
        "synchronize": lambda where=DEVICE: device.wait("synchronize"),
    }
    with ExitStack() as stack:
        for name, replacement in instead.items():
            stack.enter_context(patch.object(torch.cuda, name, replacement))
        stack.enter_context(patch.object(cudnn, "is_acceptable", lambda t: False))
        stack.enter_context(_Operations(device))
        stack.enter_context(_Words(device))
        _DEVICES.append(device)
        try:
            yield device
        finally:
            _DEVICES.pop()
