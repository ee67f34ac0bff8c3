"""`ppl-gen fit conv-vae`: a variational autoencoder of convolutions, for images."""

from __future__ import annotations

__all__ = ["RECIPE"]

from ppl_gen.app.ingredients.vaes import built_by, vae_recipe
from ppl_gen.app.parts.networks import one_width

RECIPE = vae_recipe(name="conv-vae", place=12, program=built_by("conv_vae", one_width))
