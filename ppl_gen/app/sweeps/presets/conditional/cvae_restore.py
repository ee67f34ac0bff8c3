"""Spoilt images restored by a VAE and by a CVAE, which is told the label."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.labelled import (
    KINDS,
    Shuffled,
    conditional_settings,
    fit_steps,
    given,
    loss_terms,
    made,
)
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.contexts import forked
from ppl_gen.data import Split, load
from ppl_gen.inference import decode, encode
from ppl_gen.plots import image_grid

EPOCHS = 20
SHOWN = 12


class Restoring(nn.Module):
    """p(x, z | y) with q(z | x̃, y): the encoder sees a spoilt image, the decoder a clean one.

    Args:
        program: A VAE or CVAE.
    """

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    def model(
        self, x: Tensor | None, spoilt: Tensor, y: Tensor | None = None, *, n: int = 1
    ) -> Tensor:
        """The program's own model, of the clean images."""
        drawn: Tensor = self.program.model(x, *_labels(y), n=spoilt.shape[0])
        return drawn

    def guide(self, x: Tensor, spoilt: Tensor, y: Tensor | None = None) -> Tensor:
        """z ~ q(z | x̃, y)."""
        with pyro.plate("data", x.shape[0]):
            drawn: Tensor = pyro.sample("z", self.program.encoder(spoilt, *_labels(y)))
        return drawn


def _labels(y: Tensor | None) -> list[Tensor]:
    """The labels as a context; an empty one where there are none."""
    if y is None:
        return []
    return [y]


def spoil(x: Tensor) -> Tensor:
    """x · Bern(½) + Bern(½), pixel by pixel: half of them kept, and 1 added to half of all.

    Args:
        x: Images (N, C, H, W).
    """
    kept, added = torch.rand(2, *x.shape) < 0.5
    return x * kept + added


def _with_spoilt(x: Tensor, *context: Tensor) -> tuple[Tensor, ...]:
    """A batch with noise of its own: one draw for the whole training would be learned by heart."""
    return (x, spoil(x), *context)


def measure(
    folder: Path,
    *,
    data: str,
    model: str,
    hidden: int,
    epochs: int,
    batch_size: int,
    rate: float,
    root: str | None,
    seed: int,
) -> Mapping[str, Any]:
    """The squared error of restored test data, beside both terms of the loss.

    Args:
        folder: Of the cell.
        data: Their name or path, with ten labels.
        model: vae or cvae.
        hidden: Width of the one hidden layer to either side.
        epochs: Passes over the data, each with noise of its own.
        batch_size: Data per step.
        rate: Learning rate.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
    """
    read = load(data, root)
    assert isinstance(read.train, Split)
    program = made(model, read.train.x.shape[1:], hidden)
    restoring = Restoring(program)
    batches = Shuffled(given(model, read.train), batch_size, _with_spoilt)
    fit_steps(restoring, batches, epochs, rate)
    test, *labels = given(model, read.test.fixed(0))
    with forked(test.device, seed):
        seen = spoil(test)
    codes = encode(program, seen, *labels).mean
    restored = decode(program, codes, *labels)
    save_arrays(folder, rows=torch.stack([test[:SHOWN], seen[:SHOWN], restored[:SHOWN]]))
    error = (restored - test).flatten(1)
    numbers: dict[str, Any] = dict(loss_terms(restoring, (test, seen, *labels)))
    numbers["squared error, restored"] = average(error.square().sum(1))
    return numbers


def cells(scope: Scope) -> Sequence[Cell]:
    """Both models."""
    found = []
    settings = conditional_settings(scope)
    epochs = scope.count(EPOCHS)
    for model in KINDS:
        found.append(scope.cell(measure, model=model, **settings, epochs=epochs, seed=0))
    return found


def draw(results: Results) -> Figure:
    """Clean test data, what is seen of them, and what each makes of it."""
    clean, seen, _ = results.finished[0].arrays["rows"]
    rows = [clean, seen]
    words = ["clean", "seen"]
    for done in results.finished:
        rows.append(done.arrays["rows"][2])
        words.append(str(done.settings["model"]))
    return image_grid(torch.cat(rows), SHOWN, "x · Bern(½) + Bern(½), restored", words)


def say(results: Results) -> Sequence[str]:
    """What is done otherwise than in the lecture."""
    return ["noise is drawn anew in each epoch; the lecture draws it once for the whole training"]


PRESET = Preset(
    shows="spoilt images restored by a VAE and by a CVAE that is told the label",
    figure="L3, CVAE: restoring",
    cells=cells,
    draw=draw,
    say=say,
)
