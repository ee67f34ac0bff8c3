"""`ppl-gen fit conv-cgan`: a generative adversarial network of convolutions, with a condition."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    CONDITION,
    DATA_SET,
    ENGINE,
    GAME,
    LATENT_DIM,
    PAIRED,
    PRIOR,
    SEED,
    TRAINING,
    WIDTH,
)
from ppl_gen.app.parts.conditions import condition_of

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import width_of_convolutions
    from ppl_gen.app.parts.slots import program_with_parts

    given = condition.arguments()
    width = width_of_convolutions(config, data.shape)
    return program_with_parts(models.conv_cgan, config, data, condition, width=width, **given)


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import given_an_image
    from ppl_gen.app.parts.networks import width_of_convolutions

    assert start.condition is not None
    given = start.condition.arguments()
    shape = start.data.shape
    width = width_of_convolutions(start.config, shape)
    return given_an_image(start, critics.conv_critic(shape, width=width, **given))


RECIPE = Recipe(
    name="conv-cgan",
    place=24,
    options=(
        *(*DATA_SET, PRIOR, LATENT_DIM),
        *TRAINING,
        *GAME,
        *(CONDITION, PAIRED, WIDTH),
        SEED,
        ENGINE,
    ),
    program=_program,
    condition=condition_of,
    fitting=_fitting,
    check=check_loss,
)
