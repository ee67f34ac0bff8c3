"""The shape of the library: who imports whom, what is installed, what a checkout says."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import readability

import ppl_gen
from ppl_gen import inference, models
from ppl_gen.moved import MOVED

TOP = Path(__file__).parents[1]
# Who may import whom. The app and the laws see all; models and inference never each other.
MAY_IMPORT = {"core": {"core"}, "models": {"core", "models"}, "inference": {"core", "inference"}}
SEES_ALL = {"ppl_gen.testing", "ppl_gen", "ppl_gen.__main__"}
# The rooms of `inference`, each of which may import those before it; first come the files that
# stand outside of rooms.
ROOMS = (
    "",
    "engine",
    "latents",
    "samples",
    "fitting",
    "games",
    "mcmc",
    "evidence",
    "prediction",
    "diagnosis",
    "comparison",
    "posteriors",
    "simulators",
    "compression",
    "codes",
)
# Likewise those of `app`, whose other files see all of them.
APP_ROOMS = (
    "parts",
    "ingredients",
    "recipes",
    "run",
    "exploration",
    "evaluation",
    "report",
    "packing",
    "sweeps",
    "commands",
    "cli",
)
FILES_IN_A_ROOM = 11


def module_name(path: Path) -> str:
    """The name under which a file of the checkout is installed."""
    parts = path.relative_to(TOP).with_suffix("").parts
    if parts[0] != "ppl_gen":
        parts = ("ppl_gen", *parts)
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


FILES = {module_name(path): path for path in readability.sources()}


def part(module: str) -> str:
    """core, models, inference or app."""
    name = module.removeprefix("ppl_gen").removeprefix(".").split(".")[0]
    return name if name in ("models", "inference", "app") else "core"


def imports(module: str) -> set[str]:
    """The modules of the library that a module imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in FILES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in FILES}


@pytest.mark.parametrize("module", sorted(FILES))
def test_the_arrows_point_to_the_core(module: str) -> None:
    if module in SEES_ALL or part(module) == "app":
        return
    assert {part(name) for name in imports(module)} <= MAY_IMPORT[part(module)]


def room(module: str) -> str:
    """The room of a module of `inference`, empty for those that stand in none."""
    names = module.removeprefix("ppl_gen.inference").removeprefix(".").split(".")
    return names[0] if names[0] in ROOMS else ""


def test_rooms_of_inference_import_those_before_them() -> None:
    for module in FILES:
        if part(module) == "inference" and module != "ppl_gen.inference":
            wanted = {name for name in imports(module) if part(name) == "inference"}
            later = [n for n in wanted if ROOMS.index(room(n)) > ROOMS.index(room(module))]
            assert not later, f"{module} imports {later}"


def app_room(module: str) -> str:
    """The room of a module of `app`, empty for those that stand in none."""
    inner = module.removeprefix("ppl_gen.app.").split(".")[0]
    return inner if inner in APP_ROOMS else ""


def test_rooms_of_the_app_import_those_before_them() -> None:
    for module in FILES:
        if app_room(module):
            rooms = {app_room(name) for name in imports(module)} - {""}
            later = rooms - set(APP_ROOMS[: APP_ROOMS.index(app_room(module)) + 1])
            assert not later, f"{module} imports of {later}"


def test_nothing_imports_itself_in_a_circle() -> None:
    graph = {module: imports(module) - {module} for module in FILES}
    while leaves := {m for m, wanted in graph.items() if not wanted}:
        graph = {m: wanted - leaves for m, wanted in graph.items() if m not in leaves}
    assert not graph, f"these import each other: {graph}"


def test_every_package_is_installed() -> None:
    """An editable installation finds them all, a wheel those that are listed."""
    held = tomllib.loads((TOP / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]
    packages = {module for module, path in FILES.items() if path.name == "__init__.py"}
    assert packages == set(held["packages"])
    for package in packages:
        if part(package) in ("models", "inference"):
            folder = package.removeprefix("ppl_gen.").replace(".", "/")
            assert held["package-dir"][package] == folder


def test_no_room_is_too_full() -> None:
    rooms = [f"inference.{name}" for name in ROOMS[1:]]
    rooms += ["app.parts", "app.ingredients", "data", "data.formats", "data.words"]
    for name in rooms:
        files = [m for m, path in FILES.items() if path.name != "__init__.py"]
        count = sum(m.rpartition(".")[0] == f"ppl_gen.{name}" for m in files)
        assert 0 < count <= FILES_IN_A_ROOM, f"{name} has {count} files"


# In `models` a file and the builder that it defines have one name, by contract: `models.vae(...)`.
@pytest.mark.parametrize(
    "package", sorted(m for m in FILES if FILES[m].name == "__init__.py" and part(m) != "models")
)
def test_no_module_is_hidden_behind_a_name_of_its_package(package: str) -> None:
    module = importlib.import_module(package)
    for found in pkgutil.iter_modules(module.__path__):
        name = f"{package}.{found.name}"
        if hasattr(module, found.name):
            assert getattr(module, found.name) is sys.modules.get(name), name


PRIVATE = re.compile(r"^_[a-z]", re.IGNORECASE)
OWN_MODULES = ("torch", "pyro")


def private_names(module: str) -> list[str]:
    """The private modules and names that a module imports from torch or Pyro."""
    found = []
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top in OWN_MODULES and any(PRIVATE.match(piece) for piece in rest):
                found.append(name)
    return found


def test_private_names_of_torch_and_pyro_are_in_one_module() -> None:
    assert {module for module in FILES if private_names(module)} == {"ppl_gen.pyro_patches"}


def test_the_code_is_not_dense() -> None:
    counts = sum(map(readability.measure, FILES.values()), readability.Counts())
    for name, rate in counts.per_thousand().items():
        assert rate <= readability.CEILINGS[name], f"{name}: {rate:.1f} per 1000 lines"
    assert (counts.wide, counts.elsewhere) == (0, 0)


def test_no_docstring_explains_a_check_as_what_it_says() -> None:
    for module, path in FILES.items():
        assert "Says when" not in path.read_text(encoding="utf8"), module


@pytest.mark.parametrize("former", sorted(MOVED))
def test_a_former_name_is_the_module_itself(former: str) -> None:
    assert importlib.import_module(former) is importlib.import_module(MOVED[former])


def test_the_vocabulary_is_listed() -> None:
    named = re.findall(r"(?:from|import) ppl_gen\.(\w+)", (TOP / "README.md").read_text("utf8"))
    assert set(named) <= set(ppl_gen.__all__)
    for name in ppl_gen.__all__:
        part = getattr(ppl_gen, name)
        if not callable(part):
            assert part.__name__ == f"ppl_gen.{name}"
    functions = [name for name in ppl_gen.__all__ if callable(getattr(ppl_gen, name))]
    assert functions == ["load", "save"]


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
    heavy = "('torch', 'pyro', 'matplotlib', 'constriction')"
    code = f"import sys, ppl_gen.app.cli; print([m for m in {heavy} if m in sys.modules])"
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


def test_every_folder_has_its_place() -> None:
    if not (TOP / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.split()
    assert listed
    folders = {name.split("/")[0] for name in listed if "/" in name and not name.startswith(".")}
    assert folders <= {"ppl_gen", "models", "inference", "tests", "notebooks", "docs"}
