"""What stops a command: Ctrl-C, and the signals that schedulers and closed terminals send."""

from __future__ import annotations

__all__ = [
    "STOPS",
    "Terminated",
    "heed",
    "heed_no_more",
    "heeded",
    "raise_what_came",
    "stopped",
    "what_came",
]

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

from ppl_gen.app.launched import named
from ppl_gen.names import spelled_out

# Sent by schedulers, and by a terminal that is closed; not all systems have both.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Seconds in which further signals say nothing new: schedulers send several, and hands press twice.
_SAME = 2.0
_MOMENT = 0.05  # seconds from a signal that comes in an import to the next attempt
_IMPORTS = "<frozen importlib._bootstrap>"  # the file of Python's own frames in an import


class Terminated(BaseException):
    """A signal has asked the command to end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


STOPS = (KeyboardInterrupt, Terminated)

_came: list[BaseException] = []


@contextmanager
def heeded() -> Iterator[None]:
    """Heeds signals, as `heed` does, until what is inside is done."""
    former = heed()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def heed() -> dict[int, Any]:
    """Makes signals that ask a process to end raise Terminated, as Ctrl-C raises KeyboardInterrupt.

    A signal that is ignored, as `nohup` has it, stays ignored.

    Returns:
        What was done at each of the signals that are heeded now; what is changed later is added.
    """
    former: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        return former  # which alone may say what signals do
    owner = os.getpid()
    last = -_SAME
    _came.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if os.getpid() != owner:
            _end_worker(number)
        if _is_importing(frame):
            _again(number)
            return
        now = time.monotonic()
        if now < last + _SAME:
            return
        last = now
        if number == signal.SIGINT:
            _came[:] = [KeyboardInterrupt()]
            raise _came[0]
        _came[:] = [Terminated(number)]
        if hasattr(signal, "SIGCHLD"):  # that a worker ends as well is no failure of it
            handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            former.setdefault(signal.SIGCHLD, handler)
        raise _came[0]

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        former[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    for number in _ENDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            former[number] = signal.signal(number, stop)
    return former


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a signal comes in the middle of an import, which would leave a broken module."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False


def _again(number: int) -> None:
    """Sends a signal to this process once more, a moment later."""
    timer = threading.Timer(_MOMENT, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def raise_what_came() -> None:
    """Raises what has stopped the command, where nobody let it: Python hides it in destructors."""
    if _came:
        raise _came[0]


def what_came() -> BaseException | None:
    """What has stopped the command, where that may have led to another error, as in an import."""
    if _came:
        return _came[0]
    return None


def _end_worker(number: int) -> None:
    """Ends a process that was forked, as the signal would have without `heed`."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def heed_no_more() -> None:
    """Ignores the signals that come while a command ends."""
    for answered in (signal.SIGINT, *_ENDS):
        if callable(signal.getsignal(answered)):
            signal.signal(answered, signal.SIG_IGN)


def stopped(stop: BaseException, said: str) -> typer.Exit:
    """The end of a command that was stopped, with the exit code of the signal, 128 + its number.

    Signals that come while it ends are ignored.

    Args:
        stop: One of STOPS.
        said: What is lost and how to go on: a line on stderr, after "stopped" and by what.
    """
    number = int(signal.SIGINT)
    by = ""
    if isinstance(stop, Terminated):
        number = int(stop.number)
        by = f" by {signal.Signals(number).name}"
    heed_no_more()
    with suppress(OSError):  # the terminal may be gone
        typer.echo(spelled_out(f"stopped{named()}{by}{said}"), err=True)
    return typer.Exit(128 + number)
