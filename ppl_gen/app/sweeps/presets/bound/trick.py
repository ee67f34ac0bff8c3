"""Gradients of the bound: naive, by the score function, pathwise, with and without a closed KL."""

from __future__ import annotations

__all__ = ["PRESET"]

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import Number, average
from ppl_gen.app.sweeps.preset import Preset, Scope, in_memory
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import seeded
from ppl_gen.inference import AnalyticELBO, fit, svi_step
from ppl_gen.models import VAE, vae
from ppl_gen.plots.style import EXACT, GUIDE, MCMC, array, panels, styled

DRAWS = 100_000
REPEATS = 400  # draws of the latents of one batch
BLOCKS = 10  # of them, whose variances give an error
BATCH = 100
EPOCHS = 5  # of the VAE, before its gradients are looked at
HIDDEN = (64,)
LATENT_DIM = 10

# z ~ N(0, 1), x ~ N(z, s²), at one x, and a guide N(μ, σ²) that is off.
X = 1.5
NOISE = 0.5
LOC = 0.0
SCALE = 0.8

GAUSSIAN = "a Gaussian"
ENCODER = "an encoder"
ESTIMATORS = ("naive", "score function", "pathwise", "pathwise, closed KL")


def surrogate(estimator: str, z: Tensor, q: Any, p: Any, log_likelihood: Any) -> Tensor:
    """What autograd is to differentiate at draws z: its gradient is one of the ELBO's estimators.

    naive: ∇φ (log p(x, z) − log q(z)) at z held fixed, which is −∇φ log q(z), 0 on average. score
    function: (log p(x, z) − log q(z)) ∇φ log q(z). pathwise: ∇φ through z = μ + σ ε; with a closed
    KL, of log p(x | z) alone, the gradient of −KL(q ‖ p) being exact.

    Args:
        estimator: One of `ESTIMATORS`.
        z: Draws with their path to φ.
        q: q(z | x).
        p: p(z).
        log_likelihood: From draws to log p(x | z).
    """
    if estimator == "pathwise, closed KL":
        return log_likelihood(z) - kl_divergence(q, p)
    if estimator == "pathwise":
        return log_likelihood(z) + p.log_prob(z) - q.log_prob(z)
    fixed = z.detach()
    log_weight = log_likelihood(fixed) + p.log_prob(fixed) - q.log_prob(fixed)
    if estimator == "naive":
        return log_weight
    return log_weight.detach() * q.log_prob(fixed)


def of_a_gaussian(
    folder: Path, *, of: str, estimator: str, draws: int, seed: int
) -> Mapping[str, Any]:
    """∂/∂μ and ∂/∂ log σ of the ELBO by many single draws, beside the exact ones.

    ∂/∂μ = (x − μ)/s² − μ and ∂/∂ log σ = 1 − σ² (1 + 1/s²).

    Args:
        folder: Of the cell.
        of: What the gradient is of, in words.
        estimator: One of `ESTIMATORS`.
        draws: Their number.
        seed: Of the draws.
    """
    loc = torch.full((draws,), LOC, dtype=torch.float64, requires_grad=True)
    log_scale = torch.full((draws,), math.log(SCALE), dtype=torch.float64, requires_grad=True)
    q = dist.Normal(loc, log_scale.exp())
    p = dist.Normal(torch.zeros((), dtype=torch.float64), 1.0)

    def log_likelihood(z: Tensor) -> Tensor:
        return dist.Normal(z, NOISE).log_prob(torch.tensor(X, dtype=torch.float64))

    value = surrogate(estimator, q.rsample(), q, p, log_likelihood)
    by_loc, by_scale = torch.autograd.grad(value.sum(), (loc, log_scale))
    exact_loc = (X - LOC) / NOISE**2 - LOC
    exact_scale = 1 - SCALE**2 * (1 + 1 / NOISE**2)
    save_arrays(folder, loc=by_loc, exact=torch.tensor(exact_loc))
    bias_loc = average(by_loc - exact_loc)
    bias_scale = average(by_scale - exact_scale)
    return {
        "bias in μ": bias_loc,
        "sd in μ": float(by_loc.std()),
        "bias in log σ": bias_scale,
        "sd in log σ": float(by_scale.std()),
    }


