"""(1/d) ‖x − g(z)‖² + λ KL: no KL, some, and nothing else; λ chosen on data held out."""

from __future__ import annotations

__all__ = ["PRESET"]

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.fits import fit_vae, lecture_settings
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results, Row
from ppl_gen.contexts import evaluating
from ppl_gen.inference import AnalyticELBO, Validation
from ppl_gen.likelihoods import Gaussian
from ppl_gen.plots.style import MCMC, array, figure_of, styled
from ppl_gen.plots.sweeps import Curve, draw_curve

LATENT_DIM = 2
EPOCHS = 70
HELD_OUT = 0.1
DRAWS = 10  # of the latents per datum, for the numbers
WEIGHTS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # λ
ALONE = "alone"  # the KL, without the squared error

_SHOWN = 2000  # means in a scatter


class Regulariser(AnalyticELBO):
    """−KL(q(z | x) ‖ p(z)): the bound without its likelihood, which no β can take away."""

    def bound(self, draw: Any, rerun: Any) -> Tensor:
        """−KL, (N,)."""
        return super().bound(draw, rerun) - draw.log_likelihood.mean(0)


def measure(
    folder: Path,
    *,
    data: str,
    kl_weight: float | str,
    hidden: int,
    epochs: int,
    batch_size: int,
    rate: float,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Fits two latents under N(g(z), σ²I) with σ² = λd/2, whose ELBO is −1/λ times the loss.

    For (1/d) ‖x − g(z)‖² + λ KL = −λ ELBO + a constant if λ = 2σ²β/d and β = 1. At λ = 0 there is
    no such σ: β is 0 and σ is 1.

    Args:
        folder: Of the cell.
        data: Their name or path.
        kl_weight: λ, or "alone" for the KL without the squared error.
        hidden: Width of the one hidden layer to either side.
        epochs: Their number.
        batch_size: Data per step.
        rate: Learning rate.
        seed: Of weights, order, noise and what is held out.
        root: Folder of torchvision's data.
    """
    train, test = in_memory(data, root)
    kept, held_out = train.divided(HELD_OUT, seed)
    d = math.prod(train.x.shape[1:])
    is_bound = isinstance(kl_weight, float) and kl_weight > 0
    sigma = 1.0
    beta = 0.0
    objective = AnalyticELBO()
    if is_bound:
        sigma = math.sqrt(float(kl_weight) * d / 2)
        beta = 1.0
    if kl_weight == ALONE:
        beta = 1.0
        objective = Regulariser()
    fitted = fit_vae(
        kept,
        None,
        latent_dim=LATENT_DIM,
        hidden=hidden,
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        beta=beta,
        likelihood=Gaussian(sigma),
        objective=objective,
    )
    terms = Validation(fitted.program, (held_out.x,), particles=DRAWS, seed=seed)()
    unit = 2 * sigma**2 / d
    constant = 0.5 * d * math.log(2 * math.pi * sigma**2)
    squared = -unit * (terms["validation_log_likelihood"] + constant)
    with evaluating(fitted.program):
        q = fitted.program.encoder(test.x)
        mean = q.mean
        deviation = q.variance.sqrt()
    label = torch.zeros(len(mean))
    if test.y is not None:
        label = test.y
    save_arrays(folder, mean=mean, deviation=deviation, label=label)
    found = {
        "squared error / d": Number(squared, unit * terms["validation_log_likelihood_error"]),
        "KL": Number(terms["validation_kl"], terms["validation_kl_error"]),
        "largest mean": float(mean.abs().max()),
        "least sd": float(deviation.min()),
        "largest sd": float(deviation.max()),
    }
    if is_bound:
        found["σ"] = sigma
        elbo = Number(terms["validation_elbo"], terms["validation_elbo_error"])
        found["held-out ELBO"] = elbo
    return found


def cells(scope: Scope) -> Sequence[Cell]:
    """No KL, some, and the KL alone."""
    settings = lecture_settings(scope, EPOCHS)
    made = []
    for weight in (*WEIGHTS, ALONE):
        made.append(scope.cell(measure, kl_weight=weight, **settings, seed=0))
    return made


def _chosen(results: Results) -> Row:
    """The row of the λ whose ELBO on data held out is highest."""
    bounds = [row for row in results.rows if "held-out ELBO" in row.numbers]
    return max(bounds, key=lambda row: row.numbers["held-out ELBO"].mean)


@styled
def draw(results: Results) -> Figure:
    """Means of the codes and their standard deviations for three λ, and how one was chosen."""
    chosen = _chosen(results)
    weight = chosen.settings["kl_weight"]
    shown = {
        "λ = 0": results.row(kl_weight=0.0),
        f"λ = {weight:g}, chosen": chosen,
        "KL alone": results.row(kl_weight=ALONE),
    }
    figure = figure_of(13.0, 6.0)
    grid = figure.add_gridspec(2, 4)
    for column, (name, row) in enumerate(shown.items()):
        held = row.cells[0].arrays
        means = figure.add_subplot(grid[0, column])
        _scatter(means, held, name)
        widths = figure.add_subplot(grid[1, column])
        _histogram(widths, held["deviation"])
    curve = figure.add_subplot(grid[:, 3])
    rows = [row for row in results.rows if "held-out ELBO" in row.numbers]
    bounds = [row.numbers["held-out ELBO"] for row in rows]
    line = Curve(
        name="",
        x=[row.settings["kl_weight"] for row in rows],
        y=[bound.mean for bound in bounds],
        error=[bound.error for bound in bounds],
    )
    draw_curve(curve, line, MCMC)
    curve.axvline(weight, color="0.5", ls=":", lw=1)
    curve.set_xscale("log")
    curve.set_xlabel("λ")
    curve.set_ylabel("ELBO of data held out at σ² = λd/2, nats per datum")
    curve.grid(alpha=0.3)
    return figure


def _scatter(axes: Any, held: Mapping[str, Tensor], name: str) -> None:
    mean = array(held["mean"][:_SHOWN])
    colours = array(held["label"][:_SHOWN])
    axes.scatter(mean[:, 0], mean[:, 1], c=colours, cmap="tab10", s=5, linewidths=0)
    axes.set_title(name)
    axes.set_xlabel("mean of z₁")
    axes.set_ylabel("mean of z₂")
    axes.axis("equal")


def _histogram(axes: Any, deviation: Tensor) -> None:
    logs = deviation.flatten().log10()
    axes.hist(array(logs), bins=40, range=(-5, 0.5), color=MCMC)
    axes.set_xlabel("log₁₀ sd of q(z | x)")
    axes.set_ylabel("count")


def say(results: Results) -> Sequence[str]:
    """What λ is in an ELBO, and which was chosen."""
    row = _chosen(results)
    weight = row.settings["kl_weight"]
    return (
        "the loss is an ELBO only at λ = 2σ²β/d, σ being the sd of a Gaussian likelihood: with "
        "β = 1 each λ has a σ of its own, and their ELBOs of data held out can be compared",
        f"chosen: λ = {weight:g}, σ = {row.numbers['σ'].mean:.3g}, ELBO of data held out "
        f"{row.numbers['held-out ELBO'].mean:.2f} nats per datum",
    )


PRESET = Preset(
    shows="squared error / d + λ KL: none, some and nothing but KL; λ chosen on held-out data",
    figure="L2, λ",
    cells=cells,
    draw=draw,
    say=say,
)
