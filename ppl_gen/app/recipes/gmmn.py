"""`ppl-gen fit gmmn`: a generative moment matching network, a generator without a critic."""

from __future__ import annotations

__all__ = ["RECIPE"]

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    ENGINE,
    LATENT_DIM,
    NETWORK,
    PRIOR,
    SEED,
    TRAINING,
    Option,
    one_of,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _discrepancies() -> Iterable[str]:
    from ppl_gen.app.ingredients.moments import DISCREPANCIES

    return DISCREPANCIES


DISCREPANCY = Option(
    name="discrepancy",
    kind=str,
    default="mmd",
    help="mmd or energy.",
    check=one_of("discrepancy", _discrepancies),
)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import from_latent
    from ppl_gen.app.parts.slots import program_with_parts

    return program_with_parts(models.gmmn, config, data, condition, **from_latent(config))


def _fitting(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.moments import by_moments

    return by_moments(start)


RECIPE = Recipe(
    name="gmmn",
    place=40,
    options=(*DATA_SET, PRIOR, LATENT_DIM, *NETWORK, *TRAINING, DISCREPANCY, SEED, ENGINE),
    program=_program,
    fitting=_fitting,
    learning_rate=1e-3,
)
