"""How a command ends that cannot go on: in one line, with an exit code that says why."""

from __future__ import annotations

__all__ = ["console", "one_line_errors"]

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from ppl_gen.app.launched import expect_alone, named
from ppl_gen.app.output import not_needed
from ppl_gen.app.signals import STOPS, heeded, stopped, what_came
from ppl_gen.app.terminal import Terminal, warnings_as_lines
from ppl_gen.app.wording import in_options
from ppl_gen.names import spelled_out

console = Terminal()
_LOST = ": what was worked out is lost, and nothing was written"


@contextmanager
def one_line_errors(*, alone: bool = True) -> Iterator[None]:
    """Ends a command that cannot go on in one line on stderr.

    A ValueError, an OSError or the end of memory exits with code 2; Ctrl-C and signals that ask for
    the end with 128 and their number, where the command has not said more of what is lost. Warnings
    are lines as well.

    Args:
        alone: Whether the command is one process, and refused where torchrun starts it as several.
    """
    with not_needed(), heeded(), warnings_as_lines(console):
        try:
            if alone:
                expect_alone()
            yield
        except STOPS as stop:
            raise stopped(stop, _LOST) from None
        except Exception as error:
            end = _end(error)
            if end is None:
                raise
            raise end from None


def _end(error: Exception) -> typer.Exit | None:
    """How a command ends at an error; None where the error is a fault of the library's."""
    stop = what_came()
    if stop is not None and not isinstance(error, typer.Exit):
        return stopped(stop, _LOST)
    if isinstance(error, ValueError | OSError):
        return _refusal(str(error))
    from ppl_gen.data.reader import loss_of_reader
    from ppl_gen.memory import is_exhausted, shortage

    if lost := loss_of_reader(error):
        return _refusal(lost)
    if is_exhausted(error):
        return _refusal(shortage(error))
    return None


def _refusal(why: str) -> typer.Exit:
    """The end of a command that cannot go on, with a line on stderr."""
    line = in_options(" ".join(why.split()))
    with suppress(OSError):  # which may be gone
        typer.echo(f"error{named()}: {spelled_out(line)}", err=True)
    return typer.Exit(2)
