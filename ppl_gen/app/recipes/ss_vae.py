"""`ppl-gen fit ss-vae`: a semi-supervised autoencoder, which is told the labels of some data."""

from __future__ import annotations

__all__ = ["RECIPE"]

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.checks import check_parts_stand_alone
from ppl_gen.app.ingredients.data import one_data_set
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    ENGINE,
    LATENT_DIM,
    NETWORK,
    PARTICLES,
    PARTS,
    SEED,
    STOPPING,
    TRAINING,
    UNTIL,
    Option,
    at_least,
)

if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start
    from ppl_gen.data import Dataset

# Of the data of an epoch, those with a label: few labels are shown often.
_SHARE = 1 / 6

LABELS = Option(
    name="labels",
    kind=int,
    default=100,
    help="Labels that are kept, as many of each class, drawn by --seed; the others are not told.",
    check=at_least(1),
)
WEIGHT = Option(
    name="label_weight",
    kind=float,
    default=5.0,
    help="Weight of log q(y | x) of each datum with a label, in nats; 0 gives the bound itself.",
    check=at_least(0),
)


def _data(config: Config, *, download: bool = False) -> Dataset:
    """The data, few of the labels kept; data with a label come several times in an epoch."""
    import torch

    from ppl_gen.data import Split
    from ppl_gen.labels import few_labels

    data = one_data_set(config, download=download)
    train = data.train
    if data.classes is None or not isinstance(train, Split) or train.y is None:
        raise ValueError(
            f"expected data in memory with labels for a {config.model}, got {data.name}: sort the "
            "images into one folder per class, store an array y beside x, or fit a vae"
        )
    y = few_labels(train.y, config.labels, seed=config.seed)
    labelled = (y >= 0).nonzero()[:, 0]
    times = round(_SHARE / (1 - _SHARE) * len(y) / len(labelled)) - 1
    rows = torch.cat([torch.arange(len(y)), labelled.repeat(max(times, 0))])
    return replace(data, train=replace(train, x=train.x[rows], y=y[rows]))


def _program(config: Config, data: Any, condition: Any) -> Any:
    from ppl_gen import models
    from ppl_gen.app.parts.slots import program_with_parts

    builder = partial(models.ss_vae, classes=data.classes)
    return program_with_parts(builder, config, data, condition)


def _fitting(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.svi import by_svi
    from ppl_gen.inference.fitting.objectives import Enumerated

    config = start.config
    return by_svi(start, Enumerated(config.label_weight, config.particles))


RECIPE = Recipe(
    name="ss-vae",
    place=14,
    options=(
        *DATA_SET,
        *PARTS,
        LATENT_DIM,
        *NETWORK,
        LABELS,
        WEIGHT,
        PARTICLES,
        *TRAINING,
        *STOPPING,
        UNTIL,
        SEED,
        ENGINE,
    ),
    program=_program,
    fitting=_fitting,
    data=_data,
    check=check_parts_stand_alone,
    explicit=True,
    infers_labels=True,
    learning_rate=1e-3,
)
