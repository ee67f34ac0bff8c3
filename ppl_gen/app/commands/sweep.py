"""`ppl-gen sweep`: a table of cells run side by side, which ends in one table and one picture."""

from __future__ import annotations

__all__ = ["SweepOptions", "list_presets", "measure_run", "sweep"]

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
import typer
from rich.console import Console

from ppl_gen import data
from ppl_gen.app.commands.evaluate import check, evaluate
from ppl_gen.app.commands.fit import fit, unfitted
from ppl_gen.app.config import Config
from ppl_gen.app.configure import configure
from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.lock import locked
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.signals import STOPS, stopped
from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.finished import Finished
from ppl_gen.app.sweeps.folder import CELLS, begin, expect_folder, found_in, write_results
from ppl_gen.app.sweeps.numbers import shown
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.plan import Plan, read_plan
from ppl_gen.app.sweeps.preset import DIGITS, Scope, known_presets, preset_of
from ppl_gen.app.sweeps.processes import carry_out
from ppl_gen.app.sweeps.sweep import Failed, Results, Sweep
from ppl_gen.app.sweeps.table import shown_table
from ppl_gen.app.terminal import Terminal, widened
from ppl_gen.contexts import forked
from ppl_gen.counts import expect_at_least, expect_positive

_PLAN = ".toml"
_EVALUATE = "evaluate_"  # before the options of `evaluate` among the settings of a cell
_WIDTH = 110  # columns that the table is given, even where the terminal has fewer
_FAILURE = 1  # the exit code where a cell has failed
_MOST_SAID = 3  # numbers in the line of a cell


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What `ppl-gen sweep` was asked for.

    Attributes:
        what: The name of a preset, or the path of a file.
        data: Of a preset; None for digits.
        root: Folder of the data sets that torchvision downloads; None for the usual one.
        download: Whether torchvision may fetch what is missing.
        scale: Of a preset: what epochs, draws and repetitions are multiplied by; None for 1.
        jobs: How many cells run side by side; None for one to a core.
        out: The folder; None for runs/sweep-NAME.
        overwrite: Whether cells that are finished are run anew.
    """

    what: str
    data: str | None = None
    root: str | None = None
    download: bool = False
    scale: float | None = None
    jobs: int | None = None
    out: Path | None = None
    overwrite: bool = False


def list_presets(console: Console) -> None:
    """Prints all presets, a line for each.

    Args:
        console: Where.
    """
    names = known_presets()
    longest = max(map(len, names))
    for name in names:
        preset = preset_of(name)
        console.print(f"{name:{longest}}  {preset.shows} ({preset.figure})", soft_wrap=True)


def sweep(asked: SweepOptions, console: Console) -> None:
    """Runs the cells that are missing, then prints the table and draws the picture.

    Args:
        asked: The options of the command.
        console: Where progress and the table are printed.

    Raises:
        ValueError: Before anything runs, if there is no such preset or file, an option has no
            effect or is out of range, or the options of a cell do not go together.
        typer.Exit: If a cell has failed, or the command was stopped.
    """
    expect_at_least(1, **{"--jobs": asked.jobs})
    expect_positive(**{"--scale": asked.scale})
    if asked.what.endswith(_PLAN) or Path(asked.what).is_file():
        made = _of_file(asked, console)
    else:
        made = _of_preset(asked)
    folder = asked.out or _folder_of(made, asked)
    expect_folder(folder, made.name)
    with locked(folder, "sweep"):
        begin(folder, made.name, asked.overwrite)
        results = _complete(made, folder, asked.jobs or joblib.cpu_count(), console)
        files = write_results(folder, made, results)
    widened(console, _WIDTH).print(shown_table(results, f"{made.name}: {made.title}"))
    if results.failed:
        console.print(
            f"{len(results.failed)} of {len(made.cells)} cells have failed; the same command tries "
            "them again, and draws the picture then",
            soft_wrap=True,
        )
    else:
        for sentence in made.say(results):
            console.print(sentence, soft_wrap=True)
    console.print("written to " + ", ".join(map(str, files)), soft_wrap=True)
    if results.failed:
        raise typer.Exit(_FAILURE)


def _folder_of(made: Sweep, asked: SweepOptions) -> Path:
    """The folder of a sweep for which none was named: runs/sweep-NAME, or runs/sweep-NAME-DATA."""
    words = ["sweep", made.name]
    if asked.data is not None:
        place, suffixes = data.parse(asked.data)
        words += [Path(place).stem, *suffixes]
    return Path("runs") / "-".join(words)


def _of_preset(asked: SweepOptions) -> Sweep:
    """The sweep of a preset, its data being there."""
    preset = preset_of(asked.what)
    scale = 1.0 if asked.scale is None else asked.scale
    if not preset.takes_data:
        for name in ("data", "root", "download"):
            if getattr(asked, name):
                raise ValueError(f"the preset {asked.what} takes no data; leave out --{name}")
        return preset.sweep(asked.what, Scope(scale=scale))
    named = asked.data or DIGITS
    data.load(named, asked.root, download=asked.download)
    place, suffixes = data.parse(named)
    if Path(place).exists() and place != DIGITS:
        named = ":".join([str(Path(place).resolve()), *suffixes])
    scope = Scope(data=named, scale=scale, places={"root": asked.root})
    return preset.sweep(asked.what, scope)


def _complete(made: Sweep, folder: Path, jobs: int, console: Console) -> Results:
    """Runs the cells that are missing; a line for each that comes to its end."""
    found: dict[str, Finished | Failed] = {**found_in(folder, made.cells)}
    missing = [cell for cell in made.cells if cell.name not in found]
    said = f"{made.name}: {len(made.cells)} cells"
    if found:
        said += f", {len(found)} of them finished before"
    console.print(said, soft_wrap=True)
    start = time.perf_counter()
    warned: set[str] = set()
    try:
        if missing:
            for outcome in carry_out(missing, folder / CELLS, min(jobs, len(missing))):
                found[outcome.cell.name] = outcome
                console.print(
                    f"{len(found)}/{len(made.cells)} {_in_words(outcome)}", soft_wrap=True
                )
                _warn(outcome, warned, console)
    except STOPS as stop:
        done = sum(isinstance(outcome, Finished) for outcome in found.values())
        raise stopped(
            stop,
            f": {done} of {len(made.cells)} cells are finished, and kept in {folder}; the same "
            "command goes on with the others",
        ) from None
    if missing:
        console.print(f"{time.perf_counter() - start:.0f} s", soft_wrap=True)
    return Results([found[cell.name] for cell in made.cells])


def _in_words(outcome: Finished | Failed) -> str:
    """What has come of a cell: its settings, its first numbers and how long it took."""
    words = ", ".join(f"{name} {value}" for name, value in outcome.settings.items())
    if isinstance(outcome, Failed):
        return f"failed: {words}: {outcome.why}"
    numbers = []
    for name, number in list(outcome.numbers.items())[:_MOST_SAID]:
        numbers.append(f"{name} {shown(*number)}")
    return f"{words}: {', '.join(numbers)} ({outcome.seconds:.1f} s)"


def _warn(outcome: Finished | Failed, warned: set[str], console: Console) -> None:
    """Prints what a cell has warned of, each text once."""
    if isinstance(outcome, Failed):
        return
    for text in outcome.warnings:
        if text not in warned:
            warned.add(text)
            console.print(f"warning: {text}", soft_wrap=True)


def _of_file(asked: SweepOptions, console: Console) -> Sweep:
    """The sweep of a user's file, the options of every cell checked."""
    for name in ("data", "root", "scale"):
        if getattr(asked, name) is not None:
            raise ValueError(f"--{name} is an option of presets; say it in [fit] of {asked.what}")
    path = Path(asked.what)
    if not path.exists():
        raise ValueError(f"no file {path}; name one, or a preset: ppl-gen sweep --list")
    plan = read_plan(path)
    _check(plan, asked.download)
    cells = []
    for options in plan.runs:
        of_evaluate = {_EVALUATE + name: value for name, value in plan.asked.items()}
        settings = {**options, **of_evaluate}
        cells.append(Cell(measure=measure_run, settings=settings))
    return Sweep(
        name=plan.name,
        title=f"{len(cells)} runs of {path.name}",
        cells=cells,
        draw=against,
        say=lambda results: (),
    )


