"""What the site's generator does besides: notebooks become pages, LaTeX becomes MathML.

On a page, {{ picture NOTEBOOK N }} stands for the N-th cell of a notebook that drew something, with
what it drew, and {{ presets }} for the table of all presets of `ppl-gen sweep`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

from ppl_gen.app.sweeps.preset import known_presets, preset_of

TOP = Path(__file__).parents[1]
NOTEBOOKS = TOP / "notebooks"
PICTURE = "image/png"
_ASKED = re.compile(r"^{{ picture (\w+) (\d+) }}$", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<target>[\w./-]+)\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each notebook, with the pictures that it made, and those beside it."""
    for picture in sorted(NOTEBOOKS.glob("*.png")):
        made = File.generated(config, f"notebooks/{picture.name}", abs_src_path=str(picture))
        files.append(made)
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        for name, content in _pages_of(notebook):
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(text: str, **rest: Any) -> str:
    """The page with pictures and presets in their places."""
    text = _ASKED.sub(_picture, text)
    if "{{ presets }}" in text:
        text = text.replace("{{ presets }}", _presets())
    return text


def on_page_content(content: str, **rest: Any) -> str:
    """The page with its formulas in MathML, which browsers draw without a script."""
    return _FORMULA.sub(_mathml, content)


def _pages_of(notebook: Path) -> Iterator[tuple[str, str | bytes]]:
    """The page of a notebook and its pictures: their names and what is in them."""
    exporter = MarkdownExporter()
    stem = notebook.stem
    text, resources = exporter.from_notebook_node(
        nbformat.read(notebook, as_version=4),
        resources={"output_files_dir": f"{stem}_files", "unique_key": stem},
    )
    yield f"{stem}.md", _LINK.sub(_on_the_site, text)
    yield from resources["outputs"].items()


def _on_the_site(link: re.Match[str]) -> str:
    """A link of a notebook, which leads to files beside it, as the site has it."""
    target = link["target"].replace("../docs/notebooks/", "").replace("../docs/", "../")
    return f"]({target.replace('.ipynb', '.md')})"


def _picture(asked: re.Match[str]) -> str:
    """A cell that drew something, and what it drew."""
    stem, place = asked[1], int(asked[2])
    cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    drawing = [i for i, cell in enumerate(cells) if _draws(cell)]
    number = drawing[place - 1]
    cell = cells[number]
    output = next(i for i, each in enumerate(cell.outputs) if PICTURE in each.get("data", {}))
    title = f"Drawn by the lines above, of the notebook {stem}"
    return (
        f"```python\n{cell.source}\n```\n\n"
        f"![{title}](notebooks/{stem}_files/{stem}_{number}_{output}.png)\n\n"
        f"From [{stem}](notebooks/{stem}.md)."
    )


def _draws(cell: Any) -> bool:
    return any(PICTURE in output.get("data", {}) for output in cell.get("outputs", []))


def _presets() -> str:
    """A row for each preset: the figure, what it shows, the command."""
    rows = ["| figure | what it shows | command |", "|---|---|---|"]
    for name in known_presets():
        preset = preset_of(name)
        shows = preset.shows.replace("|", "\\|")
        rows.append(f"| {preset.figure} | {shows} | `ppl-gen sweep {name}` |")
    return "\n".join(rows)


def _mathml(found: re.Match[str]) -> str:
    display = "inline"
    if found[1] == "div":
        display = "block"
    return str(convert(html.unescape(found[2]), display=display))
