"""`ppl-gen fit ali`: a generative adversarial network with a guide, against a critic of pairs."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss, check_parts_stand_alone
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    ENGINE,
    GAME,
    GUIDE,
    LATENT_DIM,
    NETWORK,
    PRIOR,
    SEED,
    TRAINING,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together."""
    check_loss(config)
    check_parts_stand_alone(config)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import from_latent
    from ppl_gen.app.parts.slots import program_with_parts

    return program_with_parts(models.ali, config, data, condition, **from_latent(config))


def _fitting(start: Start) -> Fitting:
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic
    from ppl_gen.app.parts.networks import of_critic

    critic = critics.mlp_critic(
        start.data.shape, attributes=start.config.latent_dim, **of_critic(start.config)
    )
    return against_critic(start, critic, pairs=True)


RECIPE = Recipe(
    name="ali",
    place=24,
    options=(*DATA_SET, PRIOR, GUIDE, LATENT_DIM, *NETWORK, *TRAINING, *GAME, SEED, ENGINE),
    program=_program,
    fitting=_fitting,
    check=_check,
    reconstructs=True,
)
