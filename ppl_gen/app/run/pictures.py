"""Pictures of a run: samples, canvases, reconstructions, translations, and its training curve."""

from __future__ import annotations

__all__ = [
    "Drawn",
    "canvases",
    "draw_all",
    "draw_data",
    "draw_samples",
    "figure_of_samples",
    "figure_of_training",
    "name_of_samples",
    "reconstructions",
    "reconstructions_of",
    "samples",
    "shows_data",
    "training",
    "translations",
]

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from matplotlib.figure import Figure
from pyro import poutine
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from ppl_gen import plots
from ppl_gen.app.config import Config
from ppl_gen.app.run import texts
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.run.other_data import like_the_run
from ppl_gen.app.run.progress import ERRORS, NAMES, PLAYED, ascended
from ppl_gen.contexts import evaluating, expect_seed
from ppl_gen.data import Captions
from ppl_gen.data.words.sentences import Sentences
from ppl_gen.inference import Record
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.names import nearest
from ppl_gen.plots.style import literal
from ppl_gen.program import reconstruct, simulate, simulate_sites

_AXES_OF_IMAGES = 3  # colours, height and width
_IN_A_ROW = 10
_AT_ONCE = 1000  # draws of one call
# What is measured of data held out, by the names of metrics.
_HELD_OUT = {"validation_elbo", "validation_squared_distance"}
_JUDGED = 1000  # test data whose reconstructions are measured
_MOST_LETTERS = 60  # of the name of other data in that of a picture
_BESIDE_DRAWS = 1000  # test data in the picture of draws that are not images


