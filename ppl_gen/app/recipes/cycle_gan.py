"""`ppl-gen fit cycle-gan`: translators between two domains of images, fitted without pairs."""

from __future__ import annotations

__all__ = ["RECIPE"]

from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_loss
from ppl_gen.app.ingredients.data import two_domains
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA,
    ENGINE,
    IMAGE_SIZE,
    LOSS,
    R1,
    ROOT,
    SEED,
    SPECTRAL,
    TRAINING,
    WIDTH,
    Option,
    at_least,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start

DATA_B = Option(
    name="data_b",
    kind=str,
    default=None,
    help="The other domain, named as --data is; none for a folder of trainA and trainB.",
    names_data=True,
)
CYCLE = Option(
    name="cycle",
    kind=float,
    default=20.0,
    help="Weight of an image coming back unchanged from the other domain.",
)
IDENTITY = Option(
    name="identity",
    kind=float,
    default=1.0,
    help=(
        "Weight of leaving an image unchanged that is of the target domain already; 0 where the "
        "domains do not look alike."
    ),
)
SEMANTIC = Option(
    name="semantic",
    kind=float,
    default=0.0,
    help="Weight of keeping the class that a classifier of domain a predicts.",
    check=at_least(0),
)

_SHOWN = 2000  # images of a domain that the program's own prior draws from


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models

    a = data.a.train.fixed(0, _SHOWN).x
    b = data.b.train.fixed(0, _SHOWN).x
    return models.cycle_gan(a, b, alike=config.identity > 0, width=config.width)


def _fitting(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.domains import between_domains

    return between_domains(start)


RECIPE = Recipe(
    name="cycle-gan",
    place=30,
    options=(
        *(DATA, DATA_B, ROOT, IMAGE_SIZE),
        *TRAINING,
        *(LOSS, R1, SPECTRAL, WIDTH),
        *(CYCLE, IDENTITY, SEMANTIC),
        SEED,
        ENGINE,
    ),
    data=two_domains,
    program=_program,
    fitting=_fitting,
    check=check_loss,
    translates=True,
    learning_rate=1e-3,
    schedule="late-linear",
)
