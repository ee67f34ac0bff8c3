"""Graphs of tensor operations out of Pyro programs, and programs as pure functions of tensors."""

from __future__ import annotations

__all__ = ["Function", "Functional", "shapes", "trace"]

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ppl_gen.contexts import forked, owner
from ppl_gen.pyro_patches import held_tensors, make_fx, tracing

Function = Callable[..., tuple[Tensor, ...]]


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
            for held in held_tensors(module):
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
