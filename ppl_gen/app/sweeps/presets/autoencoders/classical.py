"""Classical density models with exact log p(x), beside a VAE and an autoencoder."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen import models
from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import evaluating
from ppl_gen.data import Split, load
from ppl_gen.inference import fit, log_evidence, svi_step
from ppl_gen.likelihoods import Gaussian
from ppl_gen.plots import image_grid
from ppl_gen.priors import fitted
from ppl_gen.program import simulate

LATENT_DIM = 10
COMPONENTS = 10
RIDGE = 1e-2  # variance that each value is given besides: some pixels never change
SCORED = 300  # test data
PARTICLES = 500
SHOWN = 12


def _vae(x: Tensor, epochs: int) -> Any:
    program = models.vae(tuple(x.shape[1:]), LATENT_DIM, likelihood=Gaussian(RIDGE**0.5))
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    step = svi_step(program, optimizer, engine="fx")
    fit(step, Split(x).batches(50), epochs, progress=False)
    return program


def _pca(x: Tensor, epochs: int) -> Any:
    net = models.pca(x, LATENT_DIM)
    with evaluating(net):
        return models.with_prior(net, fitted.full_gaussian(net.encoder(x)), x)


# By name, from training data and the epochs of what is fitted by steps.
MODELS: dict[str, Callable[[Tensor, int], Any]] = {
    "Gaussian": lambda x, epochs: models.gaussian(x, ridge=RIDGE),
    "mixture": lambda x, epochs: models.gaussian_mixture(x, COMPONENTS, ridge=RIDGE),
    "factor analysis": lambda x, epochs: models.factor_analysis(x, LATENT_DIM, ridge=RIDGE),
    "PPCA": lambda x, epochs: models.ppca(x, LATENT_DIM),
    "PCA and its codes": _pca,
    "VAE": _vae,
}


def measure(
    folder: Path, *, data: str, model: str, epochs: int, seed: int, root: str | None
) -> Mapping[str, Any]:
    """log p(x) of test data, exact where it is known.

    Args:
        folder: Of the cell.
        data: Their name or path.
        model: Its name.
        epochs: Of a VAE.
        seed: Of its weights, and of draws.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    program = MODELS[model](read.train.fixed().x, epochs)
    test = read.test.fixed(0, SCORED).x
    found = {}
    if hasattr(program, "exact_log_evidence"):
        with evaluating(program):
            values = program.exact_log_evidence(test)
    else:
        estimate = log_evidence(program, None, test, particles=PARTICLES, seed=seed)
        values = estimate.value
        found["Monte Carlo error"] = float(estimate.mean().standard_error)
    save_arrays(folder, drawn=simulate(program, SHOWN), x=test[:SHOWN])
    return {"log p(x), nats": average(values), **found}


def cells(scope: Scope) -> Sequence[Cell]:
    """Each model."""
    epochs = 20
    if scope.is_look:
        epochs = 40
    made = []
    for model in MODELS:
        made.append(scope.cell(measure, model=model, epochs=scope.count(epochs), seed=0))
    return made


def draw(results: Results) -> Figure:
    """Test data, and draws of each model with their noise."""
    rows = [results.finished[0].arrays["x"]]
    words = ["data"]
    for done in results.finished:
        rows.append(done.arrays["drawn"])
        words.append(done.settings["model"])
    return image_grid(torch.cat(rows), SHOWN, "test data and draws", words)


def say(results: Results) -> Sequence[str]:
    """What the numbers depend on."""
    return (
        "densities of grey data, with the spread over test data as error: pixels that never change "
        f"give nats without end, which a variance of {RIDGE:g} for each value bounds; it is a "
        "VAE's noise too. PPCA and PCA have one noise for all values, fitted",
    )


PRESET = Preset(
    shows="Gaussian, mixture, factor analysis and PPCA, exact, beside a VAE, in nats",
    figure="all lectures, density models",
    cells=cells,
    draw=draw,
    say=say,
)
