"""Measures for the tests of sweeps, in a module of their own so that other processes find them."""

from __future__ import annotations

__all__ = ["deadly", "drawn", "fussy"]

import os
import signal
from pathlib import Path
from typing import Any

import torch

from ppl_gen.app.sweeps.numbers import average


def drawn(folder: Path, *, count: int, seed: int) -> dict[str, Any]:
    """The average of draws."""
    with (folder / "calls.txt").open("a") as calls:
        calls.write("called\n")
    return {"mean": average(torch.randn(count)), "twice": 2.0 * count}


def fussy(folder: Path, *, number: int, seed: int) -> dict[str, Any]:
    """The number itself, unless a file forbids it."""
    if number == 1 and (folder.parent.parent / "forbidden").exists():
        raise RuntimeError(f"no {number}\nhere")
    return {"number": number + seed}


def deadly(folder: Path, *, number: int) -> dict[str, Any]:
    """The number itself; of 1 its process dies."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": number}
