"""The command in a process of its own, which something befalls."""

from __future__ import annotations

__all__ = ["Fault", "befall"]

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ppl_gen.app.cli import app

# The changes of files that are counted.
CHANGES = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What befalls a process, and when.

    Attributes:
        signal: What it is sent; 0 for none.
        size: The size in bytes that no file may exceed from then on; None for no limit.
        change: The number of the change of a file before which it comes, counted from 1; 0 where
            the parent sends it.
        is_after: Whether it comes after that change, not before.
    """

    signal: int = 0
    size: int | None = None
    change: int = 0
    is_after: bool = False


NOTHING = Fault()


def befall(words: list[str], out: Path, fault: Fault = NOTHING) -> BaseProcess:
    """Starts the command in a process forked from this one, which has fitted something already.

    So a call costs what its work costs, neither imports nor first times.

    Args:
        words: What is typed after `ppl-gen`.
        out: The file that all of its output goes to.
        fault: What befalls it.
    """
    child = multiprocessing.get_context("fork").Process(target=_run, args=(words, out, fault))
    child.start()
    return child


def _run(words: list[str], out: Path, fault: Fault) -> None:
    torch.set_num_threads(1)
    number = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf8")
    if fault.change:
        _arm(fault)
    app(words)


def _arm(fault: Fault) -> None:
    """Counts the changes of files, and lets the fault come with one of them."""
    seen = 0

    def strike() -> None:
        if fault.size is not None:
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, most))
        if fault.signal:
            signal.raise_signal(fault.signal)

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def work(*given: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            is_now = seen == fault.change
            if is_now and not fault.is_after:
                strike()
            done = change(*given, **named)
            if is_now and fault.is_after:
                strike()
            return done

        return work

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
