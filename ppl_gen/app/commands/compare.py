"""`ppl-gen compare`: a toy posterior or a fitted run, its guide beside MCMC, in a table, pictures
and a netCDF file.
"""

from __future__ import annotations

__all__ = ["GUIDES", "SAMPLERS", "TOYS", "Asked", "run"]

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.run.folder import expect_vacant, write_atomically
from ppl_gen.app.run.opened import Fitted
from ppl_gen.contexts import forked
from ppl_gen.guides import automatic
from ppl_gen.inference import Comparison, compare, hmc, nuts, svi_step, to_arviz
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.mcmc.draws import Progress
from ppl_gen.inference.prediction.arviz_export import save_netcdf
from ppl_gen.models import toy
from ppl_gen.names import resolve
from ppl_gen.program import simulate

SAMPLERS: dict[str, Callable[..., Any]] = {"hmc": hmc, "nuts": nuts}
GUIDES: dict[str, type] = {
    "mean-field": AutoDiagonalNormal,
    "full-covariance": AutoMultivariateNormal,
}
PICTURES = ("contours.png", "quantiles.png", "forest.png", "traces.png")
PRODUCTS = (*PICTURES, "comparison.csv", "posterior.nc")
SHOWN = 24  # rows of the printed table


def _ppca() -> tuple[Any, tuple[Tensor, ...]]:
    """Two latents that the data tie together: a posterior of correlation near −0.9."""
    weight = torch.tensor([[1.0, 0.8], [0.9, 1.0], [1.0, 1.1], [0.8, 0.9]])
    program = toy.PPCA(weight, torch.zeros(4), 0.5)
    return program, (simulate(program, 4),)


def _curve() -> tuple[Any, tuple[Tensor, ...]]:
    program = toy.Curve(lambda z: torch.cat([z, z.square()], -1), 0.5)
    return program, (simulate(program, 4),)


def _given(posterior: Any) -> tuple[Any, tuple[Tensor, ...]]:
    return posterior, tuple(posterior.data)


TOYS: dict[str, Callable[[], tuple[Any, tuple[Tensor, ...]]]] = {
    "banana": lambda: _given(toy.Banana()),
    "curve": _curve,
    "eight-schools": lambda: _given(toy.EightSchools()),
    "eight-schools-centred": lambda: _given(toy.EightSchools(centred=True)),
    "funnel": lambda: _given(toy.Funnel(centred=False)),
    "funnel-centred": lambda: _given(toy.Funnel(centred=True)),
    "hidden-markov": lambda: _given(toy.HiddenMarkov.simulated()),
    "linear-regression": lambda: _given(toy.LinearRegression.simulated(60, 3)),
    "logistic-regression": lambda: _given(toy.LogisticRegression.simulated(60, 2)),
    "ordered-mixture": lambda: _given(toy.OrderedMixture.simulated()),
    "ppca": _ppca,
    "sign-flip": lambda: _given(toy.SignFlip.simulated()),
}


class Asked(NamedTuple):
    """What `ppl-gen compare` was asked for: one field per option."""

    what: str
    sampler: str
    guide: str
    chains: int | None
    draws: int
    warmup: int
    steps: int
    limit: int
    engine: str
    seed: int
    out: Path | None
    overwrite: bool


class _Problem(NamedTuple):
    """What is compared: a program and its fitted guide, on data, sampled by so many chains."""

    name: str
    program: Any
    guide: Any
    data: tuple[Tensor, ...]
    chains: int


def run(asked: Asked, fitted: Callable[[Path], Fitted], console: Console) -> Comparison:
    """Compares guide and MCMC, prints the table and the verdict, and writes pictures,
    comparison.csv and posterior.nc.

    Args:
        asked: The options.
        fitted: Opens the folder of a run.
        console: Where it is said.

    Raises:
        ValueError: Before work starts, if a name is unknown, a count too small, or results would be
            written over.
    """
    expect_engine(asked.engine)
    sampler = SAMPLERS[resolve("sampler", asked.sampler, SAMPLERS)]
    chains = 1 if asked.chains is None else asked.chains
    expect_counts(
        draws=asked.draws, warmup=asked.warmup, steps=asked.steps, limit=asked.limit, chains=chains
    )
    is_run = asked.what not in TOYS and (Path(asked.what) / "config.json").exists()
    if not is_run:
        resolve("posterior or run", asked.what, TOYS)
    resolve("guide", asked.guide, GUIDES)
    folder = asked.out or (
        Path(asked.what) / "compare" if is_run else Path("runs") / f"compare-{asked.what}"
    )
    expect_vacant(folder, asked.overwrite, PRODUCTS)
    problem = _of_run(asked, fitted) if is_run else _of_toy(asked, console)
    usual = 4 if sampler is nuts else problem.chains
    found = compare(
        problem.program,
        problem.guide,
        *problem.data,
        sampler=sampler,
        draws=asked.draws,
        chains=usual if asked.chains is None else asked.chains,
        warmup=asked.warmup,
        seed=asked.seed,
        progress=console.is_terminal,
        on_draw=_Live(console, asked.sampler),
        engine=asked.engine,  # type: ignore[arg-type]
    )
    _print(problem.name, found, console)
    folder.mkdir(parents=True, exist_ok=True)
    _write(problem, found, folder, asked.seed)
    console.print(f"written to {folder}: {', '.join(PRODUCTS)}", soft_wrap=True)
    return found


def _of_run(asked: Asked, fitted: Callable[[Path], Fitted]) -> _Problem:
    """A fitted run, whose guide gives each datum a posterior of its own."""
    opened = fitted(Path(asked.what))
    opened.expect_guide("a comparison with MCMC")
    test = opened.data.test.fixed(0, asked.limit)
    return _Problem(
        asked.what, opened.program, opened.program.guide, (test.x, *opened.context(test)), 16
    )


