"""What is packed of the folder of a run: all that commands have written, and its card."""

from __future__ import annotations

__all__ = ["Contents"]

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ppl_gen.app.packing import card
from ppl_gen.app.run import comparison, kept, lock
from ppl_gen.app.run.folder import CONFIG, PRODUCTS
from ppl_gen.writing import is_part

_OWN = {CONFIG, card.FILE, *PRODUCTS}
_PATTERNS = (kept.PATTERN, "reconstructions-*.png")
_OF_OLDER_WEIGHTS = re.compile(r"(.+)-epoch-[0-9]+\.png")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The files of a run.

    Attributes:
        packed: Those that are packed, in order: their paths in the folder.
        left_out: Those that no command has written, links, and folders.
    """

    packed: list[str]
    left_out: list[str]

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """The files of a run as they lie there.

        Args:
            folder: Of the run.
        """
        packed = []
        left_out = []
        for path in sorted(_paths(folder)):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not path.is_symlink() and _is_own(name):
                packed.append(name)
            elif path.name != lock.FILE and not is_part(path.name):
                left_out.append(name)
        return cls(packed=packed, left_out=left_out)


def _paths(folder: Path) -> Iterator[Path]:
    """Everything in a folder, and in that of a comparison."""
    for path in folder.iterdir():
        if path.name == comparison.FOLDER and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def _is_own(name: str) -> bool:
    """Whether a command has written a file of this name."""
    if name in _OWN or name in [f"{comparison.FOLDER}/{own}" for own in comparison.PRODUCTS]:
        return True
    older = _OF_OLDER_WEIGHTS.fullmatch(name)
    if older is not None and f"{older[1]}.png" in PRODUCTS:
        return True
    return any(fnmatchcase(name, pattern) for pattern in _PATTERNS)
