"""The error where posteriors overlap: a code between two data is decoded to neither."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import encode, overlap, reconstruction_error
from ppl_gen.plots.codes import error_map

EPOCHS = 57
PAIRED = 300  # test data whose pairs are looked at


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """Overlap with posteriors of other labels, beside the reconstruction error.

    Args:
        folder: Of the cell.
        data: Their name or path.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, **fit)
    x = found.test.x
    some = slice(0, PAIRED)
    labels = found.test.y
    if labels is not None:
        labels = labels[some]
    seen = overlap(found.program, x[some], labels=labels)
    means = encode(found.program, x).mean
    errors = reconstruction_error(found.program, x)
    save_arrays(folder, means=means, errors=errors)
    half = seen.overlaps.median()
    above = seen.errors[seen.overlaps > half]
    below = seen.errors[seen.overlaps <= half]
    return {
        "correlation of overlap and error": seen.correlation,
        "error, overlap above the median": average(above),
        "error, overlap below": average(below),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit of two latents."""
    return [coded_cell(measure, scope, latent_dim=2, epochs=EPOCHS)]


def draw(results: Results) -> Figure:
    """The error over the plane of the codes, and the way between the two farthest of the first."""
    arrays = results.finished[0].arrays
    means = arrays["means"]
    first = means[:20]
    pair = torch.cdist(first, first).argmax()
    ends = first[[int(pair) // 20, int(pair) % 20]]
    share = torch.linspace(0, 1, 11)[:, None]
    return error_map(means, arrays["errors"], torch.lerp(ends[0], ends[1], share))


def say(results: Results) -> Sequence[str]:
    """What the correlation is."""
    return ["the correlation is Spearman's, over test data; errors are summed over pixels"]


PRESET = Preset(
    shows="the reconstruction error where posteriors overlap, over the plane of codes",
    figure="L2, overlap",
    cells=cells,
    draw=draw,
    say=say,
)
