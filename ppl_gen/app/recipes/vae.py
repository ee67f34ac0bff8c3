"""`ppl-gen fit vae`: a variational autoencoder of fully connected layers."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients import explicit
from ppl_gen.app.ingredients.checks import check_objective
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import BY_SVI, DATA_SET, ENGINE, LATENT_DIM, LIKELIHOOD, SEED, TRAINING


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.ingredients.likelihoods import likelihood

    return models.vae(data.shape, config.latent_dim, likelihood=likelihood(config, data))


RECIPE = Recipe(
    name="vae",
    place=10,
    options=(*DATA_SET, LIKELIHOOD, LATENT_DIM, *TRAINING, *BY_SVI, SEED, ENGINE),
    program=_program,
    fitting=explicit.by_svi,
    check=check_objective,
    explicit=True,
    learning_rate=1e-3,
    epochs=20,
    judges=explicit.judges,
    pictures=explicit.pictures,
)
