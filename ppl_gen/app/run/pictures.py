"""Pictures of a run: samples, reconstructions, translations, and the curve of its training."""

from __future__ import annotations

__all__ = ["draw", "draw_all", "reconstructions", "samples", "training", "translations"]

from dataclasses import dataclass, field
from pathlib import Path

import torch
from matplotlib.figure import Figure
from pyro import poutine
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from ppl_gen import plots
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.run.progress import NAMES, PLAYED, ascended
from ppl_gen.contexts import evaluating
from ppl_gen.data import Captions
from ppl_gen.likelihoods import Dirac
from ppl_gen.program import Observed, reconstruct, simulate

_IN_A_ROW = 10
_BESIDE_DRAWS = 1000  # test data in the picture of draws that are not images


@dataclass(frozen=True, kw_only=True)
class _Conditions:
    """What samples are drawn under, the same for all in a row of ten.

    Attributes:
        context: What the program is conditioned on, tensors (count, ...); empty if nothing.
        fixed: Latents that are held fixed, by the names of their sites, (count, ...).
        words: What stands beside each row; empty for nothing.
    """

    context: list[Tensor] = field(default_factory=list)
    fixed: dict[str, Tensor] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


def draw_all(fitted: Fitted, console: Console) -> None:
    """Draws the pictures that a new fit can have, and prints where they lie."""
    if fitted.recipe.translates:
        paths = [translations(fitted), training(fitted)]
    elif fitted.recipe.explicit:
        paths = [samples(fitted), reconstructions(fitted), training(fitted)]
    else:
        paths = [samples(fitted), training(fitted)]
    console.print("pictures: " + ", ".join(map(str, paths)), soft_wrap=True)


def samples(
    fitted: Fitted,
    count: int = 100,
    label: int | None = None,
    caption: str | None = None,
    seed: int | None = None,
) -> Path:
    """Draws samples into samples.png: images by the likelihood's mean, vectors with its noise.

    Args:
        fitted: The run.
        count: How many, ten in a row.
        label: The label, or value of a latent code, that all are drawn under; None takes the next
            for each row.
        caption: The caption that all are drawn under; None takes one of the test data for each row.
        seed: Seed of the draws; None takes that of the run.

    Returns:
        The path of the picture.

    Raises:
        ValueError: If the program has no such label or caption, or draws no data.
    """
    fitted.expect_draws("samples")
    if seed is None:
        seed = fitted.config.seed
    torch.manual_seed(seed)
    conditions = _conditions(fitted, count, label, caption)
    if conditions.context:
        count = len(conditions.context[0])  # fewer than asked for, if there are fewer test data
    drawn = draw(fitted, count, conditions.context, conditions.fixed)
    return fitted.write_picture("samples.png", _figure_of_samples(fitted, drawn, conditions))


def draw(
    fitted: Fitted, count: int, context: list[Tensor], fixed: dict[str, Tensor] | None = None
) -> Tensor:
    """Draws of the program; images without the likelihood's noise.

    Args:
        fitted: The run.
        count: The number of draws, N.
        context: What the program is conditioned on, tensors (N, ...); empty if nothing.
        fixed: Latents to hold fixed, by the names of their sites, (N, ...).

    Returns:
        The draws, (N, *shape).
    """
    program = fitted.program
    if _has_images(fitted):
        program = Observed(program, Dirac())
    if not fixed:
        return simulate(program, count, *context)
    with evaluating(program):
        return poutine.condition(program.model, data=fixed)(None, *context, n=count)


def reconstructions(fitted: Fitted, count: int = 36) -> Path:
    """Draws test data beside the likelihood's mean at z from the guide, into reconstructions.png.

    Args:
        fitted: The run.
        count: How many test data, counted from the first.

    Returns:
        The path of the picture.

    Raises:
        ValueError: If the program has no guide.
    """
    fitted.expect_guide("reconstructions")
    test = fitted.data.test.fixed(0, count)
    drawn = reconstruct(fitted.program, test.x, *fitted.context(test))
    return fitted.write_picture("reconstructions.png", plots.reconstructions(test.x, drawn))


def translations(fitted: Fitted, count: int = 24) -> Path:
    """Draws test images above their translations, and these translated back, into translations.png.

    Args:
        fitted: A run between two domains.
        count: How many images, half of them of each domain.

    Returns:
        The path of the picture.
    """
    half = count // 2
    program = fitted.program
    of_a = fitted.data.test.a.fixed(0, half).x
    of_b = fitted.data.test.b.fixed(0, half).x
    with evaluating(program):
        a_in_b = program.to_b(of_a)
        b_in_a = program.to_a(of_b)
        a_again = program.to_a(a_in_b)
        b_again = program.to_b(b_in_a)
    images = _stacked(of_a, of_b, half)
    translated = _stacked(a_in_b, b_in_a, half)
    returned = _stacked(a_again, b_again, half)
    title = f"{fitted.data.a.name} above, {fitted.data.b.name} below"
    figure = plots.games.translations(images, translated, returned, half, title)
    return fitted.write_picture("translations.png", figure)


