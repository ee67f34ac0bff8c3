"""`ppl-gen fit text-vae`: a variational autoencoder of lines of text, by characters or words."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective, check_parts_stand_alone
from ppl_gen.app.ingredients.data import lines_of_text
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.ingredients.vaes import fitted_by_svi
from ppl_gen.app.options import (
    BY_SVI,
    DATA,
    ENGINE,
    GUIDE,
    HIDDEN,
    LATENT_DIM,
    PRIOR,
    PRIOR_AFTER,
    SEED,
    STOPPING,
    TRAINING,
    UNTIL,
    Option,
    at_least,
    one_of,
)


def _levels() -> tuple[str, ...]:
    from ppl_gen.data.words.vocabulary import LEVELS

    return LEVELS


def _check_share(flag: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"expected {flag} from 0 to below 1, got {value}")


LEVEL = Option(
    name="level",
    kind=str,
    default="characters",
    help="What a line of text is taken apart into: characters or words.",
    check=one_of("level", _levels),
)
LENGTH = Option(
    name="length",
    kind=int,
    default=None,
    help="The most characters, or words, of a line; if left out, those of the longest.",
    check=at_least(1),
)
WORD_DROPOUT = Option(
    name="word_dropout",
    kind=float,
    default=0.0,
    help="Share of the characters, or words, that are hidden from the decoder in fitting.",
    check=_check_share,
)


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together."""
    check_objective(config)
    check_parts_stand_alone(config)


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.networks import one_width
    from ppl_gen.app.parts.slots import program_with_parts

    def build(shape: Any, latent_dim: int, **parts: Any) -> Any:
        return models.text_vae(len(data.vocabulary), shape[0], latent_dim, **parts)

    return program_with_parts(
        build,
        config,
        data,
        condition,
        word_dropout=config.word_dropout,
        **one_width(config),
    )


RECIPE = Recipe(
    name="text-vae",
    place=16,
    options=(
        DATA,
        LEVEL,
        LENGTH,
        PRIOR,
        PRIOR_AFTER,
        GUIDE,
        LATENT_DIM,
        HIDDEN,
        WORD_DROPOUT,
        *TRAINING,
        *STOPPING,
        UNTIL,
        *BY_SVI,
        SEED,
        ENGINE,
    ),
    program=_program,
    fitting=fitted_by_svi,
    data=lines_of_text,
    check=_check,
    explicit=True,
    learning_rate=2e-3,
)
