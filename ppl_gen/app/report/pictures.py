"""Pictures of a run inside of a page: curves drawn anew, and those that lie in its folder."""

from __future__ import annotations

__all__ = ["Picture", "curves", "of_comparison", "of_entries", "of_fit", "reconstructed", "sampled"]

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from ppl_gen.app.report import commands
from ppl_gen.app.report.markup import Html, tag
from ppl_gen.app.report.subject import Subject
from ppl_gen.app.run import comparison
from ppl_gen.app.run.origin import origin_of
from ppl_gen.app.run.pictures import figure_of_training
from ppl_gen.data.formats.files import opened
from ppl_gen.reading import expect_file

_WIDEST = 1600  # pixels along a side; larger pictures are shrunk
_WIDE = 2.2  # times its height, from which on a picture is too wide for a telephone
_MOST_LINES = 60  # of a file of text
_BLACK = "#000000"
# What is to be seen, by the name of a file without its ending; {} is model and data.
_SEEN = {
    "samples": "samples drawn from {}",
    "path": "a test line, what lies between its latent and that of another, and that",
    "canvas": "samples of {} after each step, a row for each, from the first step to the last",
    "reconstructions": "test data, and below each row the reconstructions by {}",
    "translations": "test images of {}, their translations, and these translated back",
    "collapse": "KL of each latent of {} from the prior, posterior means and widths",
    "evidence": "estimates of the test log evidence of {} with their errors",
    "sandwich": "lower and upper bound of the log evidence of each datum drawn from {}",
    "gaps": "the gap between ELBO and log evidence of {} and its parts",
    "moments": "moments of draws of {} against those of test data; those that are off in red",
    "two_sample": "distances of draws of {} from test data, as they are and after permutations",
    "confusion": "as which class the draws of {} of each code are read",
    "manifold": "a lattice of latents of {}, decoded",
    "traverse": "each latent of one datum moved, the others held, decoded by {}",
    "interpolate": "from one test datum to another by way of the latents of {}",
    "walk": "a random walk through the latents of {}, decoded",
    "neighbours": "a test datum and the training data nearest to it by the codes of {}",
    "overlap": "between the posteriors of two test data under {}, decoded",
    "attributes": "a grid of two attributes by the latents of {}",
    "impute": "test data with a band missing, filled in by {}",
    "anomaly": "how well usual and novel data are told apart by {}",
    "latents": "codes of test data under {}, coloured by label",
    "aggregate": "draws of the aggregate posterior of {} beside draws of the prior",
    "contours": "pairs of coordinates under the guide of {} and under MCMC",
    "quantiles": "quantiles of the guide of {} against those of MCMC",
    "forest": "intervals of each coordinate under the guide of {} and under MCMC",
    "traces": "chains of MCMC under {}, draw by draw",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, or lines of text in the place of one.

    Attributes:
        image: The element that shows it.
        words: What is to be seen.
        command: What made it.
        epoch: The number of epochs that the weights had been fitted for; None where that is not
            known.
        is_current: Whether these are the weights of the run at present.
    """

    image: Html
    words: str
    command: str
    epoch: int | None
    is_current: bool

    def figure(self) -> Html:
        """The picture with what is to be seen, of which weights, and the command."""
        said = [f"{self.words[:1].upper()}{self.words[1:]}"]
        if self.epoch is not None:
            said.append(f", epoch {self.epoch}")
        if not self.is_current:
            said.append(tag("span", " (of other weights than now)", class_="bad-text"))
        caption = tag("figcaption", *said, ": ", tag("code", self.command))
        return tag("figure", self.image, caption)


def curves(subject: Subject) -> Picture | None:
    """The metrics of a fit epoch by epoch, drawn anew; None where there are none to draw.

    Args:
        subject: The run.
    """
    best = None
    if subject.run.config.values.get("patience") is not None:
        best = subject.epoch
    figure = figure_of_training(subject.run, best)
    if figure is None:
        return None
    words = f"training of {subject.words}, epoch by epoch"
    return Picture(
        image=_svg(figure, words, subject.name),
        words=words,
        command=commands.fitting(subject.run),
        epoch=None,
        is_current=True,
    )


def sampled(subject: Subject) -> list[Picture]:
    """Samples, and what they look like step by step.

    Args:
        subject: The run.
    """
    names = ("samples.png", "samples.txt", "canvas.png")
    return of_fit(subject, names, commands.sampling(subject.folder))


def reconstructed(subject: Subject) -> list[Picture]:
    """Reconstructions, or translations, of test data and of other data.

    Args:
        subject: The run.
    """
    names = ["reconstructions.png", "reconstructions.txt"]
    names += sorted(path.name for path in subject.folder.glob("reconstructions-*.png"))
    command = commands.reconstructing(subject.folder)
    return of_fit(subject, names, command) + of_fit(
        subject, ["translations.png", "path.txt"], commands.fitting(subject.run)
    )


def of_fit(subject: Subject, names: Iterable[str], command: str) -> list[Picture]:
    """Pictures that a fit has drawn, or commands that draw them anew.

    Args:
        subject: The run.
        names: Of the files.
        command: What draws them anew.
    """
    found = []
    for name in names:
        path = subject.folder / name
        if path.is_file():
            found.append(_read(subject, path, command, None))
    return found


def of_entries(
    subject: Subject, entries: Mapping[str, Mapping[str, Any]], quantities: Iterable[str]
) -> Iterator[Picture]:
    """The pictures of what was found.

    Args:
        subject: The run.
        entries: What was found, by quantity or look.
        quantities: Those whose pictures are shown, in this order.
    """
    for quantity in quantities:
        entry = entries.get(quantity)
        if entry is None:
            continue
        options = entry.get("options")
        if not isinstance(options, dict):
            options = {}
        command = commands.evaluating(subject.folder, quantity, options)
        if entries is subject.looks:
            command = commands.exploring(subject.folder, quantity, options)
        for name in entry.get("pictures", []):
            path = subject.folder / str(name)
            is_own = path.parent == subject.folder and path.suffix == ".png"
            if is_own and path.is_file():
                yield _read(subject, path, command, entry)


def of_comparison(subject: Subject) -> list[Picture]:
    """The pictures of the guide beside MCMC.

    Args:
        subject: The run, which has been compared.
    """
    assert subject.comparison is not None
    command = commands.comparing(subject.folder, subject.comparison.get("options"))
    found = []
    for name in comparison.PICTURES:
        path = subject.folder / comparison.FOLDER / name
        if path.is_file():
            found.append(_read(subject, path, command, subject.comparison))
    return found


def _read(subject: Subject, path: Path, command: str, entry: Mapping[str, Any] | None) -> Picture:
    """A file of a run as a picture.

    Args:
        subject: The run.
        path: Of the file.
        command: What made it.
        entry: What was found with it; None where the file alone says of which weights it is.
    """
    expect_file(path, "move it away")
    stem = re.sub(r"-epoch-[0-9]+$", "", path.stem)
    words = _SEEN.get(stem, stem.replace("_", " ").replace("-", " of ", 1) + " of {}")
    words = words.replace("{}", subject.words)
    origin: Mapping[str, Any] | None = entry
    if path.suffix == ".txt":
        image = _text(path)
    else:
        image, of = _png(path, words)
        if of is not None and entry is None:
            origin = of._asdict()
    epoch = None
    is_current = True
    if origin is not None and "epoch" in origin:
        epoch = origin["epoch"]
        is_current = subject.is_current(origin)
    return Picture(image=image, words=words, command=command, epoch=epoch, is_current=is_current)


def _text(path: Path) -> Html:
    """The first lines of a file."""
    lines = path.read_text(encoding="utf8", errors="replace").splitlines()
    shown = lines[:_MOST_LINES]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} lines more in {path.name}")
    return tag("pre", "\n".join(shown), tabindex=0)


def _png(path: Path, words: str) -> Any:
    """A picture inside of the page, and the weights that it says it is of."""
    try:
        with opened(path) as picture:
            of = origin_of(picture)
            width, height = picture.size
            picture.load()
            content = path.read_bytes()
            if max(width, height) > _WIDEST:
                picture.thumbnail((_WIDEST, _WIDEST))
                width, height = picture.size
                shrunk = io.BytesIO()
                picture.save(shrunk, format="PNG")
                content = shrunk.getvalue()
    except (OSError, SyntaxError, ValueError) as error:
        return tag("p", f"{path.name} cannot be shown ({error})", class_="bad-text"), None
    said = base64.b64encode(content).decode()
    source = Html(f"data:image/png;base64,{said}")
    image = tag("img", src=source, alt=words, width=width, height=height)
    return _framed(image, width / height, words), of


def _svg(figure: Any, words: str, name: str) -> Html:
    """A figure as inline SVG, whose black is the colour of the text around it.

    Args:
        figure: The figure.
        words: What is to be seen.
        name: By which its parts are told from those of other figures on the page.
    """
    drawn = io.StringIO()
    unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", transparent=True, metadata=unsaid)
    drawing = drawn.getvalue()
    begin = drawing.index("<svg")
    inside = drawing[drawing.index(">", begin) + 1 :].replace(_BLACK, "currentColor")
    box = re.search(r'viewBox="([\d. ]+)"', drawing)
    assert box is not None
    opening = tag("svg", role="img", aria_label=words, viewBox=box[1]).removesuffix("</svg>")
    width, height = map(float, box[1].split()[2:])
    return _framed(Html(opening + inside), width / height, words)


def _framed(image: Html, ratio: float, words: str) -> Html:
    """A picture that keeps its size on a telephone, and scrolls there, if it is very wide."""
    if ratio < _WIDE:
        return image
    return tag("div", image, class_="scroll wide", tabindex=0, role="region", aria_label=words)
