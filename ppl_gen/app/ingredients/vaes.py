"""What the recipes of variational autoencoders have in common."""

from __future__ import annotations

__all__ = ["built_by", "fitted_by_svi", "vae_recipe"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    BY_SVI,
    CONDITION,
    DATA_SET,
    ENGINE,
    LATENT_DIM,
    NETWORK,
    PARTS,
    SEED,
    STOPPING,
    TRAINING,
    UNTIL,
    Option,
)
from ppl_gen.app.parts.conditions import condition_of

# Torch and Pyro are imported when a recipe is used: the help of the command is made of recipes.
if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _no_arguments(config: Config) -> dict[str, Any]:
    return {}


def built_by(
    name: str, arguments: Callable[[Config], dict[str, Any]] = _no_arguments
) -> Callable[[Config, Any, Any], Any]:
    """What makes the program of a configuration by a builder, with the parts that it names.

    Args:
        name: Of the builder, a function of `ppl_gen.models`.
        arguments: Further arguments of the builder, from the configuration.
    """

    def program(config: Config, data: Any, condition: Any) -> Any:
        from ppl_gen import models
        from ppl_gen.app.parts.slots import program_with_parts

        more = arguments(config)
        if condition is not None:
            more |= condition.arguments()
        return program_with_parts(getattr(models, name), config, data, condition, **more)

    return program


def fitted_by_svi(start: Start) -> Fitting:
    """What moves while a program is fitted by SVI under the objective of the configuration."""
    from ppl_gen.app.ingredients.svi import by_svi

    return by_svi(start)


def vae_recipe(
    *,
    name: str,
    place: int,
    program: Callable[[Config, Any, Any], Any],
    own: tuple[Option, ...] = NETWORK,
    conditional: bool = False,
    check: Callable[[Config], None] = check_objective,
    draws_in_steps: bool = False,
) -> Recipe:
    """The recipe of a model with a prior, a likelihood and a guide, fitted by SVI.

    Args:
        name: What the user calls the model.
        place: Its place among the models in the command's help.
        program: Makes the program, from the configuration, its data and its condition.
        own: Options of its networks and of its own, which come after the dimension of the latent.
        conditional: Whether it is given a label, or anything else that --condition says.
        check: Raises ValueError if options do not go together.
        draws_in_steps: Whether the program draws in steps that can be looked at.
    """
    given: tuple[Option, ...] = ()
    more: dict[str, Any] = {}
    if conditional:
        given = (CONDITION,)
        more["condition"] = condition_of
    return Recipe(
        name=name,
        place=place,
        options=(
            *(*DATA_SET, *given),
            *(*PARTS, LATENT_DIM, *own),
            *(*TRAINING, *STOPPING, UNTIL, *BY_SVI),
            *(SEED, ENGINE),
        ),
        program=program,
        fitting=fitted_by_svi,
        check=check,
        explicit=True,
        draws_in_steps=draws_in_steps,
        learning_rate=1e-3,
        **more,
    )
