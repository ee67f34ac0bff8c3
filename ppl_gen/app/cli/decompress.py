"""`ppl-gen decompress`: its arguments and options."""

from __future__ import annotations

__all__ = ["decompress"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Overwrite, RunFolder, Trust
from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.cli.opened import opened


def decompress(
    run_folder: RunFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `ppl-gen compress` has written.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.npy", help="The file that gets the data as an array.")
    ],
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Give back what `compress` has written, every value as it was."""
    with one_line_errors():
        from ppl_gen.app.commands import compress as compress_command
        from ppl_gen.app.run.folder import expect_free

        expect_free(out, overwrite, ending=".npy")
        fitted = opened(run_folder, "cpu", trust, alone=True)
        compress_command.decompress(fitted, file, out, console=console)
