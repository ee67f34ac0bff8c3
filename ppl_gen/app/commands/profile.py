"""Where the time of a fit goes: a trace of some steps, and five lines."""

from __future__ import annotations

__all__ = ["LEAST_STEPS", "TRACE", "Profile", "expect_one_process", "expect_steps"]

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile, record_function

from ppl_gen.ranks import Ranks
from ppl_gen.writing import write_beside

TRACE = "trace.json"

# Engines settle, and compare their graphs most often, in the first steps.
_WARM = 24
_TIMED = 64
_TRACED = 12
LEAST_STEPS = _WARM + _TIMED + _TRACED

_STEP = "ppl-gen: step"
_UPDATE = "Optimizer.step#"  # as torch names it


def expect_one_process(ranks: Ranks) -> None:
    """Raises ValueError if a fit in several processes is to be profiled."""
    if ranks.count > 1:
        raise ValueError(
            f"expected one process with --profile, got {ranks.count}; leave torchrun out, or "
            "--profile"
        )


def expect_steps(steps: int) -> None:
    """Raises ValueError if a fit has too few steps to be profiled.

    Args:
        steps: That are to come.
    """
    if steps < LEAST_STEPS:
        raise ValueError(
            f"expected at least {LEAST_STEPS} steps with --profile ({_WARM} to warm up, {_TIMED} "
            f"that are timed, {_TRACED} that are traced), got {steps}; take more --epochs or a "
            "smaller --batch-size, or leave --profile out"
        )


class Profile:
    """Batches that time the steps between them, and have torch trace some.

    The first steps warm up; the next are timed, by the wall, with nothing else in the way; the next
    are traced, which makes them slower: of them only the shares are taken that the operations of
    torch and the update have in a step. What comes between passes is timed at every one. Numbers
    are left alone.

    Args:
        batches: What a pass walks through.
        of_pass: The number of its steps.
    """

    def __init__(self, batches: Any, of_pass: int) -> None:
        self._batches = batches
        self._of_pass = of_pass
        self._begun = 0
        self._data: list[float] = []
        self._steps: list[float] = []
        self._between: list[float] = []
        self._ended: float | None = None
        self._tracing: profile | None = None
        self._trace: profile | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        return self._watched(self._batches)

    @property
    def in_memory(self) -> Any:
        """The same, for steps that draw their batches from memory by themselves."""
        held = getattr(self._batches, "in_memory", None)
        if held is None:
            return None
        return replace(held, order=lambda: self._watched(held.order()))

    def _watched(self, batches: Iterable[Any]) -> Iterator[Any]:
        self._end_between()
        walk = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                with self._marked("ppl-gen: data"):
                    batch = next(walk)
            except StopIteration:
                break
            given = time.perf_counter()
            with self._marked(_STEP):
                yield batch
            self._note(given - asked, time.perf_counter() - given)
        self._ended = time.perf_counter()

    def _marked(self, name: str) -> Any:
        """A stretch of the trace, while there is one."""
        if self._tracing is None:
            return nullcontext()
        return record_function(name)

    def _note(self, data: float, step: float) -> None:
        """Takes in a step that is over, and begins and ends the trace when it is time."""
        self._begun += 1
        if _WARM < self._begun <= _WARM + _TIMED:
            self._data.append(data)
            self._steps.append(step)
        if self._begun == _WARM + _TIMED:
            self._tracing = profile(activities=_activities())
            self._tracing.start()
        if self._begun == LEAST_STEPS and self._tracing is not None:
            self._tracing.stop()
            self._trace = self._tracing
            self._tracing = None

    def _end_between(self) -> None:
        """Takes in what came after a pass: validation, checks, metrics and checkpoint."""
        if self._ended is not None:
            self._between.append(time.perf_counter() - self._ended)
            self._ended = None

    def finish(self, folder: Path, console: Console) -> None:
        """Writes the trace into the folder of the run, and says where the time went.

        Args:
            folder: Of the run.
            console: Where it is said.
        """
        self._end_between()
        if self._trace is None:
            if self._tracing is not None:
                self._tracing.stop()
            console.print(
                f"the fit was over after {self._begun} steps: no profile, which takes "
                f"{LEAST_STEPS}",
                soft_wrap=True,
            )
            return
        with write_beside(folder / TRACE) as part:
            self._trace.export_chrome_trace(str(part))
        for line in self._lines(self._trace):
            console.print(line, soft_wrap=True, highlight=False)
        console.print(
            f"{_TRACED} steps are in {folder / TRACE}, for chrome://tracing or ui.perfetto.dev",
            soft_wrap=True,
        )

    def _lines(self, trace: profile) -> list[str]:
        """Five parts of a step, with what comes between passes shared out among its steps."""
        step = sum(self._steps) / len(self._steps)
        operations, update = _shares(trace)
        parts = {
            "batches": sum(self._data) / len(self._data),
            "loss and gradient": step * operations,
            "update of the optimiser": step * update,
            "Python around them": step * (1 - operations - update),
            "between epochs": sum(self._between) / len(self._between) / self._of_pass,
        }
        whole = sum(parts.values())
        said = {
            "batches": "rows and what is drawn of them, unless the graph of the step does that",
            "loss and gradient": "operations of torch, and graphs: a compiled one has the update",
            "update of the optimiser": "where it is no part of a graph",
            "Python around them": "the program, the engine, the loop, and checks",
            "between epochs": "validation, checks, metrics and checkpoint, a step's share of them",
        }
        lines = []
        for name, seconds in parts.items():
            share = 100 * seconds / whole
            lines.append(f"{name:24} {share:5.1f} % {1e6 * seconds:9.0f} µs a step   {said[name]}")
        return lines


def _activities() -> list[ProfilerActivity]:
    """What is traced: the processor, and a CUDA device where there is one."""
    # Else the tracer writes lines of its own past the command's.
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    return activities


def _shares(trace: profile) -> tuple[float, float]:
    """The shares that operations of torch, and the update, have in the steps of a trace."""
    whole = operations = update = 0.0
    for event in trace.events() or ():
        if event.name != _STEP or event.cpu_parent is not None:
            continue
        whole += event.cpu_time_total
        for inner in event.cpu_children:
            if inner.name.startswith(_UPDATE):
                update += inner.cpu_time_total
            else:
                operations += inner.cpu_time_total
    return operations / whole, update / whole
