"""What two latents draw on a lattice of the prior's quantiles."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.fits import terms_on
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import decode, lattice
from ppl_gen.plots import image_grid

EPOCHS = 57
SIDE = 20


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """Fits, and decodes z = Φ⁻¹(linspace(0.05, 0.95, 20)) along both axes.

    Args:
        folder: Of the cell.
        data: Their name or path.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, **fit)
    points = lattice(found.program, side=SIDE)
    save_arrays(folder, images=decode(found.program, points))
    return terms_on(found.program, found.test)


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit of two latents."""
    return [coded_cell(measure, scope, latent_dim=2, epochs=EPOCHS)]


def draw(results: Results) -> Figure:
    """The decoded lattice, z[0] to the right and z[1] upwards."""
    images = results.finished[0].arrays["images"]
    return image_grid(images, SIDE, "z at quantiles 0.05 to 0.95 of the prior, along both axes")


PRESET = Preset(
    shows="what two latents draw on a lattice of the prior's quantiles",
    figure="L3, manifold",
    cells=cells,
    draw=draw,
)
