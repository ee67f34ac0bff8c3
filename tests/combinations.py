"""Every prior, likelihood, guide and objective that the command knows, in every combination.

The tables of the command are all that is read here: a new part is in all of its combinations.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.app.ingredients.svi import OBJECTIVES
from ppl_gen.app.parts.guides import GUIDES
from ppl_gen.app.parts.likelihoods import LIKELIHOODS, MASKED
from ppl_gen.app.parts.priors import PRIORS
from ppl_gen.app.recipes import RECIPES
from ppl_gen.data import Dataset

Combination = tuple[str, str, str, str]
ALL: list[Combination] = list(itertools.product(PRIORS, LIKELIHOODS, GUIDES, OBJECTIVES))

SEVERAL = ("iwae", "dreg")  # objectives of several particles
# Options of priors that heed them: each datum's density is one under every pseudo-input.
FEW = {"pseudo_inputs": 20}

# From grey values, digits on the scales on which likelihoods may have their support.
SCALES = {
    "grey values": lambda x: x,
    "two values": lambda x: x.round(),
    "counts": lambda x: 16 * x,
    "inside of 0 and 1": lambda x: 0.05 + 0.9 * x,
    "two values, every third missing": lambda x: _lacking(x.round()),
}


def _lacking(x: Tensor) -> Tensor:
    """x with every third entry missing."""
    is_missing = torch.arange(x.numel()).reshape(x.shape) % 3 == 0
    return x.masked_fill(is_missing, torch.nan)


@cache
def digits(scale: str) -> Dataset:
    """scikit-learn's digits, their values changed."""
    loaded = data.load("digits")
    change = SCALES[scale]
    train = replace(loaded.train, x=change(loaded.train.x))
    test = replace(loaded.test, x=change(loaded.test.x))
    return replace(loaded, train=train, test=test)


@cache
def scale_of(likelihood: str) -> str:
    """The first scale on which digits lie in a likelihood's support, as the door says."""
    if likelihood == MASKED:
        return "two values, every third missing"
    for scale in SCALES:
        try:
            _recipe_built("standard-normal", likelihood, "diagonal", "elbo", scale)
        except ValueError as error:
            refusal = error
        else:
            return scale
    raise refusal


def train_one_epoch(prior: str, likelihood: str, guide: str, objective: str) -> tuple[Any, Tensor]:
    """A program of these parts after an epoch on digits, and some of its test data.

    Raises:
        ValueError: If the parts do not go together.
    """
    scale = scale_of(likelihood)
    fitting = _recipe_built(prior, likelihood, guide, objective, scale)
    step = fitting.begin(0, "eager")
    for batch in fitting.batches:
        step(*batch)
    return fitting.program, digits(scale).test.x[:5]


def _recipe_built(prior: str, likelihood: str, guide: str, objective: str, scale: str) -> Any:
    recipe = RECIPES["vae"]
    particles = 1
    if objective in SEVERAL:
        particles = 2
    values = {
        "prior": prior,
        "likelihood": likelihood,
        "guide": guide,
        "objective": objective,
        "particles": particles,
        "latent_dim": 3,
        "hidden": "16",
        "batch_size": 480,
        "lr": 0.001,
    }
    for option, value in FEW.items():
        if option in PRIORS[prior].heeds:
            values[option] = value
    config = recipe.configuration(values)
    return recipe.prepare(config, digits(scale), torch.device("cpu"))