def _of_toy(asked: Asked, console: Console) -> _Problem:
    """A toy posterior with an automatic guide, fitted by SVI with a learning rate that falls from
    0.05 to 0.0005.
    """
    name, steps, quiet = asked.what, asked.steps, not console.is_terminal
    with forked(torch.device("cpu"), asked.seed):
        program, data = TOYS[name]()
        guide = automatic(GUIDES[asked.guide], program.model, *data)
        optimizer = torch.optim.Adam(guide.parameters(), 0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.01 ** (i / steps))
        summed = name in ("ordered-mixture", "hidden-markov")
        elbo = TraceEnum_ELBO(max_plate_nesting=1) if summed else Trace_ELBO()
        engine: Engine = "eager" if summed else "auto"  # TraceEnum_ELBO cannot be traced
        step = svi_step(program, optimizer, elbo, guide=guide, steps=steps, engine=engine)
        seen: list[Tensor] = []
        said = f"fitting the {asked.guide} guide"
        for i in track(range(steps), said, console=console, transient=True, disable=quiet):
            seen.append(step(*data)["elbo"])
            schedule.step()
            if (i + 1) % max(steps // 4, 1) == 0 and quiet:
                last = torch.stack(seen[-max(steps // 10, 1) :]).mean()
                console.print(f"{said}, step {i + 1}/{steps}: ELBO {last:.3f} nats", soft_wrap=True)
    return _Problem(name, program, guide, data, 64)


def _write(problem: _Problem, found: Comparison, folder: Path, seed: int) -> None:
    table = found.table().to_csv(index_label="coordinate")
    write_atomically(folder / "comparison.csv", lambda file: file.write(table.encode()))
    _pictures(found, folder, problem.name)
    observed = bool(problem.data)
    tree = to_arviz(
        found.draws,
        model=getattr(problem.program, "model", problem.program) if observed else None,
        args=problem.data,
        guide=problem.guide if observed else None,
        log_likelihood=observed
        and problem.name != "hidden-markov",  # one datum: its chain is of one piece
        posterior_predictive=observed,
        seed=seed,
    )
    save_netcdf(tree, folder / "posterior.nc")


class _Live:
    """Lines with acceptance, divergences and R̂ so far, where there is no terminal for a bar."""

    def __init__(self, console: Console, sampler: str) -> None:
        self.console, self.sampler, self.said = console, sampler, 0.0

    def __call__(self, now: Progress) -> None:
        share = now.done / now.total
        if self.console.is_terminal or (share < self.said + 0.24 and now.done < now.total):
            return
        self.said = share
        r_hat = "" if now.r_hat is None else f", R̂ {now.r_hat:.3f}"
        self.console.print(
            f"{self.sampler}, {now.phase} {now.done}/{now.total}: acceptance {now.acceptance:.2f}, "
            f"{now.divergences} divergences{r_hat}",
            soft_wrap=True,
        )


def _print(name: str, found: Comparison, console: Console) -> None:
    rows = found.table()
    exact = bool(rows["exact mean"].notna().any())
    table = Table(
        title=f"{name}: mean (sd) under the guide and {found.draws.sampler}", title_justify="left"
    )
    for column in (
        "",
        "guide",
        "MCMC",
        "± MCSE",
        *(["reference"] if exact else []),
        "sd ratio",
        "R̂",
        "ESS",
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for coordinate, row in rows.head(SHOWN).iterrows():
        cells = [f"{row['guide mean']:.3f} ({row['guide sd']:.3f})"]
        cells += [f"{row['mcmc mean']:.3f} ({row['mcmc sd']:.3f})", f"{row['mcse']:.3f}"]
        truth = (
            "–"
            if math.isnan(row["exact mean"])
            else f"{row['exact mean']:.3f} ({row['exact sd']:.3f})"
        )
        cells += [truth] if exact else []
        ratio = "–" if math.isnan(row["sd ratio"]) else f"{row['sd ratio']:.2f}"
        table.add_row(str(coordinate), *cells, ratio, f"{row['r_hat']:.3f}", f"{row['ess']:.0f}")
    Console(file=console.file, width=max(console.width, 110)).print(table)
    if len(rows) > SHOWN:
        console.print(
            f"… and {len(rows) - SHOWN} coordinates more, all in comparison.csv", soft_wrap=True
        )
    console.print(str(found), soft_wrap=True)
    for what, why in found.unavailable.items():
        console.print(f"not available: {what}: {why}", soft_wrap=True)
    for remark in found.draws.remarks:
        console.print(f"{found.draws.sampler}: {remark}", soft_wrap=True)
    console.print(
        f"{found.draws.chains} chains of {found.draws.draws} draws in {found.draws.seconds:.1f} "
        f"s (+ {found.draws.preparation_seconds:.1f} s of preparation), "
        f"{found.ess_per_second:,.0f} effective draws a second",
        soft_wrap=True,
    )


def _pictures(found: Comparison, folder: Path, title: str) -> None:
    names, guide, drawn = found.arrays()
    exact = None
    if not bool(found.marginals.exact_mean.isnan().all()):
        exact = (found.marginals.exact_mean, found.marginals.exact_sd)
    figures = (
        plots.posterior.contours(guide, drawn, names, title=title),
        plots.posterior.quantiles(guide, drawn, names, title=title),
        plots.posterior.forest(guide, drawn, names, exact, title=title),
        plots.posterior.traces(drawn, names, title=title),
    )
    for name, figure in zip(PICTURES, figures, strict=True):
        figure.savefig(folder / name)
