"""Words from outside are printed as they are: no markup, no escape sequences, no mathematics."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from command import call
from PIL import Image
from rich.console import Console
from rich.table import Table

from ppl_gen.app import terminal
from ppl_gen.app.terminal import Terminal, warnings_as_lines, widened
from ppl_gen.names import spelled_out

STRANGE = "d[/b]$\\frac{$\x1b[31m:smile:"  # a folder "b]…" in a folder "d["
SHOWN = STRANGE.replace("\x1b", "\\x1b")
CLASSES = ("[red]one$", "two\x1b[32m$\\x$")


def _printed(*what: object) -> str:
    file = io.StringIO()
    for each in what:
        Terminal(file=file, force_terminal=True, width=80).print(each, soft_wrap=True)
    return file.getvalue()


def test_lines_and_tables_hold_no_markup_and_no_escapes() -> None:
    table = Table(STRANGE, title=STRANGE, caption=STRANGE)
    table.add_row(STRANGE)
    said = _printed(STRANGE, table)
    assert said.count(SHOWN) == 5
    assert "\x1b[31m" not in said
    file = io.StringIO()
    widened(Console(file=file, width=10), 60).print(STRANGE, soft_wrap=True)
    assert file.getvalue() == SHOWN + "\n"


def test_control_characters_are_spelled_out_and_letters_are_not() -> None:
    assert spelled_out("\x1b[0m\r\x07\x9b\u202e\u2028\udcff") == (
        "\\x1b[0m\\r\\x07\\x9b\\u202e\\u2028\\udcff"
    )
    kept = "line\nnext\tR̂ − ½ 字 \N{FAMILY} é…"
    assert spelled_out(kept) == kept


def test_warnings_are_lines_and_name_another_library() -> None:
    file = io.StringIO()
    own = "begin from a guide, or take more temperatures"
    with warnings_as_lines(Terminal(file=file, width=40)):
        for _ in range(2):
            warnings.warn_explicit(f"loose:\n  {own}", RuntimeWarning, "/x/ppl_gen/a.py", 1)
            warnings.warn_explicit(
                "odd \x1b cast", UserWarning, "/x/site-packages/numpy/core/a.py", 2
            )
        warnings.warn_explicit("Glyph 27 (\\x1b) missing from font", UserWarning, "b.py", 3)
    assert file.getvalue().splitlines() == [
        "warning: loose: take more --temperatures",
        "warning of numpy: odd \\x1b cast",
    ]


def _fit(model: str, top: Path) -> None:
    """Fits a run of a strange name to the data of strange names."""
    words = ("--latent-dim", 2, "--epochs", 2, "--batch-size", 63, "--device", "cpu")
    out = top / f"{model}{STRANGE}"
    code, said = call("fit", model, "--data", top / STRANGE, "--out", out, *words)
    assert code == 0, said
    assert f"{model}{SHOWN}" in said
    assert "\x1b" not in said


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of strange names, and a run of a strange name fitted to them."""
    top = tmp_path_factory.mktemp("strange")
    noise = np.random.RandomState(0).randint(0, 255, (70, 8, 8), dtype=np.uint8)
    for name in CLASSES:
        folder = top / STRANGE / name
        folder.mkdir(parents=True)
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(folder / f"{number}.png")
    _fit("cvae", top)
    return top


@pytest.fixture(scope="module")
def two_runs(runs: Path) -> Path:
    """With another run, of a model without a likelihood."""
    _fit("cgan", runs)
    return runs


COMMANDS = {
    "evaluate": ("evaluate", "cvae", "--particles", 5, "--limit", 12),
    "sample": ("sample", "cvae", "--label", CLASSES[0]),
    "reconstruct": ("reconstruct", "cvae", "--count", 4),
    "an unknown label": ("sample", "cvae", "--label", STRANGE),
    "no run": ("evaluate", f"{STRANGE}/none"),
    "no data": ("fit", "vae", "--data", f"{STRANGE}/none"),
    "no model": ("fit", STRANGE),
    "no posterior": ("compare", STRANGE),
}


LONGER = {
    "moments": (
        *("evaluate", "cvae", "--limit", 12, "--moments", "--permutations", 20),
        *("--features", "pixels", "--particles", 5),
    ),
    "distances": (
        *("evaluate", "cgan", "--limit", 12, "--two-sample", "--permutations", 20),
        *("--features", "pixels"),
    ),
    "evaluate two": (
        *("evaluate", "cvae", "cgan", "--features", "pca", "--limit", 12, "--overwrite"),
        *("--chains", 2, "--temperatures", 2, "--subset", 2),
    ),
    "compare": (
        *("compare", "cvae", "--limit", 1, "--draws", 6, "--warmup", 6, "--chains", 2),
        *("--engine", "eager", "--overwrite"),
    ),
}


def _said(words: tuple[object, ...]) -> str:
    """What a command prints, the names of runs being the strange ones."""
    named = [f"{word}{STRANGE}" if word in ("cvae", "cgan") else word for word in words]
    _, said = call(*named)
    return said


def test_the_command_prints_through_this_console_alone() -> None:
    """Another console would take names for markup; so would columns of a progress bar."""
    folder = Path(terminal.__file__).parent
    for file in folder.rglob("*.py"):
        text = file.read_text()
        if file.name != "terminal.py":
            assert not re.search(r"\bConsole\(", text), file
        for column in re.findall(r"TextColumn\(.*{.*\)", text):
            assert "markup=False" in column, file


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_names_are_printed_literally(words, runs: Path, monkeypatch) -> None:
    monkeypatch.chdir(runs)
    said = _said(words)
    assert "\x1b" not in said
    assert "[/b]$" in said


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("words", LONGER.values(), ids=LONGER)
def test_names_are_drawn_literally(words, two_runs: Path, monkeypatch) -> None:
    monkeypatch.chdir(two_runs)
    said = _said(words)
    assert "\x1b" not in said
    assert "[/b]$\\frac{$\\x1b[31m:smile:" in said
