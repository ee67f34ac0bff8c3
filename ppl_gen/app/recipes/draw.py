"""`ppl-gen fit draw`: a recurrent autoencoder that draws in steps, with or without attention."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_objective, check_parts_stand_alone
from ppl_gen.app.ingredients.vaes import built_by, vae_recipe
from ppl_gen.app.options import HIDDEN, Option, at_least
from ppl_gen.app.parts.networks import one_width

STEPS = Option(
    name="steps",
    kind=int,
    default=8,
    help="Steps in which a datum is drawn, each with a latent of its own.",
    check=at_least(1),
)
READ = Option(
    name="read",
    kind=int,
    default=None,
    help="Filters a side of the window that is read by attention; if left out, all is read.",
    check=at_least(1),
)
WRITE = Option(
    name="write",
    kind=int,
    default=None,
    help="Filters a side of the window that is drawn in by attention; if left out, all is drawn.",
    check=at_least(1),
)


def _check(config: Config) -> None:
    """Raises ValueError if options do not go together."""
    check_objective(config)
    check_parts_stand_alone(config)
    if (config.read is None) != (config.write is None):
        raise ValueError(
            "expected --read and --write together, the windows of attention, got one of them; "
            "say both, or neither"
        )


def _arguments(config: Config) -> dict[str, Any]:
    """Those of the builder that options of its own say."""
    attention = None
    if config.read is not None:
        attention = (config.read, config.write)
    return {"steps": config.steps, "attention": attention, **one_width(config)}


RECIPE = vae_recipe(
    name="draw",
    place=15,
    program=built_by("draw", _arguments),
    own=(HIDDEN, STEPS, READ, WRITE),
    check=_check,
    draws_in_steps=True,
)
