"""Loss and KL on training and test data, epoch by epoch."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.fits import fit_vae, lecture_settings
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.plots.bound import zoom
from ppl_gen.plots.style import GUIDE, MCMC, array, panels, styled

LATENT_DIM = 20
EPOCHS = 70
SEEDS = 2

_TERMS = {"loss": ("elbo", -1), "KL": ("kl", 1)}
_PARTS = {"train": ("training", MCMC), "validation": ("test", GUIDE)}


def measure(
    folder: Path,
    *,
    data: str,
    hidden: int,
    epochs: int,
    batch_size: int,
    rate: float,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Fits twenty latents for all epochs; both terms are measured on test data, which choose none.

    Args:
        folder: Of the cell.
        data: Their name or path.
        hidden: Width of the one hidden layer to either side.
        epochs: Their number.
        batch_size: Data per step.
        rate: Learning rate.
        seed: Of weights, order and noise.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    fitted = fit_vae(
        train,
        test,
        latent_dim=LATENT_DIM,
        hidden=hidden,
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        beside=train.fixed(limit=len(test)),
    )
    found: dict[str, Any] = {}
    curves = {}
    for part, (name, _) in _PARTS.items():
        for term, (metric, sign) in _TERMS.items():
            values = [sign * record.metrics[f"{part}_{metric}"] for record in fitted.records]
            curves[f"{name} {term}"] = torch.tensor(values, dtype=torch.float64)
            error = fitted.records[-1].metrics[f"{part}_{metric}_error"]
            found[f"{name} {term}"] = Number(values[-1], error)
    save_arrays(folder, **curves)
    return found


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit, and another of another seed."""
    settings = lecture_settings(scope, EPOCHS)
    made = []
    for seed in range(scope.count(SEEDS)):
        made.append(scope.cell(measure, **settings, seed=seed))
    return made


@styled
def draw(results: Results) -> Figure:
    """Loss and KL against the epoch."""
    figure, axes = panels(len(_TERMS), width=4.4, height=3.2)
    for panel, term in zip(axes, _TERMS, strict=True):
        seen = []
        for name, colour in _PARTS.values():
            for number, done in enumerate(results.finished):
                curve = done.arrays[f"{name} {term}"]
                label = name * (number == 0)
                panel.plot(range(1, len(curve) + 1), array(curve), color=colour, label=label)
                seen.append(curve)
        zoom(panel, torch.stack(seen))
        panel.set_xlabel("epoch")
        panel.set_ylabel(f"{term}, nats per datum")
        panel.grid(alpha=0.3)
    axes[0].legend()
    return figure


def say(results: Results) -> Sequence[str]:
    """What the lecture found."""
    if results.fixed["data"] != "mnist":
        return ()
    return ("in the lecture the KL settles near 23 nats",)


PRESET = Preset(
    shows="loss and KL on training and test data, epoch by epoch, at twenty latents",
    figure="L3, loss curves",
    cells=cells,
    draw=draw,
    say=say,
)
