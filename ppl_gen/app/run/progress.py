"""What a user is told of a run: its data in a line, and how it goes."""

from __future__ import annotations

__all__ = ["ERRORS", "NAMES", "PLAYED", "Live", "ascended", "describe", "expect_count"]

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ppl_gen.app.ingredients.data import Data
from ppl_gen.app.signals import raise_what_came
from ppl_gen.data import Batches, Domains, UnpairedBatches
from ppl_gen.data.presentation import InMemory
from ppl_gen.inference import Record
from ppl_gen.ranks import Shares

# The bounds that a fit may ascend, in nats, as they are called on screen.
NAMES = {"elbo": "ELBO", "iwae": "IWAE bound", "objective": "objective"}
# What autoencoders descend, per datum, as it is called on screen.
ERRORS = {"error": "squared error", "penalised_error": "squared error and penalty"}
# What is shown of a model without a likelihood.
PLAYED = ("critic", "generator", "auxiliary", "cycle", "discrepancy", "spread")
_DIGITS = {"discrepancy": 4}  # behind the point; 2 for the others
_LINES = 20  # in all, where there is no terminal
_MOST_SHOWN = 1000  # data in a picture
_OFTEN = 0.05  # seconds between two moves of the bar, which cost as much as a small step

_T = TypeVar("_T")


class Live:
    """Batches that move a progress bar as they are taken.

    Where there is no terminal, lines are printed instead, some twenty in all.

    Args:
        console: Where progress is shown.
        batches: What an epoch walks through.
        done: The number of epochs that are done.
        epochs: The number of epochs in all.
    """

    def __init__(
        self,
        console: Console,
        batches: Batches | UnpairedBatches | Shares | tuple[()],
        done: int,
        epochs: int,
    ) -> None:
        self.console = console
        self.batches = batches
        self.epochs = epochs
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(
            "",
            total=epochs * len(batches),
            completed=done * len(batches),
            epoch=f"{done + 1}/{epochs}",
            said="",
        )

    def __enter__(self) -> Live:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self._watched(self.batches)

    @property
    def in_memory(self) -> InMemory | None:
        """The same, for steps that draw their batches from memory by themselves."""
        held = getattr(self.batches, "in_memory", None)
        if held is None:
            return None
        return replace(held, order=lambda: self._watched(held.order()))

    def _watched(self, taken: Iterable[_T]) -> Iterator[_T]:
        """Batches, or their rows, as they come; the bar is moved some times a second."""
        moved = 0
        seen = time.monotonic()
        for some in taken:
            raise_what_came()
            yield some
            moved += 1
            if time.monotonic() - seen > _OFTEN:
                self.progress.advance(self.task, moved)
                moved = 0
                seen = time.monotonic()
        self.progress.advance(self.task, moved)

    def show(self, record: Record) -> None:
        """Shows what the steps of an epoch have come to, and how fast they were."""
        said = f"{_in_words(record.metrics)}, {record.data / record.seconds:,.0f} data/s"
        following = min(record.epoch + 1, self.epochs)
        self.progress.update(self.task, epoch=f"{following}/{self.epochs}", said=said)
        if self.console.is_terminal or not self._has_a_line(record.epoch):
            return
        left = (self.epochs - record.epoch) * record.seconds
        self.console.print(
            f"epoch {record.epoch}/{self.epochs}: {said}, {left:.0f} s left", soft_wrap=True
        )

    def _has_a_line(self, epoch: int) -> bool:
        every = max(1, self.epochs // _LINES)
        return epoch % every == 0 or epoch in (1, self.epochs)


def ascended(metrics: Collection[str]) -> str | None:
    """The name of the bound that the steps of an epoch have ascended; None if there is none."""
    for name in NAMES:
        if name in metrics:
            return name
    return None


def _in_words(metrics: Mapping[str, float]) -> str:
    """The metrics of an epoch: "ELBO -41.740 nats per datum", "critic 1.20, generator 0.81"."""
    bound = ascended(metrics)
    if bound is not None:
        said = f"{NAMES[bound]} {metrics[bound]:.3f} nats per datum"
        if "validation_elbo" in metrics:
            said += f", held-out ELBO {metrics['validation_elbo']:.3f}"
        return said
    parts = []
    for name, words in ERRORS.items():
        if name in metrics:
            parts.append(f"{words} {metrics[name]:.4f} per datum")
    if "validation_squared_distance" in metrics:
        parts.append(f"held-out squared error {metrics['validation_squared_distance']:.4f}")
    for name in PLAYED:
        if name in metrics:
            digits = _DIGITS.get(name, 2)
            parts.append(f"{name} {metrics[name]:.{digits}f}")
    return ", ".join(parts)


def expect_count(count: int, *, many: bool = False) -> None:
    """Raises ValueError if a picture cannot show so many data.

    Args:
        count: How many are asked for.
        many: Whether there may be any number of them, since they go into arrays.
    """
    if many and count > _MOST_SHOWN:
        return
    if not 1 <= count <= _MOST_SHOWN:
        raise ValueError(f"expected --count from 1 to {_MOST_SHOWN}, got {count}")


def describe(data: Data) -> str:
    """The data in a line: their number, shape, classes, stored numbers and binarisation."""
    if isinstance(data, Domains):
        return f"{describe(data.a)}; and on {describe(data.b)}"
    size = " × ".join(map(str, data.shape))
    said = f"{data.name}: {len(data.train)} to train, "
    if data.validation is not None:
        said += f"{len(data.validation)} to validate, "
    said += f"{len(data.test)} to test, {size}"
    if data.classes:
        said += f", {data.classes} classes"
    if data.stored:
        said += f", {data.stored}"
    return f"{said}, binarisation {data.binarize or 'none'}"
