"""Recipes: what the command knows about a model stands in one file."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from command import CHEAP, FEW, call, owners

import ppl_gen.app
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.recipes import RECIPES, configuration
from ppl_gen.app.recipes.gan import RECIPE as GAN

APP = Path(ppl_gen.app.__file__).parent


def constants(path: Path) -> set[Any]:
    tree = ast.parse(path.read_text(encoding="utf8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


# Names of models that are names of something else too: a likelihood, features, a toy posterior.
SHARED = {"gaussian", "pca", "ppca", "gaussian-mixture"}


@pytest.mark.parametrize(
    "path", sorted(p for p in APP.rglob("*.py") if p.parent.name != "recipes"), ids=str
)
def test_no_other_file_names_a_model(path: Path) -> None:
    assert not constants(path) & (RECIPES.keys() - SHARED)


def test_a_recipe_names_no_other_model() -> None:
    for path in (APP / "recipes").glob("[a-z]*.py"):
        module = importlib.import_module(f"ppl_gen.app.recipes.{path.stem}")
        own = {recipe.name for recipe in getattr(module, "RECIPES", ())}
        if not own:
            own = {module.RECIPE.name}
        assert constants(path) & RECIPES.keys() <= own


def test_options_of_one_name_are_one_option() -> None:
    options: dict[str, Any] = {}
    for recipe in RECIPES.values():
        for option in recipe.options:
            assert options.setdefault(option.name, option) is option


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_configuration_is_read_as_it_was_written(recipe: Recipe) -> None:
    values = {"epochs": 3, "lr": 1, "seed": 7}
    own = {option.name for option in recipe.options}
    config = recipe.configuration({name: values[name] for name in values if name in own})
    written = json.loads(json.dumps(config.asked()))
    assert configuration(written) == config
    assert list(written)[:2] == ["model", "data"]
    assert config.seed == 7
    if "epochs" in own:
        assert (config.passes, config.lr) == (3, 1)
    else:
        assert config.passes == 0
    with pytest.raises(AttributeError, match="no option 'nonsense'"):
        _ = config.nonsense


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "expected the name of a model, got None"),
        ({"model": "vea"}, "did you mean 'vae'"),
        ({"model": "vae", "critic_steps": 2}, "vae has no option 'critic_steps'"),
        ({"model": "vae", "seed": None}, "expected seed of type int, got None"),
        ({"model": "vae", "seed": True}, "expected seed of type int, got True"),
        ({"model": "vae", "lr": "fast"}, "expected lr of type float | None, got 'fast'"),
        ({"model": "gan", "spectral": 1}, "expected spectral of type bool, got 1"),
        ({"model": "dcgan", "width": 0}, "expected --width of at least 1, got 0"),
    ],
)
def test_a_configuration_is_checked_when_it_is_read(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        configuration(asked)


def test_a_recipe_is_all_that_a_new_model_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted, judged and drawn by fields of its recipe alone."""
    tiny = Recipe(
        name="tiny",
        place=99,
        options=GAN.options,
        program=GAN.program,
        fitting=GAN.fitting,
        learning_rate=2e-3,
    )
    monkeypatch.setitem(RECIPES, "tiny", tiny)
    code, said = call("fit", "tiny", "--out", tmp_path / "run", *FEW)
    assert code == 0, said
    assert json.loads((tmp_path / "run" / "config.json").read_text())["lr"] == 2e-3
    code, said = call("evaluate", tmp_path / "run", *CHEAP)
    assert (code, "tiny has draws and no likelihood" in said) == (0, True), said
    assert call("sample", tmp_path / "run")[0] == 0
    code, said = call("fit", "tiny", "--beta", 2)
    assert (code, f"--beta is an option of {owners('beta')}, got it for tiny" in said) == (2, True)
