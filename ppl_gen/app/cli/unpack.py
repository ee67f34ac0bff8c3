"""`ppl-gen unpack`: its arguments and options."""

from __future__ import annotations

__all__ = ["unpack"]

from pathlib import Path
from typing import Annotated

import typer

from ppl_gen.app.cli.errors import console, one_line_errors


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `ppl-gen pack` has written.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder that becomes the run.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over another run.")] = False,
) -> None:
    """Unpack a run that was packed, once every checksum was found right."""
    with one_line_errors():
        from ppl_gen.app.commands import pack as pack_command

        pack_command.unpack(file, out, overwrite, console)
