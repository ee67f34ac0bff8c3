"""Autoencoders with few active units: an L1 penalty on the code."""

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
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder, squared_errors
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import load
from ppl_gen.models import autoencoder
from ppl_gen.penalties import Sparse
from ppl_gen.plots import image_grid

WEIGHTS = (0.0, 0.03, 0.1, 0.3)
WIDTH = 100  # of the code
SHOWN = 12  # units


def measure(
    folder: Path, *, data: str, sparsity: float, epochs: int, seed: int, root: str | None
) -> Mapping[str, Any]:
    """Error of test data, and how many units of the code are active for a datum.

    Args:
        folder: Of the cell.
        data: Their name or path.
        sparsity: λ of λ Σ |h|.
        epochs: Of the fit.
        seed: Of weights and order.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    test = read.test.fixed().x
    net = autoencoder(read.shape, WIDTH, hidden=(), of_code=nn.ReLU)
    fit_autoencoder(net, read.train.fixed().x, epochs=epochs, penalty=Sparse(sparsity))
    with torch.no_grad():
        code = net.encoder(test)
    active = (code > 0).double().sum(1)
    busiest = code.sum(0).argsort(descending=True)[:SHOWN]
    decoder: Any = net.decoder
    columns = decoder[0][0].weight.detach()
    atoms = columns[:, busiest].T
    save_arrays(folder, atoms=atoms.reshape(-1, *read.shape))
    return {
        "squared error": average(squared_errors(net, test)),
        "active units": average(active),
        "Σ |h|": average(code.sum(1)),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """A fit for each weight of the penalty."""
    epochs = 10
    if scope.is_look:
        epochs = 60
    made = []
    for sparsity in WEIGHTS:
        made.append(scope.cell(measure, sparsity=sparsity, epochs=scope.count(epochs), seed=0))
    return made


def draw(results: Results) -> Figure:
    """What the busiest units of each code add to a datum, grey for nothing."""
    rows = []
    words = []
    for done in results.finished:
        atoms = done.arrays["atoms"]
        largest = atoms.abs().amax((1, 2, 3), keepdim=True)
        shares = atoms / largest.clamp(min=1e-6)
        rows.append((1 + shares) / 2)
        words.append(f"λ = {done.settings['sparsity']:g}")
    return image_grid(torch.cat(rows), SHOWN, "what the busiest units add to a datum", words)


PRESET = Preset(
    shows="sparse autoencoders: error and active units against the weight of the penalty",
    figure="L0, sparse autoencoders",
    cells=cells,
    draw=draw,
)
