"""`ppl-gen fit cgan`: a generative adversarial network with a condition.

The condition is a label, attributes, an image or a caption.
"""

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
    NETWORK,
    PAIRED,
    PRIOR,
    SEED,
    TRAINING,
)
from ppl_gen.app.parts.conditions import condition_of

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import from_latent
    from ppl_gen.app.parts.slots import program_with_parts

    given = condition.arguments()
    return program_with_parts(models.cgan, config, data, condition, **given, **from_latent(config))


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import given_an_image
    from ppl_gen.app.parts.networks import of_critic

    assert start.condition is not None
    given = start.condition.arguments()
    critic = critics.mlp_critic(start.data.shape, **given, **of_critic(start.config))
    return given_an_image(start, critic)


RECIPE = Recipe(
    name="cgan",
    place=22,
    options=(
        *(*DATA_SET, PRIOR, LATENT_DIM),
        *NETWORK,
        *TRAINING,
        *GAME,
        *(CONDITION, PAIRED),
        SEED,
        ENGINE,
    ),
    program=_program,
    condition=condition_of,
    fitting=_fitting,
    check=check_loss,
)
