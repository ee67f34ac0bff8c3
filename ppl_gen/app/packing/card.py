"""README.md of a run: a card, one part of which is written by `pack`, the other by people."""

from __future__ import annotations

__all__ = ["FILE", "renewed"]

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.report import commands, numbers
from ppl_gen.app.report.findings import verdict_of
from ppl_gen.app.report.numbers import spelled
from ppl_gen.app.report.subject import Subject
from ppl_gen.app.run.folder import Run
from ppl_gen.names import spelled_out

FILE = "README.md"
_BEGIN = "<!-- ppl-gen: begin; `ppl-gen pack` writes anew what stands up to the end -->"
_END = "<!-- ppl-gen: end -->"
_MACHINE = re.compile(re.escape(_BEGIN) + r".*?" + re.escape(_END), re.DOTALL)
_TO_FILL_IN = """
## For people

What the model is for, what it is not for, where the data come from and what their licence says:
write it here. `ppl-gen pack` keeps it.
"""


def renewed(former: str, subject: Subject, versions: Mapping[str, str]) -> str:
    """The card of a run, with its part for people as it was.

    Args:
        former: What the card says now; empty where there is none.
        subject: The run.
        versions: Of Python and the packages that it is packed with, by their names.
    """
    machine = "\n".join([_BEGIN, *_lines(subject, versions), _END])
    if not former.strip():
        return f"{machine}\n{_TO_FILL_IN}"
    if _MACHINE.search(former) is None:
        return f"{machine}\n\n{former}"
    return _MACHINE.sub(lambda _: machine, former, count=1)


def _lines(subject: Subject, versions: Mapping[str, str]) -> Iterator[str]:
    """The part that is written anew."""
    # Where a run lay when it was packed is nothing to those who unpack it.
    here = replace(subject, run=Run(Path(subject.name), subject.run.config))
    yield f"# {_plain(subject.words)}"
    yield ""
    for sentence in verdict_of(here):
        yield f"- {_plain(sentence)}"
    yield ""
    yield "## How it was fitted"
    yield ""
    yield f"    {spelled_out(commands.fitting(here.run))}"
    yield ""
    yield from _table(("of the data", "number and checksum"), list(subject.fingerprint.items()))
    outline = subject.run.config.outline
    if outline is not None:
        shape = " × ".join(map(str, outline.shape))
        yield f"A datum is {shape}; there were {outline.count:,} to train on."
        yield ""
    yield from _results(here)
    yield "## How to use it"
    yield ""
    yield f"    ppl-gen unpack FILE --out {subject.name}"
    for command in _uses(here):
        yield f"    {spelled_out(command)}"
    yield ""
    sources = subject.run.config.sources
    if sources:
        yield (
            "It names code of its author's, which is not in the pack; with --trust, a file of the "
            "same checksum is run:"
        )
        yield ""
        yield from _table(("option", "checksum of the file"), list(sources.items()))
    yield "Packed with " + ", ".join([f"{name} {_plain(v)}" for name, v in versions.items()]) + "."


def _results(subject: Subject) -> Iterator[str]:
    """Every number, with the command that made it."""
    rows = []
    for each in (*numbers.evidence(subject), *numbers.distances(subject)):
        remark = ""
        if not each.is_current:
            remark = f" (of other weights, epoch {each.epoch})"
        value = spelled(each.value, each.error) + remark
        rows.append((each.name, value, each.data, f"`{each.command}`"))
    if rows:
        yield "## Results"
        yield ""
        yield from _table(("", "value ± error", "data", "made by"), rows)


def _uses(subject: Subject) -> Iterator[str]:
    """What can be done with the run."""
    recipe = recipe_of(subject.run.config)
    if not recipe.translates:
        yield commands.sampling(subject.folder)
    yield commands.evaluating(subject.folder)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown, nothing where it has no rows."""
    if not rows:
        return
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"
    yield ""


def _plain(text: str) -> str:
    """Text from outside as Markdown shows it, in one line."""
    one_line = " ".join(spelled_out(text).split())
    return escape(one_line, quote=False).replace("|", "\\|")