def _check(plan: Plan, download: bool) -> None:
    """Raises ValueError if the options of a run, or what is asked of it, do not go together.

    Runs that differ by their seed alone are looked at once.
    """
    asked = _asked(plan.asked)
    asked.expect_counts()
    asked.expect_for(1)
    seen: set[str] = set()
    for options in plan.runs:
        words = {name: value for name, value in options.items() if name != "seed"}
        if repr(words) in seen:
            continue
        seen.add(repr(words))
        with forked(torch.device("cpu"), None):
            check(unfitted(_configured(options), download), asked)


def _configured(options: Mapping[str, Any]) -> Config:
    """The configuration of a run, by the checks of the command."""
    words = {name: value for name, value in options.items() if name != "model"}
    words.setdefault("data", DIGITS)
    return configure(options["model"], words, words.keys())


def _asked(options: Mapping[str, Any]) -> Asked:
    return Asked(**options, given=frozenset(options))


def measure_run(folder: Path, **settings: Any) -> Mapping[str, Any]:
    """Fits a run into a folder as `ppl-gen fit` does, or goes on with it, and evaluates it.

    Args:
        folder: Of the run.
        **settings: The model, the options of `fit`, and those of `evaluate` after "evaluate_".

    Returns:
        Every number that `evaluate` finds with a standard error, by its name.
    """
    of_fit: dict[str, Any] = {}
    of_evaluate: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith(_EVALUATE):
            of_evaluate[name.removeprefix(_EVALUATE)] = value
        else:
            of_fit[name] = value
    config = _configured(of_fit)
    silent = Terminal(file=io.StringIO())
    fit(
        folder,
        config,
        set(of_fit) - {"model"},
        device_name="auto",
        resume=_is_run(folder),
        overwrite=False,
        download=False,
        trust=True,
        profiled=False,
        console=silent,
    )
    with Run.held(folder) as run:
        fitted = Fitted.open(run.folder, "auto", trust=True)
        found = evaluate(fitted, _asked(of_evaluate), silent)
    numbers: dict[str, Any] = {}
    for quantity, entry in found.items():
        numbers |= _numbers(quantity, entry)
    return numbers


def _is_run(folder: Path) -> bool:
    """Whether a run was begun in a folder by a process that was stopped."""
    try:
        Run.open(folder)
    except ValueError:
        return False
    return True


def _numbers(name: str, entry: Any) -> dict[str, tuple[float, float | None]]:
    """The numbers of an entry of evaluation.json that have a standard error, its own and inner."""
    if not isinstance(entry, Mapping):
        return {}
    if "standard_error" in entry and "value" in entry:
        return {name: (entry["value"], entry["standard_error"])}
    found: dict[str, tuple[float, float | None]] = {}
    for inner, held in entry.items():
        found |= _numbers(inner, held)
    return found
