"""The table of what combines, read off the recipes of the command.

`python tests/combining.py` writes docs/combining.md.
"""

from __future__ import annotations

from pathlib import Path

from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.recipes import RECIPES

PAGE = Path(__file__).parents[1] / "docs" / "combining.md"

SLOTS = ("prior", "likelihood", "guide", "condition")
RULES = {"patience": "`--patience`", "until": "`--until converged`"}

HEAD = """# What combines

Each model of `ppl-gen fit`, what of it can be exchanged, how it is fitted and stops, and how it is
judged. A slot takes any part that `ppl-gen parts` lists for it, or one of your own as
`module:function`; all pairs of parts are trained by the suite
(`pytest tests/app/test_combinations.py`). In Python the same holds for every program that has a
`model` and a `guide`, yours included.

| model | slots | fitted by | stops by | judged by |
|---|---|---|---|---|
"""


def names(recipe: Recipe) -> set[str]:
    """The options of a model."""
    return {option.name for option in recipe.options}


def fitted_by(recipe: Recipe) -> str:
    """The kind of its steps."""
    own = names(recipe)
    if recipe.autoencodes and "epochs" in own:
        return "error of reconstruction"
    if "epochs" not in own:
        return "closed form or EM, at once"
    if "loss" in own:
        return "a critic, `--loss`"
    if "objective" in own:
        return "SVI, `--objective`"
    if recipe.infers_labels:
        return "SVI, unknown labels summed out"
    return "moments or MMD"


def judged_by(recipe: Recipe) -> str:
    """What `evaluate` has for it."""
    if recipe.translates:
        return "samples of both domains, cycles"
    if recipe.exact:
        return "exact log p(x), samples"
    if recipe.autoencodes:
        return "error beside PCA's, log p(x) by a density of the codes, samples"
    if recipe.infers_labels:
        return "log p(x) by importance weights, labels, samples"
    if recipe.explicit:
        return "ELBO, importance weights, AIS, BDMC, MCMC (`compare`), samples"
    return "samples; nats under a little noise"


def row(recipe: Recipe) -> str:
    """A row of the table."""
    own = names(recipe)
    slots = ", ".join(f"`--{slot}`" for slot in SLOTS if slot in own)
    rules = ", ".join(said for name, said in RULES.items() if name in own)
    if not rules and "epochs" in own:
        rules = "`--epochs`"
    cells = [f"`{recipe.name}`", slots, fitted_by(recipe), rules, judged_by(recipe)]
    return "| " + " | ".join(cells) + " |\n"


def page() -> str:
    """The whole page."""
    return HEAD + "".join(map(row, RECIPES.values()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf8")
