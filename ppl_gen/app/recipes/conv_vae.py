"""`ppl-gen fit conv-vae`: a variational autoencoder of convolutions, for images."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    BY_SVI,
    DATA_SET,
    ENGINE,
    LATENT_DIM,
    NETWORK,
    PARTS,
    SEED,
    TRAINING,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import one_width
    from ppl_gen.app.parts.slots import program_with_parts

    return program_with_parts(models.conv_vae, config, data, condition, **one_width(config))


def _fitting(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.svi import by_svi

    return by_svi(start)


RECIPE = Recipe(
    name="conv-vae",
    place=12,
    options=(*DATA_SET, *PARTS, LATENT_DIM, *NETWORK, *TRAINING, *BY_SVI, SEED, ENGINE),
    program=_program,
    fitting=_fitting,
    check=check_objective,
    explicit=True,
    learning_rate=1e-3,
)
