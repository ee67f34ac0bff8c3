"""From one datum to another through the codes of an autoencoder, and of principal components."""

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
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import load
from ppl_gen.models import Autoencoder, autoencoder, pca
from ppl_gen.plots import image_grid

CODE_DIM = 32
STEPS = 11
PATHS = 6
PAIRS = 140  # of test data, whose middles are measured


def measure(
    folder: Path,
    *,
    data: str,
    way: str,
    hidden: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """How far the middle of a path is from data: ‖x − nearest training datum‖².

    Args:
        folder: Of the cell.
        data: Their name or path.
        way: "network" or "components".
        hidden: Width of the layers.
        epochs: Of the fit.
        seed: Of weights and order.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    train = read.train.fixed().x
    test = read.test.fixed(0, 2 * PAIRS).x
    net = pca(train, CODE_DIM)
    if way == "network":
        net = autoencoder(read.shape, CODE_DIM, hidden=(hidden, hidden // 2))
        fit_autoencoder(net, train, epochs=epochs)
    half = len(test) // 2
    ends = (test[:half], test[half : 2 * half])
    save_arrays(folder, paths=along(net, ends[0][:PATHS], ends[1][:PATHS], STEPS).transpose(0, 1))
    middles = along(net, *ends, 3)
    return {
        "middle to nearest datum": average(nearest(middles[1], train)),
        "end to nearest datum": average(nearest(middles[0], train)),
    }


@torch.no_grad()
def along(net: Autoencoder, begin: Tensor, end: Tensor, steps: int) -> Tensor:
    """What is decoded on straight lines between codes, (steps, N, *shape).

    Args:
        net: An autoencoder.
        begin: Data (N, *shape).
        end: As many.
        steps: Of each line, both ends among them.
    """
    codes = (net.encoder(begin), net.encoder(end))
    drawn = [net.decoder(torch.lerp(*codes, float(t))) for t in torch.linspace(0, 1, steps)]
    return torch.stack(drawn)


def nearest(x: Tensor, train: Tensor) -> Tensor:
    """‖x − xᵢ‖² to the nearest of the training data, (N,).

    Args:
        x: (N, *shape).
        train: (M, *shape).
    """
    parts = [torch.cdist(some.flatten(1), train.flatten(1)).amin(1) for some in x.split(50)]
    return torch.cat(parts).square()


def cells(scope: Scope) -> Sequence[Cell]:
    """The network and the components."""
    hidden = 256
    epochs = 10
    if scope.is_look:
        hidden = 128
        epochs = 60
    made = []
    for way in ("network", "components"):
        made.append(scope.cell(measure, way=way, hidden=hidden, epochs=scope.count(epochs), seed=0))
    return made


def draw(results: Results) -> Figure:
    """Six paths of eleven steps, each by the network and by the components."""
    held = [done.arrays["paths"] for done in results.finished]
    ways = [done.settings["way"] for done in results.finished]
    rows: list[Tensor] = []
    words = []
    for number in range(len(held[0])):
        rows += [paths[number] for paths in held]
        words += ways
    title = "from one test datum to another, between their codes"
    return image_grid(torch.cat(rows), STEPS, title, words)


def say(results: Results) -> Sequence[str]:
    """How to read the number."""
    return (
        "squared distances: middles as near to a training datum as the ends are lie where data "
        "are; a blend of two images lies farther off",
    )


PRESET = Preset(
    shows="paths between test data through codes: a network against principal components",
    figure="L1, interpolation",
    cells=cells,
    draw=draw,
    say=say,
)
