"""One engine under all that calls a program many times: trace a function of tensors once, replay its graph, compiled.

A Pyro program run under its handlers is Python around a graph of tensor operations. `make_fx` records that graph, gradients
included; replayed, it gives the same numbers without the Python, and inductor compiles it. The ladder is inductor → fx →
eager, and a rung that fails says why, once, and hands over to the next.
"""

from __future__ import annotations

__all__ = [
    "COMPILE_AFTER",
    "TRACE_AFTER",
    "Engine",
    "Functional",
    "Replay",
    "expect_engine",
    "plan",
    "shapes",
    "trace",
    "tracing",
]

import logging
import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args
from unittest.mock import patch

import pyro
import torch
from pyro.infer.util import torch_item
from pyro.util import warn_if_inf, warn_if_nan
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_gen.calling import forked, owner
from ppl_gen.inference.linalg import REPLACEMENTS

Engine = Literal["auto", "inductor", "fx", "eager"]
Function = Callable[..., tuple[Tensor, ...]]

# What a graph saves is Python's share of a call, about a millisecond whatever the network; what it costs is a tenth of a
# second to trace and some five seconds to compile.
TRACE_AFTER = 100
COMPILE_AFTER = 4000

log = logging.getLogger("ppl_gen.engine")


def plan(calls: int, engine: Engine = "auto") -> Engine:
    """The rung that pays for this many calls, where the engine is "auto"."""
    if engine != "auto":
        return engine
    return "inductor" if calls >= COMPILE_AFTER else "fx" if calls >= TRACE_AFTER else "eager"


def expect_engine(engine: str) -> None:
    """Says when an engine is none.

    Raises:
        ValueError: Then.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"expected an engine of {', '.join(map(repr, get_args(Engine)))}, got {engine!r}")


class _SafeLog(torch.autograd.Function):
    """Pyro's logarithm with its gradient bounded at zero, in the form that vmap and make_fx can follow."""

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


@contextmanager
def tracing() -> Iterator[None]:
    """Takes out of Pyro, for the moment, what reads numbers out of tensors or keeps vmap from following."""
    if vars(pyro.ops.special)["_SafeLog"] is _SafeLog:  # already out
        yield
        return
    instead = {
        torch_item: lambda x: x.detach() if torch.is_tensor(x) else x,
        warn_if_nan: lambda value, *args, **options: value,
        warn_if_inf: lambda value, *args, **options: value,
    }
    with ExitStack() as stack:
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(patch("pyro.ops.special._SafeLog", _SafeLog))
        for name, replacement in REPLACEMENTS.items():
            stack.enter_context(patch.object(torch.linalg, name, replacement))
        for name, module in list(sys.modules.items()):
            if name.startswith("pyro."):
                for original, replacement in instead.items():
                    if vars(module).get(original.__name__) is original:
                        stack.enter_context(patch.object(module, original.__name__, replacement))
        yield


def trace(function: Function, inputs: Sequence[Tensor], rows: Sequence[int] = ()) -> fx.GraphModule:
    """The graph of tensor operations that `function(*inputs)` is; its gradients, if it takes any, are part of it.

    Args:
        function: From tensors to a flat tuple of tensors. Other tensors that it holds are kept by reference.
        inputs: What it is traced at; the graph serves all inputs of these shapes.
        rows: The inputs whose first axis is the data. With any, the graph serves every number of data, so long as the
            function reads that number as `x.shape[0]`.
    """
    distinct = [t.detach().clone() for t in inputs]  # one tensor given for two inputs would be merged into one
    if rows:
        # As many rows as no other axis has: sizes that happen to agree would be taken for one size.
        taken = {size for t in inputs for size in t.shape}
        count = next(n for n in range(5, 10_000) if n not in taken and n % 2)
        for i in rows:
            distinct[i] = distinct[i][torch.arange(count, device=distinct[i].device) % inputs[i].shape[0]]
    symbolic = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True} if rows else {}
    with tracing(), torch.enable_grad(), forked(distinct[0].device, None):
        return make_fx(lambda *tensors: function(*tensors), **symbolic)(*distinct)


