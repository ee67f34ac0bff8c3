"""`ppl-gen compare`: its arguments and options."""

from __future__ import annotations

__all__ = ["compare"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppl_gen.app.cli.arguments import Device, Engine, Overwrite, Seed, Trust, names_given
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened
from ppl_gen.app.launched import together

if TYPE_CHECKING:
    from ppl_gen.app.run.opened import Fitted


def compare(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN", help="A toy posterior (eight-schools, ppca, ...) or a run."
        ),
    ],
    sampler: Annotated[str, typer.Option(help="hmc, all chains at once, or nuts, Pyro's.")] = "hmc",
    guide: Annotated[
        str, typer.Option(help="mean-field or full-covariance, for a toy; a run has its own.")
    ] = "mean-field",
    chains: Annotated[
        int | None, typer.Option(help="Chains; 64 for hmc (16 on a run), 4 for nuts.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each chain.")] = 500,
    warmup: Annotated[int, typer.Option(help="Iterations of each chain before its draws.")] = 500,
    steps: Annotated[int, typer.Option(help="SVI steps of a toy's guide.")] = 3000,
    limit: Annotated[int, typer.Option(help="Test data of a run, from the first.")] = 20,
    engine: Engine = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; runs/compare-NAME, or RUN/compare, if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Compare variational inference with MCMC on a toy posterior or on test data of a run.

    The results are a table, a verdict, pictures and posterior.nc.
    """
    with one_line_errors(alone=False), together(device, console) as ranks:
        from ppl_gen.app.commands import compare as compare_command

        asked = compare_command.CompareOptions(
            what=what,
            sampler=sampler,
            guide=guide,
            chains=chains,
            draws=draws,
            warmup=warmup,
            steps=steps,
            limit=limit,
            engine=engine,
            seed=seed,
            out=out,
            overwrite=overwrite,
            given=frozenset(names_given(ctx)),
        )

        def opened_here(run: Path) -> Fitted:
            from ppl_gen.app.run.device import device_of_process

            return opened(run, str(device_of_process(device, ranks)), trust)

        compare_command.run(asked, opened_here, console, ranks)
