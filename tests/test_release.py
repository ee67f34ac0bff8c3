"""What is released holds all of the library, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf8"))["project"]


def sources() -> set[str]:
    """Every file of Python of the library, as it is named once installed."""
    found = {path.relative_to(TOP).as_posix() for path in (TOP / "ppl_gen").rglob("*.py")}
    for room in ("models", "inference"):
        for path in (TOP / room).rglob("*.py"):
            found.add("ppl_gen/" + path.relative_to(TOP).as_posix())
    return found


@pytest.mark.long
def test_wheel_and_sdist_hold_every_file_of_the_library(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves files in its folder, which the next would take
    for folder in ("ppl_gen", "models", "inference"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / folder, source / folder, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / file, source)
    wheels = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*wheels, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
        archive.extractall(tmp_path / "installed")
    assert held == sources()
    code = "import ppl_gen; from ppl_gen import inference, models; print(ppl_gen.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "installed" / "ppl_gen" / "__init__.py")

    hook = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", hook], cwd=source, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        named = {name.partition("/")[2] for name in archive.getnames()}
    for name in sources():
        at_top = name
        if name.startswith(("ppl_gen/models/", "ppl_gen/inference/")):
            at_top = name.removeprefix("ppl_gen/")
        assert at_top in named, name


def test_versions_are_bounded_where_private_names_are_used() -> None:
    (pyro,) = [word for word in PROJECT["dependencies"] if word.startswith("pyro-ppl")]
    assert "<" in pyro
    for extra in ("fidelity", "notebooks", "docs", "bench"):
        assert extra in PROJECT["optional-dependencies"]


def test_what_is_cited_is_what_is_released() -> None:
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert [author["name"] for author in cited["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
