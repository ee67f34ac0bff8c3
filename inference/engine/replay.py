"""One engine under all that calls a program many times: trace a function of tensors once, replay
its graph, compiled.

A Pyro program run under its handlers is Python around a graph of tensor operations. `make_fx`
records that graph, gradients included; replayed, it gives the same numbers without the Python, and
inductor compiles it. The ladder is inductor → fx → eager, and a rung that fails says why, once, and
hands over to the next.
"""

from __future__ import annotations

__all__ = ["COMPILE_AFTER", "TRACE_AFTER", "Engine", "Replay", "expect_engine", "plan"]

import logging
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx

from ppl_gen.contexts import forked
from ppl_gen.inference.engine.graphs import Function, shapes, trace
from ppl_gen.pyro_patches import tracing

Engine = Literal["auto", "inductor", "fx", "eager"]

# What a graph saves is Python's share of a call, about a millisecond whatever the network; what it
# costs is a tenth of a second to trace and some five seconds to compile.
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
        raise ValueError(
            f"expected an engine of {', '.join(map(repr, get_args(Engine)))}, got {engine!r}"
        )


class Replay:
    """A function's graphs, one for each shape of its inputs, each on the highest rung that it has
    been seen to bear.

    A graph is compared with the function before its first use, and now and then afterwards, from
    the same random state: what a closure held when it was traced may have been replaced meanwhile.
    Then it is traced anew, with a warning.

    Args:
        engine: "eager" calls the function; "fx" replays its graph, with the same random numbers,
            gradients bit for bit and the rest to rounding; "inductor" compiles it, with the same
            random numbers. "auto" goes up the ladder as the calls to come pay for it: fx from 100
            calls on, inductor from 4000 on.
        calls: How many calls are to come, where that is known; else "auto" judges by those that
            were made.
        rows: The inputs whose first axis is the data, so that one graph may serve every batch size.
        watch: Whether to compare graph and function again by itself, at calls 2, 4, 8, … and every
            thousandth.
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
        self._changes = 0

    @property
    def rung(self) -> str:
        """The rung that the first shape of inputs is on."""
        return next((entry.rung for entry in self._entries.values()), "eager")

    @property
    def highest(self) -> Engine:
        """The rung that nothing has kept it from yet."""
        return "eager" if self._lowest else "fx" if self._uncompiled else "inductor"

    def wanted(self, calls: int, first: bool) -> Engine:
        """The rung for inputs that were seen so often; shapes after the first, as last batches
        have, count for themselves.
        """
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
        due = verify or (
            self.watch and (entry.calls % 1000 == 0 or (entry.calls & (entry.calls - 1)) == 0)
        )
        if entry.graph is not None and due and not self._agrees(entry.graph, function, inputs):
            self._forget()
        if entry.graph is None and not self._lowest:
            entry.graph, entry.run = self._traced(function, inputs, entry.first), None
        if entry.graph is None:
            return (eager or function)(*inputs)
        if entry.run is None or entry.rung != wanted:
            return self._climb(entry, wanted, inputs)
        with torch.no_grad():
            return entry.run(*inputs)

    def _forget(self) -> None:
        """Drops all graphs, since the function is not what it was; one that keeps changing is left
        to run eagerly.
        """
        self._any_size = None
        for entry in self._entries.values():
            entry.graph = entry.run = None
        self._changes += 1
        self._lowest = self.watch and self._changes > 1
        then = (
            "it runs eagerly from now on, since it changed before"
            if self._lowest
            else "traced anew"
        )
        _warn(
            f"the {self.what} has changed since it was traced (a number or tensor that it holds): "
            f"{then}"
        )

    def _traced(
        self, function: Function, inputs: Sequence[Tensor], first: bool
    ) -> fx.GraphModule | None:
        """A graph that agrees with the function at these inputs; None where there is none, and the
        reason is told.
        """
        self._any_size = None if first else self._any_size
        reason = (
            "its graph gives other numbers than it does: it draws on something outside its inputs"
        )
        for symbolic in (True, False) if self.rows and not first else (False,):
            try:
                known = self._any_size if symbolic else None
                if known is None:
                    # What is done at a first call only is no part of the graph.
                    self._agrees(function, function, inputs)
                graph = known or trace(function, inputs, self.rows if symbolic else ())
                if self._agrees(graph, function, inputs):
                    self._any_size = graph if symbolic else self._any_size
                    return graph
            except Exception as error:  # whatever the user's program does that cannot be followed
                reason = _reason(error)
        self._lowest = True
        _warn(f"the {self.what} cannot be traced and runs eagerly: {reason}")
        return None

    def _agrees(self, graph: Function, function: Function, inputs: Sequence[Tensor]) -> bool:
        """Whether graph and function give the same from the same random state; neither leaves a
        trace.
        """
        results = []
        for run in (function, graph):
            copies = [t.detach().clone() for t in inputs]
            try:
                with forked(inputs[0].device, None), tracing(), torch.no_grad():
                    results.append(
                        [*run(*copies), *copies]
                    )  # what it changes in place counts as well
            except Exception:
                if run is function:
                    raise
                return False
        return all(a.shape == b.shape and _close(a, b) for a, b in zip(*results, strict=True))

    def _climb(self, entry: _Entry, wanted: str, inputs: Sequence[Tensor]) -> Any:
        """The first replay on a new rung."""
        assert entry.graph is not None
        entry.rung, entry.run = wanted, entry.graph
        with torch.no_grad():
            if wanted == "inductor":
                # The same random numbers as the other rungs draw: the engine never changes what
                # comes out, but for rounding. Guards are left out, since `_entries` are by shape
                # already.
                options: dict[str, Any] = {
                    "fallback_random": True,
                    "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
                }
                # A copy, with code of its own, since the graph may serve other shapes as well.
                own = fx.GraphModule(entry.graph, entry.graph.graph)
                compiled = torch.compile(own.forward, dynamic=False, options=options)
                log.info("compiling the %s, for %s calls to come", self.what, self.calls or "many")
                try:
                    with warnings.catch_warnings(action="ignore", category=FutureWarning):
                        entry.run, result = compiled, compiled(*_apart(inputs))
                    return result
                except Exception as error:
                    _warn(
                        f"the {self.what} cannot be compiled and is replayed uncompiled: "
                        f"{_reason(error)}"
                    )
                    self._uncompiled, entry.rung, entry.run = True, "fx", entry.graph
            return entry.run(*inputs)


class _Entry:
    """The state of one shape of inputs."""

    def __init__(self, first: bool) -> None:
        self.first, self.calls, self.rung = first, 0, "eager"
        self.graph: fx.GraphModule | None = None
        self.run: Callable[..., Any] | None = None


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding, entry by entry, since a change may be in the smallest; NaN where the other
    is.
    """
    if a.dtype != b.dtype or not a.is_floating_point():
        return torch.equal(a, b)
    rounding = 64 * torch.finfo(a.dtype).eps
    return torch.allclose(
        a, b, rtol=rounding, atol=rounding if a.dim() == 0 else 0.0, equal_nan=True
    )


def _apart(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of those that stand twice: the compiler would take them for one for good."""
    seen: set[int] = set()
    apart = []
    for t in tensors:
        apart.append(t.clone() if id(t) in seen else t)
        seen.add(id(t))
    return apart


def _reason(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :300
    ]


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
