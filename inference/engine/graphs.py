"""Graphs of tensor operations out of Pyro programs, and programs as pure functions of tensors."""

from __future__ import annotations

__all__ = ["Function", "Functional", "drawing", "shapes", "trace", "tracing"]

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro.infer.util import torch_item
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.util import warn_if_inf, warn_if_nan
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_gen.contexts import forked, owner

Function = Callable[..., tuple[Tensor, ...]]


class _SafeLog(torch.autograd.Function):
    """Pyro's logarithm with its gradient bounded at zero, in the form that vmap and make_fx can
    follow.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / x.clamp(min=torch.finfo(x.dtype).eps)


def _or_nan(attempt: Callable[..., Any]) -> Callable[..., Tensor]:
    def replacement(*matrices: Tensor, **options: Any) -> Tensor:
        result, info = attempt(*matrices, **options)
        failed = (info != 0).reshape(info.shape + (1,) * (result.dim() - info.dim()))
        return torch.where(failed, torch.nan, result)

    return replacement


# By their names in torch.linalg. A chain whose matrix is not positive definite has an energy of
# NaN, and counts as divergent.
_LINALG: dict[str, Callable[..., Tensor]] = {
    "cholesky": _or_nan(torch.linalg.cholesky_ex),
    "inv": _or_nan(torch.linalg.inv_ex),
    "solve": _or_nan(torch.linalg.solve_ex),
}


@contextmanager
def tracing() -> Iterator[None]:
    """Takes out of Pyro, for the moment, what reads numbers out of tensors or keeps vmap from
    following.
    """
    if vars(pyro.ops.special)["_SafeLog"] is _SafeLog:  # already out
        yield
        return
    instead: dict[str, tuple[Any, Callable[..., Any]]] = {
        "torch_item": (torch_item, lambda x: x.detach() if torch.is_tensor(x) else x),
        "warn_if_nan": (warn_if_nan, lambda value, *args, **options: value),
        "warn_if_inf": (warn_if_inf, lambda value, *args, **options: value),
    }
    with ExitStack() as stack:
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(patch("pyro.ops.special._SafeLog", _SafeLog))
        # The switch of validation does not reach distributions that were made, or expanded, while
        # it was on.
        stack.enter_context(
            patch.object(
                torch.distributions.Distribution, "_validate_sample", lambda self, value: None
            )
        )
        for name, replacement in _LINALG.items():
            stack.enter_context(patch.object(torch.linalg, name, replacement))
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro."):
                for attribute, (original, replacement) in instead.items():
                    if vars(module).get(attribute) is original:
                        stack.enter_context(patch.object(module, attribute, replacement))
        yield


@contextmanager
def drawing() -> Iterator[None]:
    """Lets vmap follow Pyro where it draws and enumerates.

    torch fills an empty tensor with normals in place, and Pyro's enumeration looks at `value.data`:
    vmap refuses both.
    """
    original, post_sample = (
        torch.distributions.utils._standard_normal,
        EnumMessenger._pyro_post_sample,
    )

    def standard_normal(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=device)

    def shape_only(self: EnumMessenger, msg: Any) -> None:
        value = msg["value"]
        post_sample(
            self,
            {**msg, "value": SimpleNamespace(data=value, dim=value.dim)}
            if torch.is_tensor(value)
            else msg,
        )

    with ExitStack() as stack, tracing():
        for name, module in list(sys.modules.items()):
            if (
                name.startswith(("pyro.", "torch.distributions."))
                and vars(module).get("_standard_normal") is original
            ):
                stack.enter_context(patch.object(module, "_standard_normal", standard_normal))
        stack.enter_context(patch.object(EnumMessenger, "_pyro_post_sample", shape_only))
        yield


def trace(function: Function, inputs: Sequence[Tensor], rows: Sequence[int] = ()) -> fx.GraphModule:
    """The graph of tensor operations that `function(*inputs)` is; its gradients, if it takes any,
    are part of it.

    Args:
        function: From tensors to a flat tuple of tensors. Other tensors that it holds are kept by
            reference.
        inputs: What it is traced at; the graph serves all inputs of these shapes.
        rows: The inputs whose first axis is the data. With any, the graph serves every number of
            data, so long as the function reads that number as `x.shape[0]`.
    """
    distinct = [
        t.detach().clone() for t in inputs
    ]  # one tensor given for two inputs would be merged into one
    if rows:
        # As many rows as no other axis has: sizes that happen to agree would be taken for one size.
        taken = {size for t in inputs for size in t.shape}
        count = next(n for n in range(5, 10_000) if n not in taken and n % 2)
        for i in rows:
            distinct[i] = distinct[i][
                torch.arange(count, device=distinct[i].device) % inputs[i].shape[0]
            ]
    symbolic: dict[str, Any] = (
        {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True} if rows else {}
    )
    with tracing(), torch.enable_grad(), forked(distinct[0].device, None):
        return make_fx(lambda *tensors: function(*tensors), **symbolic)(*distinct)


class Functional:
    """A call of programs as a pure function of tensors: parameters and buffers of their modules
    become inputs.

    Args:
        call: What is to be called.
        *parts: Programs, guides, objectives; the modules that they are, or are methods of, give up
            their tensors.
    """

    def __init__(self, call: Callable[..., Any], *parts: Any) -> None:
        self._call = call
        owners = [m for m in map(owner, parts) if isinstance(m, nn.Module)]
        self._modules = list(dict.fromkeys(m for part in owners for m in part.modules()))
        # Each tensor once, with all the places that hold it: modules may be shared, and parameters
        # tied.
        places: dict[int, tuple[Tensor, list[tuple[dict[str, Any], str]]]] = {}
        for module in self._modules:
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        places.setdefault(id(tensor), (tensor, []))[1].append((held, name))
        self._places = [where for _, where in places.values()]
        # Of torch's own modules those that are ever changed: the sizes of a Linear are not.
        self._numbers = [
            (vars(m), name)
            for m in self._modules
            for name, v in vars(m).items()
            if type(v) in (bool, int, float)
            and (name in ("training", "p") or not type(m).__module__.startswith("torch.nn."))
        ]

    @property
    def tensors(self) -> list[Tensor]:
        """What the modules hold now."""
        return [held[name] for ((held, name), *_) in self._places]

    def __call__(self, tensors: Sequence[Tensor], *arguments: Any) -> Any:
        """The call, with `tensors` in the place of `self.tensors`."""
        own = self.tensors
        try:
            self._put(tensors)
            result = self._call(*arguments)
            if any(
                held[name] is not t
                for where, t in zip(self._places, tensors, strict=True)
                for held, name in where
            ):
                raise RuntimeError(
                    "a module puts another tensor in the place of a parameter or buffer while it "
                    "is called"
                )
            return result
        finally:
            self._put(own)

    def _put(self, tensors: Sequence[Tensor]) -> None:
        for where, tensor in zip(self._places, tensors, strict=True):
            for held, name in where:
                held[name] = tensor

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers that the modules hold now: modes, temperatures, rates of dropout."""
        return tuple([held[name] for held, name in self._numbers])


def shapes(tensors: Sequence[Tensor]) -> Hashable:
    """What a graph takes for granted of its inputs."""
    return tuple([(t.shape, t.stride(), t.dtype, t.device) for t in tensors])
