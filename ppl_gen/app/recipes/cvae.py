"""`ppl-gen fit cvae`: a variational autoencoder with a condition, a label or anything else."""

from __future__ import annotations

__all__ = ["RECIPE"]

from ppl_gen.app.ingredients.vaes import built_by, vae_recipe

RECIPE = vae_recipe(name="cvae", place=11, program=built_by("cvae"), conditional=True)
