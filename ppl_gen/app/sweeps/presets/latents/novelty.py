"""Labels left out of the training data, told by reconstruction error, evidence and codes."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.coded import coded, coded_cell
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import (
    code_distance,
    detection,
    encode,
    improbability,
    reconstruction_error,
)
from ppl_gen.likelihoods import Bernoulli

EPOCHS = 70
LABELS = 10
JUDGED = 2000  # test data at most


def measure(
    folder: Path, *, data: str, left_out: int, root: str | None, seed: int, **fit: Any
) -> Mapping[str, Any]:
    """The area under the ROC of each score, with DeLong's standard error.

    Args:
        folder: Of the cell.
        data: Their name or path, with labels.
        left_out: The label that no training datum has.
        root: Folder of torchvision's data.
        seed: Of weights, order and noise.
        **fit: Of `coded`.
    """
    found = coded(f"{data}:without-{left_out}", root, binarize="threshold", **fit)
    program = found.program
    program.likelihood = Bernoulli()  # which the cross entropy is, on black and white pixels
    x, y = found.test.x[:JUDGED], found.test.y
    assert y is not None
    scores: dict[str, torch.Tensor] = {
        "AUC, reconstruction error": reconstruction_error(program, x),
        "AUC, evidence": improbability(program, x, particles=100, seed=0).value,
    }
    usual = encode(program, found.train.x).mean
    scores["AUC, distance in code"] = code_distance(encode(program, x).mean, usual)
    return dict(detection(scores, y[:JUDGED] == left_out).areas)


def cells(scope: Scope) -> Sequence[Cell]:
    """One fit for each label."""
    made = []
    for label in range(scope.count(LABELS, least=2)):
        made.append(coded_cell(measure, scope, latent_dim=10, epochs=EPOCHS, left_out=label))
    return made


def draw(results: Results) -> Figure:
    """The areas against the label that was left out."""
    return against(results, "left_out")


def say(results: Results) -> Sequence[str]:
    """The means over labels."""
    said = []
    for name in results.quantities:
        numbers = [row.numbers[name].mean for row in results.rows if name in row.numbers]
        mean = torch.tensor(numbers).mean()
        said.append(f"{name}: {float(mean):.3f} over {len(numbers)} labels; chance is 0.5")
    return said


PRESET = Preset(
    shows="labels left out of training, told by error, evidence and codes: AUC",
    figure="L0, uses: novelty",
    cells=cells,
    draw=draw,
    say=say,
)
