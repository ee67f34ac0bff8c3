"""Graphs whose kernels are recorded once and launched together: what a CUDA device is quickest at.

A graph of a small program is a hundred kernels of some microseconds each, and to launch one takes
the processor as long as the device takes to run it. Recorded, in what CUDA calls a graph, they are
launched by one call. A recording reads and writes the memory that it was made with: inputs that
lie elsewhere at every call are copied to a place of its own, all others are used where they lie.

torch's compiler can record by itself (`mode="reduce-overhead"`). It is not asked to: it copies
every input that it does not know for a parameter, the whole data among them, and leaves a graph
alone that writes to such an input, as a step does that updates its parameters.
"""

from __future__ import annotations

__all__ = ["RECORDERS", "CaptureError", "Captured", "Recording", "can_capture"]

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from ppl_gen.contexts import ONE_THREAD, forked, reason
from ppl_gen.inference.engine.graphs import Function, copies_of
from ppl_gen.pyro_patches import copy_all, writes_of

Outputs = Sequence[Tensor | None]

# With more recordings than this, inputs that are written to lie elsewhere all the time.
_MOST_RECORDINGS = 16
_WARM_UPS = 3
# How far what a recording gives may be from what its graph gives, relative to the norm: rounding
# of fewer bits is no mistake, another number is.
_ROUNDING = 0.05


class CaptureError(RuntimeError):
    """A graph cannot be recorded, or its recording gives other numbers."""


