"""Fitting a run: from a configuration to a folder with checkpoints, metrics and pictures."""

from __future__ import annotations

__all__ = ["fit", "unfitted"]

import math
import os
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ppl_gen.app import configure
from ppl_gen.app.commands.fit_along import (
    Order,
    average_statistics,
    equalise,
    of_all,
    shared,
)
from ppl_gen.app.commands.profile import Profile, expect_one_process, expect_steps
from ppl_gen.app.config import Config
from ppl_gen.app.evaluation.precision import effect_of_precision
from ppl_gen.app.ingredients.checks import check_prior_after, check_stopping
from ppl_gen.app.ingredients.data import Data, fingerprint
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.launched import agree, leading
from ppl_gen.app.outline import Outline
from ppl_gen.app.parts.likelihoods import in_colour
from ppl_gen.app.parts.slots import check_sources, expect_no_code, sources
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run import checkpoint, kept, pictures, progress
from ppl_gen.app.run.checkpoint import Checkpoint
from ppl_gen.app.run.device import device_of_process
from ppl_gen.app.run.folder import CONFIG, Run, drop_start, expect_new_run, finish_start
from ppl_gen.app.run.lock import locked
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.signals import STOPS, heed_no_more, stopped
from ppl_gen.app.terminal import warnings_as_lines
from ppl_gen.inference import NotFinite, Plateau, iterate
from ppl_gen.inference.engine.replay import Engine, expect_engine, on_device
from ppl_gen.ranks import ALONE, ProcessLost, Ranks
from ppl_gen.writing import uninterrupted

_FEW = 2000  # steps below which a model without a likelihood is remarked on


@dataclass(frozen=True, kw_only=True)
class _Training:
    """A run about to begin or to go on, everything on its device.

    Attributes:
        run: The folder and what was asked for.
        fitting: What moves.
        data: What the model is fitted to.
        fingerprint: Of each part of the data, for the checkpoints.
        device: Where all of it lies.
        done: The number of epochs that are done.
        held: The checkpoint that the run goes on from, until other processes have it too.
        ranks: The processes that fit it, of which this is the first.
        profiled: Whether to say where the time of a step goes.
        reason: Why the likelihood is not the usual one, where none was asked for; else empty.
        remarks: What the user is to know of a run that goes on.
    """

    run: Run
    fitting: Fitting
    data: Data
    fingerprint: dict[str, str]
    device: torch.device
    done: int = 0
    held: Checkpoint | None = None
    ranks: Ranks = ALONE
    profiled: bool = False
    reason: str = ""
    remarks: Sequence[str] = ()

    @property
    def config(self) -> Config:
        return self.run.config

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.config)

    @property
    def is_over(self) -> bool:
        """Whether a rule has stopped the fit."""
        stopping = self.fitting.stopping
        return stopping is not None and stopping.rule.is_over

    @property
    def engine(self) -> Engine:
        """What the steps are run by."""
        return on_device(self.config.values.get("engine", "auto"), self.device)

    def checkpoint(self, epoch: int) -> None:
        """Writes all that the run needs to go on after an epoch."""
        self.run.checkpoint(epoch, self.fitting, self.device, self.fingerprint)

    def keep(self, epoch: int) -> None:
        """Writes the weights of an epoch into a file of their own, where that is asked for."""
        every = self.config.values.get("keep_every")
        if every is not None and epoch % every == 0:
            kept.keep(self.run.folder, epoch, self.fitting.program)


