"""What a conditional program is given beside x: labels, attributes, images or captions of data."""

from __future__ import annotations

__all__ = [
    "Conditioning",
    "on_attributes",
    "on_captions",
    "on_coarse",
    "on_edges",
    "on_half",
    "on_labels",
    "on_pairs",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.app.config import Config
from ppl_gen.data import Dataset, Split, parse
from ppl_gen.data.attributes import edges, slant, thickness
from ppl_gen.data.formats.beside import are_pairs
from ppl_gen.data.words.captions import DIGITS, WORDS, Captions, TextEncoder
from ppl_gen.data.words.sentences import Sentences
from ppl_gen.nn import conv_features

_CODE = 32  # numbers that a caption is turned into
_OF_DIGITS = ("digits", "mnist", "usps", "svhn")
_SMALL = 16  # pixels a side up to which an image is taken as it is
_LEAST, _MOST = 8, 64  # pixels a side that convolutions take
_FEATURES = 256  # numbers that they turn it into


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """One kind of context, and what a network is told of it.

    Attributes:
        name: What it is, in words: "given the ..."; "attributes" also for vectors that a data set
            has in the place of labels.
        of: From data x (N, *shape) and their labels (N,), or None, to the context (N, ...).
        classes: The number of labels, if the context is a label.
        attributes: The length of its vector, if it is not.
        embed: Makes the network that gives that vector; generator and critic have one each.
        captions: What turns a sentence into a context, if it is one.
        shown: From a context that is an image to images of the shape of the data, for pictures;
            None if it is none.
    """

    name: str
    of: Callable[[Tensor, Tensor | None], Tensor]
    classes: int | None = None
    attributes: int | None = None
    embed: Callable[[], nn.Module] | None = None
    captions: Captions | Sentences | None = None
    shown: Callable[[Tensor], Tensor] | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for the builder of a program or a critic."""
        embed = None
        if self.embed is not None:
            embed = self.embed()
        return {"classes": self.classes, "attributes": self.attributes, "embed": embed}

    def context(self, split: Split) -> list[Tensor]:
        """The context of a split's data, a list of one tensor (N, ...).

        It is taken of the data as they are stored, as in fitting: a binarised draw of an image has
        other edges.
        """
        return [self.of(split.stored, split.y)]


def on_labels(config: Config, data: Dataset) -> Conditioning:
    """The labels (N,) of the data; their attribute vectors (N, A) if they have these instead.

    Raises:
        ValueError: If the data have neither.
    """
    if are_pairs(data):
        raise ValueError(
            f"expected labels for a {config.model.upper()}, got images beside those of "
            f"{data.name}; say --condition pair"
        )
    if data.classes is None and data.attributes is None:
        raise ValueError(
            f"expected labels for a {config.model.upper()}, got none with {data.name}: sort the "
            "images into one folder per class, store an array y beside x, or fit a vae or a gan"
        )

    def given(x: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            raise ValueError(f"expected data with labels, got some without in {data.name}")
        return y

    if data.classes:
        return Conditioning(name="label", of=given, classes=data.classes)
    return Conditioning(name="attributes", of=given, attributes=data.attributes)


def on_attributes(config: Config, data: Dataset) -> Conditioning:
    """Thickness, slant, and the label in one-hot form, (N, 2 + classes).

    Thickness and slant are in standard deviations from the training data's mean.

    Raises:
        ValueError: If the data are not images in memory.
    """
    train = _complete_images(config, data)
    classes = data.classes or 0
    measured = _thickness_and_slant(train.x)
    mean = measured.mean(0)
    sd = measured.std(0).clamp(min=1e-6)

    def of(x: Tensor, y: Tensor | None) -> Tensor:
        values = (_thickness_and_slant(x) - mean.to(x)) / sd.to(x)
        if not classes or y is None:
            return values
        labels = F.one_hot(y + 1, classes + 1)[:, 1:]  # zeros where the label is missing, −1
        return torch.cat([values, labels.to(values)], -1)

    return Conditioning(name="attributes", of=of, attributes=2 + classes)


def _thickness_and_slant(x: Tensor) -> Tensor:
    return torch.stack([thickness(x), slant(x)], -1)


def on_edges(config: Config, data: Dataset) -> Conditioning:
    """The edges of an image, (N, 1, H, W).

    Raises:
        ValueError: If the data are not images in memory.
    """
    _complete_images(config, data)

    def outlines(x: Tensor, y: Tensor | None) -> Tensor:
        return edges(x)

    return _on_images("edges", outlines, (1, *data.shape[1:]), data.shape)


def on_half(config: Config, data: Dataset) -> Conditioning:
    """The left half of an image, (N, C, H, W), black on the right.

    Raises:
        ValueError: If the data are not images in memory.
    """
    _complete_images(config, data)
    kept = math.ceil(data.shape[-1] / 2)

    def half(x: Tensor, y: Tensor | None) -> Tensor:
        return F.pad(x[..., :kept], (0, x.shape[-1] - kept))

    return _on_images("half", half, data.shape, data.shape)


def on_coarse(config: Config, data: Dataset) -> Conditioning:
    """An image averaged over blocks of 4 × 4 pixels, or of 2 × 2 where it is small.

    Raises:
        ValueError: If the data are not images in memory.
    """
    _complete_images(config, data)
    block = 4
    if max(data.shape[1:]) < _SMALL:
        block = 2

    def coarse(x: Tensor, y: Tensor | None) -> Tensor:
        return F.avg_pool2d(x, block, ceil_mode=True)

    channels, height, width = data.shape
    outline = (channels, math.ceil(height / block), math.ceil(width / block))
    return _on_images("coarse", coarse, outline, data.shape)


def on_pairs(config: Config, data: Dataset) -> Conditioning:
    """The image beside a datum, (N, C, H, W).

    Raises:
        ValueError: If the data are no pairs of images.
    """
    train = _images_in_memory(config, data)
    if not are_pairs(data):
        raise ValueError(f"expected pairs of images for --condition pair, got {data.name}")
    assert train.y is not None

    def beside(x: Tensor, y: Tensor | None) -> Tensor:
        assert y is not None
        return y

    return _on_images("pair", beside, tuple(train.y.shape[1:]), data.shape)


def _on_images(
    name: str,
    of: Callable[[Tensor, Tensor | None], Tensor],
    outline: tuple[int, ...],
    shape: tuple[int, ...],
) -> Conditioning:
    """An image as a context: as it is where it is small, else by convolutions.

    Args:
        name: What it is, in words: "given the ...".
        of: From data (N, C, H, W), and what lies beside them, to the images.
        outline: Its shape.
        shape: That of the data.
    """

    def shown(context: Tensor) -> Tensor:
        images = F.interpolate(context, shape[1:])
        if len(images[0]) != shape[0]:
            images = images.mean(1, keepdim=True)
        return images.expand(-1, shape[0], -1, -1)

    size = math.prod(outline)
    embed: Callable[[], nn.Module] = partial(nn.Flatten, -3)
    if max(outline[1:]) > _SMALL and min(outline[1:]) >= _LEAST and max(outline[1:]) <= _MOST:
        size = _FEATURES
        embed = partial(conv_features, outline, _FEATURES)
    return Conditioning(name=name, of=of, attributes=size, embed=embed, shown=shown)


def on_captions(config: Config, data: Dataset) -> Conditioning:
    """A sentence, as the numbers of its words: of captions.txt, or of thickness, slant and class.

    Raises:
        ValueError: If the data are not images in memory.
    """
    if data.captions is not None:
        return _on_written(data.captions)
    train = _complete_images(config, data)
    captions = Captions.fitted(train.x, _names_of_classes(config, data))

    def of(x: Tensor, y: Tensor | None) -> Tensor:
        if y is None or not data.classes:
            y = torch.full((len(x),), -1)
        return captions.encode(captions.of(x, y.to(x.device))).to(x.device)

    words = len(captions.vocabulary)
    return Conditioning(
        name="caption",
        of=of,
        attributes=_CODE,
        embed=lambda: TextEncoder(words, _CODE),
        captions=captions,
    )


def _on_written(captions: Sentences) -> Conditioning:
    """The captions that lie beside the data, which are numbers of words already."""

    def of(x: Tensor, y: Tensor | None) -> Tensor:
        assert y is not None
        return y

    words = len(captions.vocabulary)
    return Conditioning(
        name="caption",
        of=of,
        attributes=_CODE,
        embed=lambda: TextEncoder(words, _CODE),
        captions=captions,
    )


def _names_of_classes(config: Config, data: Dataset) -> list[str]:
    """A word for each class.

    Digits have their names, and classes of a folder of images the names of its folders where these
    are words of their own; other classes are class0, class1, ...
    """
    place, _ = parse(config.data)
    if place in _OF_DIGITS:
        return list(DIGITS)
    words = ["-".join(name.lower().split()) for name in data.class_names]
    if words and len(set(words)) == len(words) and not {*words} & {*WORDS, "digit"}:
        return words
    return [f"class{k}" for k in range(data.classes or 0)]


def _complete_images(config: Config, data: Dataset) -> Split:
    """The training data, of which a context is made.

    Raises:
        ValueError: If they are not images in memory, or entries are missing.
    """
    train = _images_in_memory(config, data)
    for split in (train, data.test):
        if isinstance(split, Split) and bool(split.x.isnan().any()):
            raise ValueError(
                f"expected complete images for --condition {config.condition}, which is made of "
                f"them, got {data.name}, of which entries are missing; say --condition label, or "
                "fit a vae"
            )
    return train


def _images_in_memory(config: Config, data: Dataset) -> Split:
    """The training data.

    Raises:
        ValueError: If they are not images in memory.
    """
    if len(data.shape) != 3:
        raise ValueError(
            f"expected images for --condition {config.condition}, got data of shape {data.shape}"
        )
    if not isinstance(data.train, Split):
        raise ValueError(
            f"expected data in memory for --condition {config.condition}, got a stream; take "
            "fewer images"
        )
    return data.train
