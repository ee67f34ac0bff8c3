"""One engine under all that calls a program many times: a function is traced once and replayed.

A Pyro program under its handlers is Python around a graph of tensor operations. `make_fx` records
that graph, gradients included: replaying it gives the same numbers without the Python, and torch's
compiler, inductor, makes it faster still.

There are four engines, from fast to safe: "cuda-graph", on a CUDA device alone, launches all
kernels of the compiled graph at once, as they were recorded; "inductor" runs the compiled graph,
"fx" replays the graph, "eager" calls the function itself. They are the rungs of a ladder: where one
fails, a warning gives the reason, once, and the next lower one takes over.
"""

from __future__ import annotations

__all__ = [
    "COMPILE_AFTER",
    "TRACE_AFTER",
    "Engine",
    "Replay",
    "compiles",
    "expect_engine",
    "on_device",
    "plan",
]

import logging
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx

from ppl_gen.contexts import forked, reason
from ppl_gen.inference.engine.captured import Captured, CaptureError, can_capture
from ppl_gen.inference.engine.graphs import Function, copies_of, shapes, trace
from ppl_gen.pyro_patches import compiled, deterministic, tracing

Engine = Literal["auto", "cuda-graph", "inductor", "fx", "eager"]

# From safe to fast.
_LADDER: tuple[Engine, ...] = ("eager", "fx", "inductor", "cuda-graph")

# A graph saves Python's share of a call, about a millisecond whatever the network, and costs a
# tenth of a second to trace. Compiled it saves another half of a millisecond, or more of large
# networks, and costs ten seconds or more of a processor, where nobody has compiled it before: that
# pays after 8,000 to 18,000 calls (steps of VAEs of 64 and 784 pixels).
TRACE_AFTER = 100
COMPILE_AFTER = 10_000
# With more than so many sets of constants, each of which needs a graph, calls are eager.
_MOST_CONSTANTS = 8

log = logging.getLogger("ppl_gen.engine")


def plan(calls: int, engine: Engine = "auto", device: torch.device | None = None) -> Engine:
    """The engine that pays for this many calls, where `engine` is "auto"; else `engine` itself.

    Args:
        calls: How many there are.
        engine: What was asked for.
        device: Where the tensors lie; the processor if None.
    """
    if engine != "auto":
        return engine
    if calls >= COMPILE_AFTER:
        if device is not None and can_capture(device):
            return "cuda-graph"
        return "inductor"
    if calls >= TRACE_AFTER:
        return "fx"
    return "eager"


def compiles(engine: Engine) -> bool:
    """Whether an engine compiles graphs, of whole steps too."""
    return engine in ("inductor", "cuda-graph")


def expect_engine(engine: str, device: torch.device | None = None) -> None:
    """Raises ValueError unless the engine is one of those in `Engine`, and is one for the device.

    Args:
        engine: What was asked for.
        device: Where the tensors lie; None if that is not known yet.
    """
    known = get_args(Engine)
    if engine not in known:
        raise ValueError(f"expected an engine of {', '.join(map(repr, known))}, got {engine!r}")
    if engine == "cuda-graph" and device is not None and not can_capture(device):
        raise ValueError(
            f"expected a CUDA device for the engine 'cuda-graph', got {device.type}; take "
            "engine='auto', or move program and data to the device"
        )


def on_device(engine: Engine, device: torch.device) -> Engine:
    """The engine, or the next one where graphs of a device cannot be recorded.

    For what was begun on one device and goes on on another.

    Args:
        engine: What it was begun with.
        device: Where it goes on.
    """
    if engine == "cuda-graph" and not can_capture(device):
        return "inductor"
    return engine


