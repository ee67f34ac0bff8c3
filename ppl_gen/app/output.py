"""Standard output that may go away while work goes on, as that of `ppl-gen fit ... | head -1`."""

from __future__ import annotations

__all__ = ["not_needed"]

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer


@contextmanager
def not_needed() -> Iterator[None]:
    """Lets a command go on where nobody reads what it prints: what it makes are files.

    A line on stderr says so, once.
    """
    former = sys.stdout
    output = _Output(former)
    sys.stdout = output
    try:
        yield
    finally:
        output.flush()
        sys.stdout = former


class _Output:
    """A stream of text that takes what cannot be written for written.

    Args:
        stream: Where text goes as long as it can; None where there is no output at all.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._is_open = stream is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, or does nothing."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Sends what was written, or does nothing."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_open and bool(self.__getattr__("isatty")())

    def _try(self, method: str, *text: str) -> None:
        if not self._is_open:
            return
        try:
            getattr(self._stream, method)(*text)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Says that the output is gone; what is left in buffers goes nowhere."""
        self._is_open = False
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        with suppress(OSError):
            reason = error.strerror or str(error)
            typer.echo(
                f"the output goes nowhere any more ({reason}): the command works on without it, "
                "and writes its files",
                err=True,
            )
