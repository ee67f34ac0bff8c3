"""`ppl-gen compare`: the guide of a toy posterior or of a fitted run beside MCMC.

The result is a table, a verdict, pictures and a netCDF file.
"""

from __future__ import annotations

__all__ = ["GUIDES", "SAMPLERS", "TOYS", "CompareOptions", "Toy", "run"]

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen import plots
from ppl_gen.app.evaluation.asked import flags
from ppl_gen.app.launched import Told, agree
from ppl_gen.app.run import comparison
from ppl_gen.app.run.folder import expect_vacant
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.terminal import widened
from ppl_gen.app.wording import in_options
from ppl_gen.contexts import forked
from ppl_gen.counts import expect_at_least
from ppl_gen.inference import Comparison, compare, fit_guide, hmc, nuts, to_arviz
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.expect import expect_counts, expect_room_for_draws
from ppl_gen.inference.mcmc.draws import Draws, Progress, over_processes
from ppl_gen.inference.prediction.arviz_export import save_netcdf
from ppl_gen.models import toy
from ppl_gen.names import resolve
from ppl_gen.plots.style import literal
from ppl_gen.program import simulate
from ppl_gen.ranks import ALONE, ProcessLost, Ranks
from ppl_gen.writing import write_atomically, write_folder, write_json, write_picture

if TYPE_CHECKING:
    import pandas

SAMPLERS: dict[str, Callable[..., Any]] = {"hmc": hmc, "nuts": nuts}
GUIDES: dict[str, type] = {
    "mean-field": AutoDiagonalNormal,
    "full-covariance": AutoMultivariateNormal,
}
SHOWN = 24  # rows of the printed table
_WIDTH = 110  # columns of the printed table, even where the terminal has fewer
_OF_TOYS = ("guide", "steps")
_OF_RUNS = ("limit", "device", "trust")
_FEWEST_DRAWS = 2  # of a chain: with one it has no variance, and its pictures nothing to show
_CHAINS_OF_NUTS = 4
_CHAINS_OF_TOY = 64
_CHAINS_OF_RUN = 16


class Toy(NamedTuple):
    """A small posterior to compare on.

    Attributes:
        build: Makes the program and its data.
        is_summed: Whether the program has discrete latents, which the ELBO sums out.
        is_pointwise: Whether log likelihoods are written for each datum; not where all data are one
            chain.
    """

    build: Callable[[], tuple[Any, tuple[Tensor, ...]]]
    is_summed: bool = False
    is_pointwise: bool = True


def _with_own_data(program: Any) -> tuple[Any, tuple[Tensor, ...]]:
    return program, tuple(program.data)


def _ppca() -> tuple[Any, tuple[Tensor, ...]]:
    """Two latents that the data tie together: a posterior of correlation near −0.9."""
    weight = torch.tensor([[1.0, 0.8], [0.9, 1.0], [1.0, 1.1], [0.8, 0.9]])
    program = toy.PPCA(weight, torch.zeros(4), 0.5)
    return program, (simulate(program, 4),)


def _curve() -> tuple[Any, tuple[Tensor, ...]]:
    program = toy.Curve(lambda z: torch.cat([z, z.square()], -1), 0.5)
    return program, (simulate(program, 4),)


