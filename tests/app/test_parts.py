"""Parts by name: what the tables list can be typed, fitted, saved and opened."""

from __future__ import annotations

import shlex

import pytest
import torch
import typer

from ppl_gen.app import configure
from ppl_gen.app.arguments import names_given
from ppl_gen.app.cli import app
from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.networks import ACTIVATIONS
from ppl_gen.app.ingredients.parts import Part
from ppl_gen.app.ingredients.slots import TABLES
from ppl_gen.app.recipes import recipe_of

LISTED = {**TABLES, "activation": ACTIVATIONS}
ROWS = [(option, part) for option, table in LISTED.items() for part in table.values()]
NAMES = [f"{option}-{part.name}" for option, part in ROWS]


def typed(line: str) -> Config:
    """The configuration that a line after `ppl-gen fit` means."""
    group = typer.main.get_command(app)
    command = group.commands["fit"]
    context = command.make_context("fit", shlex.split(line))
    given = names_given(context)
    words = dict(context.params)
    return configure.configure(words.pop("model"), words, given & words.keys() - {"out"})


@pytest.mark.parametrize(("option", "part"), ROWS, ids=NAMES)
def test_an_example_names_its_part(option: str, part: Part) -> None:
    assert getattr(typed(part.example), option) == part.name
    assert len(part.text) <= 70


@pytest.mark.parametrize(("option", "part"), ROWS, ids=NAMES)
def test_an_example_can_be_fitted(option: str, part: Part) -> None:
    """One step of the fit of each, as the command makes it."""
    config = typed(part.example).changed(batch_size=500, epochs=1)
    recipe = recipe_of(config)
    if recipe.explicit and config.likelihood is None:
        config = configure.with_likelihood(config, "bernoulli")
    fitting = recipe.prepare(config, recipe.data(config), torch.device("cpu"))
    step = fitting.begin(0, "eager")
    fitting.pace(1)
    for metric in step(*next(iter(fitting.batches))).values():
        assert bool(torch.isfinite(torch.as_tensor(metric)).all())
    assert fitting.is_finite()


@pytest.mark.parametrize(
    "line",
    [
        "cvae --prior mixture",
        "cvae --prior vamp",
        "cvae --prior flow",
        "cgan --prior mixture",
        "cgan --prior flow --condition edges",
        "dcgan --prior uniform --latent-dim 100",
        "gan --prior flow",
        "gmmn --prior hypersphere",
    ],
)
def test_a_prior_of_other_models(line: str) -> None:
    """Given a label or an image where the model is; by draws alone where it is a GAN."""
    config = typed(line).changed(batch_size=100, epochs=1)
    recipe = recipe_of(config)
    if recipe.explicit and config.likelihood is None:
        config = configure.with_likelihood(config, "bernoulli")
    fitting = recipe.prepare(config, recipe.data(config), torch.device("cpu"))
    prior = fitting.program.prior
    before = [p.detach().clone() for p in prior.parameters()]
    step = fitting.begin(0, "eager")
    fitting.pace(1)
    step(*next(iter(fitting.batches)))
    assert fitting.is_finite()
    for old, new in zip(before, prior.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_an_average_of_guides_wants_a_guide() -> None:
    config = typed("gan --prior vamp")
    with pytest.raises(ValueError, match="a model with a guide for --prior vamp, got gan"):
        recipe_of(config).prepare(config, recipe_of(config).data(config), torch.device("cpu"))
