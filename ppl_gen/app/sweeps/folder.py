"""The folder of a sweep: whose it is, its cells, and the table and picture that it ends in."""

from __future__ import annotations

__all__ = ["CELLS", "begin", "expect_folder", "found_in", "write_results"]

import shutil
from collections.abc import Sequence
from pathlib import Path

from ppl_gen.app.run import documents, lock
from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.finished import Finished
from ppl_gen.app.sweeps.sweep import Results, Sweep
from ppl_gen.app.sweeps.table import as_csv, as_json
from ppl_gen.writing import is_part, write_atomically, write_json, write_picture

CELLS = "cells"
_SWEEP = "sweep.json"
_TABLES = ("table.csv", "table.json")
_PICTURE = "picture.png"


def expect_folder(folder: Path, name: str) -> None:
    """Raises ValueError unless a folder is new, empty, or that of a sweep of this name.

    Args:
        folder: Where the sweep is to be.
        name: Of the sweep.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; say another place with --out")
    if not folder.exists() or all(_is_left(path.name) for path in folder.iterdir()):
        return
    text = documents.read(folder / _SWEEP)
    if text is None:
        raise ValueError(
            f"{folder} exists and is not the folder of a sweep; say another place with --out"
        )
    try:
        held = documents.parse(text)["sweep"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{folder / _SWEEP} is damaged; move it away with the folder, or say another --out"
        ) from error
    if held != name:
        raise ValueError(f"{folder} holds the sweep {held}, got {name}; say another --out")


def _is_left(name: str) -> bool:
    """Whether a process that was killed before its sweep began may have left a file."""
    return name == lock.FILE or is_part(name)


def begin(folder: Path, name: str, anew: bool) -> None:
    """Says whose the folder is, and drops what was finished if it is to begin anew.

    Args:
        folder: Of the sweep, locked.
        name: Of the sweep.
        anew: Whether the cells that are there are dropped.
    """
    if anew:
        for product in (*_TABLES, _PICTURE):
            (folder / product).unlink(missing_ok=True)
        if (folder / CELLS).is_dir():
            shutil.rmtree(folder / CELLS)
    write_json(folder / _SWEEP, {"sweep": name})


def found_in(folder: Path, cells: Sequence[Cell]) -> dict[str, Finished]:
    """The cells that are finished, by name.

    Args:
        folder: Of the sweep.
        cells: Those of the sweep.
    """
    found = {}
    for cell in cells:
        finished = Finished.read(cell, folder / CELLS / cell.name)
        if finished is not None:
            found[cell.name] = finished
    return found


def write_results(folder: Path, sweep: Sweep, results: Results) -> list[Path]:
    """Writes table and picture, the picture once all cells are finished.

    Args:
        folder: Of the sweep.
        sweep: The sweep.
        results: What it has come to.

    Returns:
        The files.
    """
    text, numbers = (folder / name for name in _TABLES)
    write_atomically(text, lambda file: file.write(as_csv(results).encode()))
    held = {"sweep": sweep.name, "shows": sweep.title, **as_json(results)}
    if not results.failed:
        held["said"] = list(sweep.say(results))
    write_json(numbers, held)
    if results.failed:
        return [text, numbers]
    picture = folder / _PICTURE
    write_picture(picture, sweep.draw(results))
    return [text, numbers, picture]
