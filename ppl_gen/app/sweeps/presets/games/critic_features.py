"""A critic's convolutions as features: a linear model of few labels on top."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import evaluating
from ppl_gen.critics import conv_critic
from ppl_gen.inference import adversarial_step, fit
from ppl_gen.models import dcgan
from ppl_gen.plots.style import array
from ppl_gen.plots.sweeps import Curve, curves

FEATURES = ("pixels", "critic, not fitted", "critic")
LABELS = (30, 100, 300, 1000)
LATENT_DIM = 20
RATE = 5e-4
BETAS = (0.0, 0.9)  # of Adam
R1 = 0.1
BATCH = 50
SEEDS = 2

_ITERATIONS = 2000  # of logistic regression, at most
_STRENGTH = 0.1  # C of logistic regression: inverse to its penalty
_SPLIT = 1000  # data whose features are computed at once


def measure(
    folder: Path,
    *,
    data: str,
    features: str,
    width: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """The test accuracy of logistic regression on features, after few labels and after more.

    Args:
        folder: Of the cell.
        data: Their name or path, labelled images.
        features: One of `FEATURES`.
        width: Channels of generator and critic at the largest images.
        epochs: Of the GAN, which sees no labels.
        seed: Of weights, order, noise, and which data have labels.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    if train.y is None or test.y is None:
        raise ValueError(f"expected labelled data, got {data}; name others with --data")
    order = torch.randperm(len(train))
    x = train.x[order[: LABELS[-1]]]
    y = train.y[order[: LABELS[-1]]]
    critic = conv_critic(train.x.shape[1:], width=width)
    if features == "critic":
        program = dcgan(train.x.shape[1:], LATENT_DIM, width=width)
        step = adversarial_step(
            program,
            critic,
            torch.optim.Adam(program.parameters(), RATE, BETAS),
            torch.optim.Adam(critic.parameters(), RATE, BETAS),
            r1=R1,
        )
        fit(step, train.batches(BATCH), epochs, progress=False)

    def seen(images: Tensor) -> Tensor:
        if features == "pixels":
            return images.flatten(1)
        with evaluating(critic):
            parts = [critic.features(part) for part in images.split(_SPLIT)]
        return torch.cat(parts)

    known = seen(x)
    asked = seen(test.x)
    found = {}
    for count in LABELS:
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=_ITERATIONS)
        )
        model.fit(array(known[:count]), array(y[:count]))
        right = torch.as_tensor(model.predict(array(asked))) == test.y
        found[_named(count)] = average(right)
    return found


def _named(count: int) -> str:
    return f"{count} labels"


def cells(scope: Scope) -> Sequence[Cell]:
    """Each kind of features, twice."""
    settings: dict[str, Any] = {"width": 32, "epochs": scope.count(10)}
    if scope.is_look:
        settings = {"width": 16, "epochs": scope.count(20)}
    made = []
    for features in FEATURES:
        for seed in range(SEEDS):
            made.append(scope.cell(measure, features=features, **settings, seed=seed))
    return made


def draw(results: Results) -> Figure:
    """Accuracy against the number of labels."""
    lines = []
    for features in FEATURES:
        numbers = results.row(features=features).numbers
        spreads = [numbers[_named(count)] for count in LABELS]
        lines.append(
            Curve(
                name=features,
                x=LABELS,
                y=[spread.mean for spread in spreads],
                error=[spread.error for spread in spreads],
            )
        )
    figure = curves({"test accuracy": lines}, "labels")
    figure.axes[0].set_xscale("log")
    return figure


def say(results: Results) -> Sequence[str]:
    """What is compared."""
    return (
        "logistic regression on standardised features; a critic that was not fitted tells what its "
        "convolutions are worth by themselves",
    )


PRESET = Preset(
    shows="a critic's convolutional features under a linear model, with few labels",
    figure="L0, uses",
    cells=cells,
    draw=draw,
    say=say,
)
