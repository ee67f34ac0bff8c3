"""`ppl-gen evaluate RUN_1 RUN_2 ...`: runs on the same data in one table, explicit and implicit
ones on equal terms.
"""

from __future__ import annotations

__all__ = ["compare"]

from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.findings import Asked
from ppl_gen.app.evaluation.statistics import MOST, Chosen, choose, compared
from ppl_gen.app.recipes import build
from ppl_gen.app.run.folder import expect_vacant, write_json
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import evaluating, forked
from ppl_gen.data import Split
from ppl_gen.inference import Estimate, ais
from ppl_gen.inference.samples.kernels import Kernel, default_kernel
from ppl_gen.inference.samples.vectors import as_vectors
from ppl_gen.likelihoods import Dirac, Gaussian
from ppl_gen.program import Observed, simulate

PRODUCTS = ("comparison.json", "comparison.png")
EPSILON = 0.1


class _Ground(NamedTuple):
    """What all runs are judged on: grey test data, features of them, one kernel."""

    data: Split
    chosen: Chosen
    kernel: Kernel
    epsilon: float


def compare(
    runs: list[Fitted], asked: Asked, out: Path | None, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Judges each run on the same test data, prints the table, and writes comparison.json and
    comparison.png.

    Draws are those of the likelihood's mean. AIS is of the program under Gaussian noise, begun at
    the prior, for all alike.

    Args:
        runs: Two or more, of one data set.
        asked: The options; `limit`, `features`, `epsilon`, `chains`, `temperatures`, `subset` and
            `seed` are heeded, and `Asked.expect_for` refuses the others.
        out: Where results go; beside the first run if left out.
        overwrite: Whether earlier results may be written over.
        console: Where it is said.

    Raises:
        ValueError: Before work starts, if a run is one of two domains or of other data, there are
            too few data, or results would be written over.
    """
    folder = out or runs[0].run.folder.parent / "comparison"
    expect_vacant(folder, overwrite, PRODUCTS)
    ground = _ground(runs, asked)
    names = _names(runs)
    found: dict[str, dict[str, Any]] = {}
    pictures = {"test data": ground.data.x[:1000]}
    for name, fitted in track(
        list(zip(names, runs, strict=True)),
        "judging",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        found[name], pictures[name] = _judged(fitted, ground, asked)
        if not console.is_terminal:
            console.print(f"{name}: judged", soft_wrap=True)
    given = {name: fitted.given for name, fitted in zip(names, runs, strict=True)}
    _print(found, given, ground, asked, console)
    folder.mkdir(parents=True, exist_ok=True)
    _write(found, given, ground, asked, folder)
    plots.samples.runs(pictures, f"test data and draws, {runs[0].config.data}").savefig(
        folder / "comparison.png"
    )
    console.print(f"written to {folder}: {', '.join(PRODUCTS)}", soft_wrap=True)
    return found


def _ground(runs: list[Fitted], asked: Asked) -> _Ground:
    """The test data that all runs share."""
    for fitted in runs:
        fitted.expect_draws("a comparison")
    shared = [build.grey(fitted.config) for fitted in runs]
    prints = [build.fingerprint(data) for data in shared]
    for fitted, one in zip(runs, prints, strict=True):
        if one != prints[0]:
            raise ValueError(
                f"expected runs of the same data, got {runs[0].config.data} "
                f"({runs[0].run.folder}) and {fitted.config.data} ({fitted.run.folder}); compare "
                "runs of one data set"
            )
    dataset = shared[0].to(runs[0].device)
    data = dataset.test.fixed(0, asked.limit or MOST)
    if len(data) < 10:
        raise ValueError(
            f"expected at least 10 test data to compare runs on, got {len(data)}; raise --limit"
        )
    chosen = choose(asked.features, dataset, asked.seed)
    # A kernel of its own for each run would be another distance for each.
    kernel = default_kernel(
        *as_vectors(dataset.train.fixed(0, len(data)).x, data.x, chosen.features)
    )
    return _Ground(data, chosen, kernel, EPSILON if asked.epsilon is None else asked.epsilon)


def _judged(fitted: Fitted, ground: _Ground, asked: Asked) -> tuple[dict[str, Any], Tensor]:
    """The columns of a run, and its draws."""
    data, given = ground.data, fitted.context(ground.data)
    with forked(fitted.device, asked.seed):
        drawn = simulate(Observed(fitted.program, Dirac()), len(data), *given)
    columns: dict[str, Any] = {"parameters": _parameters(fitted, [g[:2] for g in given])}
    columns |= compared(drawn, data.x, ground.chosen, ground.kernel, asked.seed)
    noisy = Observed(fitted.program, Gaussian(ground.epsilon)).to(fitted.device)
    first = [t[: asked.subset] for t in (data.x, *given)]
    columns["nats"] = ais(
        noisy, *first, chains=asked.chains, temperatures=asked.temperatures, seed=asked.seed
    ).mean()
    return columns, drawn


def _parameters(fitted: Fitted, given: list[Tensor]) -> int:
    """How many numbers the mean of a draw depends on: decoder and prior, not what only reads the
    data.
    """
    program = Observed(fitted.program, Dirac())
    parameters = list(program.parameters())
    with forked(fitted.device, 0), evaluating(program), torch.enable_grad():
        mean = program.model(None, *given, n=len(given[0]) if given else 2)
        reached = torch.autograd.grad(mean.sum(), parameters, allow_unused=True)
    return sum(p.numel() for p, g in zip(parameters, reached, strict=True) if g is not None)


def _names(runs: list[Fitted]) -> list[str]:
    """Folders by their last name, or whole where two are of one."""
    short = [fitted.run.folder.name for fitted in runs]
    names = short if len(set(short)) == len(runs) else [str(fitted.run.folder) for fitted in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"expected different runs, got {', '.join(names)}")
    return names


def _print(
    found: dict[str, dict[str, Any]],
    given: dict[str, str],
    ground: _Ground,
    asked: Asked,
    console: Console,
) -> None:
    columns = list(next(iter(found.values())))
    heads = [f"{name}, {given[name]}" if given[name] else name for name in found]
    table = Table(
        "", *heads, title=f"on {len(ground.data)} test data, as many draws", title_justify="left"
    )
    for column in columns:
        table.add_row(column, *(_cell(values[column]) for values in found.values()))
    Console(file=console.file, width=max(console.width, 110)).print(table)
    subset = min(asked.subset, len(ground.data))
    console.print(
        f"features: {ground.chosen.words}; draws without the likelihood's noise. nats: log "
        f"density of the first {subset} test data, grey, under noise of {ground.epsilon:g}, by "
        f"AIS from the prior, {asked.chains} chains of {asked.temperatures} temperatures. Small "
        "are good: both MMD², Fréchet; near 1: precision, recall, density, coverage; near ½: "
        "C2ST",
        soft_wrap=True,
    )
    if len(set(given.values())) > 1:
        console.print(
            "not all runs are given the same: more nats given more do not make a better model; "
            "draws are given what the test data are",
            soft_wrap=True,
        )


def _cell(value: Estimate | int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{float(value.value):.4g} ± {float(value.standard_error):.2g}"


def _write(
    found: dict[str, dict[str, Any]],
    given: dict[str, str],
    ground: _Ground,
    asked: Asked,
    folder: Path,
) -> None:
    def plain(value: Estimate | int) -> Any:
        if isinstance(value, int):
            return value
        return {"value": float(value.value), "standard_error": float(value.standard_error)}

    result = {
        "data": len(ground.data),
        "features": ground.chosen.words,
        "epsilon": ground.epsilon,
        "subset": min(asked.subset, len(ground.data)),
        "chains": asked.chains,
        "temperatures": asked.temperatures,
        "seed": asked.seed,
        "runs": {
            run: {"given": given[run].removeprefix("given the ") or None}
            | {name: plain(value) for name, value in columns.items()}
            for run, columns in found.items()
        },
    }
    write_json(folder / "comparison.json", result)
