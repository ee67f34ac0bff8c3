"""`ppl-gen parts`: the parts that can be named, one a line."""

from __future__ import annotations

__all__ = ["show"]

from rich.console import Console

from ppl_gen.app.parts.listed import LISTED, Table
from ppl_gen.names import resolve

OWN = """\
Of your own: module:object or path/to/file.py:object, whose code is run. A prior is a class or a
function of the latent dimension, dim; a likelihood is a function of the decoder's output, or a
class; a guide is a function of (net, dim), where net(outputs) makes an encoder network."""


def show(name: str | None, console: Console) -> None:
    """Prints a table of parts, or all of them.

    Args:
        name: What the command calls the table; None for all.
        console: Where they are printed.

    Raises:
        ValueError: If there is no such table.
    """
    if name is not None:
        resolve("table of parts", name, LISTED)
    shown = {title: table for title, table in LISTED.items() if name in (None, title)}
    for title, table in shown.items():
        console.print(f"{title} (--{table.option})")
        for line in _lines(table):
            console.print(line, soft_wrap=True)
        console.print("")
    if any(table.own for table in shown.values()):
        console.print(OWN, soft_wrap=True)


def _lines(table: Table) -> list[str]:
    """One line for each part: its name, what it is, and an example."""
    rows = []
    for part in table.parts.values():
        rows.append((part.name, part.text, part.example))
    if table.own:
        rows.append(("file.py:object", "one of your own", table.own))
    name_width = max(len(name) for name, _, _ in rows)
    text_width = max(len(text) for _, text, _ in rows)
    lines = []
    for name, text, example in rows:
        lines.append(f"  {name:{name_width}}  {text:{text_width}}  ppl-gen fit {example}")
    return lines
