"""`ppl-gen evaluate RUN_1 RUN_2 ...`: runs of the same data in one table.

Runs with a likelihood and runs without are judged in the same way: by draws of the mean, without
the likelihood's noise, and by the evidence of the program under Gaussian noise.
"""

from __future__ import annotations

__all__ = ["judge_runs"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.evaluation.by_likelihood import exact_evidence
from ppl_gen.app.evaluation.features import MOST, Chosen, choose
from ppl_gen.app.evaluation.measures import fitted_to, measure_of
from ppl_gen.app.evaluation.statistics import LEAST, columns
from ppl_gen.app.ingredients.data import fingerprint, grey
from ppl_gen.app.run.folder import expect_vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.terminal import widened
from ppl_gen.contexts import evaluating, forked
from ppl_gen.data import Dataset, Split
from ppl_gen.inference import Estimate, ais, log_evidence
from ppl_gen.inference.samples.kernels import Kernel, default_kernel
from ppl_gen.inference.samples.vectors import as_vectors
from ppl_gen.likelihoods import Dirac, Gaussian
from ppl_gen.plots.style import literal
from ppl_gen.program import Observed, simulate
from ppl_gen.writing import write_folder, write_json, write_picture

PRODUCTS = ("comparison.json", "comparison.png")
EPSILON = 0.1
_WIDTH = 120  # columns of the table, even where the terminal has fewer
_ROW_NAME = 32  # columns that the name of a row takes at most
_SHOWN = 1000  # test data in the picture
_PARTICLES = 1000  # importance samples per datum
_NATS = "nats"  # the row whose numbers are of different data where runs are fitted to such


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What all runs are judged on.

    Attributes:
        data: Test data in grey, the same for all runs.
        chosen: The features that draws and data are compared in.
        kernel: The kernel of the MMD²; one for each run would be another distance for each.
        epsilon: ε, the standard deviation of the noise under which the evidence is estimated.
        asked: The options of the command.
    """

    data: Split
    chosen: Chosen
    kernel: Kernel
    epsilon: float
    asked: Asked

    @property
    def subset(self) -> int:
        """How many of the data the evidence is estimated of."""
        return min(self.asked.subset, len(self.data))


@dataclass(frozen=True, kw_only=True)
class _JudgedRun:
    """What was found of one run.

    Attributes:
        name: The name of its column.
        given: "given the label" and the like; empty if the program is not conditioned on anything.
        fitted_to: The data that it was fitted to, in words.
        epoch: The number of epochs that its weights have been fitted for.
        columns: The number of parameters, and the statistics by name; None where a run has none.
        own: log p(x) under its own likelihood, averaged over data; None without one.
        measure: What that is of: "densities of data as they are"; empty without a likelihood.
        drawn: Its draws, one for each of the data.
    """

    name: str
    given: str
    fitted_to: str
    epoch: int
    columns: dict[str, Any]
    own: Estimate | None
    measure: str
    drawn: Tensor


def judge_runs(
    runs: list[Fitted], asked: Asked, out: Path | None, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Judges each run on the same test data, prints the table, and writes file and picture.

    Args:
        runs: Two or more runs of one data set.
        asked: The options; limit, features, epsilon, chains, temperatures, subset and seed have an
            effect, and `Asked.expect_for` refuses the others.
        out: The folder for comparison.json and comparison.png; "comparison" beside the first run if
            None.
        overwrite: Whether earlier results may be written over.
        console: Where the table is printed.

    Returns:
        The columns of each run by its name: the number of parameters, and `Estimate`s.

    Raises:
        ValueError: Before work starts, if a run is given twice, is one of two domains or of other
            data, there are fewer than 10 data, or results would be written over.
    """
    _expect_different(runs)
    folder = out or runs[0].run.folder.parent / "comparison"
    expect_vacant(folder, overwrite, PRODUCTS)
    ground = _ground(runs, asked)
    found = []
    to_judge = list(zip(_names(runs), runs, strict=True))
    is_quiet = not console.is_terminal
    for name, fitted in track(
        to_judge, "judging", console=console, transient=True, disable=is_quiet
    ):
        found.append(_judge(name, fitted, ground))
        if is_quiet:
            console.print(f"{name}: judged", soft_wrap=True)
    _print(found, ground, console)
    shown = {"test data": ground.data.x[:_SHOWN], **{run.name: run.drawn for run in found}}
    figure = plots.samples.runs(shown, literal(f"test data and draws, {runs[0].data_name}"))
    with write_folder(folder) as new:
        _write(found, ground, new / "comparison.json")
        write_picture(new / "comparison.png", figure)
    console.print(f"written to {folder}: {', '.join(PRODUCTS)}", soft_wrap=True)
    return {run.name: run.columns for run in found}


def _ground(runs: list[Fitted], asked: Asked) -> _Ground:
    """The test data that all runs share, with features and a kernel."""
    for fitted in runs:
        fitted.expect_draws("a comparison")
        fitted.expect_numbers("a comparison")
        fitted.expect_complete("a comparison")
    datasets = [grey(fitted.config) for fitted in runs]
    shared = _images(datasets[0])
    for fitted, dataset in zip(runs, datasets, strict=True):
        if _images(dataset) != shared:
            raise ValueError(
                f"expected runs of the same data, got {runs[0].config.data} "
                f"({runs[0].run.folder}) and {fitted.config.data} ({fitted.run.folder}); compare "
                "runs of one data set"
            )
    dataset = datasets[0].to(runs[0].device)
    data = dataset.test.fixed(0, asked.limit or MOST)
    if len(data) < LEAST:
        raise ValueError(
            f"expected at least {LEAST} test data to compare runs on, got {len(data)}; raise "
            "--limit"
        )
    chosen = choose(asked.features, dataset, asked.seed)
    train = dataset.train.fixed(0, len(data))
    kernel = default_kernel(*as_vectors(train.x, data.x, chosen.features))
    epsilon = EPSILON if asked.epsilon is None else asked.epsilon
    return _Ground(data=data, chosen=chosen, kernel=kernel, epsilon=epsilon, asked=asked)


def _images(data: Dataset) -> dict[str, str]:
    """The fingerprints of training and test data; two runs may have different labels of them."""
    found = fingerprint(data)
    return {name: found[name] for name in ("training data", "test data")}


def _judge(name: str, fitted: Fitted, ground: _Ground) -> _JudgedRun:
    """Draws of a run beside the data, its evidence, and that under noise by AIS from the prior."""
    asked = ground.asked
    data = ground.data
    given = fitted.context(data)
    with forked(fitted.device, asked.seed):
        drawn = simulate(fitted.noiseless, len(data), *given)
    statistics = columns(drawn, data.x, ground.chosen, ground.kernel, asked.seed)
    evidence = None
    if not fitted.recipe.has_components:
        under_noise = Observed(fitted.program, Gaussian(ground.epsilon)).to(fitted.device)
        first = [part[: asked.subset] for part in (data.x, *given)]
        evidence = ais(
            under_noise,
            *first,
            chains=asked.chains,
            temperatures=asked.temperatures,
            seed=asked.seed,
        ).mean()
    own, measure = _own_evidence(fitted, ground)
    parameters = _count_parameters(fitted, [part[:2] for part in given])
    return _JudgedRun(
        name=name,
        given=fitted.given,
        fitted_to=fitted_to(fitted.config),
        epoch=fitted.epoch,
        columns={"parameters": parameters, **statistics, _NATS: evidence},
        own=own,
        measure=measure,
        drawn=drawn,
    )


def _own_evidence(fitted: Fitted, ground: _Ground) -> tuple[Estimate | None, str]:
    """log p(x) of a run under its own likelihood, exact where it is known, and what it is of."""
    if not fitted.explicit:
        return None, ""
    test = fitted.data.test.fixed(0, ground.subset)
    if fitted.recipe.exact:
        evidence = exact_evidence(fitted.program, test.x)
    else:
        given = fitted.context(test)
        evidence = log_evidence(
            fitted.program,
            None,
            test.x,
            *given,
            particles=_PARTICLES,
            seed=ground.asked.seed,
        )
    return evidence.mean(), measure_of(fitted)


def _count_parameters(fitted: Fitted, given: list[Tensor]) -> int:
    """How many numbers the mean of a draw depends on: decoder and prior, not what reads the data.

    Those that are held fixed do not count, but for what a model computes once of its data.

    Args:
        fitted: The run.
        given: The context of two data, empty if the program is not conditioned on anything.
    """
    program = Observed(fitted.program, Dirac())
    count = 0
    if fitted.recipe.complete is not None:
        for buffer in program.buffers():
            count += int((buffer != 0).sum()) * buffer.is_floating_point()
    parameters = [p for p in program.parameters() if p.requires_grad]
    if not parameters:
        return count
    with forked(fitted.device, 0), evaluating(program), torch.enable_grad():
        mean = program.model(None, *given, n=2)
        gradients = torch.autograd.grad(mean.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            count += parameter.numel()
    return count


def _names(runs: list[Fitted]) -> list[str]:
    """The names of the runs' folders; their whole paths where two have the same name."""
    names = [fitted.run.folder.name for fitted in runs]
    if len(set(names)) < len(runs):
        names = [str(fitted.run.folder) for fitted in runs]
    return names


def _expect_different(runs: list[Fitted]) -> None:
    """Raises ValueError if a run is given twice, by whatever path: a draw of one beats no other."""
    places: dict[Path, Path] = {}
    for fitted in runs:
        folder = fitted.run.folder
        place = folder.resolve()
        if place in places:
            raise ValueError(
                f"expected different runs, got {places[place]} and {folder}, which are one; name "
                "it once"
            )
        places[place] = folder


def _print(found: list[_JudgedRun], ground: _Ground, console: Console) -> None:
    asked = ground.asked
    title = f"on {len(ground.data)} test data, as many draws"
    table = Table(title=title, title_justify="left")
    table.add_column("", max_width=_ROW_NAME)
    for run in found:
        heading = run.name
        if run.given:
            heading = f"{run.name}, {run.given}"
        table.add_column(heading)
    for name in found[0].columns:
        if name != _NATS:
            table.add_row(name, *[_cell(run.columns[name]) for run in found])
    kinds = list(dict.fromkeys(run.fitted_to for run in found))
    for kind in kinds:
        table.add_row(_heading(kind, kinds), *[_nats(run, kind) for run in found])
    for measure in dict.fromkeys(run.measure for run in found if run.measure):
        table.add_row(f"log p(x), {measure}", *[_own(run, measure) for run in found])
    widened(console, _WIDTH).print(table)
    console.print(
        f"features: {ground.chosen.words}; draws without the likelihood's noise. nats: log "
        f"density of the first {ground.subset} test data, grey, under noise of "
        f"{ground.epsilon:g}, by AIS from the prior, {asked.chains} chains of "
        f"{asked.temperatures} temperatures. log p(x): of the same data under a run's own "
        f"likelihood, by {_PARTICLES} importance samples, or exact. Small are good: both MMD², "
        "Fréchet; near 1: precision, recall, density, coverage; near ½: C2ST",
        soft_wrap=True,
    )
    if len(kinds) > 1:
        console.print(
            f"not all runs are fitted to the same: {', '.join(kinds)}. Their nats stand in rows of "
            "their own, and are not to be held against each other: what is scored, the data as "
            "they are, is not what all were fitted to; fit with the same --binarize; for grey data "
            "with --likelihood gaussian",
            soft_wrap=True,
        )
    if len({run.given for run in found}) > 1:
        console.print(
            "not all runs are given the same: more nats given more do not make a better model; "
            "draws are given what the test data are",
            soft_wrap=True,
        )


def _heading(kind: str, kinds: list[str]) -> str:
    """The heading of a row of nats; it says what runs are fitted to where that differs."""
    if len(kinds) == 1:
        return _NATS
    return f"{_NATS}, {kind}"


def _nats(run: _JudgedRun, kind: str) -> str:
    """The nats of a run in the row of those that were fitted to data of a kind."""
    if run.fitted_to != kind:
        return "–"
    return _cell(run.columns[_NATS])


def _own(run: _JudgedRun, measure: str) -> str:
    """log p(x) of a run in the row of a measure."""
    if run.measure != measure:
        return "–"
    return _cell(run.own)


def _cell(value: Estimate | int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{float(value.value):.4g} ± {float(value.standard_error):.2g}"


def _write(found: list[_JudgedRun], ground: _Ground, path: Path) -> None:
    runs = {}
    for run in found:
        numbers = {name: _plain(value) for name, value in run.columns.items()}
        runs[run.name] = {
            "given": run.given.removeprefix("given the ") or None,
            "fitted_to": run.fitted_to,
            "epoch": run.epoch,
            "log_evidence": _plain(run.own),
            "measure": run.measure or None,
            **numbers,
        }
    result = {
        "data": len(ground.data),
        "features": ground.chosen.words,
        "epsilon": ground.epsilon,
        "subset": ground.subset,
        "chains": ground.asked.chains,
        "temperatures": ground.asked.temperatures,
        "seed": ground.asked.seed,
        "runs": runs,
    }
    write_json(path, result)


def _plain(value: Estimate | int | None) -> Any:
    """A number as JSON has it."""
    if value is None or isinstance(value, int):
        return value
    return {"value": float(value.value), "standard_error": float(value.standard_error)}
