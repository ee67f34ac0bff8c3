"""Fitting a run: from a configuration to a folder with checkpoints, metrics and pictures."""

from __future__ import annotations

__all__ = ["fit"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console

from ppl_gen.app.config import EXPLICIT, Config
from ppl_gen.app.recipes import build
from ppl_gen.app.recipes.fitting import Fitting, prepare
from ppl_gen.app.run import pictures, progress
from ppl_gen.app.run.folder import Run, vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import NotFinite, iterate
from ppl_gen.inference.engine.replay import plan

_FEW = 2000  # steps


class _Training(NamedTuple):
    """A run about to begin or to go on, everything on its device."""

    run: Run
    fitting: Fitting
    data: Any
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
        given: The names of the options that were given; those of a run that goes on have to be its
            own.
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
    run = training.run
    engine = f", engine {run.config.engine}" if run.config.model in EXPLICIT else ""
    length = f"{run.config.passes} epochs of {len(training.fitting.batches)} steps"
    said = f"{run.config.model} on {progress.describe(training.data)}; {length}; {device}{engine}"
    for line in filter(None, (said, _short(training), training.fitting.remark)):
        console.print(line, soft_wrap=True)
    _train(training, device, console)
    fitting, done = training.fitting, run.config.passes
    pictures.draw_all(
        Fitted(run, fitting.shown, training.data, fitting.condition, device, done), console
    )
    console.print(f"next: ppl-gen evaluate {folder}", soft_wrap=True)


def _begun(folder: Path, config: Config, device: Any, overwrite: bool, download: bool) -> _Training:
    """A new run, its folder made once all that could be wrong has been looked at."""
    data = build.dataset(config, download=download).to(device)
    fingerprint = build.fingerprint(data)
    config = build.settled(config, data)
    fitting = prepare(config, data, device)
    # Decided once and written down: a run that goes on is the same run.
    if config.model in EXPLICIT:
        config = replace(config, engine=plan(config.passes * len(fitting.batches), config.engine))  # type: ignore[arg-type]
    run = Run.create(folder, config, overwrite)
    run.checkpoint(0, fitting, device, fingerprint)
    return _Training(run, fitting, data, fingerprint, 0)


def _resumed(run: Run, device: Any, download: bool) -> _Training:
    """An old run with the weights, optimisers and random state of its checkpoint."""
    data = build.dataset(run.config, download=download).to(device)
    fingerprint = build.fingerprint(data)
    fitting = prepare(run.config, data, device)
    # A run that was stopped before its first checkpoint begins where that one would have been.
    started = (run.folder / "checkpoint.pt").exists()
    done = run.resume(fitting, device, fingerprint) if started else 0
    if run.config.passes < done:
        raise ValueError(
            f"the run {run.folder} is at epoch {done}: expected at least as many --epochs, got "
            f"{run.config.passes}"
        )
    run.rewind(done)
    run.save_config()
    return _Training(run, fitting, data, fingerprint, done)


def _short(training: _Training) -> str:
    """A remark on a training of too few steps for a model without a likelihood; empty if there are
    enough.
    """
    config, an_epoch = training.run.config, len(training.fitting.batches)
    if config.model in EXPLICIT or config.passes * an_epoch >= _FEW:
        return ""
    return (
        f"{config.passes * an_epoch} steps: GANs and moment matching of this size want some "
        f"thousands; --epochs {-(-build.ENOUGH // an_epoch)}"
    )


def _train(training: _Training, device: Any, console: Console) -> None:
    """Runs the epochs that are left, with a checkpoint after each that has gone well."""
    run, fitting, _, fingerprint, done = training
    try:
        step = fitting.begin(done * len(fitting.batches), run.config.engine)  # type: ignore[arg-type]
        fitting.pace(done + 1)
        epochs = run.config.passes
        with (
            _warnings_as_lines(console),
            progress.Live(console, fitting.batches, done, epochs) as live,
        ):
            for record in iterate(step, live, epochs, first_epoch=done + 1):
                if not fitting.is_finite():
                    what = (
                        "the ELBO of test data is"
                        if run.config.model in EXPLICIT
                        else "weights or draws are"
                    )
                    raise NotFinite(
                        f"after epoch {record.epoch} {what} not finite; lower the learning rate"
                    )
                run.log(record)
                run.checkpoint(record.epoch, fitting, device, fingerprint)
                done = record.epoch
                live.show(record)
                fitting.pace(done + 1)
    except KeyboardInterrupt:
        said = f"stopped in epoch {done + 1}, which is dropped; the checkpoint of epoch {done} is saved"
        again = f"ppl-gen fit {run.config.model} --out {run.folder} --resume"
        console.print(f"{said}. Go on with: {again}", soft_wrap=True)
        raise typer.Exit(130) from None
    except NotFinite as error:
        raise ValueError(
            f"{error}. The checkpoint of epoch {done} stays in {run.folder}"
        ) from error


@contextmanager
def _warnings_as_lines(console: Console) -> Iterator[None]:
    """What the library warns of while a model is fitted, a line for each, once."""
    said = set()

    def show(message: Any, category: type[Warning], *place: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            console.print(f"warning: {message}", soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.filterwarnings(
            "ignore", "Encountered (NaN|inf)"
        )  # Pyro's word for what NotFinite says in full
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _reopened(folder: Path, config: Config, given: set[str]) -> Run:
    """The run to go on with, under its own configuration; only the number of epochs may be given
    anew.
    """
    run = Run.open(folder)
    for name in sorted(given - {"epochs"}):
        asked, has = getattr(config, name), getattr(run.config, name)
        if asked != has and (name, asked) != ("engine", "auto"):
            raise ValueError(
                f"the run {folder} was begun with {name} {has}, got {asked}; leave it out, or say "
                "another --out"
            )
    return Run(folder, replace(run.config, epochs=config.epochs)) if "epochs" in given else run