def fit(
    folder: Path,
    config: Config,
    given: set[str],
    device_name: str,
    resume: bool,
    overwrite: bool,
    download: bool,
    trust: bool,
    profiled: bool,
    console: Console,
    ranks: Ranks = ALONE,
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
        trust: Whether to run code that the folder of a run that goes on names, and the options
            given do not.
        profiled: Whether to say where the time of a step goes, with a trace in the folder.
        console: Where progress is shown.
        ranks: The processes that fit it, of which this is the first.

    Raises:
        ValueError: Before work starts, if anything is wrong.
        ProcessLost: If another process has ended.
    """
    with ExitStack() as until_the_end:
        with leading(ranks):
            if profiled:
                expect_one_process(ranks)
            device = device_of_process(device_name, ranks)
            if resume:
                run = until_the_end.enter_context(Run.held(folder))
                if drop_start(folder):
                    console.print(
                        "a run that was to take the place of this one came to no checkpoint: "
                        "dropped"
                    )
                run, places = _reopen(run, config, given)
                if not trust:
                    expect_no_code(run.config, folder, given)
                with _stop_says("before training began; nothing is lost"):
                    training = _go_on(run, places, device, ranks, download, profiled)
            else:
                expect_new_run(folder, overwrite)
                until_the_end.enter_context(locked(folder))
                finish_start(folder)
                expect_new_run(folder, overwrite)  # which another process may have begun meanwhile
                with _stop_says("before training began; nothing is lost"):
                    training = _begin(folder, config, device, ranks, download, profiled)
        with _stop_says("before training began; nothing is lost"):
            training = _tell(training)
        _carry_out(training, console)


def _tell(training: _Training) -> _Training:
    """Has all other processes fit the same, from the same weights."""
    ranks = training.ranks
    order = Order(
        config=training.config,
        fingerprint=training.fingerprint,
        done=training.done,
        held=training.held,
    )
    ranks.from_first(order)
    agree(ranks, "")
    equalise(ranks, training.fitting)
    return replace(training, held=None)


def unfitted(config: Config, download: bool) -> Fitted:
    """A run as it would begin, without a folder: so options can be checked before any run begins.

    Args:
        config: What is asked for.
        download: Whether torchvision may fetch what is missing.

    Raises:
        ValueError: If options do not go together, or the data cannot be read or do not suit the
            model.
    """
    recipe = recipe_of(config)
    _check(config)
    config, data = _read(config, download)
    config = configure.decide_batch_size(config, data)
    config = configure.decide_epochs(config, data)
    check_prior_after(config)
    condition = recipe.condition(config, data)
    return Fitted(
        run=Run(Path(), config),
        program=recipe.build(config, data, condition),
        data=data,
        condition=condition,
        device=torch.device("cpu"),
        epoch=0,
    )


def _carry_out(training: _Training, console: Console) -> None:
    """Trains, draws the pictures and says what comes next."""
    run = training.run
    _announce(training, console)
    done = training.done
    if not training.is_over and done < training.config.passes:
        done = _train(training, console)
    with _stop_says(f"after the last epoch; what was left to do is done by: {_go_on_with(run)}"):
        _keep_the_best(training, done, console)
    with _stop_says(
        f"while pictures were drawn; the run is whole. They come with: {_go_on_with(run)}"
    ):
        _draw_pictures(training, console)
        for line in effect_of_precision(_fitted(training)):
            console.print(line, soft_wrap=True)
    console.print(f"next: ppl-gen evaluate {run.folder}", soft_wrap=True)


@contextmanager
def _stop_says(said: str) -> Iterator[None]:
    """Says in one line what Ctrl-C or a signal has stopped, and exits."""
    try:
        yield
    except STOPS as stop:
        raise stopped(stop, f" {said}") from None


def _go_on_with(run: Run) -> str:
    """The command that goes on with a run."""
    return f"ppl-gen fit {run.config.model} --out {shlex.quote(str(run.folder))} --resume"


def _begin(
    folder: Path,
    config: Config,
    device: torch.device,
    ranks: Ranks,
    download: bool,
    profiled: bool,
) -> _Training:
    """A new run, in its folder once all that could be wrong has been looked at."""
    recipe = recipe_of(config)
    _check(config)
    expect_engine(config.values.get("engine", "auto"), device)
    asked = config
    config, data = _read(asked, download)
    data = data.to(device)
    config = configure.decide_batch_size(config, data)
    config = configure.decide_epochs(config, data)
    check_prior_after(config)
    fitting = recipe.prepare(config, data, device, ranks)
    if profiled:
        expect_steps(_steps_of(config, fitting))
    if "engine" in config:
        # Decided once and written down: a run that goes on is the same run.
        steps = config.passes * len(fitting.batches)
        config = config.changed(engine=fitting.plan(steps, config.engine, device))
    class_names = getattr(data, "class_names", ())
    config = replace(
        config,
        class_names=class_names,
        sources=sources(config),
        outline=Outline.of(data, fitting.condition),
    )
    training = _Training(
        run=Run(folder, config),
        fitting=fitting,
        data=data,
        fingerprint=fingerprint(data),
        device=device,
        ranks=ranks,
        profiled=profiled,
        reason=_reason(asked, config, data),
    )
    if config.values.get("batch_size") != asked.values.get("batch_size"):
        few = f"all {config.batch_size} training data are one batch; --batch-size says another size"
        training = replace(training, remarks=(few,))
    Run.create(folder, config, lambda run: replace(training, run=run).checkpoint(0))
    return training


def _read(config: Config, download: bool) -> tuple[Config, Data]:
    """The configuration with a likelihood that suits its data, if it is to have one, and the data.

    What the data are binarised for is known when the likelihood is, and that when they are read.
    """
    recipe = recipe_of(config)
    if not recipe.explicit or "likelihood" not in config:
        return config, recipe.data(config, download=download)
    grey = recipe.data(config.changed(binarize=None), download=download)
    config = configure.decide_likelihood(config, grey)
    return config, grey.binarized(config.binarize)


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together, as far as that is known without data."""
    recipe_of(config).check(config)
    check_stopping(config)
    check_prior_after(config)


def _reason(asked: Config, decided: Config, data: Any) -> str:
    """Why a likelihood was taken that is not the usual one, where none was asked for."""
    if "likelihood" not in asked or asked.likelihood == decided.likelihood:
        return ""
    if not decided.likelihood.endswith("gaussian"):
        return ""
    kind = "values outside of 0 to 1"
    if in_colour(data):
        kind = "images in colour"
    elif data.columns is not None:
        kind = "standardised columns"
    return f" (for {kind}; --likelihood says another)"


def _reopen(run: Run, config: Config, given: set[str]) -> tuple[Run, dict[str, str]]:
    """The run to go on with, under its own configuration but for a new number of epochs.

    Returns:
        The run, and where its data lie now, by the names of the options that were given and say
        another place than its configuration.

    Raises:
        ValueError: If another option was given that is not the run's.
    """
    folder = run.folder
    if config.model != run.config.model:
        raise _another(folder, "model", run.config.model, config.model)
    recipe = recipe_of(config)
    if recipe.explicit:
        config = configure.with_likelihood(config, run.config.values.get("likelihood", ""))
    places = {}
    for name in sorted(given - {"epochs", "model"}):
        asked = getattr(config, name)
        has = getattr(run.config, name)
        if asked == has or (name == "engine" and asked == "auto"):
            continue
        if name not in configure.PLACES:
            raise _another(folder, name, has, asked)
        places[name] = asked
    if "epochs" in given:
        run = Run(folder, run.config.changed(epochs=config.epochs))
    return run, places


def _another(folder: Path, name: str, has: Any, asked: Any) -> ValueError:
    return ValueError(
        f"the run {folder} was begun with {name} {has}, got {asked}; leave it out, or say another "
        "--out"
    )


def _go_on(
    run: Run,
    places: Mapping[str, str],
    device: torch.device,
    ranks: Ranks,
    download: bool,
    profiled: bool,
) -> _Training:
    """An old run with the weights, optimisers and random state of its checkpoint.

    Args:
        run: The run.
        places: Where its data lie now, if elsewhere than its configuration says.
        device: Where it goes on.
        ranks: The processes that it goes on in.
        download: Whether torchvision may fetch what is missing.
        profiled: Whether to say where the time of a step goes.
    """
    recipe = recipe_of(run.config)
    _check(run.config)
    check_sources(run.config)
    held = None  # a run that was stopped before its first checkpoint begins where that would be
    if os.path.lexists(run.folder / checkpoint.FILE):
        held = checkpoint.read(run.folder)
    elif places:
        raise ValueError(
            f"the run {run.folder} has no checkpoint that knows its data, got others with "
            f"{', '.join(places)}; begin anew with --overwrite"
        )
    run = run.moved(places)
    data = run.data(download=download)
    now = fingerprint(data)
    if held is not None:
        held.expect_data(data, now)
    data = data.to(device)
    fitting = recipe.prepare(run.config, data, device, ranks)
    if run.config.outline is None:  # as in runs of former versions
        outline = Outline.of(data, fitting.condition)
        run = replace(run, config=replace(run.config, outline=outline))
    done = 0
    remarks = []
    if held is not None:
        held.resume(fitting, device)
        done = held.epoch
        if held.remark:
            remarks.append(held.remark)
    if run.config.passes < done:
        raise ValueError(
            f"the run {run.folder} is at epoch {done}: expected at least as many --epochs, got "
            f"{run.config.passes}"
        )
    if profiled:
        expect_steps(_steps_of(run.config, fitting, done))
    missing = run.rewind(done)
    if missing:
        remarks.append(
            f"metrics.jsonl has lost {len(missing)} of {done} epochs (from epoch {missing[0]}), "
            "whose lines were damaged; weights and all that follows do not depend on it"
        )
    if not (run.folder / CONFIG).exists():
        remarks.append("config.json was missing; it is written anew, as the checkpoint has it")
    run.save_config()
    return _Training(
        run=run,
        fitting=fitting,
        data=data,
        fingerprint=now,
        device=device,
        done=done,
        held=held,
        ranks=ranks,
        profiled=profiled,
        remarks=remarks,
    )


def _steps_of(config: Config, fitting: Fitting, done: int = 0) -> int:
    """The number of steps that are to come.

    Args:
        config: Says how many epochs.
        fitting: Has the batches of an epoch.
        done: The number of epochs that are done.
    """
    return (config.passes - done) * len(fitting.batches)


def _announce(training: _Training, console: Console) -> None:
    """Prints what is fitted to what, for how long and where; then what the user is to know."""
    config = training.config
    an_epoch = len(training.fitting.batches)
    said = f"{config.model} on {progress.describe(training.data)}"
    if "likelihood" in config:
        said += f", likelihood {config.likelihood}{training.reason}"
    if "epochs" in config:
        said += f"; {config.passes} epochs of {an_epoch} steps"
    said += f"; {training.device}"
    if training.ranks.count > 1:
        said += f", {training.ranks.count} processes"
    if "engine" in config:
        said += f", engine {config.engine}"
    console.print(said, soft_wrap=True)
    steps = config.passes * an_epoch
    if steps < _FEW and not training.recipe.explicit:
        enough = math.ceil(configure.ENOUGH / an_epoch)
        console.print(
            f"{steps} steps: GANs and moment matching of this size want some thousands; --epochs "
            f"{enough}",
            soft_wrap=True,
        )
    for remark in (training.fitting.remark, *training.remarks):
        if remark:
            console.print(remark, soft_wrap=True)


def _train(training: _Training, console: Console) -> int:
    """Runs the epochs that are left, with a checkpoint after each that has gone well.

    Returns:
        The number of epochs that are done.
    """
    run = training.run
    fitting = training.fitting
    done = training.done
    epochs = run.config.passes
    ranks = training.ranks
    batches = shared(fitting, run.config, ranks, done, training.device)
    live = progress.Live(console, batches, done, epochs)
    walked: progress.Live | Profile = live
    profile = None
    if training.profiled:
        walked = profile = Profile(live, len(batches))
    try:
        training.recipe.reopen(fitting.program)
        step = fitting.begin(done * len(fitting.batches), training.engine)
        fitting.pace(done + 1)
        records = iterate(step, walked, epochs, first_epoch=done + 1, validation=fitting.validation)
        with _all_warnings_as_lines(console), live:
            for own_record in records:
                record = of_all(own_record, ranks)
                average_statistics(ranks, fitting)
                with leading(ranks):
                    _check_finite(training, record.epoch)
                    with uninterrupted():
                        if fitting.stopping is not None:
                            fitting.stopping.see(record, fitting.program)
                        run.log(record)
                        training.checkpoint(record.epoch)
                        training.keep(record.epoch)
                        done = record.epoch
                    live.show(record)
                ranks.from_first(training.is_over)
                if training.is_over:
                    break
                fitting.pace(done + 1)
        if profile is not None:
            profile.finish(run.folder, console)
    except STOPS as stop:
        raise stopped(
            stop,
            f" in epoch {done + 1}, which is dropped; the checkpoint of epoch {done} is saved. Go "
            f"on with: {_go_on_with(run)}",
        ) from None
    except ProcessLost as error:
        heed_no_more()  # torchrun, too, says that a process is gone
        raise ProcessLost(
            f"{error}. Epoch {done + 1} is dropped; the checkpoint of epoch {done} is saved. Go "
            f"on, with any number of processes: {_go_on_with(run)}"
        ) from error
    except OSError as error:
        raise OSError(
            f"{error}. The checkpoint of epoch {done} stays; go on with: {_go_on_with(run)}"
        ) from error
    except NotFinite as error:
        raise ValueError(
            f"{error}. The checkpoint of epoch {done} stays in {run.folder}"
        ) from error
    return done


def _keep_the_best(training: _Training, done: int, console: Console) -> None:
    """Puts the weights of the best epoch into the program, where a rule has found one.

    What is computed once is computed of these weights, and written down. A run that goes on to more
    epochs does so from the weights of the last one.

    Args:
        training: The run.
        done: The number of epochs that are done.
        console: Where it is said.
    """
    fitting = training.fitting
    stopping = fitting.stopping
    last = {name: tensor.clone() for name, tensor in fitting.program.state_dict().items()}
    if stopping is not None:
        stopping.restore(fitting.program)
    if training.is_over:
        console.print(_reason_to_stop(training), soft_wrap=True)
    elif training.config.values.get("until") is not None:
        console.print(
            f"not converged in {done} epochs; the fit goes on with: {_go_on_with(training.run)} "
            f"--epochs {2 * done}",
            soft_wrap=True,
        )
    if not training.recipe.finish(training.config, fitting.program, training.data):
        return
    if stopping is not None and stopping.weights is not None:
        stopping.keep(fitting.program)
        fitting.program.load_state_dict(last)
    with uninterrupted():
        training.checkpoint(done)
    if stopping is not None:
        stopping.restore(fitting.program)


def _reason_to_stop(training: _Training) -> str:
    """Why a rule has stopped the fit, and what is kept."""
    stopping = training.fitting.stopping
    assert stopping is not None
    if isinstance(stopping.rule, Plateau):
        return f"stopped: {stopping.rule.reason}"
    what = "the ELBO of validation data has not risen"
    if stopping.rule.falls:
        what = "the error of validation data has not fallen"
    return (
        f"stopped: {what} for {training.config.patience} epochs. The weights of epoch "
        f"{stopping.rule.best} are kept"
    )


def _check_finite(training: _Training, epoch: int) -> None:
    """Raises NotFinite if weights have run away in an epoch."""
    if training.fitting.is_finite():
        return
    what = "weights or draws are"
    if training.recipe.autoencodes:
        what = "weights or reconstructions are"
    elif training.recipe.explicit:
        what = "the ELBO of test data is"
    raise NotFinite(f"after epoch {epoch} {what} not finite; lower the learning rate")


@contextmanager
def _all_warnings_as_lines(console: Console) -> Iterator[None]:
    """Prints what the library warns of while a model is fitted, each text once."""
    with warnings_as_lines(console):
        warnings.simplefilter("always", RuntimeWarning)
        # Pyro's words for what NotFinite says in full.
        warnings.filterwarnings("ignore", "Encountered (NaN|inf)")
        yield


def _draw_pictures(training: _Training, console: Console) -> None:
    """Draws the pictures of the fit into the folder of the run."""
    pictures.draw_all(_fitted(training), console)


def _fitted(training: _Training) -> Fitted:
    """The run as it is judged and drawn."""
    return Fitted(
        run=training.run,
        program=training.fitting.shown,
        data=training.data,
        condition=training.fitting.condition,
        device=training.device,
        epoch=training.fitting.shown_epoch(training.config.passes),
    )
