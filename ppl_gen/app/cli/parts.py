"""`ppl-gen parts`: its arguments and options."""

from __future__ import annotations

__all__ = ["parts"]

from typing import Annotated

import typer

from ppl_gen.app.cli.errors import console, one_line_errors
from ppl_gen.app.parts.listed import LISTED


def parts(
    table: Annotated[
        str | None,
        typer.Argument(metavar="[" + "|".join(LISTED) + "]", help="One table; all if left out."),
    ] = None,
) -> None:
    """List the parts that can be named, one a line, each with an example that can be pasted."""
    with one_line_errors():
        from ppl_gen.app.commands import parts as parts_command

        parts_command.show(table, console)
