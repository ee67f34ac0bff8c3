"""Autoencoders and principal components of the same width, on test data."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import DIGITS, Preset, Scope
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder, squared_errors
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import load
from ppl_gen.models import Autoencoder, autoencoder, conv_autoencoder, pca
from ppl_gen.plots import image_grid

DIMENSIONS = (2, 8, 32)
NETWORKS = ("perceptron", "convolutions")
SHOWN = 12


def made_of(network: str, shape: Sequence[int], code_dim: int, hidden: int) -> Autoencoder:
    """A new autoencoder.

    Args:
        network: "perceptron" or "convolutions".
        shape: Of a datum.
        code_dim: d.
        hidden: Width of its layers.
    """
    if network == "convolutions":
        return conv_autoencoder(shape, code_dim, hidden=hidden)
    return autoencoder(shape, code_dim, hidden=(hidden, hidden // 2))


def measure(
    folder: Path,
    *,
    data: str,
    network: str,
    code_dim: int,
    hidden: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Errors of test data, and their paired difference.

    Args:
        folder: Of the cell.
        data: Their name or path.
        network: "perceptron" or "convolutions".
        code_dim: d.
        hidden: Width of the layers.
        epochs: Of the fit.
        seed: Of weights and order.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    train = read.train.fixed().x
    test = read.test.fixed().x
    net = made_of(network, read.shape, code_dim, hidden)
    fit_autoencoder(net, train, epochs=epochs)
    linear = pca(train, code_dim)
    found = squared_errors(net, test)
    components = squared_errors(linear, test)
    first = test[:SHOWN]
    with torch.no_grad():
        save_arrays(folder, x=first, network=net(first), components=linear(first))
    return {
        "squared error": average(found),
        "of components": average(components),
        "difference": average(found - components),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """Both networks at each width of the code."""
    hidden = 256
    epochs = 10
    if scope.is_look:
        hidden = 128
        epochs = 60
    made = []
    for network in NETWORKS:
        for dim in DIMENSIONS:
            made.append(
                scope.cell(
                    measure,
                    network=network,
                    code_dim=dim,
                    hidden=hidden,
                    epochs=scope.count(epochs),
                    seed=0,
                )
            )
    return made


def draw(results: Results) -> Figure:
    """The first test data, and what networks and components make of them."""
    rows: list[Tensor] = []
    words = []
    by_width: dict[int, list[Any]] = {}
    for done in results.finished:
        by_width.setdefault(done.settings["code_dim"], []).append(done)
    for width, group in by_width.items():
        rows.append(group[0].arrays["x"])
        words.append("data")
        for done in group:
            rows.append(done.arrays["network"])
            words.append(f"{done.settings['network'][:4]}., {width}")
        rows.append(group[0].arrays["components"])
        words.append(f"PCA, {width}")
    return image_grid(torch.cat(rows), SHOWN, "test data and their reconstructions", words)


def say(results: Results) -> Sequence[str]:
    """Where components are hard to beat."""
    if results.fixed["data"] != DIGITS:
        return ()
    return (
        "digits have 64 values, of which 32 components leave next to nothing: there a network has "
        "to learn the identity, and has too few data and steps for it",
    )


PRESET = Preset(
    shows="autoencoders against principal components of 2, 8 and 32 dimensions, test error",
    figure="L1, autoencoder",
    cells=cells,
    draw=draw,
    say=say,
)
