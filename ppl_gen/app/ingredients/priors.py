"""Priors by name."""

from __future__ import annotations

__all__ = ["PRIORS"]

from typing import Any

from ppl_gen.app.ingredients.parts import Part, Setting, table_of


def _standard_normal(setting: Setting) -> Any:
    from ppl_gen.priors import StandardNormal

    return StandardNormal(setting.latent_dim)


def _uniform(setting: Setting) -> Any:
    from ppl_gen.priors import Uniform

    return Uniform(setting.latent_dim)


# Imports of torch and Pyro belong into the functions above: the command's help reads this table.
PRIORS = table_of(
    Part(
        name="standard-normal",
        text="N(z; 0, I), the same under every context",
        example="vae --prior standard-normal",
        make=_standard_normal,
    ),
    Part(
        name="uniform",
        text="uniform on the cube from -1 to 1, the code of the DCGAN paper",
        example="dcgan --prior uniform --latent-dim 100",
        make=_uniform,
    ),
)
