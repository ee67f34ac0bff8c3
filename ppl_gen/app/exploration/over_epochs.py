"""The codes of test data after each epoch that was kept, one after another."""

from __future__ import annotations

__all__ = ["epochs_kept", "over_epochs"]

from pathlib import Path

import torch

from ppl_gen.app.exploration.found import Found
from ppl_gen.app.exploration.subject import Subject
from ppl_gen.app.run.kept import kept
from ppl_gen.contexts import copied
from ppl_gen.inference import encode, reconstruction_error
from ppl_gen.inference.codes.neighbours import over_data
from ppl_gen.plots.codes import animation, latents
from ppl_gen.plots.style import literal
from ppl_gen.saving import load_weights

_LEAST = 2  # epochs


def over_epochs(subject: Subject) -> Found:
    """An animated GIF of the codes with their ellipses, on the axes of the last epoch's."""
    files = epochs_kept(subject)
    x = subject.test.x
    seen = {}
    numbers: dict[str, float | tuple[float, float]] = {}
    program = copied(subject.program)
    for epoch, path in files.items():
        load_weights(path, program)
        seen[epoch] = encode(program, x, *subject.context)
        error = over_data(reconstruction_error(program, x, *subject.context))
        name = f"reconstruction error after epoch {epoch}"
        numbers[name] = (float(error.value), float(error.standard_error))
    last = list(seen.values())[-1].mean
    limits = 1.2 * float(torch.quantile(last.abs().flatten(), 0.99))
    figures = []
    for epoch, codes in seen.items():
        covariance = None
        if codes.sd is not None:
            covariance = codes.covariance
        title = f"{literal(subject.fitted.name)}: codes of test data, epoch {epoch}"
        names = subject.fitted.class_names
        figures.append(latents(codes.mean, covariance, subject.labels, names, title, limits))
    options = {"epochs": list(files), "limit": subject.asked.limit}
    return Found(pictures={"latents.gif": animation(figures)}, numbers=numbers, options=options)


def epochs_kept(subject: Subject) -> dict[int, Path]:
    """The files of weights by epoch.

    Args:
        subject: The run.

    Raises:
        ValueError: If there are fewer than two.
    """
    files = kept(subject.fitted.run.folder)
    if len(files) < _LEAST:
        raise ValueError(
            f"expected weights of at least {_LEAST} epochs for --over-epochs, got {len(files)}; "
            "fit with --keep-every 1, or another number of epochs"
        )
    return files
