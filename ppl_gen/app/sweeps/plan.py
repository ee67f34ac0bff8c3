"""A sweep in a file of the user's: options of `fit`, axes along which they vary, what is measured.

[fit]
model = "vae"
data = "digits"

[axes]
latent-dim = [2, 5, 10]
seed = [0, 1, 2]

[evaluate]
particles = 100
"""

from __future__ import annotations

__all__ = ["Plan", "read_plan"]

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.options import Option
from ppl_gen.app.recipes import all_options
from ppl_gen.names import nearest
from ppl_gen.reading import expect_file

_MODEL = "model"
_TABLES = ("fit", "axes", "evaluate")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a file asks for.

    Attributes:
        name: That of the file, without its suffix.
        runs: For each cell the model and the options of `fit` that were given, by name.
        asked: The options of `evaluate` that were given, by name.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    asked: Mapping[str, Any]


def read_plan(path: Path) -> Plan:
    """The plan of a file.

    Args:
        path: Of the file, in TOML.

    Raises:
        ValueError: If it is no TOML, a name in it is unknown, a value is of the wrong type, or an
            axis is empty, holds a value twice, or is also set once and for all.
    """
    expect_file(path, "name a preset, or a .toml file")
    try:
        held = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}; mend it there") from error
    for name in held:
        if name not in _TABLES:
            raise ValueError(f"unknown table [{name}] in {path}; {nearest(name, _TABLES)}")
    tables = {name: held.get(name, {}) for name in _TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"expected [{name}] in {path} to hold options, got {table!r}")
    fixed = _options("fit", tables["fit"], _fit_options())
    axes = _axes(tables["axes"])
    asked = _options("evaluate", tables["evaluate"], _evaluate_options())
    for name in fixed:
        if name in axes:
            raise ValueError(f"expected {name} in [fit] or in [axes], got it in both")
    if _MODEL not in {**fixed, **axes}:
        raise ValueError('expected a model in [fit], such as model = "vae", got none')
    runs = []
    for values in product(*axes.values()):
        runs.append({**fixed, **dict(zip(axes, values, strict=True))})
    return Plan(name=path.stem, runs=runs, asked=asked)


def _fit_options() -> dict[str, Option]:
    """The options of `fit`, and the model as one of them, by name."""
    model = Option(name=_MODEL, kind=str, default="", help="The model to fit.")
    return {option.name: option for option in (model, *all_options())}


def _evaluate_options() -> dict[str, Option]:
    """The options of `evaluate` for one run, by name."""
    kinds = {"int": int, "bool": bool, "float": float, "str": str}
    found = {}
    for field in fields(Asked):
        kind = str(field.type).partition(" ")[0]
        if kind in kinds:
            found[field.name] = Option(
                name=field.name, kind=kinds[kind], default=field.default, help=""
            )
    return found


def _options(table: str, held: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """The values of a table, by the names that options have in Python."""
    found = {}
    for word, value in held.items():
        option = _option(table, word, known)
        option.check_value(value)
        if option.name in found:
            raise ValueError(f"{word} stands twice in [{table}]; leave one out")
        found[option.name] = value
    return found


def _axes(held: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each axis, by the name of its option."""
    known = _fit_options()
    found: dict[str, list[Any]] = {}
    for word, values in held.items():
        option = _option("axes", word, known)
        if not isinstance(values, list) or not values:
            raise ValueError(f"expected {word} in [axes] to be a list of values, got {values!r}")
        for value in values:
            option.check_value(value)
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"a value stands twice in {word} of [axes]: {values}; leave it out")
        found[option.name] = values
    return found


def _option(table: str, word: str, known: Mapping[str, Option]) -> Option:
    name = word.replace("-", "_")
    if name not in known:
        words = [option.replace("_", "-") for option in known]
        raise ValueError(f"unknown option {word!r} in [{table}]; {nearest(word, words)}")
    return known[name]
