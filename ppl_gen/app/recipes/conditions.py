"""What a conditional program is given beside x, computed from data: labels, attributes, edges or
captions.
"""

from __future__ import annotations

__all__ = ["CONDITIONS", "Condition", "condition"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.app.config import Config
from ppl_gen.data import Dataset, Split
from ppl_gen.data.attributes import edges, slant, thickness
from ppl_gen.data.captions import DIGITS, WORDS, Captions, TextEncoder
from ppl_gen.data import parse
from ppl_gen.names import resolve
from ppl_gen.nn import conv_features

_CODE = 32  # numbers that a caption is turned into
_OF_DIGITS = ("digits", "mnist", "usps", "svhn")
_SMALL = 16  # pixels a side up to which edges are taken as they are


@dataclass(frozen=True)
class Condition:
    """One kind of context, and what a network is told of it.

    Attributes:
        name: What it is, in words: "given the ..."; of vectors that stand in the place of labels,
            attributes.
        of: From data x (N, *shape) and their labels (N,), or None, to the context (N, ...).
        classes: The number of labels, if it is one.
        attributes: The length of its vector, if not.
        embed: Makes the network that gives that vector; generator and critic have one each.
        captions: What turns a sentence into a context, if it is one.
    """

    name: str
    of: Callable[[Tensor, Tensor | None], Tensor]
    classes: int | None = None
    attributes: int | None = None
    embed: Callable[[], nn.Module] | None = None
    captions: Captions | None = None

    def arguments(self) -> dict[str, Any]:
        """For the builder of a program or a critic."""
        embed = None if self.embed is None else self.embed()
        return {"classes": self.classes, "attributes": self.attributes, "embed": embed}

    def context(self, split: Split) -> list[Tensor]:
        """What the program is given of a split."""
        return [self.of(split.x, split.y)]


def _labels(config: Config, dataset: Dataset) -> Condition:
    if dataset.classes is None and dataset.attributes is None:
        raise ValueError(
            f"expected labels for a {config.model.upper()}, got none with {dataset.name}: sort "
            "the images into one folder per class, store an array y beside x, or fit a "
            f"{'vae' if config.model == 'cvae' else 'gan'}"
        )

    def given(x: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            raise ValueError(f"expected data with labels, got some without in {dataset.name}")
        return y

    if dataset.classes:
        return Condition("label", given, dataset.classes)
    return Condition("attributes", given, attributes=dataset.attributes)


def _attributes(config: Config, dataset: Dataset) -> Condition:
    """Thickness and slant, in standard deviations from the training data's mean, and the label in
    one-hot form.
    """
    train = _held(config, dataset)
    measured = torch.stack([thickness(train.x), slant(train.x)], -1)
    mean, sd, classes = measured.mean(0), measured.std(0).clamp(min=1e-6), dataset.classes or 0

    def of(x: Tensor, y: Tensor | None) -> Tensor:
        values = (torch.stack([thickness(x), slant(x)], -1) - mean.to(x)) / sd.to(x)
        if not classes or y is None:
            return values
        return torch.cat([values, F.one_hot(y + 1, classes + 1)[:, 1:].to(values)], -1)

    return Condition("attributes", of, attributes=2 + classes)


def _edges(config: Config, dataset: Dataset) -> Condition:
    _held(config, dataset)
    outline = (1, *dataset.shape[1:])
    if max(outline[1:]) <= _SMALL:
        return Condition(
            "edges", _drawn_edges, attributes=math.prod(outline), embed=lambda: nn.Flatten(-3)
        )
    return Condition(
        "edges", _drawn_edges, attributes=256, embed=lambda: conv_features(outline, 256)
    )


def _drawn_edges(x: Tensor, y: Tensor | None) -> Tensor:
    return edges(x)


def _names(config: Config, dataset: Dataset) -> list[str]:
    """A word for each class: of digits their names, of a folder those of its folders, where they
    are words; else numbers.
    """
    place, _ = parse(config.data)
    if place in _OF_DIGITS:
        return list(DIGITS)
    classes, parts = dataset.classes or 0, (Path(place), Path(place) / "train")
    for folder in parts:
        found = sorted(d.name for d in folder.iterdir() if d.is_dir()) if folder.is_dir() else []
        words = ["-".join(name.lower().split()) for name in found]
        if len(set(words)) == classes and not {*WORDS, "digit"} & set(words):
            return words
    return [f"class{k}" for k in range(classes)]


def _captions(config: Config, dataset: Dataset) -> Condition:
    train, classes = _held(config, dataset), dataset.classes or 0
    captions = Captions.fitted(train.x, _names(config, dataset))

    def of(x: Tensor, y: Tensor | None) -> Tensor:
        known = torch.full((len(x),), -1) if y is None or not classes else y
        return captions.encode(captions.of(x, known.to(x.device))).to(x.device)

    words = len(captions.vocabulary)
    return Condition(
        "caption", of, attributes=_CODE, embed=lambda: TextEncoder(words, _CODE), captions=captions
    )


CONDITIONS: dict[str, Callable[[Config, Dataset], Condition]] = {
    "label": _labels,
    "attributes": _attributes,
    "edges": _edges,
    "caption": _captions,
}


def condition(config: Config, data: Any) -> Condition | None:
    """What the model of a configuration is conditioned on; None if nothing.

    Raises:
        ValueError: If the data have nothing of the kind.
    """
    if config.model not in ("cvae", "cgan"):
        return None
    return CONDITIONS[resolve("condition", config.condition, CONDITIONS)](config, data)


def _held(config: Config, dataset: Dataset) -> Split:
    """The training data, if they are images in memory."""
    if len(dataset.shape) != 3:
        raise ValueError(
            f"expected images for --condition {config.condition}, got data of shape {dataset.shape}"
        )
    if not isinstance(dataset.train, Split):
        raise ValueError(
            f"expected data in memory for --condition {config.condition}, got a stream; take "
            "fewer images"
        )
    return dataset.train
