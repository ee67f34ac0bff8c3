"""`ppl-gen sample`: its arguments and options."""

from __future__ import annotations

__all__ = ["sample"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Device, Overwrite, RunFolder, Seed, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


def sample(
    run_folder: RunFolder,
    count: Annotated[
        int, typer.Option(help="How many, at most 1000 in a picture or a folder.")
    ] = 100,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label, by its name or number, or the value of a latent code, to draw under; "
            "ten of each if left out."
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help='A caption to condition on: "a thick slanted seven".')
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where they go: draws.npy or draws.npz as arrays, draws.csv in the units of a "
            "table's columns, draws.png as one picture, or a folder with a PNG for each; "
            "samples.png in the run if left out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Draw samples of a run into samples.png, or into files of their own.

    Images are means of the likelihood, without its noise.
    """
    with one_line_errors():
        from ppl_gen.app.run import exports, pictures, progress
        from ppl_gen.app.run.folder import Run

        is_array = out is not None and out.suffix.lower() in (".npy", ".npz", ".csv", ".tsv")
        progress.expect_count(count, many=is_array)
        if overwrite and out is None:
            raise ValueError(
                "--overwrite belongs to --out, got it alone; leave it out: samples.png is always "
                "drawn anew"
            )
        alone = is_array or not pictures.shows_data(Run.open(run_folder).config)
        fitted = opened(run_folder, device, trust, alone=alone)
        if out is None:
            out = run_folder / pictures.name_of_samples(fitted)
        else:
            exports.check_place(out, fitted, overwrite)
        drawn = pictures.draw_samples(fitted, count, label, caption, seed)
        exports.export(fitted, drawn, out)
        console.print(f"written to {out}", soft_wrap=True)
