"""`ppl-gen fit cgan`: a generative adversarial network with a condition.

The condition is a label, attributes, edges or a caption.
"""

from __future__ import annotations

__all__ = ["RECIPE"]

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    GAME,
    LATENT_DIM,
    NETWORK,
    PRIOR,
    SEED,
    TRAINING,
    Option,
    at_least,
    one_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ppl_gen.app.ingredients.conditioning import Conditioning
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _conditions() -> Iterable[str]:
    from ppl_gen.app.ingredients.conditioning import CONDITIONINGS

    return CONDITIONINGS


CONDITION = Option(
    name="condition",
    kind=str,
    default="label",
    help="label, attributes, edges or caption.",
    check=one_of("condition", _conditions),
)
PAIRED = Option(
    name="paired",
    kind=float,
    default=10.0,
    help="Weight of the distance to the image whose edges are given.",
    check=at_least(0),
    only_with=("condition", "edges"),
)


def _condition(config: Config, data: Any) -> Conditioning:
    from ppl_gen.app.ingredients.conditioning import CONDITIONINGS

    return CONDITIONINGS[config.condition](config, data)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.ingredients.networks import from_latent
    from ppl_gen.app.ingredients.slots import program_with_parts

    given = condition.arguments()
    return program_with_parts(models.cgan, config, data, condition, **given, **from_latent(config))


def _fitting(start: Start) -> Fitting:
    """Against a critic that sees the context too; given edges, near the image they were taken of.

    Reference:
        Isola et al. (2017), Image-to-image translation with conditional adversarial networks, eq. 3
        and 4.
    """
    from ppl_gen import critics
    from ppl_gen.app.ingredients.games import against_critic
    from ppl_gen.app.ingredients.networks import of_critic

    assert start.condition is not None
    given = start.condition.arguments()
    critic = critics.mlp_critic(start.data.shape, **given, **of_critic(start.config))
    weight = start.config.paired
    if start.config.condition != "edges" or not weight:
        return against_critic(start, critic)

    def distance(drawn: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        difference: Tensor = drawn["x"] - x
        return weight * difference.abs().mean()

    remark = f"auxiliary: {weight:g} times the mean absolute difference to the image"
    return against_critic(start, critic, distance, remark)


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
    ),
    program=_program,
    condition=_condition,
    fitting=_fitting,
    check=check_loss,
)