class Recording(Protocol):
    """The kernels of one call of a function, which read and write the memory of that call.

    Args:
        run: The function, of positional tensors.
        inputs: Its tensors. Nothing is computed of them yet.

    Attributes:
        outputs: Where the results lie after each `replay`.
    """

    outputs: Outputs

    def __init__(self, run: Callable[..., Any], inputs: Sequence[Tensor]) -> None: ...

    def replay(self) -> None:
        """Computes everything anew, of what lies in the inputs now."""

    @staticmethod
    def warm_up(run: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        """Calls the function some times, so that nothing is set up while it is recorded."""


class _CudaGraph:
    """A recording by CUDA, in which numbers are drawn from the generator of the device."""

    outputs: Outputs

    def __init__(self, run: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        device = inputs[0].device
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            before = torch.cuda.current_stream()
            try:
                # What other threads do meanwhile, as fetch data, is none of its business.
                with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                    self.outputs = run(*inputs)
            except Exception:
                # A recording that fails may leave its stream in the place of the current one.
                torch.cuda.set_stream(before)
                with suppress(Exception):
                    self._graph.reset()
                raise

    def replay(self) -> None:
        self._graph.replay()

    @staticmethod
    def warm_up(run: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        with torch.cuda.device(inputs[0].device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    run(*inputs)
            torch.cuda.current_stream().wait_stream(beside)
            torch.cuda.synchronize()


# By the type of a device.
RECORDERS: dict[str, type[Recording]] = {"cuda": _CudaGraph}


def can_capture(device: torch.device) -> bool:
    """Whether graphs of tensors on a device can be recorded."""
    return device.type in RECORDERS


class Captured:
    """A graph, recorded at its first call and again where an input lies elsewhere.

    Before, it is recorded on copies of the inputs and compared with the graph, operation by
    operation: nothing but the copies is changed by that, nor is the random state.

    Args:
        run: The function to record: the graph or, what gives the same, the compiled one.
        graph: The graph.
        inputs: The tensors of the first call, laid out as those that `run` was compiled for; no
            tensor is given twice.
        kept: The indices of inputs too large to copy, which are only read.

    Raises:
        CaptureError: If it cannot be recorded, or if the recording gives other numbers.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        graph: Function,
        inputs: Sequence[Tensor],
        kept: Sequence[int] = (),
    ) -> None:
        device = inputs[0].device
        for i, t in enumerate(inputs):
            if t.device != device:
                raise CaptureError(f"input {i} lies on {t.device}, others on {device}")
        self._run = run
        self._graph = graph
        self._strides = [t.stride() for t in inputs]
        self._kept = frozenset(kept)
        self._recorder = RECORDERS[device.type]
        # What has lain elsewhere at some call, and where it is copied to.
        self._buffers: dict[int, Tensor] = {}
        self._in_place: list[int] = []
        self._addresses: list[int] = []
        # They are held, so that nothing else comes to lie where the recording reads them.
        self._held: list[Tensor] = []
        self._recordings = 0
        self._recording: Recording | None = None
        try:
            with ONE_THREAD, torch.no_grad():
                self._written = self._rehearse(inputs)
        except CaptureError:
            raise
        except Exception as error:  # whatever the device cannot record
            raise CaptureError(reason(error)) from error

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether inputs lie where the recording reads them, or where they can be copied from."""
        return self._recording is not None and not self._moved(inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the graph gives at these inputs, in memory of its own.

        Raises:
            CaptureError: If an input lies elsewhere and the graph cannot be recorded again.
        """
        moved = self._moved(inputs)
        for i in moved:
            written_elsewhere = i in self._written and inputs[i].stride() != self._strides[i]
            if written_elsewhere:
                return self._graph(*inputs)
        if self._recording is None or moved:
            self._record(inputs, moved)
        self.repeat(*inputs)
        assert self._recording is not None
        return [_own(t) for t in self._recording.outputs]

    def repeat(self, *inputs: Tensor) -> None:
        """The same, without its results, at inputs that fit."""
        assert self._recording is not None
        if self._buffers:
            copy_all(list(self._buffers.values()), [inputs[i] for i in self._buffers])
        self._recording.replay()

    def _moved(self, inputs: Sequence[Tensor]) -> list[int]:
        """The indices of the inputs that are not where the recording has them."""
        moved = []
        for i, address in zip(self._in_place, self._addresses, strict=True):
            if inputs[i].data_ptr() != address or inputs[i].stride() != self._strides[i]:
                moved.append(i)
        return moved

    def _record(self, inputs: Sequence[Tensor], moved: Sequence[int]) -> None:
        """Records anew: what has moved is copied from now on, but for what is written to.

        Args:
            inputs: Those of the call.
            moved: The indices of those that have moved since the last recording.
        """
        self._recordings += 1
        if self._recordings > _MOST_RECORDINGS:
            raise CaptureError("the tensors that it updates lie elsewhere all the time")
        for i, t in enumerate(inputs):
            lies_otherwise = t.stride() != self._strides[i]
            if (i in moved or lies_otherwise) and i not in self._written:
                place = torch.empty_strided(
                    t.shape, self._strides[i], dtype=t.dtype, device=t.device
                )
                self._buffers[i] = place.copy_(t)
        self._in_place = [i for i in range(len(inputs)) if i not in self._buffers]
        self._held = [inputs[i] for i in self._in_place]
        self._addresses = [t.data_ptr() for t in self._held]
        places = [self._buffers.get(i, t) for i, t in enumerate(inputs)]
        self._recording = None  # frees its memory before more is taken
        try:
            with ONE_THREAD, torch.no_grad():
                self._recording = self._recorder(self._run, places)
        except Exception as error:  # whatever the device cannot record
            raise CaptureError(reason(error)) from error

    def _rehearse(self, inputs: Sequence[Tensor]) -> frozenset[int]:
        """Records on copies; returns the indices of the inputs that the graph writes to.

        Raises:
            CaptureError: If the recording gives other numbers than the graph.
        """
        device = inputs[0].device
        before = self._copies(inputs)
        by_graph = self._copies(inputs)
        with forked(device, None):
            expected = writes_of(self._graph, by_graph)
        written = set(expected.written)
        for i, (old, new) in enumerate(zip(before, by_graph, strict=True)):
            # Some operations, as batch normalisation, do not say that they write.
            if i not in self._kept and not _same(old, new):
                written.add(i)
        by_recording = self._copies(inputs)
        with forked(device, None):
            self._recorder.warm_up(self._run, by_recording)
        copy_all(
            [t for i, t in enumerate(by_recording) if i not in self._kept],
            [t for i, t in enumerate(before) if i not in self._kept],
        )
        with forked(device, None):
            trial = self._recorder(self._run, by_recording)
            trial.replay()
        _expect_close(trial.outputs, expected.returned)
        for i in written:
            _expect_written(i, before[i], by_recording[i], by_graph[i])
        return frozenset(written)

    def _copies(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return copies_of(inputs, tuple(self._kept))


def _own(t: Tensor | None) -> Tensor | None:
    """A copy, since the next call writes over what a recording returns."""
    if t is None:
        return None
    return t.clone()


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _expect_close(got: Outputs, expected: Outputs) -> None:
    """Raises CaptureError unless all results of a recording are about those of its graph."""
    sizes = [_size(t) for t in expected if t is not None]
    largest = max(sizes, default=0.0)
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a is None or b is None:
            is_close = a is b
        else:
            difference = torch.where(a.isfinite() & b.isfinite(), a.double() - b.double(), 0.0)
            finite_alike = bool((a.isfinite() == b.isfinite()).all())
            allowed = _ROUNDING * _size(b) + 1e-4 * largest
            is_close = finite_alike and _size(difference) <= allowed
        if not is_close:
            raise CaptureError(f"recorded, it gives other numbers than its graph (result {number})")


def _expect_written(i: int, before: Tensor, got: Tensor, expected: Tensor) -> None:
    """Raises CaptureError if a recording leaves an input as it was that its graph changes."""
    change = _size(expected.double() - before.double())
    is_lost = _same(got, before) and change > 1e-6 * (1 + _size(before))
    if is_lost:
        raise CaptureError(f"recorded, it does not write to input {i}, as its graph does")


def _size(t: Tensor) -> float:
    """The norm of what is finite in a tensor."""
    values = t.detach().double()
    return float(torch.where(values.isfinite(), values, 0.0).norm())
