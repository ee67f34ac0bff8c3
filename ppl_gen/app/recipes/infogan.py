"""`ppl-gen fit infogan`: a generative adversarial network whose codes can be read off its draws."""

from __future__ import annotations

__all__ = ["RECIPE"]

import math
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    ENGINE,
    GAME,
    LATENT_DIM,
    NETWORK,
    PRIOR,
    SEED,
    TRAINING,
    Option,
    at_least,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start

CATEGORIES = Option(
    name="categories", kind=int, default=10, help="Number of values of the discrete code."
)
CONTINUOUS = Option(
    name="continuous",
    kind=int,
    default=0,
    help="Number of continuous codes.",
    check=at_least(0),
)
INFORMATION = Option(
    name="information",
    kind=float,
    default=1.0,
    help="Weight of the mutual information of codes and draws.",
    check=at_least(0),
)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import from_latent
    from ppl_gen.app.parts.slots import program_with_parts

    return program_with_parts(
        models.infogan,
        config,
        data,
        condition,
        categories=config.categories,
        continuous=config.continuous,
        **from_latent(config),
    )


def _fitting(start: Start) -> Fitting:
    """Against a critic, with −log q(codes | x) as a further loss of the generator."""
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic
    from ppl_gen.app.parts.networks import of_critic
    from ppl_gen.inference import information_loss

    config = start.config
    entropy = math.log(config.categories) + config.continuous * math.log(2)
    remark = (
        f"auxiliary: −log q(codes | x), {config.information * entropy:.2f} nats where x tells "
        "nothing of them"
    )
    loss = information_loss(start.program.posterior, config.information)
    critic = critics.mlp_critic(start.data.shape, **of_critic(config))
    return against_critic(start, critic, loss, remark)


RECIPE = Recipe(
    name="infogan",
    place=23,
    options=(
        *(*DATA_SET, PRIOR, LATENT_DIM),
        *NETWORK,
        *TRAINING,
        *GAME,
        *(CATEGORIES, CONTINUOUS, INFORMATION),
        SEED,
        ENGINE,
    ),
    program=_program,
    fitting=_fitting,
    check=check_loss,
    codes=lambda config: int(config.categories),
    code_site="c",
)
