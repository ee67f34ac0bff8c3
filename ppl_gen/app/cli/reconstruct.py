"""`ppl-gen reconstruct`: its arguments and options."""

from __future__ import annotations

__all__ = ["reconstruct"]

from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Count, Device, Overwrite, RunFolder, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


def reconstruct(
    run_folder: RunFolder,
    count: Count = 36,
    data: Annotated[
        str | None,
        typer.Option(
            help="Other data, by name or path, whose test data are taken: what the run makes of "
            "what it was not fitted to."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Draw test data beside their reconstructions into reconstructions.png.

    Those of other data go into reconstructions-DATA.png.
    """
    with one_line_errors():
        from ppl_gen.app.run import pictures, progress

        progress.expect_count(count)
        if overwrite and data is None:
            raise ValueError(
                "--overwrite belongs to --data, got it alone; leave it out: reconstructions.png is "
                "always drawn anew"
            )
        fitted = opened(run_folder, device, trust)
        if data is None:
            path = pictures.reconstructions(fitted, count)
        else:
            path, said = pictures.reconstructions_of(fitted, data, count, overwrite)
            console.print(said, soft_wrap=True)
        console.print(f"written to {path}", soft_wrap=True)
