"""`ppl-gen explore RUN`: what the codes of a run say, a picture and numbers for each look."""

from __future__ import annotations

__all__ = ["explore"]

from rich.console import Console

from ppl_gen.app.exploration.asked import Asked
from ppl_gen.app.exploration.found import FILE, Notes
from ppl_gen.app.exploration.looks import TAKEN, expect_answers
from ppl_gen.app.exploration.subject import Subject
from ppl_gen.app.run.opened import Fitted


def explore(fitted: Fitted, asked: Asked, console: Console) -> None:
    """Takes all looks that are asked for, one after another, each written when it is done.

    Args:
        fitted: The run.
        asked: The looks, and their options.
        console: Where numbers, and where pictures lie, are printed.

    Raises:
        ValueError: Before work starts, if the run does not have what a look wants; where a look
            finds a class empty, or a name unknown, before anything of it is written.
    """
    asked.expect_sound()
    notes = Notes(fitted)
    subject = Subject(fitted, asked)
    expect_answers(subject)
    for look in asked.looks:
        notes.add(look, TAKEN[look](subject), console)
    console.print(f"numbers: {fitted.run.folder / FILE}", soft_wrap=True)
