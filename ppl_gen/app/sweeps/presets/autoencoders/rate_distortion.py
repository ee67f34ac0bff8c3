"""Lossy compression: what autoencoders and VAEs lose at a rate, beside JPEG and JPEG-2000."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.fits import lecture_settings
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.data import load
from ppl_gen.inference import rate_distortion, reconstruction_step, svi_step
from ppl_gen.inference.compression.rate_distortion import (
    RateDistortion,
    at_rate,
    codec_curve,
    quantised_codes,
)
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import autoencoder, vae
from ppl_gen.plots import rates
from ppl_gen.protocols import Step

RATE = 0.2  # bits per dimension, of the lecture
EPOCHS = 30
SCALE = 0.1  # σ of the VAE's likelihood; what is varied is β
STEP = 0.5  # of the autoencoder's codes, in standard deviations
BETAS = (0.3, 1.0, 3.0, 10.0)
WIDTHS = (2, 4, 8, 16)
WIDTHS_OF_MNIST = (4, 8, 16, 32, 64)
QUALITIES = (1, 5, 10, 20, 40)
BITS = (0.1, 0.2, 0.4, 0.8, 1.6)
NAMES = {
    "VAE": "VAE: KL of codes, by β",
    "autoencoder": "autoencoder: quantised codes, by width",
    "JPEG": "JPEG, one sheet",
    "JPEG2000": "JPEG-2000, one sheet",
}


def measure(
    folder: Path,
    *,
    data: str,
    codec: str,
    setting: float,
    hidden: int,
    epochs: int,
    batch_size: int,
    rate: float,
    seed: int,
    root: str | None,
) -> Mapping[str, Any]:
    """Rate and distortion of one codec on grey test images.

    Args:
        folder: Of the cell.
        data: Their name or path.
        codec: VAE, autoencoder, JPEG or JPEG2000.
        setting: β, the width of the code, a quality, or bits per dimension.
        hidden: Width of the one hidden layer to either side.
        epochs: Passes over the training data.
        batch_size: Data per step.
        rate: Learning rate.
        seed: Of weights, order and noise.
        root: Folder of torchvision's data.
    """
    read = load(data, root)
    test = read.test.fixed(0).x
    if codec in ("JPEG", "JPEG2000"):
        (found,) = codec_curve(test, codec, [setting])
        return _numbers(found)
    batches = read.train.batches(batch_size)
    if codec == "VAE":
        latents = min(64, max(8, test[0].numel() // 4))
        program = vae(read.shape, latents, hidden=(hidden,), likelihood=Gaussian(SCALE))
        optimizer = torch.optim.Adam(program.parameters(), rate)
        _fit(svi_step(program, optimizer, beta=setting, engine="fx"), batches, epochs)
        return _numbers(rate_distortion(program, None, test, seed=0))
    made = autoencoder(read.shape, int(setting), hidden=(hidden,))
    optimizer = torch.optim.Adam(made.parameters(), rate)
    _fit(reconstruction_step(made, optimizer, engine="fx"), batches, epochs)
    return _numbers(quantised_codes(made, read.train.fixed(0).x, test, step=STEP))


def _fit(step: Step, batches: Any, epochs: int) -> None:
    for _ in range(epochs):
        for x, *_ in batches:
            step(x)


def _numbers(found: RateDistortion) -> Mapping[str, Any]:
    return {"bits per dimension": found.rate.mean(), "squared error": found.distortion.mean()}


def cells(scope: Scope) -> Sequence[Cell]:
    """Four codecs, each at several settings."""
    widths: Sequence[float] = WIDTHS_OF_MNIST
    if scope.is_look:
        widths = WIDTHS
    fitted = lecture_settings(scope, EPOCHS)
    unfitted = {**fitted, "epochs": 0}
    made = []
    for codec, settings in (
        ("VAE", BETAS),
        ("autoencoder", widths),
        ("JPEG", QUALITIES),
        ("JPEG2000", BITS),
    ):
        fit = unfitted
        if codec in ("VAE", "autoencoder"):
            fit = fitted
        for setting in settings:
            made.append(scope.cell(measure, codec=codec, setting=setting, **fit, seed=0))
    return made


def _points(results: Results) -> dict[str, list[tuple[float, float]]]:
    """(rate, distortion) of each codec."""
    found: dict[str, list[tuple[float, float]]] = {}
    for done in results.finished:
        point = (done.numbers["bits per dimension"].value, done.numbers["squared error"].value)
        found.setdefault(done.settings["codec"], []).append(point)
    return found


def draw(results: Results) -> Figure:
    """The squared error against the rate, with the lecture's rate marked."""
    curves = {NAMES[codec]: points for codec, points in _points(results).items()}
    return rates.rate_distortion(curves, marked=RATE, title=f"{results.fixed['data']}, test images")


def say(results: Results) -> Sequence[str]:
    """The errors at the lecture's rate, and what the rates are."""
    said = []
    for codec, points in _points(results).items():
        error = at_rate(RATE, [rate for rate, _ in points], [error for _, error in points])
        if error is None:
            least = min(rate for rate, _ in points)
            said.append(f"{codec}: not at {RATE} bits per dimension; its least is {least:.2f}")
        else:
            said.append(f"{codec}: squared error {error:.5f} at {RATE} bits per dimension")
    said.append(
        "the rate of a VAE is KL(q ‖ p), which relative entropy coding comes near to; that of an "
        "autoencoder is the length of its quantised codes under their frequencies; JPEG's headers "
        "are counted, once for a sheet of all test images. The networks know the data, and their "
        "weights are not counted"
    )
    return said


PRESET = Preset(
    shows="squared error against bits per dimension, beside JPEG and JPEG-2000",
    figure="L1, compression",
    cells=cells,
    draw=draw,
    say=say,
)
