"""`ppl-gen fit`: its arguments and options."""

from __future__ import annotations

__all__ = ["fit"]

from pathlib import Path
from typing import Annotated, Any

import typer

from ppl_gen.app.cli.arguments import Device, Trust, names_given, with_options_of_models
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.launched import leading, together
from ppl_gen.app.recipes import RECIPES


@with_options_of_models
def fit(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="|".join(RECIPES), help="The model to fit.")],
    *,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch what is missing.")
    ] = False,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/MODEL-DATA if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin the run in --out anew.")
    ] = False,
    trust: Trust = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Say where the time of a step goes; trace.json has some."),
    ] = False,
    **options: Any,
) -> None:
    """Fit a model to data, into a run folder: by SVI, against a critic, or by matching moments."""
    with one_line_errors(alone=False), together(device, console) as ranks:
        from ppl_gen.app.commands import fit as fit_command
        from ppl_gen.app.commands import fit_along
        from ppl_gen.app.configure import configure, folder_of

        if not ranks.is_first:
            fit_along.fit_along(ranks, device, download)
            return
        with leading(ranks):
            if resume and overwrite:
                raise ValueError("expected --resume or --overwrite, got both")
            if trust and not resume:
                raise ValueError(
                    "--trust belongs to --resume, got it alone; leave it out: what is named here "
                    "is run anyway"
                )
            given = names_given(ctx) & options.keys()
            config = configure(model, options, given)
        fit_command.fit(
            out or folder_of(model, options),
            config,
            given,
            device_name=device,
            resume=resume,
            overwrite=overwrite,
            download=download,
            trust=trust,
            profiled=profile,
            console=console,
            ranks=ranks,
        )