class Functional:
    """A call of programs as a pure function of tensors: parameters and buffers of their modules become inputs.

    Args:
        call: What is to be called.
        *parts: Programs, guides, objectives; the modules that they are, or are methods of, give up their tensors.
    """

    def __init__(self, call: Callable[..., Any], *parts: Any) -> None:
        self._call = call
        owners = [m for m in map(owner, parts) if isinstance(m, nn.Module)]
        self._modules = list(dict.fromkeys(m for part in owners for m in part.modules()))
        # Each tensor once, with all the places that hold it: modules may be shared, and parameters tied.
        places: dict[int, tuple[Tensor, list[tuple[dict[str, Any], str]]]] = {}
        for module in self._modules:
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        places.setdefault(id(tensor), (tensor, []))[1].append((held, name))
        self._places = [where for _, where in places.values()]

    @property
    def tensors(self) -> list[Tensor]:
        """What the modules hold now."""
        return [held[name] for ((held, name), *_) in self._places]

    def __call__(self, tensors: Sequence[Tensor], *arguments: Any) -> Any:
        """The call, with `tensors` in the place of `self.tensors`."""
        own = self.tensors
        try:
            self._put(tensors)
            return self._call(*arguments)
        finally:
            self._put(own)

    def _put(self, tensors: Sequence[Tensor]) -> None:
        for where, tensor in zip(self._places, tensors, strict=True):
            for held, name in where:
                held[name] = tensor

    @property
    def modes(self) -> tuple[bool, ...]:
        """Whether each module is in training mode."""
        return tuple([m.training for m in self._modules])


