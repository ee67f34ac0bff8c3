"""`ppl-gen posterior`: its arguments and options."""

from __future__ import annotations

__all__ = ["posterior"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Engine, Overwrite, Seed
from ppl_gen.app.cli.errors import console, one_line_errors


def posterior(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:MODEL", help="A Pyro program of your own, whose file is run."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A .json, .npz or .csv file with an array for each argument of the model, by its "
            "name, or a .npy file for a single one; left out for a model without arguments."
        ),
    ] = None,
    ess: Annotated[int, typer.Option(help="Effective draws of each coordinate.")] = 2000,
    chains: Annotated[int, typer.Option(help="Chains of HMC.")] = 64,
    engine: Engine = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .nc file for the draws, which ArviZ reads.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """The posterior of any Pyro program: Pathfinder, a quick guide, its weights, HMC where needed.

    A table, a grade with the numbers behind it, and what each stage took; draws with --out.
    """
    with one_line_errors():
        from ppl_gen.app.commands import posterior as posterior_command

        asked = posterior_command.PosteriorOptions(
            model=model,
            data=data,
            ess=ess,
            chains=chains,
            engine=engine,
            seed=seed,
            out=out,
            overwrite=overwrite,
        )
        posterior_command.run(asked, console)
