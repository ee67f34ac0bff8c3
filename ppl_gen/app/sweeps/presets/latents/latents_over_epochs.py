"""Two latents of the test data after some epochs, coloured by label."""

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
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import encode
from ppl_gen.plots.codes import scatters

AFTER = (3, 5, 10, 33, 53, 59)  # epochs; the lecture's captions say 30, 50 and 60
LOOK = (1, 3, 5, 10, 20, 40)


def measure(
    folder: Path, *, data: str, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """The codes of the test data; fits of one seed are one fit, looked at sooner or later.

    Args:
        folder: Of the cell.
        data: Their name or path.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(data, root, **fit)
    labels = found.test.y
    if labels is None:
        labels = torch.full((len(found.test),), -1)
    save_arrays(folder, means=encode(found.program, found.test.x).mean, labels=labels)
    return terms_on(found.program, found.test)


def cells(scope: Scope) -> Sequence[Cell]:
    """One for each number of epochs."""
    numbers = AFTER
    if scope.is_look:
        numbers = LOOK
    made = []
    for epochs in dict.fromkeys(scope.count(number) for number in numbers):
        cell = coded_cell(measure, scope, latent_dim=2, epochs=epochs)
        settings = {**cell.settings, "epochs": epochs}
        made.append(Cell(measure=measure, settings=settings, places=cell.places))
    return made


def draw(results: Results) -> Figure:
    """A panel for each number of epochs, all of one scale."""
    parts = {}
    for done in results.finished:
        arrays = done.arrays
        parts[f"epoch {done.settings['epochs']}"] = (arrays["means"], arrays["labels"])
    return scatters(parts)


def say(results: Results) -> Sequence[str]:
    """What the captions of the lecture have wrong."""
    return ["the lecture's captions say epochs 30, 50 and 60 where its text says 33, 53 and 59"]


PRESET = Preset(
    shows="two latents of test data, epoch after epoch, coloured by label",
    figure="L3, latents over epochs",
    cells=cells,
    draw=draw,
    say=say,
)
