"""One page of HTML that needs nothing else: no script, no other file, no other host."""

from __future__ import annotations

__all__ = ["page"]

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version

from ppl_gen.app.report.markup import Html, tag
from ppl_gen.app.report.sections import SECTIONS, Section
from ppl_gen.app.report.style import STYLE
from ppl_gen.app.report.subject import Subject

_PACKAGES = ("ppl-gen", "torch", "pyro-ppl")


def page(subjects: Sequence[Subject], command: str) -> str:
    """The report of some runs.

    Args:
        subjects: The runs, side by side.
        command: What makes the page.
    """
    names = ", ".join([subject.name for subject in subjects])
    sections = [section for section in SECTIONS if _is_shown(section, subjects)]
    contents = []
    for section in sections:
        contents.append(tag("li", tag("a", section.heading, href=f"#{section.name}")))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"Report: {names}"),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", f"Report: {names}")),
        tag("nav", tag("ul", *contents), aria_label="Sections"),
        tag("main", *[_section(section, subjects) for section in sections]),
        tag("footer", _made(command), class_="soft"),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _is_shown(section: Section, subjects: Sequence[Subject]) -> bool:
    return section.name != "runs" or len(subjects) > 1


def _section(section: Section, subjects: Sequence[Subject]) -> Html:
    place = section.name
    return tag(
        "section",
        tag("h2", section.heading, id=place),
        section.content(subjects),
        aria_labelledby=place,
    )


def _made(command: str) -> Html:
    """When, by what, and with which versions the page was made."""
    now = datetime.now().astimezone().isoformat(timespec="minutes", sep=" ")
    versions = ", ".join([f"{name} {version(name)}" for name in _PACKAGES])
    return tag(
        "p",
        "Made by ",
        tag("code", command),
        f" at {now}, with {versions}, Python {platform.python_version()}. Nothing was fitted or "
        "measured for it: all numbers are those of the folders of the runs.",
    )
