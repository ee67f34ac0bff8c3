"""`ppl-gen sweep`: its arguments and options."""

from __future__ import annotations

__all__ = ["sweep"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.errors import console, one_line_errors


def sweep(
    what: Annotated[
        str | None,
        typer.Argument(metavar="PRESET|FILE", help="A preset of --list, or a .toml file."),
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list", help="List all presets, one a line.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Data of a preset: digits for a look, mnist at its full settings."),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of the data sets that torchvision downloads.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch what is missing.")
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(help="Multiply a preset's epochs, draws and repetitions: 0.1 for a trial."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Cells that run side by side; one to a core if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's folder; runs/sweep-NAME if left out.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run anew what is finished.")
    ] = False,
) -> None:
    """Run an experiment over many settings, into one table and one picture with intervals.

    What is finished is kept: the same command goes on where it was stopped. A file has a table
    [fit] with a model and options, one [axes] with lists of their values, and one [evaluate].
    """
    with one_line_errors():
        from ppl_gen.app.commands import sweep as sweep_command

        if list_presets:
            sweep_command.list_presets(console)
            return
        if what is None:
            raise ValueError("expected a preset or a file, got neither; --list names the presets")
        asked = sweep_command.SweepOptions(
            what=what,
            data=data,
            root=root,
            download=download,
            scale=scale,
            jobs=jobs,
            out=out,
            overwrite=overwrite,
        )
        sweep_command.sweep(asked, console)
