"""The models that the command knows: each file of this folder is one of them, a `Recipe`.

To add a model to the command, add a file here. A file of several that differ by a row of a table
has their `RECIPES`.
"""

from __future__ import annotations

__all__ = [
    "RECIPES",
    "all_options",
    "configuration",
    "estimated_models",
    "explicit_models",
    "models_with",
    "recipe_of",
]

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import Option
from ppl_gen.app.outline import Outline
from ppl_gen.names import resolve


def _discover() -> dict[str, Recipe]:
    """The recipe of each module in this folder, by the name of its model, in order."""
    found: list[Recipe] = []
    for entry in pkgutil.iter_modules(__path__, f"{__name__}."):
        module = importlib.import_module(entry.name)
        if hasattr(module, "RECIPES"):
            found.extend(module.RECIPES)
        else:
            found.append(module.RECIPE)
    found.sort(key=lambda recipe: recipe.place)
    return {recipe.name: recipe for recipe in found}


RECIPES = _discover()


def recipe_of(config: Config) -> Recipe:
    """The recipe of a configuration's model."""
    return RECIPES[config.model]


def all_options() -> list[Option]:
    """The options of all models, each once, in the order of the recipes."""
    options: dict[str, Option] = {}
    for recipe in RECIPES.values():
        for option in recipe.options:
            options.setdefault(option.name, option)
    return list(options.values())


def models_with(option: str) -> list[str]:
    """The names of the models that have an option of this name."""
    models = []
    for recipe in RECIPES.values():
        if any(own.name == option for own in recipe.options):
            models.append(recipe.name)
    return models


def explicit_models() -> list[str]:
    """The names of the models that have a likelihood and a guide."""
    return [recipe.name for recipe in RECIPES.values() if recipe.explicit]


def estimated_models() -> list[str]:
    """The names of the models whose log p(x) is estimated by draws, not known."""
    return [name for name in explicit_models() if not RECIPES[name].exact]


def configuration(asked: Mapping[str, Any]) -> Config:
    """The configuration that `Config.asked` has written.

    Args:
        asked: The model and the values of its options, by name.

    Raises:
        ValueError: If the model is unknown, a name is that of none of its options, or a value is of
            the wrong type, out of range, or an unknown name.
    """
    values = dict(asked)
    model = values.pop("model", None)
    if not isinstance(model, str):
        raise ValueError(f"expected the name of a model, got {model!r}")
    resolve("model", model, RECIPES)
    class_names = values.pop("class_names", [])
    is_list = isinstance(class_names, list | tuple)
    if not is_list or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"expected class_names to be strings, got {class_names!r}")
    sources = values.pop("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(s, str) for s in sources.values()):
        raise ValueError(f"expected sources to be checksums by option, got {sources!r}")
    outline = values.pop("outline", None)
    if outline is not None:
        outline = Outline.read(outline)
    made = RECIPES[model].configuration(values)
    return replace(made, class_names=tuple(class_names), sources=sources, outline=outline)
