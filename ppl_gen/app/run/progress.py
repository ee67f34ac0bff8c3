"""What a user is told of a run: its data in a line, and how it goes."""

from __future__ import annotations

__all__ = ["NAMES", "PLAYED", "Live", "ascended", "describe", "expect_count"]

from collections.abc import Iterator, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ppl_gen.app.ingredients.data import Data
from ppl_gen.data import Batches
from ppl_gen.data.domains import Domains, UnpairedBatches
from ppl_gen.inference import Record

NAMES = {"elbo": "ELBO", "iwae": "IWAE bound", "objective": "objective"}  # in nats
# What is shown of a model without a likelihood.
PLAYED = ("critic", "generator", "auxiliary", "cycle", "discrepancy", "spread")


class Live:
    """Batches that move a progress bar as they are taken; plain lines, some twenty in all, where
    there is no terminal.
    """

    def __init__(
        self, console: Console, batches: Batches | UnpairedBatches, done: int, epochs: int
    ) -> None:
        self.console, self.batches, self.epochs = console, batches, epochs
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
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
        for batch in self.batches:
            yield batch
            self.progress.advance(self.task)

    def show(self, record: Record) -> None:
        """Says what an epoch has done."""
        said = f"{_metrics(record.metrics)}, {record.data / record.seconds:,.0f} data/s"
        self.progress.update(
            self.task, epoch=f"{min(record.epoch + 1, self.epochs)}/{self.epochs}", said=said
        )
        every = max(1, self.epochs // 20)
        if not self.console.is_terminal and (
            record.epoch % every == 0 or record.epoch in (1, self.epochs)
        ):
            left = (self.epochs - record.epoch) * record.seconds
            self.console.print(
                f"epoch {record.epoch}/{self.epochs}: {said}, {left:.0f} s left", soft_wrap=True
            )


def ascended(metrics: Mapping[str, float]) -> str | None:
    """The name of the bound that an epoch's steps have ascended, if there is one."""
    return next((name for name in NAMES if name in metrics), None)


def _metrics(metrics: Mapping[str, float]) -> str:
    if name := ascended(metrics):
        return f"{NAMES[name]} {metrics[name]:.3f} nats per datum"
    return ", ".join(
        f"{name} {metrics[name]:.{4 if name == 'discrepancy' else 2}f}"
        for name in PLAYED
        if name in metrics
    )


def expect_count(count: int) -> None:
    """Says when a picture of so many is none.

    Raises:
        ValueError: Then.
    """
    if not 1 <= count <= 1000:
        raise ValueError(f"expected --count from 1 to 1000, got {count}")


def describe(data: Data) -> str:
    """The data in a line, with how they are binarised."""
    if isinstance(data, Domains):
        return f"{describe(data.a)}; and on {describe(data.b)}"
    labels = f", {data.classes} classes" if data.classes else ""
    size = " × ".join(map(str, data.shape))
    return (
        f"{data.name}: {len(data.train)} to train, {len(data.test)} to test, {size}{labels}, "
        f"binarisation {data.binarize or 'none'}"
    )
