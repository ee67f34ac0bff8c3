"""Pictures of a run: samples, reconstructions, translations, and the curve of its training."""

from __future__ import annotations

__all__ = ["draw", "draw_all", "reconstruct", "sample", "training", "translate"]

from pathlib import Path
from typing import NamedTuple

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
from ppl_gen.data import Split
from ppl_gen.likelihoods import Dirac
from ppl_gen.program import Observed, simulate
from ppl_gen.program import reconstruct as program_reconstruct

_IN_A_ROW = 10


class _Asked(NamedTuple):
    """What samples are drawn under, a row for each ten: a context, values of latents, and words
    beside the rows.
    """

    context: list[Tensor]
    fixed: dict[str, Tensor]
    rows: list[str]


def draw_all(fitted: Fitted, console: Console) -> None:
    """Samples, reconstructions and the training curve of a run; translations of one between
    domains.
    """
    made = (
        [translate(fitted)]
        if fitted.translates
        else [sample(fitted, 100, None, None, fitted.config.seed)]
    )
    if fitted.explicit:
        test = fitted.data.test
        made.append(reconstruct(fitted, test.fixed(0, min(len(test), 36))))
    made.append(training(fitted))
    console.print("pictures: " + ", ".join(str(path) for path in made), soft_wrap=True)


def sample(fitted: Fitted, count: int, label: int | None, caption: str | None, seed: int) -> Path:
    """Draws into samples.png: images by the likelihood's mean, vectors with its noise; ten of each
    label or code in turn.

    Raises:
        ValueError: If the program has nothing of the label or caption.
    """
    fitted.expect_draws("samples")
    torch.manual_seed(seed)
    path, title = (
        fitted.run.folder / "samples.png",
        "samples (means)" if fitted.explicit else "samples",
    )
    asked = _conditions(fitted, count, label, caption)
    count = len(asked.context[0]) if asked.context else count
    drawn = draw(fitted, count, asked.context, asked.fixed)
    if len(fitted.data.shape) != 3:
        both = {"test data": fitted.data.test.fixed(0, 1000).x, "samples": drawn}
        plots.points(both, "data and samples").savefig(path)
    elif fitted.config.condition == "edges":
        _beneath(asked.context[0], drawn).savefig(path)
    else:
        plots.image_grid(drawn, _IN_A_ROW, title, asked.rows).savefig(path)
    return path


def draw(
    fitted: Fitted, count: int, context: list[Tensor], fixed: dict[str, Tensor] | None = None
) -> Tensor:
    """So many draws, images without the likelihood's noise, with some latents held fixed if asked
    for.
    """
    program = Observed(fitted.program, Dirac()) if len(fitted.data.shape) == 3 else fitted.program
    if not fixed:
        return simulate(program, count, *context)
    with evaluating(program):
        return poutine.condition(program.model, data=fixed)(None, *context, n=count)


def reconstruct(fitted: Fitted, split: Split) -> Path:
    """Draws data beside the likelihood's mean at z from the guide into reconstructions.png.

    Raises:
        ValueError: If the program has no guide.
    """
    fitted.expect_guide("reconstructions")
    path = fitted.run.folder / "reconstructions.png"
    drawn = program_reconstruct(fitted.program, split.x, *fitted.context(split))
    plots.reconstructions(split.x, drawn).savefig(path)
    return path


def translate(fitted: Fitted, count: int = 24) -> Path:
    """Draws test images of both domains above their translations, and these translated back, into
    translations.png.
    """
    path, program, half = fitted.run.folder / "translations.png", fitted.program, count // 2
    ends = (
        (fitted.data.test.a, program.to_b, program.to_a),
        (fitted.data.test.b, program.to_a, program.to_b),
    )
    with evaluating(program):
        shown = [
            (x, there(x), back(there(x)))
            for split, there, back in ends
            for x in [split.fixed(0, half).x]
        ]
    columns = [
        torch.cat([_padded(one, half), _padded(other, half)])
        for one, other in zip(*shown, strict=True)
    ]
    title = f"{fitted.config.data} above, {fitted.config.data_b} below"
    plots.games.translations(columns[0], columns[1], columns[2], half, title).savefig(path)
    return path


def training(fitted: Fitted) -> Path:
    """Draws what the steps have ascended, or the losses of both players, into training.png."""
    path, records = fitted.run.folder / "training.png", fitted.run.records()
    metrics = records[-1].metrics
    if name := ascended(metrics):
        plots.training_curve(records, name, f"{NAMES[name]}, nats per datum").savefig(path)
    else:
        names = [name for name in PLAYED if name in metrics and name != "spread"]
        plots.games.losses(records, names, fitted.config.model).savefig(path)
    return path


def _conditions(fitted: Fitted, count: int, label: int | None, caption: str | None) -> _Asked:
    given, data, config = fitted.condition, fitted.data, fitted.config
    rows = torch.arange(count, device=fitted.device) // _IN_A_ROW
    classes = given.classes if given is not None else None
    captions = given.captions if given is not None else None
    choices = config.categories if config.model == "infogan" else classes
    if label is not None and not choices:
        raise ValueError(
            "expected a CVAE or CGAN of labels for --label, or the codes of an infogan, got "
            f"{config.model} on {data.name}"
        )
    if caption is not None and captions is None:
        raise ValueError(
            f"expected a cgan fitted with --condition caption for --caption, got {config.model}"
        )
    if label is not None and choices and not 0 <= label < choices:
        raise ValueError(f"expected --label from 0 to {choices - 1}, got {label}")
    if caption is not None and captions is not None:
        captions.expect_sentence(caption)
    if classes:
        y = rows % classes if label is None else torch.full_like(rows, label)
        return _Asked([y], {}, [str(int(k)) for k in y[::_IN_A_ROW]])
    if captions is not None:
        first = data.test.fixed(0, int(rows[-1]) + 1)
        shown = captions.decode(fitted.context(first)[0]) if caption is None else [caption]
        said = [shown[int(k) % len(shown)] for k in rows]
        return _Asked([captions.encode(said).to(fitted.device)], {}, said[::_IN_A_ROW])
    if given is not None:
        return _Asked(fitted.context(data.test.fixed(0, count)), {}, [])
    if config.model == "infogan":
        codes = rows % config.categories if label is None else torch.full_like(rows, label)
        chosen = F.one_hot(codes, config.categories).float()
        return _Asked([], {"c": chosen}, [f"code {int(k)}" for k in codes[::_IN_A_ROW]])
    return _Asked([], {}, [])


def _beneath(given: Tensor, drawn: Tensor) -> Figure:
    """Rows of what was given above rows of what was drawn of it."""
    blank = given.new_ones(-len(given) % _IN_A_ROW, *given.shape[1:])
    given = torch.cat([given, blank]).expand(-1, drawn.shape[1], -1, -1)
    drawn = torch.cat([drawn, blank.expand(-1, drawn.shape[1], -1, -1)])
    rows = [
        part
        for both in zip(given.split(_IN_A_ROW), drawn.split(_IN_A_ROW), strict=True)
        for part in both
    ]
    return plots.image_grid(
        torch.cat(rows), _IN_A_ROW, "edges and samples", ["edges", "drawn"] * (len(rows) // 2)
    )


def _padded(images: Tensor, count: int) -> Tensor:
    return torch.cat([images, images.new_ones(count - len(images), *images.shape[1:])])
