"""A CVAE beside a VAE after one epoch and after twenty."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.labelled import (
    KINDS,
    conditional_settings,
    fit_kind,
    given,
    loss_terms,
)
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import Split, load
from ppl_gen.inference import decode, encode
from ppl_gen.plots import image_grid

AFTER = (1, 20)
SHOWN = 12


def measure(
    folder: Path, *, data: str, model: str, root: str | None, seed: int, **fitting: Any
) -> Mapping[str, Any]:
    """Both terms of the loss on test data, and what the first of these are decoded to.

    Args:
        folder: Of the cell.
        data: Their name or path, with ten labels.
        model: vae or cvae.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fitting: hidden, epochs, batch_size and rate.
    """
    read = load(data, root)
    assert isinstance(read.train, Split)
    program = fit_kind(model, read.train, **fitting)
    x, *context = given(model, read.test.fixed(0))
    few = [c[:SHOWN] for c in context]
    again = decode(program, encode(program, x[:SHOWN], *few).mean, *few)
    save_arrays(folder, data=x[:SHOWN], again=again)
    return loss_terms(program, (x, *context))


def cells(scope: Scope) -> Sequence[Cell]:
    """Both models at both numbers of epochs."""
    found = []
    settings = conditional_settings(scope)
    for full in AFTER:
        epochs = scope.count(full)
        for model in KINDS:
            found.append(scope.cell(measure, model=model, **settings, epochs=epochs, seed=0))
    return found


def draw(results: Results) -> Figure:
    """The first test data above what each makes of them."""
    rows = [results.finished[0].arrays["data"]]
    words = ["data"]
    for done in results.finished:
        rows.append(done.arrays["again"])
        words.append(f"{done.settings['model']}, {done.settings['epochs']} epochs")
    return image_grid(torch.cat(rows), SHOWN, "E[x | z] at z = E[z | x], two latents", words)


PRESET = Preset(
    shows="a CVAE beside a VAE of two latents, after 1 epoch and after 20",
    figure="L3, CVAE: epochs",
    cells=cells,
    draw=draw,
)
