"""`ppl-gen fit gan`: a generative adversarial network of fully connected layers."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import DATA_SET, GAME, LATENT_DIM, SEED, TRAINING

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models

    return models.gan(data.shape, config.latent_dim)


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic

    return against_critic(start, critics.mlp_critic(start.data.shape))


RECIPE = Recipe(
    name="gan",
    place=20,
    options=(*DATA_SET, LATENT_DIM, *TRAINING, *GAME, SEED),
    program=_program,
    fitting=_fitting,
    check=check_loss,
)
