"""Examples of docstrings: every public object has one, and each of them holds."""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch

import ppl_gen
from ppl_gen import inference, models

TOP = Path(__file__).parents[2]
# What each example takes for granted, besides the names of its page: docs/api/index.md says so.
GRANTED = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from ppl_gen import data, guides, likelihoods, models, priors
from ppl_gen.models import toy
"""
WITHOUT = {
    "ppl_gen.data.BINARIZATIONS": "a tuple",
    "ppl_gen.data.SUFFIXES": "a dict",
    "ppl_gen.nn.Activation": "an alias of a type",
    "ppl_gen.protocols.Distribution": "Pyro's own class",
    "ppl_gen.testing.DENSITY_LAWS": "a dict",
    "ppl_gen.testing.LAWS": "a dict",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Groups whose examples together take some seconds.
LONG = {
    "codes",
    "comparison",
    "compression",
    "diagnosis",
    "evidence",
    "fitting",
    "games",
    "latents",
    "mcmc",
    "models",
    "posteriors",
    "prediction",
    "samples",
    "testing",
    "toy",
}


def pages() -> list[str]:
    """The modules that have a page in the reference."""
    found = []
    for page in sorted((TOP / "docs" / "api").glob("*.md")):
        found += re.findall(r"^::: (\S+)$", page.read_text(encoding="utf8"), re.MULTILINE)
    return found


@functools.cache
def public() -> dict[str, Any]:
    """What the pages show by its name there, each object once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for page in pages():
        module = importlib.import_module(page)
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.ismodule(thing) and id(thing) not in seen:
                seen.add(id(thing))
                found[f"{page}.{name}"] = thing
    return found


def group_of(name: str) -> str:
    """The room of `inference` that an object is defined in; the last name of its page elsewhere."""
    home = getattr(public()[name], "__module__", "")
    if home.startswith("ppl_gen.inference."):
        return home.split(".")[2]
    return name.split(".")[-2]


def given(page: str) -> dict[str, Any]:
    """What a reader of a page is told to have imported."""
    names: dict[str, Any] = {}
    exec(GRANTED, names)
    module = importlib.import_module(page)
    return names | {name: getattr(module, name) for name in module.__all__}


def hold(tests: list[doctest.DocTest]) -> None:
    """Raises AssertionError unless every example gives what it says, at seed 0."""
    said: list[str] = []
    for test in tests:
        pyro.clear_param_store()
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    pyro.clear_param_store()
    assert not said, "".join(said)


def groups() -> list[Any]:
    names = sorted({group_of(name) for name in public() if name not in WITHOUT})
    return [
        pytest.param(name, marks=[pytest.mark.long] if name in LONG else [], id=name)
        for name in names
    ]


def test_every_public_object_has_an_example() -> None:
    """Under "Examples:", which the site shows as code; "Example:" it would show as text."""
    without = set()
    for name, thing in public().items():
        if not re.search(r"^ +Examples:\n +>>> ", thing.__doc__ or "", re.MULTILINE):
            without.add(name)
    assert without == set(WITHOUT)


@pytest.mark.parametrize("group", groups())
def test_examples_of_public_objects_hold(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = []
    for name, thing in public().items():
        if name not in WITHOUT and group_of(name) == group:
            page = name.rpartition(".")[0]
            tests += finder.find(inspect.unwrap(thing), name, globs=given(page))
    assert tests
    hold(tests)


@pytest.mark.long
def test_all_other_examples_hold() -> None:
    """Those of methods and of what is public in its module alone know the module's own names."""
    known = {thing.__doc__ for thing in public().values()}
    tests = []
    for package in (ppl_gen, models, inference):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name != "ppl_gen.__main__":
                tests += doctest.DocTestFinder().find(importlib.import_module(found.name))
    others = [test for test in tests if test.examples and test.docstring not in known]
    assert len(others) >= 5
    hold(others)