def training(fitted: Fitted) -> Path:
    """Draws the bound that was ascended, or the losses of both players, into training.png."""
    records = fitted.run.records()
    metrics = records[-1].metrics
    bound = ascended(metrics)
    if bound is not None:
        figure = plots.training_curve(records, bound, f"{NAMES[bound]}, nats per datum")
    else:
        losses = [name for name in PLAYED if name in metrics and name != "spread"]
        figure = plots.games.losses(records, losses, fitted.config.model)
    return fitted.write_picture("training.png", figure)


def _has_images(fitted: Fitted) -> bool:
    return len(fitted.data.shape) == 3


def _conditions(fitted: Fitted, count: int, label: int | None, caption: str | None) -> _Conditions:
    """What samples are drawn under.

    Raises:
        ValueError: If the program has no such label or caption.
    """
    _expect_label(fitted, label)
    _expect_caption(fitted, caption)
    rows = torch.arange(count, device=fitted.device) // _IN_A_ROW
    if fitted.condition is None:
        values = fitted.recipe.codes(fitted.config)
        if values is None:
            return _Conditions()
        codes = _one_or_each(rows, label, values)
        one_hot = F.one_hot(codes, values).float()
        words = [f"code {code}" for code in codes[::_IN_A_ROW].tolist()]
        return _Conditions(fixed={fitted.recipe.code_site: one_hot}, words=words)
    classes = fitted.condition.classes
    if classes:
        labels = _one_or_each(rows, label, classes)
        words = [str(k) for k in labels[::_IN_A_ROW].tolist()]
        return _Conditions(context=[labels], words=words)
    if fitted.condition.captions is not None:
        return _captioned(fitted, fitted.condition.captions, rows, caption)
    return _Conditions(context=fitted.context(fitted.data.test.fixed(0, count)))


def _expect_label(fitted: Fitted, label: int | None) -> None:
    """Raises ValueError if there are no labels to draw under, or not this one."""
    if label is None:
        return
    choices = fitted.recipe.codes(fitted.config)
    if fitted.condition is not None:
        choices = fitted.condition.classes
    if not choices:
        raise ValueError(
            "expected a CVAE or CGAN of labels for --label, or the codes of an infogan, got "
            f"{fitted.config.model} on {fitted.data.name}"
        )
    if not 0 <= label < choices:
        raise ValueError(f"expected --label from 0 to {choices - 1}, got {label}")


def _expect_caption(fitted: Fitted, caption: str | None) -> None:
    """Raises ValueError if there are no captions to draw under, or this one has unknown words."""
    if caption is None:
        return
    if fitted.condition is None or fitted.condition.captions is None:
        raise ValueError(
            "expected a cgan fitted with --condition caption for --caption, got "
            f"{fitted.config.model}"
        )
    fitted.condition.captions.expect_sentence(caption)


def _one_or_each(rows: Tensor, chosen: int | None, values: int) -> Tensor:
    """One value for all draws, or each in turn, a row of ten for each, (count,)."""
    if chosen is None:
        return rows % values
    return torch.full_like(rows, chosen)


def _captioned(
    fitted: Fitted, captions: Captions, rows: Tensor, caption: str | None
) -> _Conditions:
    """One caption for all draws, or those of the first test data, a row of ten for each."""
    if caption is None:
        count = int(rows[-1]) + 1
        first = fitted.data.test.fixed(0, count)
        shown = captions.decode(fitted.context(first)[0])
    else:
        shown = [caption]
    sentences = [shown[row % len(shown)] for row in rows.tolist()]
    context = captions.encode(sentences).to(fitted.device)
    return _Conditions(context=[context], words=sentences[::_IN_A_ROW])


def _figure_of_samples(fitted: Fitted, drawn: Tensor, conditions: _Conditions) -> Figure:
    if not _has_images(fitted):
        test = fitted.data.test.fixed(0, _BESIDE_DRAWS).x
        return plots.points({"test data": test, "samples": drawn}, "data and samples")
    if fitted.condition is not None and fitted.condition.name == "edges":
        return _below_edges(conditions.context[0], drawn)
    title = "samples (means)" if fitted.recipe.explicit else "samples"
    return plots.image_grid(drawn, _IN_A_ROW, title, conditions.words)


def _below_edges(edges: Tensor, drawn: Tensor) -> Figure:
    """Rows of edges (N, 1, H, W), each above a row of what was drawn from them (N, C, H, W)."""
    blank = edges.new_ones(-len(edges) % _IN_A_ROW, *edges.shape[1:])
    channels = drawn.shape[1]
    edges = torch.cat([edges, blank]).expand(-1, channels, -1, -1)
    drawn = torch.cat([drawn, blank.expand(-1, channels, -1, -1)])
    rows: list[Tensor] = []
    for above, below in zip(edges.split(_IN_A_ROW), drawn.split(_IN_A_ROW), strict=True):
        rows += [above, below]
    words = ["edges", "drawn"] * (len(rows) // 2)
    return plots.image_grid(torch.cat(rows), _IN_A_ROW, "edges and samples", words)


def _stacked(above: Tensor, below: Tensor, count: int) -> Tensor:
    """Two rows of `count` images, white where there are fewer, (2 count, C, H, W)."""
    return torch.cat([_padded(above, count), _padded(below, count)])


def _padded(images: Tensor, count: int) -> Tensor:
    white = images.new_ones(count - len(images), *images.shape[1:])
    return torch.cat([images, white])
