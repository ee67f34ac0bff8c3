"""Fitting a run: from a configuration to a folder with checkpoints, metrics and pictures."""

from __future__ import annotations

__all__ = ["fit"]

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console

from ppl_gen.app import build, report
from ppl_gen.app.build import Config
from ppl_gen.app.runs import Run, vacant
from ppl_gen.inference import NotFinite, iterate, svi_step
from ppl_gen.inference.engine import plan


class _Training(NamedTuple):
    """A run about to begin or to go on, everything on its device."""

    run: Run
    program: Any
    optimizer: Any
    dataset: Any
    fingerprint: str
    done: int


def fit(
    folder: Path,
    config: Config,
    given: set[str],
    device_name: str,
    resume: bool,
    overwrite: bool,
    download: bool,
    console: Console,
) -> None:
    """Fits what a configuration names into a folder, or goes on with the run that is there.

    Args:
        folder: Of the run.
        config: What is asked for.
        given: The names of the options that were given; those of a run that goes on have to be its own.
        device_name: auto, cpu or cuda.
        resume: Whether to go on.
        overwrite: Whether to begin anew where a run is.
        download: Whether torchvision may fetch what is missing.
        console: Where progress is shown.

    Raises:
        ValueError: Before work starts, if anything is wrong.
    """
    device = build.device(device_name)
    if resume:
        training = _resumed(_reopened(folder, config, given), device, download)
    else:
        vacant(folder, overwrite)
        training = _begun(folder, config, device, overwrite, download)
    run, dataset = training.run, training.dataset
    console.print(
        f"{run.config.model} on {report.describe(dataset)}; {device}, engine {run.config.engine}", soft_wrap=True
    )
    _train(training, device, console)
    report.draw_pictures(run, training.program, dataset, console)
    console.print(f"next: ppl-gen evaluate {folder}", soft_wrap=True)


def _begun(folder: Path, config: Config, device: Any, overwrite: bool, download: bool) -> _Training:
    """A new run, its folder made once all that could be wrong has been looked at."""
    dataset = build.dataset(config, download=download)
    fingerprint = build.fingerprint(dataset)
    program, optimizer = build.trainable(config, dataset, device)
    # Decided once and written down: a run that goes on is the same run.
    steps = config.epochs * len(dataset.train.batches(config.batch_size))
    run = Run.create(folder, replace(config, engine=plan(steps, config.engine)), overwrite)  # type: ignore[arg-type]
    run.checkpoint(0, program, optimizer, device, fingerprint)
    return _Training(run, program, optimizer, dataset.to(device), fingerprint, 0)


def _resumed(run: Run, device: Any, download: bool) -> _Training:
    """An old run with the weights, optimiser and random state of its checkpoint."""
    dataset = build.dataset(run.config, download=download)
    fingerprint = build.fingerprint(dataset)
    program, optimizer = build.trainable(run.config, dataset, device)
    # A run that was stopped before its first checkpoint begins where that one would have been.
    started = (run.folder / "checkpoint.pt").exists()
    done = run.restore(program, device, optimizer, fingerprint) if started else 0
    if run.config.epochs < done:
        raise ValueError(
            f"the run {run.folder} is at epoch {done}: expected at least as many --epochs, got {run.config.epochs}"
        )
    run.rewind(done)
    run.save_config()
    return _Training(run, program, optimizer, dataset.to(device), fingerprint, done)


def _train(training: _Training, device: Any, console: Console) -> None:
    """Runs the epochs that are left, with a checkpoint after each that has gone well."""
    run, program, optimizer, dataset, fingerprint, done = training
    warnings.filterwarnings("ignore", "Encountered (NaN|inf)")  # Pyro's word for what NotFinite says in full
    try:
        batches = dataset.train.batches(run.config.batch_size)
        probe = dataset.test.fixed(0, min(len(dataset.test), 100))
        step = svi_step(
            program,
            optimizer,
            build.objective(run.config),
            beta=build.beta(run.config, len(batches)),
            first_step=done * len(batches),
            engine=run.config.engine,  # type: ignore[arg-type]
        )
        with report.Live(console, batches, done, run.config.epochs) as live:
            for record in iterate(step, live, run.config.epochs, first_epoch=done + 1):
                report.expect_finite(program, probe, record.epoch)
                run.log(record)
                run.checkpoint(record.epoch, program, optimizer, device, fingerprint)
                done = record.epoch
                live.show(record)
    except KeyboardInterrupt:
        said = f"stopped in epoch {done + 1}, which is dropped; the checkpoint of epoch {done} is saved"
        again = f"ppl-gen fit {run.config.model} --out {run.folder} --resume"
        console.print(f"{said}. Go on with: {again}", soft_wrap=True)
        raise typer.Exit(130) from None
    except NotFinite as error:
        raise ValueError(f"{error}. The checkpoint of epoch {done} stays in {run.folder}") from error


def _reopened(folder: Path, config: Config, given: set[str]) -> Run:
    """The run to go on with, under its own configuration; only the number of epochs may be given anew."""
    run = Run.open(folder)
    for name in sorted(given - {"epochs"}):
        asked, has = getattr(config, name), getattr(run.config, name)
        if asked != has and (name, asked) != ("engine", "auto"):
            raise ValueError(
                f"the run {folder} was begun with {name} {has}, got {asked}; leave it out, or say another --out"
            )
    return Run(folder, replace(run.config, epochs=config.epochs)) if "epochs" in given else run
