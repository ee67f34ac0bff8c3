"""Rows of a torch dataset, read ahead of whoever takes them, by threads or by processes."""

from __future__ import annotations

__all__ = ["Reader", "Rows", "loss_of_reader", "rows_of"]

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.pyro_patches import end_readers

_AHEAD = 2  # batches that are read ahead, for each thread or process
_PATIENCE = 900  # seconds, after which a batch that does not come is given up

# What torch says, in whatever the main thread is about, of a process that has ended or hangs.
_LOST = ("DataLoader worker", "DataLoader timed out")


class Rows(NamedTuple):
    """Some data at once, as a source may give them that reads several in one go.

    Attributes:
        x: The data, (B, *shape).
        y: What lies beside each, (B, ...).
    """

    x: Tensor
    y: Tensor


def rows_of(source: Any, places: Sequence[int]) -> Rows:
    """Data of a torch dataset, at once where it has `__getitems__`, else one by one.

    Args:
        source: A torch dataset, or a sequence, of (x, y). Its `__getitems__`, if there is one,
            takes places and returns `Rows`, or a list of (x, y).
        places: Which data.
    """
    many = getattr(source, "__getitems__", None)
    found: Any = None
    if many is not None:
        found = many(places)
    if isinstance(found, Rows):
        return found
    if found is None:
        found = [source[place] for place in places]
    x, y = default_collate(found)
    return Rows(x, y)


class Reader:
    """Batches of chosen rows, in order, while others are at work on those before.

    Processes stay from pass to pass, and end with the reader. Memory is pinned where batches go to
    a CUDA device. Batches are the same for any number of processes: what a source draws by itself
    comes from a seed of each batch.

    Args:
        source: A torch dataset, or a sequence, of (x, y).
        workers: How many threads or processes read; 0 reads when a batch is asked for.
        by_threads: Whether threads of this process read: for what lets go of Python's lock, and
            draws nothing.
        device: Where batches go.
    """

    def __init__(
        self, source: Any, workers: int, by_threads: bool, device: torch.device | str
    ) -> None:
        self._source = source
        self._workers = workers
        self._by_threads = by_threads
        self._device = torch.device(device)
        self._is_pinned = self._device.type == "cuda" and torch.cuda.is_available()
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None
        self._is_busy = False

    def __call__(self, order: Iterable[Sequence[int]], seed: int) -> Iterator[Rows]:
        """A pass: the batches of chosen rows, on the device.

        Args:
            order: The rows of each batch.
            seed: Of what the source draws in other processes.

        Raises:
            ValueError: If the source raises it.
            ChildProcessError: If a process that reads has ended, or gives nothing for long.
        """
        batches: Iterator[Rows]
        if self._workers == 0:
            batches = (rows_of(self._source, places) for places in order)
        elif self._by_threads:
            batches = self._by_pool(order)
        else:
            batches = self._by_processes(order, seed)
        with _plain_errors():
            for x, y in batches:
                x_there = x.to(self._device, non_blocking=self._is_pinned)
                yield Rows(x_there, y.to(self._device, non_blocking=self._is_pinned))

    def _by_pool(self, order: Iterable[Sequence[int]]) -> Iterator[Rows]:
        """Read by threads, which end with the pass."""
        waiting: deque[Future[Rows]] = deque()
        with ThreadPoolExecutor(self._workers, "reader") as pool:
            try:
                for places in order:
                    waiting.append(pool.submit(self._read, places))
                    if len(waiting) > _AHEAD * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, places: Sequence[int]) -> Rows:
        x, y = rows_of(self._source, places)
        if self._is_pinned:
            return Rows(x.pin_memory(), y.pin_memory())
        return Rows(x, y)

    def _by_processes(self, order: Iterable[Sequence[int]], seed: int) -> Iterator[Rows]:
        """Read by processes; a pass that is begun within another has its own."""
        if self._is_busy:
            own = Reader(self._source, self._workers, False, self._device)
            yield from own._by_processes(order, seed)
            return
        if self._loader is None:
            self._loader = DataLoader(
                _Seeded(self._source),
                batch_sampler=self._order,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                pin_memory=self._is_pinned,
                timeout=_PATIENCE,
                prefetch_factor=_AHEAD,
                persistent_workers=True,
                generator=torch.Generator(),  # it draws a seed of its own, which nobody needs
            )
        self._order.begin(order, seed)
        self._is_busy = True
        try:
            yield from self._loader
        except Exception:
            end_readers(self._loader)
            self._loader = None
            raise
        finally:
            self._is_busy = False


class _Asked(NamedTuple):
    """A batch that a process is asked for: its rows, and the seed of what is drawn for it."""

    places: Sequence[int]
    seed: int


class _Order:
    """The batches of the pass that is going on."""

    def __init__(self) -> None:
        self._order: Iterable[Sequence[int]] = ()
        self._seed = 0

    def begin(self, order: Iterable[Sequence[int]], seed: int) -> None:
        """Sets what is read next.

        Args:
            order: The rows of each batch.
            seed: Of the pass.
        """
        self._order = order
        self._seed = seed

    def __iter__(self) -> Iterator[Any]:
        for i, places in enumerate(self._order):
            yield _Asked(places, (self._seed + i) % 2**63)


class _Seeded(TorchDataset[Any]):
    """A source in a process that reads: what it draws for a batch is that batch's own."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, asked: _Asked) -> Rows:
        random.seed(asked.seed)
        np.random.seed(asked.seed % 2**32)
        torch.manual_seed(asked.seed)
        return rows_of(self._source, asked.places)


def _as_it_is(rows: Any) -> Any:
    return rows


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Says what was wrong in a process that reads, without that process's traceback."""
    try:
        yield
    except ValueError as error:
        lines = str(error).strip().splitlines()
        if not lines or not lines[0].startswith("Caught ValueError in DataLoader worker"):
            raise
        raise ValueError(lines[-1].removeprefix("ValueError: ")) from error
    except RuntimeError as error:
        said = loss_of_reader(error)
        if said is None:
            raise
        raise ChildProcessError(said) from error
    except (EOFError, ConnectionError) as error:
        if str(error).startswith("Caught "):  # by the source, in another process
            raise
        raise ChildProcessError(_said_of_loss("nothing more came from it")) from error


def loss_of_reader(error: BaseException) -> str | None:
    """What is to be said where a process that reads has ended or hangs; None of other errors.

    Args:
        error: Of torch, which raises it wherever the main thread happens to be.
    """
    said = str(error).strip()
    if not isinstance(error, RuntimeError) or not said.startswith(_LOST):
        return None
    return _said_of_loss(said.splitlines()[0].rstrip(". "))


def _said_of_loss(why: str) -> str:
    return (
        f"a process that reads data from disk has ended, or gives nothing: {why}; memory may have "
        "run out: take fewer of them (workers=1), smaller batches or smaller images, and go on "
        "from the last checkpoint (--resume)"
    )
