"""A band of missing pixels filled in by one pass, and by the posterior given the others."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen import inference
from ppl_gen.app.exploration.filling import band, masked
from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import one_pass
from ppl_gen.likelihoods import Bernoulli
from ppl_gen.plots import image_grid

EPOCHS = 70
SHOWN = 20
JUDGED = 200
PARTICLES = 500
ROWS = ("data", "observed", "one pass", "posterior")


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """The squared error of a missing pixel, three ways, on black and white pixels.

    Args:
        folder: Of the cell.
        data: Their name or path.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, binarize="threshold", **fit)
    found.program.likelihood = Bernoulli()  # which the cross entropy is, on such pixels
    x = found.test.x[:JUDGED]
    mask = band(x.shape[1:])
    by_pass = one_pass(found.program, x, mask)
    holes = x.masked_fill(mask, torch.nan)
    posterior = inference.impute(
        masked(found.program), holes, particles=PARTICLES, draws=2, seed=seed
    ).mean
    rows = [some[:SHOWN] for some in (x, holes, by_pass, posterior)]
    save_arrays(folder, images=torch.cat(rows))
    mean = found.train.x.mean(0).expand_as(x)
    errors = {name: _error(filled, x, mask) for name, filled in _named(by_pass, posterior, mean)}
    numbers: dict[str, Any] = {name: average(error) for name, error in errors.items()}
    numbers["one pass − posterior"] = average(errors["one pass"] - errors["posterior"])
    return numbers


def _named(by_pass: Tensor, posterior: Tensor, mean: Tensor) -> list[tuple[str, Tensor]]:
    return [("one pass", by_pass), ("posterior", posterior), ("mean of the data", mean)]


def _error(filled: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    return (filled - x).square()[:, mask].mean(1)


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit of twenty latents."""
    return [coded_cell(measure, scope, latent_dim=20, epochs=EPOCHS)]


def draw(results: Results) -> Figure:
    """The first test data, what is observed of them, and both fillings."""
    images = results.finished[0].arrays["images"]
    return image_grid(images, len(images) // len(ROWS), "a band of pixels filled in", ROWS)


PRESET = Preset(
    shows="missing pixels by one pass, as in the lecture, and by their posterior",
    figure="L3, imputation",
    cells=cells,
    draw=draw,
)
