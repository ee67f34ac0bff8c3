"""What stops a command: Ctrl-C, and the signals that schedulers and closed terminals send."""

from __future__ import annotations

__all__ = ["STOPS", "Terminated", "heeded", "stopped"]

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

from ppl_gen.names import spelled_out

# Sent by schedulers, and by a terminal that is closed; not all systems have both.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Seconds in which further signals say nothing new: schedulers send several, and hands press twice.
_SAME = 2.0


class Terminated(BaseException):
    """A signal has asked the command to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


STOPS = (KeyboardInterrupt, Terminated)


@contextmanager
def heeded() -> Iterator[None]:
    """Makes signals that ask a process to end raise Terminated, as Ctrl-C raises KeyboardInterrupt.

    A signal that is ignored, as `nohup` has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which alone may say what signals do
        return
    owner = os.getpid()
    last = -_SAME
    former: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if number == signal.SIGINT and os.getpid() != owner:
            raise KeyboardInterrupt  # which workers know
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        now = time.monotonic()
        if now < last + _SAME:
            return
        last = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if hasattr(signal, "SIGCHLD"):  # that a worker ends as well is no failure of it
            handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            former.setdefault(signal.SIGCHLD, handler)
        raise Terminated(number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        former[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    for number in _ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            former[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def stopped(stop: BaseException, said: str) -> typer.Exit:
    """The end of a command that was stopped, with the exit code of the signal, 128 + its number.

    Args:
        stop: One of STOPS.
        said: What is lost and how to go on: a line on stderr, after "stopped" and by what.
    """
    number = int(signal.SIGINT)
    by = ""
    if isinstance(stop, Terminated):
        number = int(stop.number)
        by = f" by {signal.Signals(number).name}"
    with suppress(OSError):  # the terminal may be gone
        typer.echo(spelled_out(f"stopped{by}{said}"), err=True)
    return typer.Exit(128 + number)
