"""`ppl-gen pack`: its arguments and options."""

from __future__ import annotations

__all__ = ["pack"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Overwrite, RunFolder
from ppl_gen.app.cli.errors import console, one_line_errors


def pack(
    run_folder: RunFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What is written, a zip file: run.zip.")
    ],
    overwrite: Overwrite = False,
) -> None:
    """Pack a run into one file: weights, results, pictures, versions, checksums, and a card.

    The card is README.md in the run: one part is written anew, yours is kept.
    """
    with one_line_errors():
        from ppl_gen.app.commands import pack as pack_command

        pack_command.pack(run_folder, file, overwrite, console)