def of_a_vae(
    folder: Path,
    *,
    of: str,
    estimator: str,
    data: str,
    repeats: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """The variance of the encoder's gradient on one batch, by draws of the latents alone.

    Args:
        folder: Of the cell.
        of: What the gradient is of, in words.
        estimator: One of `ESTIMATORS`.
        data: Their name or path.
        repeats: Draws of the latents of this batch.
        epochs: That the VAE was fitted for.
        seed: Of weights, order, noise and draws.
        root: Folder of torchvision's data.
    """
    train, _ = in_memory(data, root)
    x = (train.x > 0.5).to(train.x)
    program = vae(x.shape[1:], LATENT_DIM, hidden=HIDDEN)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    batches = [(part,) for part in x.split(BATCH)]
    fit(svi_step(program, optimizer, AnalyticELBO(), engine="fx"), batches, epochs, progress=False)
    with seeded(x.device, seed):  # the same draws for every estimator
        gradients = [_gradient(program, estimator, x[:BATCH]) for _ in range(repeats)]
    blocks = torch.stack(gradients).chunk(BLOCKS)
    return {"variance": average(torch.stack([block.var(0).sum() for block in blocks]))}


def _gradient(program: VAE, estimator: str, x: Tensor) -> Tensor:
    """The gradient of the batch's average in all parameters of the encoder, as one vector."""
    q = program.encoder(x)
    p = program.prior()

    def log_likelihood(z: Tensor) -> Tensor:
        likelihood: Any = program.likelihood(program.decoder(z))
        return likelihood.log_prob(x).flatten(1).sum(1)

    value = surrogate(estimator, q.rsample(), q, p, log_likelihood).mean()
    encoder: Any = program.encoder
    weights = list(encoder.parameters())
    parts = torch.autograd.grad(value, weights)
    return torch.cat([part.flatten() for part in parts]).double()


def cells(scope: Scope) -> Sequence[Cell]:
    """A Gaussian by every estimator; then the encoder of a VAE by those that are right."""
    made = []
    for estimator in ESTIMATORS:
        draws = scope.count(DRAWS, least=500)
        settings: dict[str, Any] = {"of": GAUSSIAN, "estimator": estimator, "draws": draws}
        made.append(Cell(measure=of_a_gaussian, settings={**settings, "seed": 1}))
    for estimator in ESTIMATORS[1:]:
        made.append(
            scope.cell(
                of_a_vae,
                of=ENCODER,
                estimator=estimator,
                repeats=scope.count(REPEATS, least=4 * BLOCKS),
                epochs=scope.count(EPOCHS),
                seed=0,
            )
        )
    return made


def _ratio(results: Results, estimator: str) -> Number:
    """The variance of the encoder's gradient, in units of that with a closed KL."""
    one = results.row(of=ENCODER, estimator=estimator).numbers["variance"]
    unit = results.row(of=ENCODER, estimator=ESTIMATORS[-1]).numbers["variance"]
    ratio = one.mean / unit.mean
    relative = math.hypot((one.error or 0.0) / one.mean, (unit.error or 0.0) / unit.mean)
    return Number(ratio, ratio * relative)


@styled
def draw(results: Results) -> Figure:
    """Single draws of the gradient beside the exact one, and how the encoder's gradient spreads."""
    figure, (single, encoder) = panels(2, width=4.8, height=3.4)
    colours = ("0.5", GUIDE, MCMC, "#1b9e77")
    for place, (estimator, colour) in enumerate(zip(ESTIMATORS, colours, strict=True)):
        row = results.row(of=GAUSSIAN, estimator=estimator)
        held = row.cells[0].arrays
        levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
        low, lower, _, upper, high = array(held["loc"].quantile(levels))
        single.plot([low, high], [place, place], color=colour, lw=1)
        single.plot([lower, upper], [place, place], color=colour, lw=5)
        mean = float(held["loc"].mean())
        single.plot([mean], [place], "o", color="white", markeredgecolor=EXACT, markersize=7)
        exact = float(held["exact"])
    single.axvline(exact, color=EXACT, ls=":", lw=1, label=f"exact: {exact:g}")
    single.set_yticks(range(len(ESTIMATORS)), ESTIMATORS)
    single.invert_yaxis()
    single.set_xlabel("∂ELBO/∂μ by one draw: mean, 50 % and 90 %")
    single.legend()
    names = ESTIMATORS[1:]
    ratios = [_ratio(results, name) for name in names]
    means = [ratio.value for ratio in ratios]
    errors = [2 * (ratio.error or 0.0) for ratio in ratios]
    places = range(len(names))
    encoder.barh(places, means, xerr=errors, color=colours[1:], capsize=3)
    for place, mean in zip(places, means, strict=True):
        encoder.text(mean * 1.25, place, f"{mean:.4g}", va="center")
    encoder.set_xscale("log")
    encoder.set_xlim(0.5, 20 * max(means))
    encoder.set_yticks(places, names)
    encoder.invert_yaxis()
    encoder.set_xlabel("variance, in units of the closed KL's")
    return figure


def say(results: Results) -> Sequence[str]:
    """What the closed KL saves."""
    saved = _ratio(results, "pathwise")
    return (
        "the naive gradient holds the draws fixed and differentiates log p − log q: its average is "
        "0, so that it is off by the whole gradient. The score function is right on average",
        f"a closed KL divides the variance of this VAE's encoder gradient by {saved.value:.2f} ± "
        f"{saved.error or math.nan:.2f}",
    )


PRESET = Preset(
    shows="naive, score function and pathwise gradients beside the exact one; a closed KL",
    figure="all five, the reparameterisation trick",
    cells=cells,
    draw=draw,
    say=say,
)
