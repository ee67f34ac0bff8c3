"""What a user sees: progress, tables, pictures."""

from __future__ import annotations

__all__ = ["Live", "describe", "draw_pictures", "evaluate", "expect_count", "expect_finite", "reconstruct", "sample"]

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.build import context
from ppl_gen.app.runs import Run, write_atomically
from ppl_gen.calling import takes
from ppl_gen.data import Batches, Dataset, Split
from ppl_gen.inference import NotFinite, Record, elbo, log_evidence
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
        said = f"ELBO {record.metrics['elbo']:.3f} nats per datum, {rate:,.0f} data/s"
        self.progress.update(self.task, epoch=f"{min(record.epoch + 1, self.epochs)}/{self.epochs}", said=said)
        every = max(1, self.epochs // 20)
        if not self.console.is_terminal and (record.epoch % every == 0 or record.epoch in (1, self.epochs)):
            left = (self.epochs - record.epoch) * record.seconds
            self.console.print(f"epoch {record.epoch}/{self.epochs}: {said}, {left:.0f} s left", soft_wrap=True)


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


def evaluate(
    run: Run, program: Any, test: Split, particles: int, seed: int, epoch: int, console: Console
) -> dict[str, Any]:
    """Scores a test set by importance weighting, writes evaluation.json and prints the table."""
    given = context(program, test)
    draws = min(particles, 100)
    bound = elbo(program, None, test.x, *given, particles=draws, seed=seed).mean()
    each = log_evidence(program, None, test.x, *given, particles=particles, seed=seed, progress=console.is_terminal)
    mean = each.mean()
    if not math.isfinite(float(mean.value)):
        raise ValueError(
            f"the log evidence of the run {run.folder} is {float(mean.value)}: its weights have run away; fit it anew"
        )
    limit = min(1 - 1 / math.log10(particles), 0.7) if particles > 1 else 0.7
    heavy = None if each.k_hat is None else float((each.k_hat > limit).double().mean())
    result: dict[str, Any] = {
        "unit": "nats per datum",
        "log_evidence": float(mean.value),
        "standard_error": float(mean.standard_error) if particles > 1 else None,
        "sampling_error": float(mean.sampling_error) if len(test) > 1 and mean.sampling_error is not None else None,
        "elbo": float(bound.value),
        "elbo_standard_error": float(bound.standard_error) if particles > 1 else None,
        "elbo_particles": draws,
        "particles": particles,
        "data": len(test),
        "conditional": bool(given),
        "binarize": run.config.binarize,
        "ess_smallest": None if mean.ess is None else float(mean.ess),
        "k_hat_limit": limit,
        "k_hat_above_limit": heavy,
        "seed": seed,
        "epoch": epoch,
    }
    text = json.dumps(result, indent=2) + "\n"
    write_atomically(run.folder / "evaluation.json", lambda file: file.write(text.encode()))
    _print_evaluation(run, result, console)
    return result


def _print_evaluation(run: Run, result: dict[str, Any], console: Console) -> None:
    condition = " given the label" if result["conditional"] else ""
    table = Table("nats per datum", "average ± Monte Carlo standard error", title_justify="left")
    table.title = f"{run.config.model} on {run.config.data}, {result['data']} test data"
    for name, value, error in (
        ("log evidence", "log_evidence", "standard_error"),
        ("ELBO", "elbo", "elbo_standard_error"),
    ):
        shown = "unknown (one particle)" if result[error] is None else f"{result[error]:.4f}"
        table.add_row(f"test {name}{condition}", f"{result[value]:.3f} ± {shown}")
    console.print(table)
    console.print(
        f"{result['particles']} particles, binarisation {result['binarize'] or 'none'}, likelihood {run.config.likelihood}; "
        f"smallest effective sample size {result['ess_smallest']:.0f}; another test set of this size would move the average "
        f"by about {result['sampling_error'] or float('nan'):.2f}",
        soft_wrap=True,
    )
    if result["k_hat_above_limit"]:
        console.print(
            f"Pareto k̂ is above {result['k_hat_limit']:.2f} for {result['k_hat_above_limit']:.1%} of the data: their weights "
            f"have heavy tails, and their evidence is likely higher; raise --particles",
            soft_wrap=True,
        )
    console.print(f"written to {run.folder / 'evaluation.json'}", soft_wrap=True)


def draw_pictures(run: Run, program: Any, dataset: Dataset, console: Console) -> None:
    """Samples, reconstructions and the training curve of a fitted run."""
    device = next(program.parameters()).device
    made = [
        sample(run, program, dataset, 100, None, run.config.seed, device),
        reconstruct(run, program, dataset.test.fixed(0, min(len(dataset.test), 36))),
        run.folder / "training.png",
    ]
    plots.training_curve(run.records()).savefig(made[-1])
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
