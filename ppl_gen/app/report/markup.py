"""HTML made of elements: whatever is not HTML already is escaped."""

from __future__ import annotations

__all__ = ["Html", "cells", "joined", "tag", "worded"]

from collections.abc import Iterable
from html import escape

from ppl_gen.names import spelled_out

_EMPTY = ("img", "meta")  # elements that have no end


class Html(str):
    """Text that is HTML already; all other text is taken literally by `tag`."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str | int | None) -> Html:
    """An element.

    Args:
        name: Of the element: "p".
        *inside: What stands in it, one after another: `Html` as it is, other text escaped, control
            characters spelled out.
        **attributes: Its attributes, likewise; `class_` is class, `aria_label` is aria-label, and
            those that are None are left out.
    """
    said = ""
    for attribute, value in attributes.items():
        if value is not None:
            word = attribute.rstrip("_").replace("_", "-")
            if not isinstance(value, Html):
                value = escape(spelled_out(str(value)))
            said += f' {word}="{value}"'
    if name in _EMPTY:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{joined(inside)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after another.

    Args:
        parts: `Html` as it is, other text escaped.
        between: What stands between two of them, in HTML.
    """
    return Html(between.join([_escaped(part) for part in parts]))


def cells(name: str, values: Iterable[str]) -> Html:
    """A row of a table.

    Args:
        name: Of its cells, "td" or "th".
        values: What stands in each.
    """
    scope = None
    if name == "th":
        scope = "col"
    return tag("tr", *[tag(name, value, scope=scope) for value in values])


def worded(sentence: str) -> Html:
    """A sentence, what stands in it between backticks being code.

    Args:
        sentence: As Markdown has it.
    """
    parts = []
    for place, part in enumerate(sentence.split("`")):
        if place % 2:
            parts.append(tag("code", part))
        else:
            parts.append(_escaped(part))
    return joined(parts)


def _escaped(text: str) -> Html:
    if isinstance(text, Html):
        return text
    return Html(escape(spelled_out(text)))
