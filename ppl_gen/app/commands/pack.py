"""`ppl-gen pack RUN FILE` and `unpack FILE --out RUN`: a run as one file, and back."""

from __future__ import annotations

__all__ = ["pack", "unpack"]

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from ppl_gen.app.packing import archive, card
from ppl_gen.app.packing.archive import Archive
from ppl_gen.app.packing.contents import Contents
from ppl_gen.app.report.subject import Subject, names_of
from ppl_gen.app.run import checkpoint
from ppl_gen.app.run.folder import Run, expect_free, expect_new_run, finish_start, replace_run
from ppl_gen.app.run.lock import locked
from ppl_gen.reading import expect_file
from ppl_gen.writing import write_atomically

_PACKAGES = ("ppl-gen", "torch", "pyro-ppl")
_MOST_CARD = 2**24  # bytes


def pack(folder: Path, file: Path, overwrite: bool, console: Console) -> None:
    """Writes all that commands have written of a run into one file, with a card of it.

    Args:
        folder: Of the run, whose README.md gets what is new.
        file: What is written.
        overwrite: Whether the file may be written over.
        console: Where is printed what was packed.

    Raises:
        ValueError: Before anything is written, if the folder is not that of a run, the run has no
            checkpoint, something in it is damaged, or the file cannot be written.
    """
    expect_free(file, overwrite)
    Run.open(folder)
    held = checkpoint.read(folder)
    former = _former_card(folder)
    with Run.held(folder):
        (name,) = names_of([folder])
        subject = Subject.read(folder, name, with_data=False)
        versions = _versions()
        text = card.renewed(former, subject, versions)
        write_atomically(folder / card.FILE, lambda target: target.write(text.encode()))
        contents = Contents.of(folder)
        notes = {
            "model": subject.run.config.model,
            "name": name,
            "epoch": subject.epoch,
            "versions": versions,
            "data": held.data,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        archive.write(file, folder, contents.packed, notes)
    size = file.stat().st_size / 2**20
    console.print(f"packed {', '.join(contents.packed)}", soft_wrap=True)
    if contents.left_out:
        console.print(
            f"left out, since no command has written it: {', '.join(contents.left_out)}",
            soft_wrap=True,
        )
    console.print(
        f"written to {file}, {size:.1f} MiB; the card is {folder / card.FILE}: what stands there "
        "outside of its marks is kept",
        soft_wrap=True,
    )


def unpack(file: Path, out: Path, overwrite: bool, console: Console) -> None:
    """Gives back the folder of a run from what `pack` has written, every byte as it was.

    Args:
        file: What was packed.
        out: Where the run is to be.
        overwrite: Whether another run may be written over.
        console: Where is printed what was unpacked.

    Raises:
        ValueError: If the file is none of `pack`'s, damaged or hostile, or there is something at
            the place; nothing has been changed then.
    """
    remedy = "say --overwrite"
    expect_new_run(out, overwrite, remedy)
    packed = Archive.read(file)
    with locked(out):
        finish_start(out)
        expect_new_run(out, overwrite, remedy)

        def fill(new: Path) -> None:
            packed.unpack(new)
            _expect_run(new, file)

        replace_run(out, fill)
    run = Run.open(out)
    console.print(f"unpacked to {out}: {run.config.model}, {_told(packed)}", soft_wrap=True)
    for line in _differences(packed.notes.get("versions")):
        console.print(line, soft_wrap=True)
    if run.config.sources:
        names = ", ".join(run.config.sources)
        console.print(
            f"it names code of its author's ({names}), which is not in the pack: look at it, and "
            "say --trust to have it run",
            soft_wrap=True,
        )
    console.print(f"next: ppl-gen report {out} --out report.html", soft_wrap=True)


def _former_card(folder: Path) -> str:
    """What the card of a run says now; empty where there is none."""
    path = folder / card.FILE
    if path.is_symlink():
        raise ValueError(f"{path} is a link, which would be packed as what it leads to; move it")
    expect_file(path, "move it away")
    if not os.path.lexists(path):
        return ""
    content = path.read_bytes()
    if len(content) > _MOST_CARD:
        raise ValueError(f"{path} has {len(content):,} bytes, too many for a card; move it away")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}); write it in UTF-8") from error


def _expect_run(new: Path, file: Path) -> None:
    """Raises ValueError unless what was unpacked is a run."""
    try:
        checkpoint.read(new)
        Subject.read(new, file.name, with_data=False)
    except ValueError as error:
        said = str(error).replace(f"{new}{os.sep}", "").replace(str(new), "it")
        raise ValueError(f"{file} does not hold a sound run: {said}") from error


def _told(packed: Archive) -> str:
    """How many files there are, and of which epoch."""
    return f"epoch {packed.notes.get('epoch')}, {len(packed.files)} files, all checksums right"


def _versions() -> dict[str, str]:
    """The versions of Python and of what a run is computed by."""
    versions = {"Python": platform.python_version()}
    for name in _PACKAGES:
        versions[name] = _version_of(name)
    return versions


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _differences(then: Any) -> list[str]:
    """What a user is to know of versions that are not those of the pack."""
    if not isinstance(then, Mapping):
        return []
    now = _versions()
    other = []
    for name, here in now.items():
        if then.get(name) != here:
            other.append(f"{name} {then.get(name)} there, {here} here")
    if not other:
        return []
    return [f"other versions than it was packed with: {'; '.join(other)}"]
