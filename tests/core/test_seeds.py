"""A seed decides what is drawn, and leaves the generators of torch, numpy and Python alone."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from calls import SEEDED

import ppl_gen
from ppl_gen import inference, models

LONG = ("compare", "to_arviz", "bdmc", "hmc")
ROWS = [pytest.param(name, marks=[pytest.mark.long] * name.endswith(LONG)) for name in SEEDED]


def modules() -> Iterator[ModuleType]:
    """Every module of the library but those of the command."""
    for package in (ppl_gen, inference, models):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(("ppl_gen.app", "ppl_gen.__main__")):
                yield importlib.import_module(found.name)


def takes_seed(function: Any) -> bool:
    return "seed" in inspect.signature(function).parameters


def is_written(thing: Any) -> bool:
    """Whether something is a function or method written in Python.

    Pyro puts one on torch's transforms that is said to wrap None, and has no signature.
    """
    wraps_nothing = getattr(thing, "__wrapped__", thing) is None
    return (inspect.isfunction(thing) or inspect.ismethod(thing)) and not wraps_nothing


def public() -> set[str]:
    """The public functions, and methods of public classes, that take a seed."""
    found = set()
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not getattr(thing, "__module__", "").startswith("ppl_gen."):
                continue
            place = f"{thing.__module__}.{getattr(thing, '__qualname__', name)}"
            if inspect.isfunction(thing) and takes_seed(thing):
                found.add(place)
            if inspect.isclass(thing):
                for method, function in inspect.getmembers(thing, is_written):
                    if not method.startswith("_") and takes_seed(function):
                        found.add(f"{place}.{method}")
    return {name.removeprefix("ppl_gen.") for name in found}


def states() -> list[Any]:
    """Of all generators that are everybody's."""
    kind, words, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), kind, words.tolist(), rest, random.getstate()]


def test_every_public_function_with_a_seed_has_a_call() -> None:
    assert public() == SEEDED.keys()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ROWS)
def test_a_seed_leaves_all_generators_alone(name: str) -> None:
    SEEDED[name](0)  # what is made once, and kept
    before = states()
    SEEDED[name](0)
    assert states() == before
