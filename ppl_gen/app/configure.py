"""From the words of the command line to the configuration of a run."""

from __future__ import annotations

__all__ = [
    "ENOUGH",
    "PLACES",
    "configure",
    "decide_batch_size",
    "decide_epochs",
    "decide_likelihood",
    "folder_of",
    "places_of",
    "with_likelihood",
]

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import Data
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import BATCH_SIZE
from ppl_gen.app.parts.likelihoods import MASKED, is_masked, suited
from ppl_gen.app.parts.slots import absolute_words
from ppl_gen.app.recipes import RECIPES, all_options, models_with
from ppl_gen.data import Dataset, parse
from ppl_gen.data.sources import NAMES, TORCHVISION
from ppl_gen.names import resolve

ENOUGH = 3000  # steps, where no epochs are asked for: a generator wants some thousands
_LEAST_EPOCHS = 20
_MORE = 10  # times as many epochs, where the fit stops by itself
# The names of options that say where data lie.
PLACES = (*(option.name for option in all_options() if option.names_data), "root")
# Values of --likelihood that data decide.
_UNDECIDED = (None, MASKED)


def configure(model: str, words: Mapping[str, Any], given: Collection[str]) -> Config:
    """The configuration that the words of the command line mean: paths absolute, "auto" decided.

    Args:
        model: The name of the model.
        words: Values by the names of options; an option that is missing is at its default.
        given: The names of the options that the user typed.

    Raises:
        ValueError: If the model is unknown, an option was typed that has no use here, no data are
            named, or a value is out of range or an unknown name.
    """
    resolve("model", model, RECIPES)
    recipe = RECIPES[model]
    values = {option.name: words.get(option.name, option.default) for option in recipe.options}
    check_given(recipe, values, given)
    if not values["data"]:
        raise ValueError("expected a name or a path with --data, got nothing")
    if "root" in given and not _has_files(recipe, values):
        raise ValueError(
            "--root is the folder of data sets that torchvision downloads, got it for "
            f"{values['data']}; leave it out"
        )
    values |= places_of(values)
    values |= absolute_words(values)
    is_undecided = "likelihood" in values and values["likelihood"] in _UNDECIDED
    if "binarize" in values and not is_undecided:
        values["binarize"] = _binarization(values["binarize"], values.get("likelihood"))
    if values.get("loss") == "auto":
        values["loss"] = "non-saturating"
    if "lr" in values and values["lr"] is None:
        values["lr"] = recipe.learning_rate
    if "schedule" in values and values["schedule"] is None:
        values["schedule"] = recipe.schedule
    return recipe.configuration(values)


def check_given(recipe: Recipe, values: Mapping[str, Any], given: Collection[str]) -> None:
    """Raises ValueError if an option was typed that has no effect on the model.

    Args:
        recipe: Of the model.
        values: By the names of its options.
        given: The names of the options that the user typed.
    """
    own = {option.name: option for option in recipe.options}
    known = {option.name: option for option in all_options()}
    for name in given:
        if name not in own:
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"{flag} is an option of {', '.join(models_with(name))}, got it for "
                f"{recipe.name}; {known[name].instead}"
            )
        option = own[name]
        if option.only_with is None:
            continue
        other, *needed = option.only_with
        if values[other] not in needed:
            raise ValueError(
                f"{option.flag} is an option of {own[other].flag} {', '.join(needed)}, got it with "
                f"{own[other].flag} {values[other]}; leave it out"
            )


def decide_likelihood(config: Config, data: Dataset) -> Config:
    """With the likelihood that suits the data, where none was asked for, and its binarisation.

    Args:
        config: A configuration of a model with a likelihood.
        data: What it names, not binarised.
    """
    if "likelihood" not in config or config.likelihood not in _UNDECIDED:
        return config
    return with_likelihood(config, suited(config.likelihood, data, config.binarize))


def with_likelihood(config: Config, name: str) -> Config:
    """With this likelihood, and the binarisation that goes with it, where none was asked for.

    Where a masked one was, whichever it be, another is none of those that were asked for.

    Args:
        config: A configuration of a model with a likelihood.
        name: Of the likelihood.
    """
    if "likelihood" not in config or config.likelihood not in _UNDECIDED:
        return config
    if config.likelihood == MASKED and not is_masked(name):
        return config
    return config.changed(likelihood=name, binarize=_binarization(config.binarize, name))


def places_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Where data lie, by the names of options that say so and were given, paths made absolute.

    Args:
        values: By the names of options.
    """
    places = {}
    for name in PLACES:
        place = values.get(name)
        if place and name == "root":
            places[name] = str(Path(place).resolve())
        elif place:
            places[name] = _absolute(place)
    return places


def _has_files(recipe: Recipe, values: Mapping[str, Any]) -> bool:
    """Whether any of the data have files of torchvision's."""
    named = [values[option.name] for option in recipe.options if option.names_data]
    places = [parse(name)[0] for name in named if name]
    return any(place in (*TORCHVISION, "celeba") for place in places)


def _absolute(name: str) -> str:
    """A path made absolute, a name left as it is; either with suffixes after colons."""
    place, suffixes = parse(name)
    if place not in NAMES and Path(place).exists():
        place = str(Path(place).resolve())
    return ":".join([place, *suffixes])


def _binarization(word: str | None, likelihood: str | None) -> str | None:
    """What --binarize means; left out, dynamic under a Bernoulli likelihood."""
    if word == "none":
        return None
    if word not in (None, "auto"):
        return word
    if likelihood in ("bernoulli", f"{MASKED}-bernoulli"):
        return "dynamic"
    return None


def folder_of(model: str, words: Mapping[str, Any]) -> Path:
    """The folder of a run for which none was named: runs/MODEL-DATA.

    Args:
        model: The name of the model, which is known.
        words: Values by the names of options, as they were typed.
    """
    parts = [model]
    for option in RECIPES[model].options:
        if option.names_data and words.get(option.name):
            place, suffixes = parse(words[option.name])
            parts += [Path(place).stem, *suffixes]
    return Path("runs") / "-".join(parts)


def decide_batch_size(config: Config, data: Data) -> Config:
    """With all training data in one batch, where they are fewer than a batch of the usual size.

    Another size stands as it was asked for: whether data suit it is looked at when they are cut.
    """
    if "batch_size" not in config or not isinstance(data, Dataset):
        return config
    if config.batch_size != BATCH_SIZE.default or len(data.train) >= config.batch_size:
        return config
    return config.changed(batch_size=len(data.train))


def decide_epochs(config: Config, data: Data) -> Config:
    """With as many epochs as make 3000 steps and at least 20, where no number was asked for.

    The same for all models, so that runs of one data set have seen as many data. A fit that stops
    by itself may take ten times as many.
    """
    if "epochs" not in config or config.epochs is not None:
        return config
    an_epoch = len(data.train.batches(config.batch_size))
    epochs = max(_LEAST_EPOCHS, math.ceil(ENOUGH / an_epoch))
    if config.values.get("until") is not None:
        epochs *= _MORE
    return config.changed(epochs=epochs)
