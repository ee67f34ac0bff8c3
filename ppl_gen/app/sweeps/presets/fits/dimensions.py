"""The test loss against the dimension of the latents, stopped early on data held out."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.fits import fit_vae, lecture_settings, terms_on
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.plots.style import EXACT

DIMENSIONS = (2, 3, 5, 10, 15, 20)
PATIENCE = 5
EPOCHS = 200  # at most
HELD_OUT = 0.1
# KL + cross entropy + penalty on MNIST, of the best epoch on the test set, by dimension.
LECTURE = {2: 153.4, 3: 139.5, 5: 125.0, 10: 110.7, 15: 106.2, 20: 104.3}


def measure(
    folder: Path,
    *,
    data: str,
    latent_dim: int,
    hidden: int,
    epochs: int,
    batch_size: int,
    rate: float,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Fits until five epochs have not lowered the loss of a tenth of the training data held out.

    Args:
        folder: Of the cell.
        data: Their name or path.
        latent_dim: Dimension of z.
        hidden: Width of the one hidden layer to either side.
        epochs: The most there are.
        batch_size: Data per step.
        rate: Learning rate.
        seed: Of weights, order, noise and what is held out.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    kept, held_out = train.divided(HELD_OUT, seed)
    fitted = fit_vae(
        kept,
        held_out,
        latent_dim=latent_dim,
        hidden=hidden,
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        patience=PATIENCE,
    )
    found = terms_on(fitted.program, test)
    loss = found["loss"]
    with_penalty = (loss.value + fitted.penalty, loss.error)
    return {**found, "loss + L2": with_penalty, "epochs": fitted.best}


def cells(scope: Scope) -> Sequence[Cell]:
    """The lecture's dimensions: one fit each, two of a smaller network on digits."""
    settings = lecture_settings(scope, EPOCHS)
    seeds = 1
    if scope.is_look:
        seeds = 2
    made = []
    for dim in DIMENSIONS:
        for seed in range(scope.count(seeds)):
            made.append(scope.cell(measure, latent_dim=dim, **settings, seed=seed))
    return made


def draw(results: Results) -> Figure:
    """The loss and its terms against the dimension; on MNIST beside the lecture's losses."""
    figure = against(results, "latent_dim", ["loss + L2", "cross entropy", "KL"])
    axes = figure.axes[0]
    if results.fixed["data"] == "mnist":
        points = list(LECTURE.values())
        axes.plot(list(LECTURE), points, "x", color=EXACT, label="lecture, stopped on test data")
        axes.legend()
    for panel in figure.axes:
        panel.set_ylabel(f"{panel.get_ylabel()}, nats per test datum")
    return figure


def say(results: Results) -> Sequence[str]:
    """What the numbers are, and how those of the lecture differ."""
    said = [
        "stopped on a tenth of the training data held out, and scored on test data that chose "
        "nothing; the lecture stopped on its test data, which flatters its numbers. Cross entropy "
        "on grey pixels is no log density: these are no nats of evidence"
    ]
    if results.fixed["data"] == "mnist":
        for row in results.rows:
            dim = row.settings["latent_dim"]
            ours = row.numbers["loss + L2"].mean
            if dim in LECTURE:
                said.append(f"D = {dim}: {ours:.1f}, the lecture {LECTURE[dim]:.1f}")
    return said


PRESET = Preset(
    shows="test loss, cross entropy and KL against the dimension of the latents",
    figure="L3, dimensions",
    cells=cells,
    draw=draw,
    say=say,
)
