"""What two latents draw under each of three labels."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import tile
from ppl_gen.app.sweeps.labelled import (
    CONDITIONAL,
    conditional_settings,
    fit_kind,
    given,
    loss_terms,
)
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import Split, load
from ppl_gen.inference import decode, lattice
from ppl_gen.plots import image_grid

LABELS = (2, 3, 4)
SIDE = 10
WITHIN = 2.0
EPOCHS = 20


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fitting: Any
) -> Mapping[str, Any]:
    """A lattice within ±2, decoded under each label.

    Args:
        folder: Of the cell.
        data: Their name or path, with ten labels.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fitting: hidden, epochs, batch_size and rate.
    """
    read = load(data, root)
    assert isinstance(read.train, Split)
    program = fit_kind(CONDITIONAL, read.train, **fitting)
    sheets = []
    for label in LABELS:
        y = torch.tensor([label])
        points = lattice(program, y, side=SIDE, within=WITHIN)
        sheets.append(tile(decode(program, points, y.expand(len(points))), SIDE))
    save_arrays(folder, sheets=torch.stack(sheets))
    return loss_terms(program, given(CONDITIONAL, read.test.fixed(0)))


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit."""
    settings = conditional_settings(scope)
    return [scope.cell(measure, **settings, epochs=scope.count(EPOCHS), seed=0)]


def draw(results: Results) -> Figure:
    """The lattices side by side."""
    sheets = results.finished[0].arrays["sheets"]
    labels = ", ".join(map(str, LABELS))
    figure = image_grid(sheets, len(sheets), f"z within ±2, under the labels {labels}")
    figure.set_size_inches(3.2 * len(sheets), 3.6)
    return figure


PRESET = Preset(
    shows="what two latents of a CVAE draw under the labels 2, 3 and 4",
    figure="L3, CVAE: manifolds",
    cells=cells,
    draw=draw,
)
