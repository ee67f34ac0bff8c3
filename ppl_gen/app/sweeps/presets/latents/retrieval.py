"""Precision of nearest neighbours by code against by pixels, for some dimensions of the code."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import encode, retrieval

EPOCHS = 70
DIMENSIONS = (2, 5, 10, 20)
QUERIES = 1000


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """P@10 of test data among training data.

    Args:
        folder: Of the cell.
        data: Their name or path, with labels.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, **fit)
    parts = []
    for split in (found.test, found.train):
        assert split.y is not None
        parts.append((split.x, encode(found.program, split.x).mean, split.y))
    x, codes, y = parts[0]
    queries = (x[:QUERIES], codes[:QUERIES], y[:QUERIES])
    return dict(retrieval(queries, parts[1]).parts)


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit for each dimension."""
    return [coded_cell(measure, scope, latent_dim=dim, epochs=EPOCHS) for dim in DIMENSIONS]


def draw(results: Results) -> Figure:
    """The precisions against the dimension."""
    return against(results, "latent_dim")


PRESET = Preset(
    shows="precision at 10 of neighbours by code against by pixels",
    figure="L0, uses: retrieval",
    cells=cells,
    draw=draw,
)
