"""`ppl-gen compress`: its arguments and options."""

from __future__ import annotations

__all__ = ["compress"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Overwrite, RunFolder, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


def compress(
    run_folder: RunFolder,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A data set, of which the test data are taken as they are scored; or a .npy or "
            ".npz file, of which all are.",
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where they are written to.")],
    precision: Annotated[int, typer.Option(help="Bits of a latent, from 4 to 22.")] = 16,
    limit: Annotated[
        int | None, typer.Option(help="Compress only this many data, from the first.")
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Compress data without loss into −ELBO / ln 2 bits each, by a run's program and guide.

    The lengths of PNG, bz2 and JPEG-2000 are printed beside it.
    """
    with one_line_errors():
        from ppl_gen.app.commands import compress as compress_command
        from ppl_gen.app.run.folder import expect_free

        expect_free(file, overwrite)
        fitted = opened(run_folder, "cpu", trust)
        compress_command.compress(
            fitted,
            data,
            file,
            precision=precision,
            limit=limit,
            console=console,
        )
