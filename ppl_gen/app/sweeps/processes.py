"""Cells run side by side over processes, each on one thread and on disk once it is finished."""

from __future__ import annotations

__all__ = ["carry_out"]

import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import joblib
import torch
import typer

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.finished import Finished
from ppl_gen.app.sweeps.numbers import number_of
from ppl_gen.app.sweeps.sweep import Failed
from ppl_gen.contexts import forked, store_kept

_GLANCE = 0.5  # seconds between two looks at whether the process that asks is still there
_KILLED = (
    "its process was killed, as by the system where memory ends; take fewer --jobs, or smaller "
    "settings"
)


def carry_out(cells: Sequence[Cell], folder: Path, jobs: int) -> Iterator[Finished | Failed]:
    """Runs cells, and yields each as it is finished or has failed.

    Where a process is killed, the cells that it took with it are run once more, one by one, so that
    one cell too many for the memory fails alone.

    Args:
        cells: Those to run.
        folder: In which each has a folder of its own.
        jobs: How many are run side by side; with 1, in this process.
    """
    if jobs == 1:
        with _one_thread():
            for cell in cells:
                yield _outcome(cell, folder)
        return
    left = {cell.name: cell for cell in cells}
    try:
        for outcome in _side_by_side(cells, folder, jobs):
            del left[outcome.cell.name]
            yield outcome
    except BrokenExecutor:
        for cell in left.values():
            yield _alone(cell, folder)


def _side_by_side(cells: Sequence[Cell], folder: Path, jobs: int) -> Iterator[Finished | Failed]:
    calls = [joblib.delayed(_in_worker)(cell, folder, os.getpid()) for cell in cells]
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(jobs, return_as="generator_unordered", batch_size=1)
        with closing(parallel(calls)) as outcomes:
            yield from outcomes


def _alone(cell: Cell, folder: Path) -> Finished | Failed:
    """Runs one cell in a process of its own."""
    try:
        return next(_side_by_side([cell], folder, 2))
    except BrokenExecutor:
        return Failed(cell, _KILLED)


def _in_worker(cell: Cell, folder: Path, asker: int) -> Finished | Failed:
    """Runs a cell in another process, which ends when the one that asks for it does."""
    torch.set_num_threads(1)
    _end_with(asker)
    return _outcome(cell, folder)


def _outcome(cell: Cell, folder: Path) -> Finished | Failed:
    """Measures a cell, and writes its file."""
    own = folder / cell.name
    start = time.perf_counter()
    try:
        own.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(record=True) as came, store_kept():
            warnings.simplefilter("default")
            with forked(torch.device("cpu"), cell.seed):
                found = cell.run(own)
        finished = Finished(
            cell=cell,
            folder=own,
            numbers={name: number_of(number) for name, number in found.items()},
            seconds=time.perf_counter() - start,
            warnings=tuple(dict.fromkeys(_in_a_line(warning.message) for warning in came)),
        )
        finished.write()
    except typer.Exit:  # of a command that was stopped
        raise
    except Exception as error:  # whatever a cell may raise: the others go on
        return Failed(cell, _in_a_line(error) or type(error).__name__)
    return finished


def _in_a_line(said: object) -> str:
    return " ".join(str(said).split())


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for tensor operations, as other processes have: the sums come out alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_watched: set[int] = set()


def _end_with(asker: int) -> None:
    """Ends this process when another one has ended, however that was killed.

    Args:
        asker: The number of the process that this one was started by.
    """
    if asker in _watched or os.name != "posix":
        return
    _watched.add(asker)

    def watch() -> None:
        while os.getppid() == asker:
            time.sleep(_GLANCE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
