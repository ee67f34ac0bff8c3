"""The weights of some epochs, kept beside the checkpoint: what `explore` animates."""

from __future__ import annotations

__all__ = ["PATTERN", "keep", "kept"]

from pathlib import Path
from typing import Any

from ppl_gen.saving import save

PATTERN = "weights-epoch-[0-9]*.pt"


def keep(folder: Path, epoch: int, program: Any) -> None:
    """Writes the weights of an epoch, whole or not at all.

    Args:
        folder: Of the run.
        epoch: The number of epochs that they have been fitted for.
        program: What has them.
    """
    save(folder / f"weights-epoch-{epoch:05}.pt", program, epoch=epoch)


def kept(folder: Path) -> dict[int, Path]:
    """The files of the epochs that were kept, in order.

    Args:
        folder: Of the run.
    """
    found = {}
    for path in sorted(folder.glob(PATTERN)):
        number = path.stem.rsplit("-", 1)[1]
        if number.isdecimal():
            found[int(number)] = path
    return found
