"""The command as several processes, which `torchrun` has started: process 0 writes and speaks."""

from __future__ import annotations

__all__ = ["Told", "agree", "expect_alone", "leading", "named", "together"]

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer
from rich.console import Console

# Torch is imported when several processes meet: a command that is refused answers at once.
if TYPE_CHECKING:
    from ppl_gen.ranks import Ranks


class Told(Exception):
    """Process 0 has said what is wrong, or goes on by itself: this one ends without a word.

    Args:
        code: Its exit code, 0 where all went well.
    """

    def __init__(self, code: int = 2) -> None:
        super().__init__(code)
        self.code = code


def named() -> str:
    """This process for its messages: " (process 1)"; empty for process 0, and for one by itself."""
    number = os.environ.get("RANK", "0")
    if number == "0" or not _are_several():
        return ""
    return f" (process {number})"


def expect_alone() -> None:
    """Raises ValueError if `torchrun` has started a command several times that is one process."""
    if _are_several():
        raise ValueError(
            f"expected one process, got {os.environ['WORLD_SIZE']}; leave torchrun out: it is for "
            "ppl-gen fit, evaluate (of one run) and compare"
        )


def _are_several() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


@contextmanager
def together(device_name: str, console: Console) -> Iterator[Ranks]:
    """The processes of a command, of which all but the first print nothing.

    One that is `Told` to end waits for process 0 to do so: `torchrun` ends all when one fails.

    Args:
        device_name: auto, cpu or cuda.
        console: Where the command prints.

    Raises:
        ValueError: If this torch has no backend for several processes.
    """
    if not _are_several():
        from ppl_gen.ranks import ALONE

        yield ALONE
        return
    import torch

    from ppl_gen.ranks import ProcessLost, joined

    kind = "cpu"
    if device_name != "cpu" and torch.cuda.is_available():
        kind = "cuda"
    with joined(kind) as ranks:
        console.quiet = not ranks.is_first
        try:
            yield ranks
        except Told as told:
            if told.code:
                with suppress(ProcessLost):
                    ranks.gather(None)  # which process 0 does not join, but ends
            raise typer.Exit(told.code) from None


@contextmanager
def leading(ranks: Ranks) -> Iterator[None]:
    """What process 0 does while the others wait for its word; if it fails, they are told to end.

    Its word, which is not None, it says afterwards by `ranks.from_first`.

    Args:
        ranks: The processes.
    """
    from ppl_gen.ranks import ProcessLost

    try:
        yield
    except BaseException:
        with suppress(ProcessLost):
            ranks.from_first(None)
        raise


def agree(ranks: Ranks, said: str) -> None:
    """Has all processes end if one of them cannot begin.

    Args:
        ranks: The processes.
        said: Why this one cannot; empty if it can.

    Raises:
        ValueError: In process 0, if another one cannot.
        Told: In the others, if one cannot.
    """
    for number, why in enumerate(ranks.gather(said)):
        if not why:
            continue
        if ranks.is_first:
            raise ValueError(f"in process {number}: {why}")
        raise Told