TOYS: dict[str, Toy] = {
    "banana": Toy(lambda: _with_own_data(toy.Banana())),
    "curve": Toy(_curve),
    "eight-schools": Toy(lambda: _with_own_data(toy.EightSchools())),
    "eight-schools-centred": Toy(lambda: _with_own_data(toy.EightSchools(centred=True))),
    "funnel": Toy(lambda: _with_own_data(toy.Funnel(centred=False))),
    "funnel-centred": Toy(lambda: _with_own_data(toy.Funnel(centred=True))),
    "hidden-markov": Toy(
        lambda: _with_own_data(toy.HiddenMarkov.simulated()), is_summed=True, is_pointwise=False
    ),
    "linear-regression": Toy(lambda: _with_own_data(toy.LinearRegression.simulated(60, 3))),
    "logistic-regression": Toy(lambda: _with_own_data(toy.LogisticRegression.simulated(60, 2))),
    "ordered-mixture": Toy(lambda: _with_own_data(toy.OrderedMixture.simulated()), is_summed=True),
    "ppca": Toy(_ppca),
    "sign-flip": Toy(lambda: _with_own_data(toy.SignFlip.simulated())),
}


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What `ppl-gen compare` was asked for.

    Attributes:
        what: The name of a toy posterior, or the folder of a run.
        sampler: "hmc", all chains at once, or "nuts", Pyro's.
        guide: "mean-field" or "full-covariance", for a toy; a run has a guide of its own.
        chains: The number of chains; None takes 4 for nuts, else 64 for a toy and 16 per datum of
            a run.
        draws: Draws of each chain.
        warmup: Iterations of each chain before them.
        steps: SVI steps of a toy's guide.
        limit: How many test data of a run are compared, counted from the first.
        engine: "auto", "inductor", "fx" or "eager": how the log density is compiled.
        seed: Seed of everything that is drawn.
        out: The folder for the results; None takes "compare" in the folder of the run, or
            runs/compare-NAME.
        overwrite: Whether earlier results may be written over.
        given: The names of the options that stood on the command line.
    """

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
    given: frozenset[str] = frozenset()

    def expect_heeded(self, is_run: bool) -> None:
        """Raises ValueError if an option was given that nothing depends on.

        Args:
            is_run: Whether a run is compared, or else a toy posterior.
        """
        if is_run:
            strange = [name for name in _OF_TOYS if name in self.given]
            expected = "for a toy posterior, got a run, which has a fitted guide of its own"
        else:
            strange = [name for name in _OF_RUNS if name in self.given]
            expected = "for a run, got a toy posterior"
        if strange:
            raise ValueError(f"{flags(strange)}: {expected}; leave it out")
        if self.sampler == "nuts" and "engine" in self.given:
            raise ValueError(
                "--engine: for the sampler hmc, got nuts, which is Pyro's; leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """What is compared.

    Attributes:
        name: What it is called in headings.
        program: The program, or a Pyro model.
        guide: Its fitted guide.
        data: The observed data and their context; empty for a posterior without data.
        chains: How many chains a sampler other than nuts runs.
        is_pointwise: Whether log likelihoods are written for each datum.
        fitted: The run that it is; None of a toy.
    """

    name: str
    program: Any
    guide: Any
    data: tuple[Tensor, ...]
    chains: int
    is_pointwise: bool = True
    fitted: Fitted | None = None


def run(
    asked: CompareOptions,
    open_run: Callable[[Path], Fitted],
    console: Console,
    ranks: Ranks = ALONE,
) -> Comparison:
    """Compares guide and MCMC, prints table and verdict, and writes pictures and draws.

    Args:
        asked: The options of the command.
        open_run: Opens the folder of a run.
        console: Where table and verdict are printed.
        ranks: The processes, each of which runs a share of the chains.

    Returns:
        The comparison, as `inference.compare` makes it.

    Raises:
        ValueError: Before work starts, if a name is unknown, a count too small, or results would be
            written over.
        Told: In all processes but the first, once they have no more to do.
    """
    try:
        return _run(asked, open_run, console, ranks)
    except ProcessLost:
        if ranks.is_first:
            raise
        raise Told from None
    except (ValueError, OSError) as error:
        if ranks.is_first:
            raise
        with suppress(ProcessLost):  # process 0 may have ended for the same reason
            agree(ranks, str(error))
        raise Told from None


def _run(
    asked: CompareOptions, open_run: Callable[[Path], Fitted], console: Console, ranks: Ranks
) -> Comparison:
    expect_engine(asked.engine)
    sampler = SAMPLERS[resolve("sampler", asked.sampler, SAMPLERS)]
    expect_counts(
        draws=asked.draws,
        warmup=asked.warmup,
        steps=asked.steps,
        limit=asked.limit,
        chains=asked.chains,
    )
    expect_at_least(_FEWEST_DRAWS, draws=asked.draws)
    # At the least: chains of one coordinate.
    expect_room_for_draws(
        asked.draws, asked.chains or 1, 1, torch.device("cpu"), warmup=asked.warmup
    )
    is_run = asked.what not in TOYS and (Path(asked.what) / "config.json").exists()
    if is_run:
        folder = Path(asked.what) / comparison.FOLDER
    else:
        resolve("posterior or run", asked.what, TOYS)
        folder = Path("runs") / f"compare-{asked.what}"
    asked.expect_heeded(is_run)
    resolve("guide", asked.guide, GUIDES)
    if asked.out is not None:
        folder = asked.out
    expect_vacant(folder, asked.overwrite, comparison.PRODUCTS)
    problem = _problem_of_run(asked, open_run) if is_run else _problem_of_toy(asked, console, ranks)
    chains = asked.chains
    if chains is None:
        chains = _CHAINS_OF_NUTS if sampler is nuts else problem.chains
    found = compare(
        problem.program,
        problem.guide,
        *problem.data,
        sampler=_over(ranks, sampler),
        draws=asked.draws,
        chains=chains,
        warmup=asked.warmup,
        seed=asked.seed,
        progress=console.is_terminal and ranks.is_first,
        on_draw=_ProgressLines(console, asked.sampler),
        engine=asked.engine,  # type: ignore[arg-type]
    )
    _print(problem.name, found, console)
    with write_folder(folder) as new:
        _write(problem, found, new, asked)
    console.print(f"written to {folder}: {', '.join(comparison.PRODUCTS)}", soft_wrap=True)
    return found


def _over(ranks: Ranks, sampler: Callable[..., Draws]) -> Callable[..., Draws]:
    """The sampler over all processes, of which the first alone has more to do afterwards."""
    if ranks.count == 1:
        return sampler
    shared = over_processes(sampler, ranks)

    @wraps(sampler)
    def sample(*args: Any, **options: Any) -> Draws:
        agree(ranks, "")
        try:
            found = shared(*args, **options)
        except (ValueError, RuntimeError) as error:
            if ranks.is_first:
                raise
            raise Told from error
        if not ranks.is_first:
            raise Told(0)
        return found

    return sample


def _problem_of_run(asked: CompareOptions, open_run: Callable[[Path], Fitted]) -> _Problem:
    """A fitted run, whose guide gives each datum a posterior of its own."""
    fitted = open_run(Path(asked.what))
    fitted.expect_guide("a comparison with MCMC")
    test = fitted.data.test.fixed(0, asked.limit)
    return _Problem(
        name=f"{fitted.name}, epoch {fitted.epoch}",
        program=fitted.program,
        guide=fitted.program.guide,
        data=(test.x, *fitted.context(test)),
        chains=_CHAINS_OF_RUN,
        fitted=fitted,
    )


def _problem_of_toy(asked: CompareOptions, console: Console, ranks: Ranks) -> _Problem:
    """A toy posterior with an automatic guide, fitted by SVI."""
    chosen = TOYS[asked.what]
    with forked(torch.device("cpu"), asked.seed):
        program, data = chosen.build()
        elbo: ELBO = Trace_ELBO()
        engine: Engine = "auto"
        if chosen.is_summed:
            elbo = TraceEnum_ELBO(max_plate_nesting=1)
            engine = "eager"  # TraceEnum_ELBO cannot be traced
        fitted = fit_guide(
            program,
            GUIDES[asked.guide],
            *data,
            elbo=elbo,
            steps=asked.steps,
            engine=engine,
            progress=ranks.is_first,
        )
    console.print(f"{asked.guide} guide: {fitted}", soft_wrap=True)
    return _Problem(
        name=asked.what,
        program=program,
        guide=fitted.guide,
        data=data,
        chains=_CHAINS_OF_TOY,
        is_pointwise=chosen.is_pointwise,
    )


def _write(problem: _Problem, found: Comparison, folder: Path, asked: CompareOptions) -> None:
    table = found.table().to_csv(index_label="coordinate")
    write_atomically(folder / comparison.TABLE, lambda file: file.write(table.encode()))
    write_json(folder / comparison.FILE, _entry(problem, found, asked))
    _draw_pictures(found, folder, literal(problem.name))
    is_observed = bool(problem.data)
    model = None
    guide = None
    if is_observed:
        model = getattr(problem.program, "model", problem.program)
        guide = problem.guide
    tree = to_arviz(
        found.draws,
        model=model,
        args=problem.data,
        guide=guide,
        log_likelihood=is_observed and problem.is_pointwise,
        posterior_predictive=is_observed,
        seed=asked.seed,
    )
    save_netcdf(tree, folder / "posterior.nc")


def _entry(problem: _Problem, found: Comparison, asked: CompareOptions) -> dict[str, Any]:
    """What the comparison comes to, and of which weights it is, for a file."""
    draws = found.draws
    verdict = found.verdict
    entry: dict[str, Any] = {
        "findings": [[found.tag, in_options(found.sentence)] for found in verdict.findings],
        "passes": verdict.passes,
        "coordinates": len(found.marginals.names),
        "r_hat_largest": max(float(r_hat.max()) for r_hat in draws.r_hat.values()),
        "ess_smallest": float(draws.min_ess),
        "options": {
            "sampler": asked.sampler,
            "chains": draws.chains,
            "draws": draws.draws,
            "warmup": asked.warmup,
            "limit": asked.limit,
            "seed": asked.seed,
        },
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if problem.fitted is not None:
        entry |= {"epoch": problem.fitted.epoch, "weights": problem.fitted.weights}
    return entry


def _draw_pictures(found: Comparison, folder: Path, title: str) -> None:
    names, guide, drawn = found.arrays()
    exact = None
    if not bool(found.marginals.exact_mean.isnan().all()):
        exact = (found.marginals.exact_mean, found.marginals.exact_sd)
    figures = (
        plots.posterior.contours(guide, drawn, names, title=title),
        plots.posterior.quantiles(guide, drawn, names, title=title),
        plots.posterior.forest(guide, drawn, names, exact, support=found.support, title=title),
        plots.posterior.traces(drawn, names, title=title),
    )
    for name, figure in zip(comparison.PICTURES, figures, strict=True):
        write_picture(folder / name, figure)


class _ProgressLines:
    """Lines with acceptance, divergences and R̂ so far, where there is no terminal for a bar.

    Args:
        console: Where they are printed.
        sampler: The name of the sampler.
    """

    def __init__(self, console: Console, sampler: str) -> None:
        self._console = console
        self._sampler = sampler
        self._share_said = 0.0

    def __call__(self, now: Progress) -> None:
        """Prints a line for each quarter of the iterations that is done."""
        if self._console.is_terminal:
            return
        share = now.done / now.total
        is_last = now.done == now.total
        if share < self._share_said + 0.24 and not is_last:
            return
        self._share_said = share
        r_hat = ""
        if now.r_hat is not None:
            r_hat = f", R̂ {now.r_hat:.3f}"
        self._console.print(
            f"{self._sampler}, {now.phase} {now.done}/{now.total}: acceptance "
            f"{now.acceptance:.2f}, {now.divergences} divergences{r_hat}",
            soft_wrap=True,
        )


def _print(name: str, found: Comparison, console: Console) -> None:
    rows = found.table()
    title = f"{name}: mean (sd) under the guide and {found.draws.sampler}"
    table = _table(rows.head(SHOWN), title, has_reference=bool(rows["exact mean"].notna().any()))
    widened(console, _WIDTH).print(table)
    draws = found.draws
    lines = []
    if len(rows) > SHOWN:
        lines.append(f"… and {len(rows) - SHOWN} coordinates more, all in comparison.csv")
    lines.append(in_options(str(found)))
    for what, why in found.unavailable.items():
        lines.append(f"not available: {what}: {why}")
    for remark in draws.remarks:
        lines.append(in_options(f"{draws.sampler}: {remark}"))
    lines.append(
        f"{draws.chains} chains of {draws.draws} draws in {draws.seconds:.1f} "
        f"s (+ {draws.preparation_seconds:.1f} s of preparation), "
        f"{found.ess_per_second:,.0f} effective draws a second"
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _table(rows: pandas.DataFrame, title: str, has_reference: bool) -> Table:
    """A line for each coordinate; a dash where there is no reference, or no ratio."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    headings = ["guide", "MCMC", "± MCSE", "sd ratio", "R̂", "ESS"]
    if has_reference:
        headings.insert(3, "reference")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for coordinate, row in rows.iterrows():
        ratio = "–"
        if not math.isnan(row["sd ratio"]):
            ratio = f"{row['sd ratio']:.2f}"
        cells = [
            _mean_and_sd(row, "guide"),
            _mean_and_sd(row, "mcmc"),
            f"{row['mcse']:.3f}",
            ratio,
            f"{row['r_hat']:.3f}",
            f"{row['ess']:.0f}",
        ]
        if has_reference:
            reference = "–"
            if not math.isnan(row["exact mean"]):
                reference = _mean_and_sd(row, "exact")
            cells.insert(3, reference)
        table.add_row(str(coordinate), *cells)
    return table


def _mean_and_sd(row: Any, of: str) -> str:
    return f"{row[f'{of} mean']:.3f} ({row[f'{of} sd']:.3f})"
