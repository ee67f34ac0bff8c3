"""Samples of VAEs of some dimensions of the latents, and how far they are from test data."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import coded, coded_cell, tile
from ppl_gen.app.sweeps.fits import terms_on
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import decode, energy_distance
from ppl_gen.plots import image_grid

EPOCHS = 70
DIMENSIONS = (2, 5, 10, 20)
SIDE = 10
DRAWS = 1000


def measure(
    folder: Path, *, data: str, latent_dim: int, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """The loss on test data, and the squared energy distance of decoded draws to them.

    Args:
        folder: Of the cell.
        data: Their name or path.
        latent_dim: Dimension of z.
        root: Folder of torchvision's data.
        seed: Of weights, order, noise and draws.
        **fit: Of `coded`.
    """
    found = coded(data, root, latent_dim=latent_dim, **fit)
    generator = torch.Generator().manual_seed(seed)
    drawn = decode(found.program, torch.randn(DRAWS, latent_dim, generator=generator))
    save_arrays(folder, images=drawn[: SIDE * SIDE])
    distance = energy_distance(drawn, found.test.x[:DRAWS])
    return {**terms_on(found.program, found.test), "energy distance²": distance}


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit for each dimension."""
    return [coded_cell(measure, scope, latent_dim=dim, epochs=EPOCHS) for dim in DIMENSIONS]


def draw(results: Results) -> Figure:
    """A hundred samples of each, side by side."""
    sheets = [tile(done.arrays["images"], SIDE) for done in results.finished]
    dims = ", ".join([str(done.settings["latent_dim"]) for done in results.finished])
    figure = image_grid(torch.stack(sheets), len(sheets), f"samples at D = {dims}, left to right")
    figure.set_size_inches(3 * len(sheets), 3.4)
    return figure


PRESET = Preset(
    shows="samples of 2, 5, 10 and 20 latents, and their distance from test data",
    figure="L1, samples by dimension",
    cells=cells,
    draw=draw,
)
