"""`ppl-gen fit vae`: a variational autoencoder of fully connected layers."""

from __future__ import annotations

__all__ = ["RECIPE"]

from ppl_gen.app.ingredients.vaes import built_by, vae_recipe

RECIPE = vae_recipe(name="vae", place=10, program=built_by("vae"))
