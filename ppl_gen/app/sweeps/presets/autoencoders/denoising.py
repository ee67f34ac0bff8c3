"""Autoencoders fitted under noise: what they take out of data, and how far their codes move."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder, movement, squared_errors
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import forked
from ppl_gen.corruptions import gaussian_noise
from ppl_gen.data import load
from ppl_gen.models import autoencoder
from ppl_gen.plots import image_grid

NOISES = (0.0, 0.15, 0.3, 0.6)
TESTED = 0.3  # noise of the test data
WIDER = 1.25  # times the size of a datum, the width of the code
SHOWN = 12


def measure(
    folder: Path, *, data: str, noise: float, epochs: int, seed: int, root: str | None
) -> Mapping[str, Any]:
    """Errors on test data with and without noise, of a code wider than the data.

    Args:
        folder: Of the cell.
        data: Their name or path.
        noise: Standard deviation of what is added to training data; 0 for a plain autoencoder.
        epochs: Of the fit.
        seed: Of weights, order and noise.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    test = read.test.fixed().x
    width = round(WIDER * test[0].numel())
    net = autoencoder(read.shape, width, hidden=(), of_code=nn.Sigmoid)
    fit_autoencoder(net, read.train.fixed().x, epochs=epochs, corruption=gaussian_noise(noise))
    with forked(test.device, 0):  # the same for all cells
        noisy = gaussian_noise(TESTED)(test)
        nothing = torch.rand_like(test)
    with torch.no_grad():
        save_arrays(folder, x=test[:SHOWN], noisy=noisy[:SHOWN], made=net(noisy[:SHOWN]))
    return {
        "error": average(squared_errors(net, test)),
        "error of noisy data": average(squared_errors(net, test, noisy)),
        "movement of the code": average(movement(net, test, noisy)),
        "error of mere noise": average(squared_errors(net, nothing)),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """A fit for each noise."""
    epochs = 10
    if scope.is_look:
        epochs = 60
    made = []
    for noise in NOISES:
        made.append(scope.cell(measure, noise=noise, epochs=scope.count(epochs), seed=0))
    return made


def draw(results: Results) -> Figure:
    """Test data, the same with noise, and what each autoencoder makes of these."""
    first = results.finished[0].arrays
    rows = [first["x"], first["noisy"]]
    words = ["data", "noisy"]
    for done in results.finished:
        rows.append(done.arrays["made"])
        words.append(f"fit at {done.settings['noise']:g}")
    return image_grid(torch.cat(rows), SHOWN, "noisy test data, and their reconstructions", words)


def say(results: Results) -> Sequence[str]:
    """How to read the numbers."""
    return (
        f"test data have noise of {TESTED:g}. The code is wider than the data: a network that has "
        "learned the identity gives noise back, from data and from mere noise alike, and its error "
        "of mere noise is near 0",
    )


PRESET = Preset(
    shows="denoising autoencoders: errors under noise, movement of the code, no identity",
    figure="L0, denoising autoencoders",
    cells=cells,
    draw=draw,
    say=say,
)
