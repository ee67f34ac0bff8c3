"""Autoencoders whose codes move little: a penalty on the encoder's Jacobian."""

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
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder, movement, squared_errors
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import forked
from ppl_gen.corruptions import gaussian_noise
from ppl_gen.data import load
from ppl_gen.models import autoencoder
from ppl_gen.penalties import Contractive, squared_jacobian

WEIGHTS = (0.0, 0.03, 0.1, 0.3)
NOISE = 0.3  # of the test data, whose codes move
WIDER = 1.25  # times the size of a datum, the width of the code


def measure(
    folder: Path, *, data: str, contraction: float, epochs: int, seed: int, root: str | None
) -> Mapping[str, Any]:
    """Errors of test data and the encoder's Jacobian there, of a code wider than the data.

    Args:
        folder: Of the cell.
        data: Their name or path.
        contraction: λ of λ ‖∂h/∂x‖².
        epochs: Of the fit.
        seed: Of weights and order.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    test = read.test.fixed().x
    width = round(WIDER * test[0].numel())
    net = autoencoder(read.shape, width, hidden=(), of_code=nn.Sigmoid)
    fit_autoencoder(net, read.train.fixed().x, epochs=epochs, penalty=Contractive(contraction))
    with forked(test.device, 0):  # the same for all cells
        noisy = gaussian_noise(NOISE)(test)
        nothing = torch.rand_like(test)
    with torch.no_grad():
        slopes = squared_jacobian(net.encoder, test, net.encoder(test))
    return {
        "error": average(squared_errors(net, test)),
        "squared Jacobian": average(slopes),
        "movement of the code": average(movement(net, test, noisy)),
        "error of mere noise": average(squared_errors(net, nothing)),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """A fit for each weight of the penalty."""
    epochs = 10
    if scope.is_look:
        epochs = 60
    made = []
    for contraction in WEIGHTS:
        made.append(
            scope.cell(measure, contraction=contraction, epochs=scope.count(epochs), seed=0)
        )
    return made


def draw(results: Results) -> Figure:
    """Each number against the weight of the penalty."""
    return against(results, "contraction")


def say(results: Results) -> Sequence[str]:
    """How to read the numbers."""
    return (
        "the code is wider than the data: a network that has learned the identity gives mere noise "
        f"back, with an error near 0. The code moves as noise of {NOISE:g} is added to test data",
    )


PRESET = Preset(
    shows="contractive autoencoders: error, Jacobian and movement of a code wider than data",
    figure="L0, contractive autoencoders",
    cells=cells,
    draw=draw,
    say=say,
)
