"""Synthetic training data: a classifier of few labels and of draws given labels."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import Split
from ppl_gen.inference import AnalyticELBO, fit, svi_step
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import cvae
from ppl_gen.plots.style import array
from ppl_gen.program import simulate

SOURCES = ("a CVAE", "copies with noise")
TIMES = (0, 1, 4)  # synthetic data for each real one
LABELS = 200
LATENT_DIM = 8
HIDDEN = (64,)
RATE = 2e-3
BATCH = 50
EPOCHS = 100
NOISE = 0.1  # sd of what is added to copies, in units of the data
TREES = 200
SEEDS = 3


def measure(
    folder: Path,
    *,
    data: str,
    source: str,
    times: int,
    labels: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """The test accuracy of random trees on few data and on synthetic ones made of the same few.

    Args:
        folder: Of the cell.
        data: Their name or path, labelled.
        source: One of `SOURCES`.
        times: Synthetic data for each real one.
        labels: The number of real data.
        epochs: That the CVAE is fitted to them for.
        seed: Of which data are taken, weights, order, draws and trees.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    if train.y is None or test.y is None:
        raise ValueError(f"expected labelled data, got {data}; name others with --data")
    rows = torch.randperm(len(train))[:labels]
    x = train.x[rows]
    y = train.y[rows]
    asked = y.repeat(times)
    if times == 0:
        more = x[:0]
    elif source == "a CVAE":
        more = _of_cvae(Split(x, y), int(train.y.max()) + 1, asked, epochs)
    else:
        more = x.repeat(times, 1, 1, 1)
        more = more + NOISE * torch.randn_like(more)
    trees = ExtraTreesClassifier(TREES, random_state=seed)
    trees.fit(array(torch.cat([x, more]).flatten(1)), array(torch.cat([y, asked])))
    right = torch.as_tensor(trees.predict(array(test.x.flatten(1)))) == test.y
    return {"test accuracy": average(right)}


def _of_cvae(known: Split, classes: int, labels: Tensor, epochs: int) -> Tensor:
    """Draws under labels, with the likelihood's noise, of a CVAE fitted to few data."""
    program = cvae(
        known.x.shape[1:], LATENT_DIM, classes=classes, hidden=HIDDEN, likelihood=Gaussian()
    )
    optimizer = torch.optim.Adam(program.parameters(), RATE)
    step = svi_step(program, optimizer, AnalyticELBO(), engine="fx")
    fit(step, known.batches(min(BATCH, len(known))), epochs, progress=False)
    return simulate(program, len(labels), labels)


def cells(scope: Scope) -> Sequence[Cell]:
    """Either source, none to four times as many, under three seeds."""
    made = []
    for source in SOURCES:
        for times in TIMES:
            for seed in range(SEEDS):
                made.append(
                    scope.cell(
                        measure,
                        source=source,
                        times=times,
                        labels=LABELS,
                        epochs=scope.count(EPOCHS, least=5),
                        seed=seed,
                    )
                )
    return made


def draw(results: Results) -> Figure:
    """Accuracy against how many synthetic data there are for each real one."""
    return against(results, "times")


def say(results: Results) -> Sequence[str]:
    """What is compared."""
    return (
        f"random trees on {LABELS} real data and on synthetic ones for each; the CVAE saw the same "
        f"{LABELS} alone. Copies with noise are what costs nothing: draws have to be better",
    )


PRESET = Preset(
    shows="a classifier of few labels with synthetic data: draws of a CVAE, or noisy copies",
    figure="L0, uses",
    cells=cells,
    draw=draw,
    say=say,
)
