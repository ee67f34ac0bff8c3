"""`ppl-gen fit dcgan`: a generative adversarial network of convolutions, for images."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import DATA_SET, ENGINE, GAME, LATENT_DIM, PRIOR, SEED, TRAINING, WIDTH

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import width_of_convolutions
    from ppl_gen.app.parts.slots import program_with_parts

    width = width_of_convolutions(config, data.shape)
    return program_with_parts(models.dcgan, config, data, condition, width=width)


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic
    from ppl_gen.app.parts.networks import width_of_convolutions

    shape = start.data.shape
    critic = critics.conv_critic(shape, width=width_of_convolutions(start.config, shape))
    return against_critic(start, critic)


RECIPE = Recipe(
    name="dcgan",
    place=21,
    options=(*DATA_SET, PRIOR, LATENT_DIM, *TRAINING, *GAME, WIDTH, SEED, ENGINE),
    program=_program,
    fitting=_fitting,
    check=check_loss,
)
