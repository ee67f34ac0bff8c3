"""A linear autoencoder by gradient, beside the principal components."""

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
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder, squared_errors
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import load
from ppl_gen.models import autoencoder, pca
from ppl_gen.plots import image_grid

DIMENSIONS = (2, 8)
SHOWN = 12
EPOCHS = 3000  # of full batches
RATE = 0.03


def measure(
    folder: Path, *, data: str, code_dim: int, epochs: int, rate: float, seed: int, root: str | None
) -> Mapping[str, Any]:
    """The angle between the subspaces, and the errors on the data that both are fitted to.

    Args:
        folder: Of the cell.
        data: Their name or path.
        code_dim: d.
        epochs: Steps on all data.
        rate: Learning rate at the start, from which it falls to zero.
        seed: Of the weights.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    x = read.train.fixed().x
    exact: Any = pca(x, code_dim)
    net: Any = autoencoder(read.shape, code_dim, hidden=())
    fit_autoencoder(net, x, epochs=epochs, rate=rate, batch_size=len(x))
    found = squared_errors(net, x)
    components = squared_errors(exact, x)
    first = read.test.fixed(0, SHOWN).x
    with torch.no_grad():
        save_arrays(folder, x=first, network=net(first), components=exact(first))
    return {
        "squared error": average(found),
        "of components": average(components),
        "ratio − 1": float(found.mean() / components.mean() - 1),
        "largest angle, degrees": _angle(net.decoder[0][0].weight, exact.decoder[0][0].weight),
    }


def _angle(one: Tensor, other: Tensor) -> float:
    """The largest principal angle between the spans of columns, in degrees."""
    bases = [torch.linalg.qr(columns.detach().double())[0] for columns in (one, other)]
    cosines = torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(max=1)
    return float(cosines.min().acos().rad2deg())


def cells(scope: Scope) -> Sequence[Cell]:
    """A fit for each width of the code."""
    made = []
    for dim in DIMENSIONS:
        made.append(
            scope.cell(
                measure, code_dim=dim, epochs=scope.count(EPOCHS, least=20), rate=RATE, seed=0
            )
        )
    return made


def draw(results: Results) -> Figure:
    """Test data, and what network and components make of them."""
    rows: list[Tensor] = []
    words = []
    for done in results.finished:
        width = done.settings["code_dim"]
        if not rows:
            rows.append(done.arrays["x"])
            words.append("data")
        rows += [done.arrays["network"], done.arrays["components"]]
        words += [f"gradient, {width}", f"SVD, {width}"]
    return image_grid(torch.cat(rows), SHOWN, "linear autoencoder and principal components", words)


PRESET = Preset(
    shows="a linear autoencoder by gradient beside principal components: errors and angle",
    figure="L0, autoencoders",
    cells=cells,
    draw=draw,
)
