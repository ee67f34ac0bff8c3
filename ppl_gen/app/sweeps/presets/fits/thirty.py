"""Thirty fits that differ by their seed alone: how far one number can be off."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.fits import fit_vae, lecture_settings, terms_on
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.plots.style import EXACT, GUIDE, MCMC, array, one_axes, styled

RUNS = 30
LATENT_DIM = 2
PATIENCE = 5
EPOCHS = 200  # at most
HELD_OUT = 0.1


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
    """Fits two latents until five epochs have not lowered the loss of data held out.

    Args:
        folder: Of the cell.
        data: Their name or path.
        hidden: Width of the one hidden layer to either side.
        epochs: The most there are.
        batch_size: Data per step.
        rate: Learning rate.
        seed: Of weights, order, noise and what is held out.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    kept, held_out = train.divided(HELD_OUT, seed)
    beside = kept.fixed(limit=len(held_out))
    fitted = fit_vae(
        kept,
        held_out,
        latent_dim=LATENT_DIM,
        hidden=hidden,
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        patience=PATIENCE,
        beside=beside,
    )
    curves = {}
    for part in ("train", "validation"):
        losses = [-record.metrics[f"{part}_elbo"] for record in fitted.records]
        curves[part] = torch.tensor(losses, dtype=torch.float64)
    save_arrays(folder, **curves)
    loss = terms_on(fitted.program, test)["loss"]
    return {
        "loss": loss,
        "loss + L2": (loss.value + fitted.penalty, loss.error),
        "best epoch": fitted.best,
        "epochs": len(fitted.records),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """A fit for each seed."""
    settings = lecture_settings(scope, EPOCHS)
    made = []
    for seed in range(scope.count(RUNS, least=2)):
        made.append(scope.cell(measure, **settings, seed=seed))
    return made


@styled
def draw(results: Results) -> Figure:
    """The loss of every run against the epoch, and the mean over the runs that are still going."""
    figure, axes = one_axes(6.0, 3.8)
    for part, name, colour in (("train", "training", MCMC), ("validation", "held out", GUIDE)):
        curves = [done.arrays[part] for done in results.finished]
        longest = max(map(len, curves))
        padded = torch.full((len(curves), longest), torch.nan, dtype=torch.float64)
        for row, curve in zip(padded, curves, strict=True):
            row[: len(curve)] = curve
            axes.plot(range(1, len(curve) + 1), array(curve), color=colour, lw=0.5, alpha=0.35)
        going = (~padded.isnan()).sum(0) >= len(curves) / 2
        mean = padded.nanmean(0)[going]
        axes.plot(range(1, len(mean) + 1), array(mean), color=colour, lw=2, label=f"{name}, mean")
    last = results.column("loss")[0]
    axes.axhline(last.mean, color=EXACT, lw=1, ls=":", label="test, mean of the best epochs")
    axes.set_ylim(*_window(results))
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats per datum")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _window(results: Results) -> tuple[float, float]:
    """The losses after the first epochs, whose scale would hide the rest."""
    settled = []
    for done in results.finished:
        for curve in done.arrays.values():
            settled.append(curve[len(curve) // 8 :])
    losses = torch.cat(settled)
    return float(losses.min()) - 0.2, float(losses.max()) + 0.2


def say(results: Results) -> Sequence[str]:
    """The spread over runs, and the lecture's."""
    spread = results.column("loss + L2")[0]
    said = [
        "mean ± standard error over runs, sd beside it: runs differ by about sd, so that a "
        "difference of one run from another of less than 3 sd says little"
    ]
    if results.fixed["data"] == "mnist" and spread.deviation is not None:
        said.append(
            f"loss + L2 {spread.mean:.2f} ± {spread.deviation:.2f} (sd over runs); the lecture "
            "152.95 ± 1.44, stopped on its test data"
        )
    return said


PRESET = Preset(
    shows="thirty fits of two latents that differ by their seed: mean and sd of the loss",
    figure="L3, thirty runs",
    cells=cells,
    draw=draw,
    say=say,
)
