"""`ppl-gen translate`: its arguments and options."""

from __future__ import annotations

__all__ = ["translate"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Device, Overwrite, RunFolder, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


def translate(
    run_folder: RunFolder,
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="A folder, a file, or a data set's test images.")
    ],
    side: Annotated[str, typer.Option("--from", metavar="a|b", help="The domain of the images.")],
    to: Annotated[Path, typer.Option(help="Folder for the translations, a PNG for each.")],
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Resize the images to this many pixels a side, after the suffixes of the run's "
            "domain; the run's own --image-size if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Translate images of one domain of a run into its other domain."""
    with one_line_errors():
        from ppl_gen.app.commands import translate as translate_command

        fitted = opened(run_folder, device, trust)
        translate_command.translate(
            fitted,
            side,
            images,
            to=to,
            image_size=image_size,
            overwrite=overwrite,
            console=console,
        )
