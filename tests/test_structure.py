"""The shape of the library: who imports whom, what is installed, what a checkout says."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ppl_gen
from ppl_gen import inference, models

TOP = Path(__file__).parents[1]
# Who may import whom. The app and the laws see all; models and inference never each other.
MAY_IMPORT = {"core": {"core"}, "models": {"core", "models"}, "inference": {"core", "inference"}}
SEES_ALL = {"ppl_gen/testing.py", "ppl_gen/__init__.py", "ppl_gen/__main__.py"}


def part(module: str) -> str:
    name = module.removeprefix("ppl_gen.").split(".")[0]
    return name if name in ("models", "inference", "app") else "core"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("ppl_gen.")}


@pytest.mark.parametrize(
    "path",
    sorted(
        [*TOP.glob("ppl_gen/*.py"), *TOP.glob("models/**/*.py"), *TOP.glob("inference/**/*.py")]
    ),
)
def test_the_arrows_point_to_the_core(path: Path) -> None:
    relative = path.relative_to(TOP).as_posix()
    if relative in SEES_ALL:
        return
    own = {"ppl_gen": "core"}.get(relative.split("/")[0], relative.split("/")[0])
    assert {part(name) for name in imports(path)} <= MAY_IMPORT[own]


@pytest.mark.parametrize("name", ["models", "inference"])
def test_the_bare_name_is_refused(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"ImportError: import ppl_gen.{name}, not {name}" in done.stderr


def test_a_checkout_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ppl_gen").symlink_to(TOP / "ppl_gen")
    bare = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ppl_gen",
    ]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert "not installed: run `pip install -e .`" in done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ppl_gen, ppl_gen.app.cli; print([m for m in ('torch', 'pyro', 'matplotlib') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def modules() -> list[str]:
    packages = {
        "ppl_gen.": ppl_gen.__path__,
        "ppl_gen.models.": models.__path__,
        "ppl_gen.inference.": inference.__path__,
    }
    found = (
        m.name for prefix, path in packages.items() for m in pkgutil.walk_packages(path, prefix)
    )
    return sorted({"ppl_gen.models", "ppl_gen.inference", *found} - {"ppl_gen.__main__"})


@pytest.mark.parametrize("name", modules())
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if callable(thing) and getattr(thing, "__module__", "").startswith("ppl_gen"):
            assert thing.__doc__, f"{name}.{public}"


def test_the_examples_in_docstrings_hold() -> None:
    results = [doctest.testmod(importlib.import_module(name)) for name in modules()]
    assert sum(r.attempted for r in results) >= 10
    assert sum(r.failed for r in results) == 0


def test_every_folder_has_its_place() -> None:
    if not (TOP / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.split()
    assert listed
    folders = {name.split("/")[0] for name in listed if "/" in name and not name.startswith(".")}
    assert folders <= {"ppl_gen", "models", "inference", "tests", "notebooks"}
