"""Samples of an autoencoder from a density of its codes."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.reconstructions import fit_autoencoder
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import evaluating
from ppl_gen.data import load
from ppl_gen.inference import energy_distance, log_evidence
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import autoencoder, with_prior
from ppl_gen.plots import image_grid
from ppl_gen.priors import fitted
from ppl_gen.program import Observed, simulate

DIMENSIONS = (8, 16, 32)
DENSITIES = {
    "factored": fitted.factored_gaussian,
    "full": fitted.full_gaussian,
    "mixture": fitted.mixture,
}
CODES = 10_000  # at most, that a density is fitted to
SCORED = 100  # test data
PARTICLES = 1000
SHOWN = 12


def measure(
    folder: Path,
    *,
    data: str,
    code_dim: int,
    density: str,
    hidden: int,
    epochs: int,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Distance of draws from test data, and the evidence of the program that it becomes.

    Args:
        folder: Of the cell.
        data: Their name or path.
        code_dim: d.
        density: Of the codes: "factored", "full" or "mixture".
        hidden: Width of the layers.
        epochs: Of the fit.
        seed: Of weights, order and draws.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    train = read.train.fixed(0, CODES).x
    test = read.test.fixed(0, 1000).x
    net = autoencoder(read.shape, code_dim, hidden=(hidden, hidden // 2))
    fit_autoencoder(net, read.train.fixed().x, epochs=epochs)
    with evaluating(net):
        program = with_prior(net, DENSITIES[density](net.encoder(train)), train)
    likelihood: Any = program.likelihood
    drawn = simulate(Observed(program, Dirac()), len(test))
    evidence = log_evidence(program, None, test[:SCORED], particles=PARTICLES, seed=seed).mean()
    save_arrays(folder, drawn=drawn[:SHOWN], x=test[:SHOWN])
    distance = energy_distance(drawn.flatten(1), test.flatten(1))
    return {
        "energy distance": distance,
        "log p(x), nats": Number(float(evidence), float(evidence.standard_error)),
        "noise": float(likelihood.scale.detach()),
    }


def cells(scope: Scope) -> Sequence[Cell]:
    """Each density at each width of the code."""
    hidden = 256
    epochs = 10
    if scope.is_look:
        hidden = 128
        epochs = 40
    made = []
    for dim in DIMENSIONS:
        for density in DENSITIES:
            made.append(
                scope.cell(
                    measure,
                    code_dim=dim,
                    density=density,
                    hidden=hidden,
                    epochs=scope.count(epochs),
                    seed=0,
                )
            )
    return made


def draw(results: Results) -> Figure:
    """Test data, and twelve draws of each cell."""
    rows = [results.finished[0].arrays["x"]]
    words = ["data"]
    for done in results.finished:
        rows.append(done.arrays["drawn"])
        words.append(f"{done.settings['density']}, {done.settings['code_dim']}")
    return image_grid(torch.cat(rows), SHOWN, "test data, and draws by a density of codes", words)


def say(results: Results) -> Sequence[str]:
    """What the lecture's density leaves out."""
    return (
        "the lecture draws from the factored Gaussian; codes of an autoencoder are correlated, "
        "which the full one and the mixture keep. log p(x) is of the first "
        f"{SCORED} test data, by {PARTICLES} importance samples: a lower bound where codes are "
        "many and the guide is far from the posterior",
    )


PRESET = Preset(
    shows="samples of an autoencoder: N(μ̂, Σ̂) of its codes at d = 8, 16, 32, and a mixture",
    figure="L1, sampling",
    cells=cells,
    draw=draw,
    say=say,
)
