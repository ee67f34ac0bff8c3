"""`ppl-gen fit gan`: a generative adversarial network of fully connected layers."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import DATA_SET, ENGINE, GAME, LATENT_DIM, NETWORK, PRIOR, SEED, TRAINING

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import from_latent
    from ppl_gen.app.parts.slots import program_with_parts

    return program_with_parts(models.gan, config, data, condition, **from_latent(config))


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic
    from ppl_gen.app.parts.networks import of_critic

    critic = critics.mlp_critic(start.data.shape, **of_critic(start.config))
    return against_critic(start, critic)


RECIPE = Recipe(
    name="gan",
    place=20,
    options=(*DATA_SET, PRIOR, LATENT_DIM, *NETWORK, *TRAINING, *GAME, SEED, ENGINE),
    program=_program,
    fitting=_fitting,
    check=check_loss,
)
