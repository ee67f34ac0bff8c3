"""`ppl-gen fit hierarchical-vae`: an autoencoder with two or more layers of latents."""

from __future__ import annotations

__all__ = ["RECIPE"]

from collections.abc import Sequence
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective, check_parts_stand_alone
from ppl_gen.app.ingredients.vaes import vae_recipe
from ppl_gen.app.options import NETWORK, Option, at_least

LAYERS = Option(
    name="layers",
    kind=int,
    default=2,
    help="Layers of latents; --latent-dim is that of the top one, each below has twice as many.",
    check=at_least(2),
)
TOP_DOWN = Option(
    name="top_down",
    kind=bool,
    default=False,
    help="Let the guide go from the top layer down, as a ladder VAE, and not from the data up.",
)


_MOST_LAYERS = 30


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together, or there are too many layers."""
    if config.layers > _MOST_LAYERS:
        raise ValueError(
            f"expected --layers of at most {_MOST_LAYERS}, since each has twice the latents of the "
            f"one above, got {config.layers}"
        )
    check_objective(config)
    check_parts_stand_alone(config)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.slots import program_with_parts

    def builder(shape: Sequence[int], latent_dim: int, **parts: Any) -> Any:
        dims = [latent_dim * 2**layer for layer in range(config.layers)]
        return models.hierarchical_vae(shape, dims[::-1], top_down=config.top_down, **parts)

    return program_with_parts(builder, config, data, condition)


RECIPE = vae_recipe(
    name="hierarchical-vae",
    place=13,
    program=_program,
    own=(LAYERS, TOP_DOWN, *NETWORK),
    check=_check,
)
