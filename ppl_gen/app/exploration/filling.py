"""A band of pixels filled in: in one pass, and by the posterior given the others."""

from __future__ import annotations

__all__ = ["band", "impute", "masked"]

from typing import Any

import torch
from torch import Tensor

from ppl_gen import inference, plots
from ppl_gen.app.exploration.found import Found
from ppl_gen.app.exploration.subject import Subject
from ppl_gen.contexts import copied
from ppl_gen.inference import Imputation, one_pass
from ppl_gen.inference.codes.neighbours import over_data
from ppl_gen.likelihoods import Masked
from ppl_gen.nn import ZeroFilled
from ppl_gen.paths import is_autoencoder
from ppl_gen.plots.style import literal

_SHOWN = 12  # test data
_JUDGED = 200
_BAND = (300 / 784, 400 / 784)  # of the flat image: the third lecture's, of MNIST
_PARTICLES = 1000


def impute(subject: Subject) -> Found:
    """Test data with a band missing, filled by one pass, and by E[x missing | x observed]."""
    x = subject.test.x[:_JUDGED]
    context = [c[:_JUDGED] for c in subject.context]
    mask = band(subject.test.x.shape[1:]).to(x.device)
    by_pass = one_pass(subject.program, x, mask, *context)
    holes = x.masked_fill(mask, torch.nan)
    rows = [x[:_SHOWN], holes[:_SHOWN], by_pass[:_SHOWN]]
    words = ["data", "observed", "one pass"]
    errors = {"one pass": _error(by_pass, x, mask)}
    sentences = []
    taking_holes = masked(subject.program)
    if taking_holes is None:
        sentences.append("no posterior to fill them by: the program has no likelihood to be masked")
    else:
        found = _posterior(taking_holes, holes, context, subject.asked.seed)
        rows.append(found.mean[:_SHOWN])
        words.append("posterior")
        errors["posterior"] = _error(found.mean, x, mask)
        sentences += found.verdict.sentences
    mean = subject.train.x.mean(0)
    errors["mean of the training data"] = _error(torch.where(mask, mean, x), x, mask)
    numbers: dict[str, float | tuple[float, float]] = {}
    for name, error in errors.items():
        numbers[f"squared error of a missing pixel, {name}"] = _value(error)
    if "posterior" in errors:
        numbers["one pass − posterior"] = _value(errors["one pass"] - errors["posterior"])
    title = f"{literal(subject.fitted.name)}: a band of {float(mask.double().mean()):.1%} filled in"
    figure = plots.image_grid(torch.cat(rows), len(rows[0]), title, words)
    options = {"seed": subject.asked.seed, "particles": _PARTICLES}
    return Found(
        pictures={"impute.png": figure}, numbers=numbers, sentences=sentences, options=options
    )


def band(shape: Any) -> Tensor:
    """True from pixel 300/784 to 400/784 of the flat image, (C, H, W).

    Args:
        shape: Of an image, (C, H, W).
    """
    channels, height, width = shape
    first, last = [round(share * height * width) for share in _BAND]
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[first:last] = True
    return mask.reshape(1, height, width).expand(channels, -1, -1)


def masked(program: Any) -> Any:
    """A copy of a program that takes missing pixels; None where it has no likelihood of its own.

    Args:
        program: A program, or an autoencoder.
    """
    if is_autoencoder(program) or getattr(program, "likelihood", None) is None:
        return None
    if getattr(program, "encoder", None) is None:
        return None
    copy = copied(program)
    if not isinstance(copy.likelihood, Masked):
        copy.likelihood = Masked(copy.likelihood)
        copy.encoder = ZeroFilled(copy.encoder)
    return copy


def _posterior(program: Any, holes: Tensor, context: list[Tensor], seed: int) -> Imputation:
    """Draws of the missing pixels given the others."""
    return inference.impute(
        program, holes, None, *context, particles=_PARTICLES, draws=2, seed=seed
    )


def _error(filled: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error of each datum's missing pixels, (N,)."""
    return (filled - x).square()[:, mask].mean(1)


def _value(values: Tensor) -> tuple[float, float]:
    found = over_data(values)
    return float(found.value), float(found.standard_error)
