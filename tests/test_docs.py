"""What README and site show works as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import combining
import pytest
import typer

from ppl_gen.app.cli import app

TOP = Path(__file__).parents[1]
README = TOP / "README.md"
PAGES = sorted((TOP / "docs").rglob("*.md"))
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.ipynb"))
TEXTS = [README, TOP / "CONTRIBUTING.md", *PAGES]

# Loops and chains are shortened; everything else is taken to the letter.
SHORTER = {
    "epochs=60": "epochs=20",
    "epochs=20)": "epochs=5)",
    "draws=300, warmup=300": "draws=100, warmup=100",
    "draws=200, warmup=200": "draws=60, warmup=60",
    "steps=500": "steps=100",
    "sbc(vae, 100": "sbc(vae, 50",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def blocks_of(page: Path) -> list[str]:
    """The Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf8"), re.DOTALL)


def commands_of(page: Path) -> list[list[str]]:
    """The words of every call of a command on a page, those behind torchrun too."""
    found = []
    for line in page.read_text(encoding="utf8").splitlines():
        if re.match(r"    (ppl-gen|torchrun) ", line) is None:
            continue
        call = re.sub(r"^.*?(ppl-gen|-m ppl_gen) ", "", line.strip(), count=1)
        if not call.startswith("--"):
            found.append(shlex.split(call, comments=True))
    return found


def test_the_table_of_combining_is_that_of_the_recipes() -> None:
    assert combining.PAGE.read_text(encoding="utf8") == combining.page()


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in TEXTS if blocks_of(page)], ids=name_of)
def test_the_python_of_a_page_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = "\n".join(blocks_of(page))
    code = re.sub("|".join(map(re.escape, SHORTER)), lambda found: SHORTER[found[0]], code)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name_of(page), "exec"), {})
    printed = capsys.readouterr().out
    if page == README:
        assert "epoch 20: ELBO -2" in printed
        assert re.search(r"-2\d\.\d+ ± 0\.0\d+ nats per datum", printed)


@pytest.mark.parametrize("page", [page for page in TEXTS if commands_of(page)], ids=name_of)
def test_the_commands_of_a_page_are_known_with_their_options(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands_of(page):
        with group.make_context("ppl-gen", list(words)) as context:
            name, command, rest = group.resolve_command(context, [*words])
            command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_link_of_a_page_resolves(page: Path) -> None:
    text = page.read_text(encoding="utf8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    for target in targets:
        if target.startswith("https://"):
            continue
        place = page.parent / target
        # Pages of the site are made of the notebooks, beside whose pictures they stand.
        source = TOP / "notebooks" / place.name
        notebook = source.with_suffix(".ipynb")
        exists = place.exists() or source.exists() or notebook.exists()
        assert exists, f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_of_the_course_says_what_one_learns_and_leads_on(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert "You will learn" in texts[0]
    assert len(re.findall(r"^\d\. ", texts[0], re.MULTILINE)) in (3, 4, 5)
    assert "## What to try" in texts[-1]
    links = re.findall(r"\]\(([\w./-]+)\)", "\n".join(texts))
    assert "../docs/notebooks/index.md" in links
    assert [link for link in links if not (notebook.parent / link).exists()] == []
    beside = {NOTEBOOKS.index(notebook) - 1, NOTEBOOKS.index(notebook) + 1}
    for number in beside & set(range(len(NOTEBOOKS))):
        assert NOTEBOOKS[number].name in links


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_kept_with_what_it_puts_out(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf8")
    assert len(text.encode()) < 1_000_000
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        assert cell["execution_count"] is not None
        for output in cell["outputs"]:
            output.get("data", {}).pop("image/png", None)
    assert re.search(r"/(work|home|root|tmp|Users)/", json.dumps(code)) is None


def test_every_file_that_readme_speaks_of_exists() -> None:
    text = README.read_text(encoding="utf8")
    named = re.findall(r"\b(?:notebooks|tests|ppl_gen|models|inference|docs)/[\w/.]*\w", text)
    assert len(named) > 5
    assert [name for name in named if not (TOP / name).exists()] == []


def test_every_file_of_the_map_exists() -> None:
    said = (TOP / "CONTRIBUTING.md").read_text(encoding="utf8")
    named = re.findall(r"`((?:tests|ppl_gen|models|inference|docs)/[\w/.]*)`", said)
    assert len(named) > 50
    assert [name for name in named if not (TOP / name).exists()] == []
    assert not re.search(r"`\w+\.py`", said), "a file without its folder"


def test_readme_is_two_screens() -> None:
    assert len(README.read_text(encoding="utf8").split()) < 900


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_or_a_foreign_host(tmp_path: Path) -> None:
    """`strict: true` makes warnings errors; what a page loads, it loads from the site."""
    build = [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(r'(?:src|srcset)="(https?:)?//', page.read_text(encoding="utf8"))
        assert loaded == [], page