class Replay:
    """A function's graphs, one for each shape of its inputs, each on the highest rung that it has been seen to bear.

    A graph is compared with the function before its first use, and now and then afterwards, from the same random state: what
    a closure held when it was traced may have been replaced meanwhile. Then it is traced anew, with a warning.

    Args:
        engine: "eager" calls the function; "fx" replays its graph, with the same random numbers, gradients bit for bit and
            the rest to rounding; "inductor" compiles it, with the same random numbers. "auto" goes up the ladder as the
            calls to come pay for it: fx from 100 calls on, inductor from 4000 on.
        calls: How many calls are to come, where that is known; else "auto" judges by those that were made.
        rows: The inputs whose first axis is the data, so that one graph may serve every batch size.
        watch: Whether to compare graph and function again by itself, at calls 2, 4, 8, … and every thousandth.
        what: The name of the function in messages.
    """

    def __init__(
        self,
        engine: Engine = "auto",
        calls: int | None = None,
        *,
        rows: Sequence[int] = (),
        watch: bool = True,
        what: str = "function",
    ) -> None:
        expect_engine(engine)
        self.engine, self.calls, self.rows, self.watch, self.what = engine, calls, rows, watch, what
        self._entries: dict[Hashable, _Entry] = {}
        self._any_size: fx.GraphModule | None = None
        self._lowest = self._uncompiled = False

    @property
    def rung(self) -> str:
        """The rung that the first shape of inputs is on."""
        return next((entry.rung for entry in self._entries.values()), "eager")

    @property
    def highest(self) -> Engine:
        """The rung that nothing has kept it from yet."""
        return "eager" if self._lowest else "fx" if self._uncompiled else "inductor"

    def wanted(self, calls: int, first: bool) -> Engine:
        """The rung for inputs that were seen so often; other shapes than the first, as last batches have, count for themselves."""
        if self.engine == "eager" or self._lowest:
            return "eager"
        rung = plan(max(calls, self.calls or 0) if first else calls, self.engine)
        if rung == "inductor" and (self._uncompiled or not (first or calls >= COMPILE_AFTER)):
            return "fx"
        return rung

    def __call__(
        self,
        function: Function,
        *inputs: Tensor,
        eager: Function | None = None,
        key: Hashable = None,
        verify: bool = False,
    ) -> Any:
        """function(*inputs), from whichever rung.

        Args:
            function: The same at every call, but for what it holds.
            *inputs: Its tensors.
            eager: A quicker way to the same, for the lowest rung; the function itself if left out.
            key: What tells one graph from another; the shapes and types of all inputs if left out.
            verify: Whether to compare graph and function at this call.
        """
        key = shapes(inputs) if key is None else key
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(first=not self._entries)
        entry.calls += 1
        wanted = self.wanted(entry.calls, entry.first)
        if wanted == "eager":
            entry.rung, entry.run = "eager", None
            return (eager or function)(*inputs)
        due = verify or (self.watch and (entry.calls % 1000 == 0 or (entry.calls & (entry.calls - 1)) == 0))
        if entry.graph is None or (due and not self._agrees(entry.graph, function, inputs)):
            stale = entry.graph is not None
            entry.graph, entry.run = self._traced(function, inputs, entry.first), None
            if entry.graph is None:
                return (eager or function)(*inputs)
            if stale:
                _warn(
                    f"the {self.what} has changed since it was traced (a number or tensor that it holds): traced anew"
                )
        if entry.run is None or entry.rung != wanted:
            return self._climb(entry, wanted, inputs)
        with torch.no_grad():
            return entry.run(*inputs)

    def _traced(self, function: Function, inputs: Sequence[Tensor], first: bool) -> fx.GraphModule | None:
        """A graph that agrees with the function at these inputs; None where there is none, and the reason is told."""
        self._any_size = None if first else self._any_size
        reason = "its graph gives other numbers than it does: it draws on something outside its inputs"
        for symbolic in (True, False) if self.rows and not first else (False,):
            try:
                known = self._any_size if symbolic else None
                if known is None:
                    self._agrees(
                        function, function, inputs
                    )  # what is done at a first call only is no part of the graph
                graph = known or trace(function, inputs, self.rows if symbolic else ())
                if self._agrees(graph, function, inputs):
                    self._any_size = graph if symbolic else self._any_size
                    return graph
            except Exception as error:  # whatever the user's program does that cannot be followed
                reason = _reason(error)
        self._lowest = True
        _warn(f"the {self.what} cannot be traced and runs eagerly: {reason}")
        return None

    def _agrees(self, graph: fx.GraphModule, function: Function, inputs: Sequence[Tensor]) -> bool:
        """Whether graph and function give the same from the same random state; neither leaves a trace."""
        results = []
        for run in (function, graph):
            copies = [t.detach().clone() for t in inputs]
            with forked(inputs[0].device, None), tracing(), torch.no_grad():
                results.append([*run(*copies), *copies])  # what it changes in place counts as well
        return all(a.shape == b.shape and _close(a, b) for a, b in zip(*results, strict=True))

    def _climb(self, entry: _Entry, wanted: str, inputs: Sequence[Tensor]) -> Any:
        """The first replay on a new rung."""
        assert entry.graph is not None
        entry.rung, entry.run = wanted, entry.graph
        with torch.no_grad():
            if wanted == "inductor":
                # The same random numbers as the other rungs draw: the engine never changes what comes out, but for rounding.
                # Guards are left out, since `_entries` are by shape already.
                options = {"fallback_random": True, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
                compiled = torch.compile(entry.graph, dynamic=False, options=options)
                log.info("compiling the %s, for %s calls to come", self.what, self.calls or "many")
                try:
                    with warnings.catch_warnings(
                        action="ignore", category=FutureWarning
                    ):  # inductor's, of its own code
                        entry.run, result = compiled, compiled(*inputs)
                    return result
                except Exception as error:
                    _warn(f"the {self.what} cannot be compiled and is replayed uncompiled: {_reason(error)}")
                    self._uncompiled, entry.rung, entry.run = True, "fx", entry.graph
            return entry.run(*inputs)


class _Entry:
    """The state of one shape of inputs."""

    def __init__(self, first: bool) -> None:
        self.first, self.calls, self.rung = first, 0, "eager"
        self.graph: fx.GraphModule | None = None
        self.run: Callable[..., Any] | None = None


def shapes(tensors: Sequence[Tensor]) -> Hashable:
    """What a graph takes for granted of its inputs."""
    return tuple([(t.shape, t.dtype, t.device) for t in tensors])


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding, that of the largest entry; NaN where the other is."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    finite = a[a.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    rounding = 64 * torch.finfo(a.dtype).eps
    return torch.allclose(a, b, rtol=rounding, atol=rounding * largest, equal_nan=True)


def _reason(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
