"""`ppl-gen report RUN... --out FILE.html`: what the folders of runs hold, as one page."""

from __future__ import annotations

__all__ = ["report"]

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ppl_gen.app.report.findings import warnings
from ppl_gen.app.report.page import page
from ppl_gen.app.report.subject import Subject, names_of
from ppl_gen.app.run.folder import expect_free
from ppl_gen.writing import write_atomically


def report(folders: Sequence[Path], out: Path, overwrite: bool, console: Console) -> None:
    """Writes one page of HTML about some runs, and prints what speaks against them.

    Nothing is fitted or measured, and no code that a run names is run.

    Args:
        folders: Of the runs.
        out: The file that is written.
        overwrite: Whether it may be written over.
        console: Where is printed what was found.

    Raises:
        ValueError: Before anything is written, if a folder is not that of a run, one is given
            twice, a file in it is damaged, or the page cannot go to the file.
    """
    expect_free(out, overwrite, ending=".html")
    _expect_different(folders)
    subjects = []
    for folder, name in zip(folders, names_of(folders), strict=True):
        subjects.append(Subject.read(folder, name))
    command = shlex.join(["ppl-gen", "report", *map(str, folders), "--out", str(out)])
    text = page(subjects, command)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(text.encode()))
    for subject in subjects:
        tags = [finding.tag for finding in warnings(subject)]
        said = ", ".join(tags) or "no warnings"
        console.print(f"{subject.name}: {said}", soft_wrap=True)
    console.print(f"written to {out}", soft_wrap=True)


def _expect_different(folders: Sequence[Path]) -> None:
    """Raises ValueError if a run is given twice, by whatever path."""
    seen: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if place in seen:
            raise ValueError(
                f"expected different runs, got {seen[place]} and {folder}, which are one; name it "
                "once"
            )
        seen[place] = folder
