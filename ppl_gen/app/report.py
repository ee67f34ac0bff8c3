"""What a user sees: progress, tables, pictures."""

from __future__ import annotations

__all__ = [
    "NAMES",
    "Live",
    "ascended",
    "describe",
    "draw_pictures",
    "expect_count",
    "expect_finite",
    "reconstruct",
    "sample",
]

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.build import context
from ppl_gen.app.runs import Run
from ppl_gen.calling import takes
from ppl_gen.data import Batches, Dataset, Split
from ppl_gen.inference import NotFinite, Record, elbo
from ppl_gen.likelihoods import Dirac
from ppl_gen.program import Observed, simulate
from ppl_gen.program import reconstruct as program_reconstruct


class Live:
    """Batches that move a progress bar as they are taken; plain lines, some twenty in all, where there is no terminal."""

    def __init__(self, console: Console, batches: Batches, done: int, epochs: int) -> None:
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
            "", total=epochs * len(batches), completed=done * len(batches), epoch=f"{done + 1}/{epochs}", said=""
        )

    def __enter__(self) -> Live:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for batch in self.batches:
            yield batch
            self.progress.advance(self.task)

    def show(self, record: Record) -> None:
        """Says what an epoch has done."""
        rate = record.data / record.seconds
        name = ascended(record)
        said = f"{NAMES[name]} {record.metrics[name]:.3f} nats per datum, {rate:,.0f} data/s"
        self.progress.update(self.task, epoch=f"{min(record.epoch + 1, self.epochs)}/{self.epochs}", said=said)
        every = max(1, self.epochs // 20)
        if not self.console.is_terminal and (record.epoch % every == 0 or record.epoch in (1, self.epochs)):
            left = (self.epochs - record.epoch) * record.seconds
            self.console.print(f"epoch {record.epoch}/{self.epochs}: {said}, {left:.0f} s left", soft_wrap=True)


NAMES = {"elbo": "ELBO", "iwae": "IWAE bound", "objective": "objective"}


def ascended(record: Record) -> str:
    """The metric that an epoch's steps have ascended."""
    return next(name for name in NAMES if name in record.metrics)


def expect_count(count: int) -> None:
    """Says when a picture of so many is none.

    Raises:
        ValueError: Then.
    """
    if not 1 <= count <= 1000:
        raise ValueError(f"expected --count from 1 to 1000, got {count}")


def expect_finite(program: Any, probe: Split, epoch: int) -> None:
    """Scores some data after an epoch, so that weights which have run away never replace a good checkpoint.

    Raises:
        NotFinite: If their ELBO is not finite.
    """
    if not bool(
        torch.isfinite(elbo(program, None, probe.x, *context(program, probe), particles=1, seed=0).value).all()
    ):
        raise NotFinite(f"after epoch {epoch} the ELBO of test data is not finite; lower the learning rate")


def describe(dataset: Dataset) -> str:
    """The data in a line, with how they are binarised."""
    labels = f", {dataset.classes} classes" if dataset.classes else ""
    size = " × ".join(map(str, dataset.shape))
    return (
        f"{dataset.name}: {len(dataset.train)} to train, {len(dataset.test)} to test, {size}{labels}, "
        f"binarisation {dataset.binarize or 'none'}"
    )


def draw_pictures(run: Run, program: Any, dataset: Dataset, console: Console) -> None:
    """Samples, reconstructions and the training curve of a fitted run."""
    device = next(program.parameters()).device
    made = [
        sample(run, program, dataset, 100, None, run.config.seed, device),
        reconstruct(run, program, dataset.test.fixed(0, min(len(dataset.test), 36))),
        run.folder / "training.png",
    ]
    records = run.records()
    name = ascended(records[-1])
    plots.training_curve(records, name, f"{NAMES[name]}, nats per datum").savefig(made[-1])
    console.print("pictures: " + ", ".join(str(path) for path in made), soft_wrap=True)


def sample(
    run: Run, program: Any, dataset: Dataset, count: int, label: int | None, seed: int, device: torch.device
) -> Path:
    """Draws samples into samples.png: images by the likelihood's mean, vectors with its noise; ten of each label in turn."""
    torch.manual_seed(seed)
    conditional = takes(program.model) == 2
    if label is not None and not (conditional and dataset.classes):
        raise ValueError(f"expected a CVAE of labelled data for --label, got a {run.config.model} of {dataset.name}")
    if label is not None and dataset.classes and not 0 <= label < dataset.classes:
        raise ValueError(f"expected --label from 0 to {dataset.classes - 1}, got {label}")
    labels: list[Tensor] = []
    row_labels: list[str] = []
    if conditional and dataset.classes:
        rows = torch.arange(count, device=device) // 10 % dataset.classes
        labels = [rows if label is None else torch.full_like(rows, label)]
        row_labels = [str(int(y)) for y in labels[0][::10]]
    elif conditional:
        test = dataset.test.fixed(0, count)
        count, labels = len(test), context(program, test)
    path = run.folder / "samples.png"
    if len(dataset.shape) == 3:
        drawn = simulate(Observed(program, Dirac()), count, *labels)
        plots.image_grid(drawn, 10, "samples (means)", row_labels).savefig(path)
    else:
        drawn = simulate(program, count, *labels)
        plots.points({"test data": dataset.test.fixed(0, 1000).x, "samples": drawn}, "data and samples").savefig(path)
    return path


def reconstruct(run: Run, program: Any, split: Split) -> Path:
    """Draws data beside the likelihood's mean at z from the guide into reconstructions.png."""
    path = run.folder / "reconstructions.png"
    plots.reconstructions(split.x, program_reconstruct(program, split.x, *context(program, split))).savefig(path)
    return path
