"""`ppl-gen fit conv-cvae`: a variational autoencoder of convolutions, with a condition."""

from __future__ import annotations

__all__ = ["RECIPE"]

from ppl_gen.app.ingredients.vaes import built_by, vae_recipe
from ppl_gen.app.parts.networks import one_width

RECIPE = vae_recipe(
    name="conv-cvae",
    place=13,
    program=built_by("conv_cvae", one_width),
    conditional=True,
)