class Replay:
    """The graphs of a function, one for each shape of its inputs, replayed by the engine that pays.

    A graph is compared with the function before its first use and now and then afterwards, both
    from the same random state: a number or tensor that the function holds may have been replaced
    since it was traced. If so, a warning says it and the function is traced anew.

    Args:
        engine: "eager" calls the function. "fx" replays its graph, with the same random numbers,
            gradients bit for bit and the rest to rounding. "inductor" compiles the graph, with the
            same random numbers. "cuda-graph" records the compiled graph on a CUDA device, and
            launches it at once. "auto" takes what pays for the calls to come: fx from 100 calls on;
            from 10,000 on inductor, or cuda-graph where there is such a device.
        calls: How many calls are to come, where that is known; else "auto" judges by those that
            were made.
        rows: The indices of the inputs whose first axis is the data, so that one graph serves every
            batch size; for calls that do not name their own.
        watch: Whether to compare graph and function again at calls 2, 4, 8, … and at every
            thousandth.
        what: The name of the function in messages.
        begun: How many calls were made in another process, by whose engines this one goes on.

    Attributes:
        highest: The highest rung that is still tried: "cuda-graph", "inductor", "fx" or "eager".

    Raises:
        ValueError: If the engine is unknown.
    """

    def __init__(
        self,
        engine: Engine = "auto",
        calls: int | None = None,
        *,
        rows: Sequence[int] = (),
        watch: bool = True,
        what: str = "function",
        begun: int = 0,
    ) -> None:
        expect_engine(engine)
        self.engine = engine
        self.calls = calls
        self.rows = rows
        self.watch = watch
        self.what = what
        self.begun = begun
        self.highest: Engine = "cuda-graph"
        if engine != "auto":
            self.highest = engine
        self._cases: dict[Hashable, _Case] = {}
        self._any_size: fx.GraphModule | None = None
        self._changes = 0
        self._calls_here = 0
        self._constants: set[Hashable] = set()

    @property
    def rung(self) -> Engine:
        """The engine that the first shape of inputs runs on."""
        for case in self._cases.values():
            return case.rung
        return "eager"

    def lower(self, rung: Engine) -> None:
        """Tries no rung above this one from now on."""
        self.highest = min(rung, self.highest, key=_LADDER.index)

    def wanted(self, calls: int, first: bool, device: torch.device | None = None) -> Engine:
        """Engine for a shape after `calls` calls of it, if no graph fails.

        Args:
            calls: How many calls have had inputs of this shape.
            first: Whether it is the first shape, which all calls to come are taken to have. Others,
                as last batches have, count for themselves.
            device: Where the inputs lie; the processor if None.
        """
        if self.highest == "eager":
            return "eager"
        expected = calls
        if first and self.calls is not None:
            expected = max(calls, self.calls)
        rung = plan(expected, self.engine, device)
        if compiles(rung) and not first and calls < COMPILE_AFTER:
            rung = "fx"
        return min(rung, self.highest, key=_LADDER.index)

    def __call__(
        self,
        function: Function,
        *inputs: Tensor,
        eager: Callable[..., Any] | None = None,
        key: Hashable = None,
        verify: bool = False,
        rows: Sequence[int] | None = None,
        kept: Sequence[int] = (),
    ) -> Any:
        """function(*inputs), by whichever engine.

        Args:
            function: The same at every call, but for what it holds.
            *inputs: The tensors that it is called with.
            eager: Called in its place where there is no graph, as a quicker way to the same; the
                function itself if None.
            key: Tells one graph from another; the shapes and types of all inputs if None.
            verify: Whether to compare graph and function at this call.
            rows: The indices of the inputs whose first axis is the data, so that one graph serves
                every batch size; those given at construction if None.
            kept: The indices of inputs too large to copy, as a whole data set is, which the
                function only reads.
        """
        if eager is None:
            eager = function
        if key is None:
            key = shapes(inputs)
        if rows is None:
            rows = self.rows
        case = self._cases.get(key)
        device = inputs[0].device
        if case is None:
            expect_engine(self.engine, device)
            case = self._cases[key] = _Case(first=not self._cases)
        case.calls += 1
        self._calls_here += 1
        wanted = self.wanted(self._calls_of(case), case.first, device)
        if wanted == "eager":
            case.leave()
            return eager(*inputs)
        due = verify or (self.watch and _is_milestone(case.calls))
        if due and case.graph is not None and not _agrees(case.graph, function, inputs, kept):
            self._forget_graphs()
        if case.graph is None:
            case.graph = self._find_graph(function, inputs, rows, kept, case.first)
        if case.graph is None:
            return eager(*inputs)
        if case.run is None or case.rung != wanted:
            return self._climb(case, case.graph, wanted, inputs, kept)
        try:
            with torch.no_grad():
                return case.run(*inputs)
        except torch.OutOfMemoryError:
            raise
        except CaptureError as error:
            self._give_up_capture(error)
            wanted = self.wanted(self._calls_of(case), case.first, device)
            return self._climb(case, case.graph, wanted, inputs, kept)
        except (RuntimeError, IndexError) as error:
            self._give_up(case, error)
        return eager(*inputs)

    def note(self, constants: Hashable) -> None:
        """Notes what the next graph takes for granted; if that keeps changing, calls are eager.

        Args:
            constants: Numbers of the function and of what it calls, as a temperature.
        """
        if self.highest == "eager" or constants in self._constants:
            return
        self._constants.add(constants)
        if len(self._constants) > _MOST_CONSTANTS:
            self.lower("eager")
            _warn(
                "numbers of the program or the optimiser change all the time, and each would "
                f"need a graph of its own: the {self.what} runs eagerly; hold what is annealed in "
                "a tensor (a buffer) to keep the engine"
            )

    def fits(self, key: Hashable, inputs: Sequence[Tensor]) -> bool:
        """Whether inputs lie as the compiled graph of a key takes them; False if there is none."""
        case = self._cases.get(key)
        if case is None or not isinstance(case.run, (_Compiled, Captured)):
            return False
        return case.run.fits(inputs)

    def again(self, key: Hashable, inputs: Sequence[Tensor]) -> bool:
        """One more call like the last, by its compiled graph; False if that is to be made in full.

        What a call looks at besides is left out, and what it returns is dropped.

        Args:
            key: That of the last call.
            inputs: They lie as that call's do, and fit.
        """
        case = self._cases[key]
        is_due = self.watch and _is_milestone(case.calls + 1)
        # What a recording reads of may be elsewhere at any call, unlike how it is laid out.
        if isinstance(case.run, Captured) and not case.run.fits(inputs):
            return False
        if is_due or not isinstance(case.run, (_Compiled, Captured)):
            return False
        case.calls += 1
        self._calls_here += 1
        try:
            with torch.no_grad():
                case.run.repeat(*inputs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError) as error:
            self._give_up(case, error)
            return False
        return True

    def _calls_of(self, case: _Case) -> int:
        """How many calls have had a shape; those of another process by its share of those here.

        A last batch, which ends every epoch, is counted exactly.
        """
        return case.calls * (self.begun + self._calls_here) // self._calls_here

    def _give_up(self, case: _Case, error: Exception) -> None:
        """Falls to the lowest rung, with a warning.

        Traced where no entry met a condition, a graph may have no place for some that do.
        """
        _warn(
            f"the graph of the {self.what} cannot be replayed, which runs eagerly: {reason(error)}"
        )
        self.lower("eager")
        case.leave()

    def _give_up_capture(self, error: CaptureError) -> None:
        """Falls to the next lower rung, with a warning."""
        _warn(f"the {self.what} cannot be recorded and is launched piece by piece: {error}")
        self.lower("inductor")

    def _forget_graphs(self) -> None:
        """Drops all graphs, since the function has changed; if once more, it runs eagerly."""
        self._any_size = None
        for case in self._cases.values():
            case.leave()
            case.graph = None
        self._changes += 1
        then = "traced anew"
        if self.watch and self._changes > 1:
            self.lower("eager")
            then = "it runs eagerly from now on, since it changed before"
        _warn(
            f"the {self.what} has changed since it was traced (a number or tensor that it holds): "
            f"{then}"
        )

    def _find_graph(
        self,
        function: Function,
        inputs: Sequence[Tensor],
        rows: Sequence[int],
        kept: Sequence[int],
        first: bool,
    ) -> fx.GraphModule | None:
        """A graph that agrees with the function at these inputs; None where none can be had.

        From the second shape on, a graph for any number of data is tried before one for this shape.
        """
        if self.highest == "eager":
            return None
        if first:
            self._any_size = None
        attempts = [False]
        if rows and not first:
            attempts = [True, False]
        why = "its graph gives other numbers than it does: it draws on something outside its inputs"
        for any_size in attempts:
            try:
                graph = self._trace(function, inputs, rows, kept, any_size)
                if _agrees(graph, function, inputs, kept):
                    if any_size:
                        self._any_size = graph
                    return graph
            except Exception as error:  # whatever the user's program does that cannot be followed
                why = reason(error)
        self.lower("eager")
        _warn(f"the {self.what} cannot be traced and runs eagerly: {why}")
        return None

    def _trace(
        self,
        function: Function,
        inputs: Sequence[Tensor],
        rows: Sequence[int],
        kept: Sequence[int],
        any_size: bool,
    ) -> fx.GraphModule:
        """A graph for any number of data, or for the shapes of these inputs alone."""
        if any_size and self._any_size is not None:
            return self._any_size
        # What is done at a first call only is to be no part of the graph.
        _run_apart(function, inputs, kept)
        return trace(function, inputs, rows, any_size=any_size, kept=kept)

    def _climb(
        self,
        case: _Case,
        graph: fx.GraphModule,
        wanted: Engine,
        inputs: Sequence[Tensor],
        kept: Sequence[int],
    ) -> Any:
        """The first call of a graph on a new rung."""
        if wanted == "cuda-graph":
            try:
                return self._capture(case, graph, inputs, kept)
            except CaptureError as error:
                self._give_up_capture(error)
                wanted = "inductor"
        if wanted == "inductor":
            try:
                return self._compile(case, graph, inputs)
            except Exception as error:
                self._warn_of_compiler(error, "replayed uncompiled")
                self.lower("fx")
        case.rung = "fx"
        case.run = graph
        with torch.no_grad():
            return graph(*inputs)

    def _capture(
        self, case: _Case, graph: fx.GraphModule, inputs: Sequence[Tensor], kept: Sequence[int]
    ) -> Any:
        """The result of the recorded graph: compiled or, where that fails, as it is."""
        given = _distinct(inputs)
        run: Callable[..., Any] = graph
        try:
            run = self._compiled(graph, given)
        except Exception as error:  # whatever torch's compiler cannot do
            self._warn_of_compiler(error, "recorded uncompiled")
        made = Captured(run, graph, given, kept)
        with torch.no_grad():
            result = made(*inputs)
        case.rung = "cuda-graph"
        case.run = made
        return result

    def _compile(self, case: _Case, graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Any:
        """The result of the compiled graph."""
        given = _distinct(inputs)
        run = self._compiled(graph, given)
        with torch.no_grad():
            result = run(*given)
        case.rung = "inductor"
        case.run = _Compiled(run, graph, [t.stride() for t in given])
        return result

    def _compiled(self, graph: fx.GraphModule, given: Sequence[Tensor]) -> Callable[..., Any]:
        """The compiled graph, which torch compiles now."""
        log.info("compiling the %s, for %s calls to come", self.what, self.calls or "many")
        with torch.no_grad():
            return compiled(graph, given)

    def _warn_of_compiler(self, error: Exception, then: str) -> None:
        _warn(f"the {self.what} cannot be compiled and is {then}: {reason(error)}")


class _Compiled:
    """A compiled graph, whose inputs have to lie in memory as they did at compilation.

    Args:
        compiled: The compiled graph.
        graph: The same, uncompiled.
        strides: Those of each input at compilation.
    """

    def __init__(
        self,
        compiled: Callable[..., Any],
        graph: fx.GraphModule,
        strides: Sequence[tuple[int, ...]],
    ) -> None:
        self.compiled = compiled
        self.graph = graph
        self.strides = strides

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether inputs lie in memory as they did at compilation."""
        return [t.stride() for t in inputs] == self.strides

    def repeat(self, *inputs: Tensor) -> None:
        """The compiled graph at inputs that fit, for what it writes to them."""
        self.compiled(*inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """The graph at these inputs, which are copied where they lie otherwise.

        A parameter is not, since the graph may update it in place.
        """
        given = []
        for t, strides in zip(inputs, self.strides, strict=True):
            if t.stride() != strides:
                if t.requires_grad:
                    return self.graph(*inputs)
                t = torch.empty_strided(t.shape, strides, dtype=t.dtype, device=t.device).copy_(t)
            given.append(t)
        return self.compiled(*given)


@dataclass(slots=True)
class _Case:
    """How inputs of one shape are served.

    Attributes:
        first: Whether the function was first called with inputs of this shape.
        calls: How many calls have had it.
        rung: The engine of the last call.
        graph: The graph, once traced.
        run: The graph as `rung` runs it: compiled, or itself; None before its first call there.
    """

    first: bool
    calls: int = 0
    rung: Engine = "eager"
    graph: fx.GraphModule | None = None
    run: Callable[..., Any] | None = None

    def leave(self) -> None:
        """Falls to the lowest rung."""
        self.rung = "eager"
        self.run = None


def _is_milestone(calls: int) -> bool:
    """Whether the number of calls is a power of two or a multiple of a thousand."""
    return calls % 1000 == 0 or calls & (calls - 1) == 0


def _run_apart(
    function: Function, inputs: Sequence[Tensor], kept: Sequence[int]
) -> list[Tensor | None]:
    """What a function returns and what it makes of its inputs, changed in place or not.

    It is given copies, but of those that are kept; the random state is left as found.
    """
    device = inputs[0].device
    copies = copies_of(inputs, kept)
    with forked(device, None), tracing(), torch.no_grad(), deterministic(device):
        returned = function(*copies)
    written = [copy for i, copy in enumerate(copies) if i not in kept]
    return [*returned, *written]


def _agrees(
    graph: Function, function: Function, inputs: Sequence[Tensor], kept: Sequence[int]
) -> bool:
    """Whether graph and function give the same from the same random state."""
    expected = _run_apart(function, inputs, kept)
    try:
        got = _run_apart(graph, inputs, kept)
    except Exception:  # a graph for any number of data that is none
        return False
    return len(expected) == len(got) and all(map(_is_close, expected, got))


def _is_close(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal to rounding in every entry, since a change may be in the smallest; NaN where NaN is."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape:
        return False
    if a.dtype != b.dtype or not a.is_floating_point():
        return torch.equal(a, b)
    rounding = 64 * torch.finfo(a.dtype).eps
    absolute = 0.0
    if a.dim() == 0:
        absolute = rounding
    elif a.is_cuda and a.numel():
        # Sums of many threads differ by the size of what is summed, not of the sum.
        finite = torch.where(b.isfinite(), b, 0.0)
        absolute = rounding * float(finite.abs().max())
    return torch.allclose(a, b, rtol=rounding, atol=absolute, equal_nan=True)


def _distinct(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, with copies of those given twice: compiled, these would be one for good.

    Those that are shared along an axis are copied too: no other values could be laid out so.
    """
    seen: set[int] = set()
    distinct = []
    for t in tensors:
        if id(t) in seen or (0 in t.stride() and not t.requires_grad):
            t = t.clone(memory_format=torch.contiguous_format)
        seen.add(id(t))
        distinct.append(t)
    return distinct


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
