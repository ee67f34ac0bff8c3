"""A classifier from a greedy stack of autoencoders, against one from random weights."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.corruptions import masking
from ppl_gen.data import Split, load
from ppl_gen.inference import classification_step, fit, greedy_step
from ppl_gen.labels import few_labels
from ppl_gen.models import autoencoder_layers, classifier, stacked

LABELS = (20, 100, 500)
WEIGHTS = ("random", "pretrained")
NOISE = 0.3  # share of values masked
RATE = 1e-3
UNLABELLED = 10_000  # at most


def measure(
    folder: Path,
    *,
    data: str,
    labels: int,
    weights: str,
    widths: Sequence[int],
    epochs: int,
    tuning: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Test accuracy of a classifier fitted to few labels, from either weights.

    Args:
        folder: Of the cell.
        data: Their name or path.
        labels: How many are kept.
        weights: "random" or "pretrained".
        widths: Of the layers.
        epochs: Of each layer, on data without labels.
        tuning: Epochs of the classifier.
        seed: Of weights, order and which labels are kept.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    train: Any = read.train.fixed()
    layers = autoencoder_layers(read.shape, widths, activation=nn.Sigmoid)
    whole = stacked(layers)
    if weights == "pretrained":
        batches = Split(train.x[:UNLABELLED]).batches(100)
        optimizers = [torch.optim.Adam(part.parameters(), RATE) for part in (*layers, whole)]
        steps = epochs * len(batches)
        step = greedy_step(layers, optimizers, steps, corruption=masking(NOISE), engine="fx")
        fit(step, batches, epochs * len(layers), progress=False)
    net = classifier(whole.encoder, widths[-1], read.classes or 10)
    kept = few_labels(train.y, labels, seed=seed) >= 0
    labelled = Split(train.x[kept], train.y[kept]).batches(20)
    tune = classification_step(net, torch.optim.Adam(net.parameters(), RATE), engine="fx")
    fit(tune, labelled, tuning, progress=False)
    test = read.test.fixed()
    with torch.no_grad():
        hits = net(test.x).argmax(1) == test.y
    return {"test accuracy": average(hits)}


def cells(scope: Scope) -> Sequence[Cell]:
    """Both weights for each number of labels, over seeds."""
    widths = [500, 250, 100]
    epochs, seeds = 4, 5
    if scope.is_look:
        widths = [128, 64, 32]
        epochs, seeds = 25, 3
    made = []
    for labels in LABELS:
        for weights in WEIGHTS:
            for seed in range(scope.count(seeds)):
                made.append(
                    scope.cell(
                        measure,
                        labels=labels,
                        weights=weights,
                        widths=widths,
                        epochs=scope.count(epochs),
                        tuning=scope.count(60),
                        seed=seed,
                    )
                )
    return made


def draw(results: Results) -> Figure:
    """Accuracy against the number of labels, for both weights."""
    return against(results, "labels", ["test accuracy"])


PRESET = Preset(
    shows="a classifier from stacked autoencoders against random weights, with few labels",
    figure="L0, stacked autoencoders",
    cells=cells,
    draw=draw,
)
