"""`ppl-gen evaluate`: its arguments and options."""

from __future__ import annotations

__all__ = ["evaluate"]

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppl_gen.app.cli.arguments import (
    DataNow,
    Device,
    OtherDataNow,
    Overwrite,
    RootNow,
    Seed,
    Trust,
    names_given,
)
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened
from ppl_gen.app.launched import expect_alone, together

if TYPE_CHECKING:
    from ppl_gen.app.evaluation.asked import Asked
    from ppl_gen.app.run.opened import Fitted
    from ppl_gen.ranks import Ranks


def evaluate(
    ctx: typer.Context,
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="The folder of a run, or of several.")
    ],
    particles: Annotated[int, typer.Option(help="Importance samples per datum.")] = 1000,
    limit: Annotated[
        int | None, typer.Option(help="Score only this many test data, from the first.")
    ] = None,
    ais: Annotated[
        bool, typer.Option("--ais", help="Also by annealed importance sampling, a tighter bound.")
    ] = False,
    bdmc: Annotated[
        bool, typer.Option("--bdmc", help="Bounds from both sides, on data drawn from the model.")
    ] = False,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="What the guide's family and its network lose, in nats.")
    ] = False,
    collapse: Annotated[bool, typer.Option("--collapse", help="Which latents are used.")] = False,
    moments: Annotated[
        bool, typer.Option("--moments", help="Which moments of the draws are off, and how far.")
    ] = False,
    two_sample: Annotated[
        bool, typer.Option("--two-sample", help="Distances of draws from test data, with p-values.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="What draws and data are compared in: pixels, pca, classifier (needs labels) or "
            "inception (needs colour images)."
        ),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Permutations for each p-value.")] = 500,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Score under Gaussian noise of this size, which gives any model a likelihood; 0.1 "
            "for several runs."
        ),
    ] = None,
    chains: Annotated[
        int, typer.Option(help="AIS chains per datum, for --ais, --bdmc, --gaps and --epsilon.")
    ] = 16,
    temperatures: Annotated[int, typer.Option(help="Steps of each of these chains.")] = 1000,
    subset: Annotated[
        int, typer.Option(help="Run these chains on this many test data, from the first.")
    ] = 100,
    seed: Seed = 0,
    data: DataNow = None,
    data_b: OtherDataNow = None,
    root: RootNow = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results of several runs; beside the first run if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Score a run on its test data: by its log evidence, or by its draws if it has no likelihood.

    Several runs on the same data are put into one table.
    """
    with one_line_errors(alone=False), together(device, console) as ranks:
        from ppl_gen.app.configure import places_of
        from ppl_gen.app.evaluation.asked import Asked

        asked = Asked(
            particles=particles,
            limit=limit,
            ais=ais,
            bdmc=bdmc,
            gaps=gaps,
            collapse=collapse,
            moments=moments,
            two_sample=two_sample,
            features=features,
            permutations=permutations,
            epsilon=epsilon,
            chains=chains,
            temperatures=temperatures,
            subset=subset,
            seed=seed,
            given=frozenset(names_given(ctx)),
        )
        places = places_of({"data": data, "data_b": data_b, "root": root})

        def opened_here(run: Path) -> Fitted:
            from ppl_gen.app.run.device import device_of_process

            return opened(run, str(device_of_process(device, ranks)), trust, places)

        if not ranks.is_first:
            _judge_along(run_folders[0], asked, opened_here, ranks)
            return
        asked.expect_counts()
        asked.expect_for(len(run_folders))
        if len(run_folders) > 1:
            expect_alone()
            runs = [opened_here(folder) for folder in run_folders]
            _judge_runs(runs, asked, out, overwrite)
        else:
            _judge_run(run_folders[0], asked, opened_here, ranks)


def _judge_run(
    folder: Path, asked: Asked, open_run: Callable[[Path], Fitted], ranks: Ranks
) -> None:
    """Judges one run, which nobody else writes to meanwhile."""
    from ppl_gen.app.commands import evaluate as evaluate_command
    from ppl_gen.app.run.folder import Run

    with Run.held(folder) as run:
        evaluate_command.evaluate(open_run(run.folder), asked, console, ranks)


def _judge_along(
    folder: Path, asked: Asked, open_run: Callable[[Path], Fitted], ranks: Ranks
) -> None:
    """Does its share, in a process that is not the first."""
    from ppl_gen.app.commands import evaluate as evaluate_command

    evaluate_command.evaluate_along(asked, lambda: open_run(folder), ranks)


def _judge_runs(runs: list[Fitted], asked: Asked, out: Path | None, overwrite: bool) -> None:
    """Judges several runs on the same data, into one table."""
    from ppl_gen.app.commands import evaluate_runs

    evaluate_runs.judge_runs(runs, asked, out, overwrite, console)
