"""`ppl-gen fit draw`: a recurrent autoencoder that draws in steps, with or without attention."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective, check_parts_stand_alone
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    BY_SVI,
    DATA_SET,
    ENGINE,
    HIDDEN,
    LATENT_DIM,
    PARTS,
    SEED,
    TRAINING,
    Option,
    at_least,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start

STEPS = Option(
    name="steps",
    kind=int,
    default=8,
    help="Steps in which a datum is drawn, each with a latent of its own.",
    check=at_least(1),
)
READ = Option(
    name="read",
    kind=int,
    default=None,
    help="Filters a side of the window that is read by attention; if left out, all is read.",
    check=at_least(1),
)
WRITE = Option(
    name="write",
    kind=int,
    default=None,
    help="Filters a side of the window that is drawn in by attention; if left out, all is drawn.",
    check=at_least(1),
)


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together."""
    check_objective(config)
    check_parts_stand_alone(config)
    if (config.read is None) != (config.write is None):
        raise ValueError(
            "expected --read and --write together, the windows of attention, got one of them; "
            "say both, or neither"
        )


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import one_width
    from ppl_gen.app.parts.slots import program_with_parts

    attention = None
    if config.read is not None:
        attention = (config.read, config.write)
    return program_with_parts(
        models.draw,
        config,
        data,
        condition,
        steps=config.steps,
        attention=attention,
        **one_width(config),
    )


def _fitting(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.svi import by_svi

    return by_svi(start)


RECIPE = Recipe(
    name="draw",
    place=15,
    options=(
        *DATA_SET,
        *PARTS,
        LATENT_DIM,
        HIDDEN,
        STEPS,
        READ,
        WRITE,
        *TRAINING,
        *BY_SVI,
        SEED,
        ENGINE,
    ),
    program=_program,
    fitting=_fitting,
    check=_check,
    explicit=True,
    draws_in_steps=True,
    learning_rate=1e-3,
)
