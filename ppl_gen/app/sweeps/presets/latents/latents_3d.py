"""Three latents of the test data, with the ellipsoids of q(z given x)."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.fits import terms_on
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import encode
from ppl_gen.plots.codes import latents

EPOCHS = 70


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """Codes and widths of the test data, and both terms of the bound.

    Args:
        folder: Of the cell.
        data: Their name or path.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, **fit)
    codes = encode(found.program, found.test.x)
    labels = found.test.y
    if labels is None:
        labels = torch.full((len(found.test),), -1)
    save_arrays(folder, means=codes.mean, covariance=codes.covariance, labels=labels)
    assert codes.sd is not None
    numbers: dict[str, Any] = dict(terms_on(found.program, found.test))
    numbers["sd of q(z | x)"] = average(codes.sd.mean(1))
    return numbers


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit of three latents."""
    return [coded_cell(measure, scope, latent_dim=3, epochs=EPOCHS)]


def draw(results: Results) -> Figure:
    """The codes in space, the first with one standard deviation of their posterior."""
    arrays = results.finished[0].arrays
    return latents(arrays["means"], arrays["covariance"], arrays["labels"], title="test data")


PRESET = Preset(
    shows="three latents of test data, coloured by label, with their posteriors",
    figure="L3, 3-D latents",
    cells=cells,
    draw=draw,
)
