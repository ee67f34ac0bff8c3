"""`ppl-gen report`: its arguments and options."""

from __future__ import annotations

__all__ = ["report"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.arguments import Overwrite
from ppl_gen.app.cli.errors import console, one_line_errors


def report(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="The folder of a run, or of several.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE.html", help="The page that is written, one file.")
    ],
    overwrite: Overwrite = False,
) -> None:
    """Write one page on runs: a verdict in words, curves, pictures, numbers with their errors.

    It shows what their folders hold, runs nothing of theirs, and says which command would give what
    is missing.
    """
    with one_line_errors():
        from ppl_gen.app.commands import report as report_command

        report_command.report(run_folders, out, overwrite, console)