@dataclass(frozen=True, kw_only=True)
class _Conditions:
    """What samples are drawn under, the same for all in a row of ten.

    Attributes:
        context: What the program is conditioned on, tensors (count, ...); empty if nothing.
        fixed: Latents that are held fixed, by the names of their sites, (count, ...).
        y: The label, the value of the code or the attributes of each, (count, ...); None if none.
        words: What stands beside each draw; empty for nothing.
    """

    context: list[Tensor] = field(default_factory=list)
    fixed: dict[str, Tensor] = field(default_factory=dict)
    y: Tensor | None = None
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Draws of a run, and what they were drawn under.

    Attributes:
        x: The draws, (N, *shape).
        context: What the program was conditioned on, tensors (N, ...); empty if nothing.
        y: The label, the value of the code or the attributes of each, (N, ...); None if none.
        words: What each was drawn under, for people; empty for nothing.
        classes: The name of the class of each; empty where there are no classes.
    """

    x: Tensor
    context: list[Tensor]
    y: Tensor | None
    words: list[str]
    classes: list[str]


def draw_all(fitted: Fitted, console: Console) -> None:
    """Draws the pictures that a new fit can have, and prints where they lie."""
    if fitted.is_text:
        paths = texts.all_lines(fitted)
    elif fitted.recipe.translates:
        paths = [translations(fitted)]
    elif fitted.recipe.explicit or fitted.recipe.reconstructs:
        paths = [samples(fitted), reconstructions(fitted)]
    else:
        paths = [samples(fitted)]
    if fitted.recipe.draws_in_steps and _has_images(fitted):
        paths.append(canvases(fitted))
    paths += training(fitted)
    console.print("pictures: " + ", ".join(map(str, paths)), soft_wrap=True)


def samples(fitted: Fitted, count: int = 100) -> Path:
    """Draws samples into samples.png, from the run's own seed.

    Args:
        fitted: The run.
        count: How many, ten in a row.

    Returns:
        The path of the picture.

    Raises:
        ValueError: If the program draws no data.
    """
    drawn = draw_samples(fitted, count)
    return fitted.write_picture("samples.png", figure_of_samples(fitted, drawn))


def name_of_samples(fitted: Fitted) -> str:
    """The file of a run's samples: a picture, or lines of text.

    Args:
        fitted: The run.
    """
    if fitted.is_text:
        return f"samples{texts.LINES}"
    return "samples.png"


def shows_data(config: Config) -> bool:
    """Whether a picture of samples may have data in it, as one of points has.

    Args:
        config: Of the run.
    """
    return config.outline is None or len(config.outline.shape) != _AXES_OF_IMAGES


def draw_samples(
    fitted: Fitted,
    count: int,
    label: str | None = None,
    caption: str | None = None,
    seed: int | None = None,
) -> Drawn:
    """Draws samples: images by the likelihood's mean, vectors with its noise.

    Args:
        fitted: The run.
        count: How many.
        label: The label, by its name or number, or the value of a latent code, that all are drawn
            under; None takes the next for each ten.
        caption: The caption that all are drawn under; None takes one of the test data for each ten.
        seed: Seed of the draws; None takes that of the run.

    Raises:
        ValueError: If the program has no such label or caption, or draws no data.
    """
    fitted.expect_draws("samples")
    if seed is None:
        seed = fitted.config.seed
    expect_seed(seed)
    size = math.prod(fitted.data.shape)
    expect_memory(f"{count} draws", 2 * SINGLE * count * size, "lower --count", fitted.device)
    torch.manual_seed(seed)
    conditions = _conditions(fitted, count, label, caption)
    if conditions.context:
        count = len(conditions.context[0])  # fewer than asked for, if there are fewer test data
    parts = []
    for start in range(0, count, _AT_ONCE):
        rows = slice(start, min(start + _AT_ONCE, count))
        given = [c[rows] for c in conditions.context]
        fixed = {name: value[rows] for name, value in conditions.fixed.items()}
        parts.append(draw_data(fitted, rows.stop - start, given, fixed))
    y = conditions.y
    classes = []
    if y is not None and y.dim() == 1:
        classes = conditions.words
    return Drawn(
        x=torch.cat(parts),
        context=conditions.context,
        y=y,
        words=conditions.words,
        classes=classes,
    )


def draw_data(
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
        program = fitted.noiseless
    if not fixed:
        return simulate(program, count, *context)
    with evaluating(program):
        return poutine.condition(program.model, data=fixed)(None, *context, n=count)


def canvases(fitted: Fitted, count: int = 10) -> Path:
    """Draws samples after each of their steps, a row for each, into canvas.png.

    Args:
        fitted: A run whose program draws in steps.
        count: How many samples.

    Returns:
        The path of the picture.
    """
    torch.manual_seed(fitted.config.seed)
    sites = simulate_sites(fitted.program, count)
    latents = [site["value"] for name, site in sites.items() if name != "x"]
    with evaluating(fitted.program):
        shown = fitted.program.canvases(*latents)
    figure = plots.canvases(shown, f"from step 1 to {len(shown)}")
    return fitted.write_picture("canvas.png", figure)


def reconstructions(fitted: Fitted, count: int = 36) -> Path:
    """Draws test data beside the likelihood's mean at z from the guide, into reconstructions.png.

    Lines of text are written into reconstructions.txt.

    Args:
        fitted: The run.
        count: How many test data, counted from the first.

    Returns:
        The path of the picture.

    Raises:
        ValueError: If the program has no guide.
    """
    if not fitted.recipe.reconstructs:
        fitted.expect_guide("reconstructions")
    if fitted.is_text:
        return texts.reconstructions(fitted, count)
    test = fitted.data.test.fixed(0, count)
    drawn = reconstruct(fitted.program, test.x, *fitted.context(test))
    if _has_images(fitted):
        figure = plots.reconstructions(test.x, drawn)
    else:
        beside = {"data": test.x, "reconstruction": drawn}
        figure = _points(fitted, beside, "data and reconstructions")
    return fitted.write_picture("reconstructions.png", figure)


def reconstructions_of(fitted: Fitted, name: str, count: int, overwrite: bool) -> tuple[Path, str]:
    """Draws data that the run was not fitted to beside their reconstructions.

    Args:
        fitted: The run.
        name: Of the other data, or their path.
        count: How many of their test data, counted from the first.
        overwrite: Whether an earlier picture may be written over.

    Returns:
        The path of the picture, reconstructions-NAME.png, and the squared error of both data in
        words.

    Raises:
        ValueError: If the program has no guide, the data cannot be brought to the shape of the
            run's, or there is a picture already.
    """
    if not fitted.recipe.reconstructs:
        fitted.expect_guide("reconstructions")
    fitted.expect_numbers("--data")
    words = re.sub(r"[^\w.-]+", "-", name).strip("-.")[-_MOST_LETTERS:]
    path = fitted.run.folder / f"reconstructions-{words}.png"
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; say --overwrite")
    said = []
    other = like_the_run(fitted, name, _JUDGED)
    own = fitted.data.test.fixed(0, _JUDGED)
    torch.manual_seed(fitted.config.seed)
    for what, split in ((name, other), (fitted.data_name, own)):
        drawn = reconstruct(fitted.program, split.x, *fitted.context(split))
        off = (drawn - split.x).double().flatten(1)
        error = off.square().sum(1)
        spread = error.std() / len(error) ** 0.5
        said.append(f"{float(error.mean()):.3f} ± {float(spread):.3f} of {what}")
        if split is other:
            figure = plots.reconstructions(split.x[:count], drawn[:count])
    fitted.write_picture(path.name, figure)
    return path, f"squared error of a reconstruction: {', '.join(said)}"


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
    title = literal(f"{fitted.data.a.name} above, {fitted.data.b.name} below")
    figure = plots.games.translations(images, translated, returned, half, title)
    return fitted.write_picture("translations.png", figure)


def training(fitted: Fitted) -> list[Path]:
    """Draws the bound that was ascended, an error, or the losses of both players; training.png.

    Where data were held out, it is the bound and its two terms, or the error, on them and on
    training data.

    Args:
        fitted: The run.

    Returns:
        The path of the picture; an empty list where metrics.jsonl has nothing to draw.
    """
    best = None
    if fitted.config.values.get("patience") is not None:
        best = fitted.epoch
    figure = figure_of_training(fitted.run, best)
    if figure is None:
        return []
    return [fitted.write_picture("training.png", figure)]


def figure_of_training(run: Run, best: int | None = None) -> Figure | None:
    """The bound that was ascended, an error, or the losses of both players, epoch by epoch.

    Args:
        run: The run, whose metrics.jsonl is drawn; nothing else of it is read.
        best: The epoch whose weights were kept, which a line marks; None for no line.

    Returns:
        The picture; None where there is nothing to draw.
    """
    records = run.records()
    names: set[str] = set()
    for record in records:
        names.update(record.metrics)
    bound = ascended(names)
    held_out = sorted(names & _HELD_OUT)
    if held_out:
        measured = [record for record in records if held_out[0] in record.metrics]
        return plots.bound.terms(measured, best)
    errors = [name for name in ERRORS if name in names]
    if bound is not None:
        curves = [bound]
    elif errors:
        curves = errors
    else:
        curves = [name for name in PLAYED if name in names and name != "spread"]
    drawn = [record for record in records if _has_numbers(record, curves)]
    if not drawn or not curves:
        return None
    if bound is not None:
        return plots.training_curve(drawn, bound, f"{NAMES[bound]}, nats per datum")
    if errors:
        return plots.training_curve(drawn, errors[0], f"{ERRORS[errors[0]]} per datum")
    return plots.games.losses(drawn, curves, run.config.model)


def _has_numbers(record: Record, names: Sequence[str]) -> bool:
    """Whether a record has finite metrics of all these names."""
    return all(math.isfinite(record.metrics.get(name, math.nan)) for name in names)


def _has_images(fitted: Fitted) -> bool:
    return len(fitted.data.shape) == _AXES_OF_IMAGES


def _conditions(fitted: Fitted, count: int, label: str | None, caption: str | None) -> _Conditions:
    """What samples are drawn under.

    Raises:
        ValueError: If the program has no such label or caption.
    """
    _expect_caption(fitted, caption)
    chosen = _label_of(fitted, label)
    rows = torch.arange(count, device=fitted.device) // _IN_A_ROW
    if fitted.recipe.infers_labels:
        return _of_labels(fitted, _one_or_each(rows, chosen, fitted.data.classes))
    if fitted.condition is None:
        values = fitted.recipe.codes(fitted.config)
        if values is None:
            return _Conditions()
        codes = _one_or_each(rows, chosen, values)
        one_hot = F.one_hot(codes, values).float()
        words = [f"code {code}" for code in codes.tolist()]
        return _Conditions(fixed={fitted.recipe.code_site: one_hot}, y=codes, words=words)
    classes = fitted.condition.classes
    if classes:
        return _of_labels(fitted, _one_or_each(rows, chosen, classes))
    if fitted.condition.captions is not None:
        return _captioned(fitted, fitted.condition.captions, rows, caption)
    context = fitted.context(fitted.data.test.fixed(0, count))
    attributes = None
    if context[0].dim() == 2:
        attributes = context[0]
    return _Conditions(context=context, y=attributes)


def _of_labels(fitted: Fitted, labels: Tensor) -> _Conditions:
    """Labels as the context of draws, each under its name."""
    names = fitted.class_names or range(fitted.data.classes)
    words = [str(names[k]) for k in labels.tolist()]
    return _Conditions(context=[labels], y=labels, words=words)


def _label_of(fitted: Fitted, label: str | None) -> int | None:
    """The number of a label, or value of a code, that is given by its name or its number.

    Raises:
        ValueError: If there are no labels to draw under, or not this one.
    """
    if label is None:
        return None
    choices = fitted.recipe.codes(fitted.config)
    names: tuple[str, ...] = ()
    if fitted.condition is not None:
        choices = fitted.condition.classes
        names = fitted.class_names
    elif fitted.recipe.infers_labels:
        choices = fitted.data.classes
        names = fitted.class_names
    if not choices:
        raise ValueError(
            "expected a CVAE or CGAN of labels for --label, an ss-vae, or the codes of an infogan, "
            f"got {fitted.config.model} on {fitted.data.name}; leave it out"
        )
    if label in names:
        return names.index(label)
    if not label.removeprefix("-").isdecimal():
        known = names or [f"0 to {choices - 1}"]
        raise ValueError(f"unknown --label {label!r}; {nearest(label, known)}")
    number = int(label)
    if not 0 <= number < choices:
        raise ValueError(f"expected --label from 0 to {choices - 1}, got {label}")
    return number


def _expect_caption(fitted: Fitted, caption: str | None) -> None:
    """Raises ValueError if there are no captions to draw under, or this one has unknown words."""
    if caption is None:
        return
    if fitted.condition is None or fitted.condition.captions is None:
        raise ValueError(
            "expected a model fitted with --condition caption for --caption, got "
            f"{fitted.config.model}"
        )
    fitted.condition.captions.expect_sentence(caption)


def _one_or_each(rows: Tensor, chosen: int | None, values: int) -> Tensor:
    """One value for all draws, or each in turn, a row of ten for each, (count,)."""
    if chosen is None:
        return rows % values
    return torch.full_like(rows, chosen)


def _captioned(
    fitted: Fitted, captions: Captions | Sentences, rows: Tensor, caption: str | None
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
    return _Conditions(context=[context], words=sentences)


def figure_of_samples(fitted: Fitted, drawn: Drawn) -> Figure:
    """A picture of draws, ten in a row; of draws that are not images, beside test data.

    Args:
        fitted: The run that was drawn from.
        drawn: The draws.
    """
    if not _has_images(fitted):
        test = fitted.data.test.fixed(0, _BESIDE_DRAWS).x
        return _points(fitted, {"test data": test, "samples": drawn.x}, "data and samples")
    if fitted.condition is not None and fitted.condition.shown is not None:
        given = fitted.condition.shown(drawn.context[0])
        return _below(given, drawn.x, fitted.condition.name)
    title = "samples"
    if fitted.recipe.explicit and not fitted.recipe.has_components:
        title = "samples (means)"
    return plots.image_grid(drawn.x, _IN_A_ROW, title, drawn.words[::_IN_A_ROW])


def _points(fitted: Fitted, samples: dict[str, Tensor], title: str) -> Figure:
    """Data that are no images, those of a table in the units of its columns, under their names."""
    columns = fitted.data.columns
    if columns is None:
        return plots.points(samples, title)
    in_units = {name: columns.in_units(rows) for name, rows in samples.items()}
    return plots.points(in_units, title, columns.names)


def _below(given: Tensor, drawn: Tensor, name: str) -> Figure:
    """Rows of what was given (N, C, H, W), each above a row of what was drawn under it."""
    blank = drawn.new_ones(-len(drawn) % _IN_A_ROW, *drawn.shape[1:])
    given = torch.cat([given, blank])
    drawn = torch.cat([drawn, blank])
    rows: list[Tensor] = []
    for above, below in zip(given.split(_IN_A_ROW), drawn.split(_IN_A_ROW), strict=True):
        rows += [above, below]
    words = [name, "drawn"] * (len(rows) // 2)
    return plots.image_grid(torch.cat(rows), _IN_A_ROW, f"{name} and samples", words)


def _stacked(above: Tensor, below: Tensor, count: int) -> Tensor:
    """Two rows of `count` images, white where there are fewer, (2 count, C, H, W)."""
    return torch.cat([_padded(above, count), _padded(below, count)])


def _padded(images: Tensor, count: int) -> Tensor:
    white = images.new_ones(count - len(images), *images.shape[1:])
    return torch.cat([images, white])
