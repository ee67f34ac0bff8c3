"""Data sets of images made into others: inverted, rotated, coloured, of another size."""

from __future__ import annotations

__all__ = [
    "SUFFIXES",
    "WITHOUT",
    "central",
    "check_suffixes",
    "coloured",
    "in_colour",
    "inverted",
    "parse",
    "prepared",
    "rotated",
    "said_of_squares",
    "without",
]

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.data.reader import Rows, rows_of
from ppl_gen.data.splits import Dataset, Split, StreamedSplit
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.names import nearest

# Makes images (N, C, H, W) of images, and of the places of these in their data set (N,).
Change = Callable[[Tensor, Tensor], Tensor]

_CENTRE = 20  # pixels that MNIST's digits fill, of 28


def inverted(dataset: Dataset) -> Dataset:
    """1 − x: white on black becomes black on white.

    Args:
        dataset: Images (C, H, W), not binarised.

    Raises:
        ValueError: If the data are not images, or are binarised.

    Examples:
        >>> digits = load("digits")
        >>> inverted(digits).train.x.mean() + digits.train.x.mean()
        tensor(1.)
    """
    return _changed(dataset, "inverted", _invert, _invert)


def rotated(dataset: Dataset) -> Dataset:
    """Images turned by 90°, anticlockwise.

    Args:
        dataset: Images (C, H, W), not binarised.

    Raises:
        ValueError: If the data are not images, or are binarised.

    Examples:
        >>> digits = load("digits")
        >>> turned = rotated(digits)
        >>> bool((turned.train.x[0] == digits.train.x[0].rot90(dims=(-2, -1))).all())
        True
    """
    return _changed(dataset, "rotated", _rotate, _rotate)


def coloured(dataset: Dataset, seed: int = 0) -> Dataset:
    """Grey images in a colour each: x times a random (r, g, b) whose largest entry is 1.

    Args:
        dataset: Grey images (1, H, W), not binarised; they become (3, H, W).
        seed: Fixes the colours, one for each place in the data set; the test images have others
            than the training ones.

    Raises:
        ValueError: If the data are not grey images, or are binarised.

    Examples:
        >>> digits = coloured(load("digits"), seed=0)
        >>> digits.shape, digits.train.x[0].amax().item()
        ((3, 8, 8), 1.0)
    """
    _check_grey(dataset)
    # Two generators for a seed: seeds next to each other share no colours.
    train = _Coloured(_colours(len(dataset.train), 2 * seed))
    test = _Coloured(_colours(len(dataset.test), 2 * seed + 1))
    return _changed(dataset, "coloured", train, test)


def in_colour(dataset: Dataset) -> Dataset:
    """Grey images repeated to three channels, to stand beside coloured ones.

    Args:
        dataset: Grey images (1, H, W), not binarised; images of three channels are left as they
            are.

    Raises:
        ValueError: If the data are neither, or are binarised.

    Examples:
        >>> in_colour(load("digits")).shape
        (3, 8, 8)
    """
    if dataset.shape[:1] == (3,):
        return dataset
    _check_grey(dataset)
    return _changed(dataset, "colour", _repeat, _repeat)


def central(dataset: Dataset, crop: int, size: int | None = None) -> Dataset:
    """The central crop × crop pixels, brought to size × size.

    They are shrunk by averaging over areas, enlarged bilinearly.

    Args:
        dataset: Images (C, H, W), not binarised.
        crop: The side of what is kept, up to the shorter of H and W. MNIST's digits fill 20 of
            their 28 pixels.
        size: The side of what comes out; that of the crop if left out.

    Raises:
        ValueError: If a side is below 1, the crop is above the image's side, or the data are not
            images or are binarised.

    Examples:
        >>> central(load("digits"), crop=4).shape, central(load("digits"), crop=8, size=16).shape
        ((1, 4, 4), (1, 16, 16))
    """
    if size is None:
        size = crop
    if len(dataset.shape) == 3:
        side = min(dataset.shape[-2:])
        if not 1 <= crop <= side:
            raise ValueError(f"expected a crop from 1 to the image's side, {side}, got {crop}")
    if size < 1:
        raise ValueError(f"expected an image size of at least 1, got {size}")
    expect_memory(
        f"images of {size} × {size} pixels",
        SINGLE * _count_in_memory(dataset) * dataset.shape[0] * size**2,
        "take a smaller image_size, or fewer data",
    )
    change = functools.partial(_centre, crop=crop, size=size)
    return _changed(dataset, f"{size}x{size}", change, change)


def _inner(dataset: Dataset, size: int) -> Dataset:
    """The central 20 × 20 pixels, brought to size × size."""
    if len(dataset.shape) == 3 and min(dataset.shape[1:]) < _CENTRE:
        sides = " × ".join(map(str, dataset.shape[1:]))
        raise ValueError(
            f"it takes the central {_CENTRE} × {_CENTRE} pixels, got images of {sides}; leave it "
            "out"
        )
    return central(dataset, _CENTRE, size)


# What a suffix begins with that leaves a class out of the training data: `without-3`.
WITHOUT = "without-"

# What may follow a name, after a colon.
SUFFIXES: dict[str, Callable[[Dataset], Dataset]] = {
    "inverted": inverted,
    "rotated": rotated,
    "coloured": coloured,
    "colour": in_colour,
    "central": functools.partial(_inner, size=_CENTRE),
    "8x8": functools.partial(_inner, size=8),
}


def parse(name_or_path: str | Path) -> tuple[str, list[str]]:
    """The name or path itself, which may hold colons if it exists, and the suffixes after it.

    Examples:
        >>> parse("digits:rotated:coloured")
        ('digits', ['rotated', 'coloured'])
    """
    whole = str(name_or_path)
    if Path(whole).exists():
        return whole, []
    name, *suffixes = whole.split(":")
    return name, suffixes


def without(dataset: Dataset, label: str) -> Dataset:
    """Without a class among the training data; test data stay as they are, to tell it by.

    Args:
        dataset: Data in memory with labels.
        label: The name or the number of the class.

    Raises:
        ValueError: If there are no labels, no such class, or nothing else is left to train on.
    """
    train = dataset.train
    if not isinstance(train, Split):
        raise ValueError(
            "expected data in memory, got data streamed from disk; leave the suffix out, or hold "
            "them (stream=False)"
        )
    y = train.y
    if y is None or y.dim() != 1 or y.is_floating_point():
        raise ValueError("expected data with labels, got none")
    if label in dataset.class_names:
        label = str(dataset.class_names.index(label))
    known = sorted(set(y.tolist()))
    if label not in map(str, known):
        raise ValueError(f"expected one of the labels {known}, got {label!r}")
    rows = y != int(label)
    if not bool(rows.any()):
        raise ValueError("expected data of other labels to train on, got none")
    before = train.before
    if before is not None:
        before = before[rows]
    kept = replace(train, x=train.x[rows], y=y[rows], before=before)
    return replace(dataset, train=kept, name=f"{dataset.name}:{WITHOUT}{label}")


def check_suffixes(suffixes: Sequence[str], whole: str) -> None:
    """Raises ValueError if a suffix is unknown.

    Args:
        suffixes: What follows the name.
        whole: The name with its suffixes, for the message.
    """
    for suffix in suffixes:
        if suffix not in SUFFIXES and not suffix.startswith(WITHOUT):
            known = [*SUFFIXES, f"{WITHOUT}LABEL"]
            raise ValueError(f"no suffix named {suffix!r} in '{whole}'; {nearest(suffix, known)}")


def prepared(dataset: Dataset, suffixes: Sequence[str], image_size: int | None = None) -> Dataset:
    """A data set as its suffixes change it, one after the other, and then brought to a size.

    Args:
        dataset: Images, not binarised, if anything is to be changed.
        suffixes: Some of `SUFFIXES`, or `without-LABEL`.
        image_size: The side to which the central square of images is brought; their own if None.

    Raises:
        ValueError: If a suffix, which is named, or the size does not fit the data.

    Examples:
        >>> prepared(load("digits"), ["rotated", "coloured"], image_size=16).shape
        (3, 16, 16)
    """
    for suffix in suffixes:
        try:
            if suffix.startswith(WITHOUT):
                dataset = without(dataset, suffix.removeprefix(WITHOUT))
            else:
                dataset = SUFFIXES[suffix](dataset)
        except ValueError as error:
            raise ValueError(
                f"the suffix :{suffix} does not fit {dataset.name}: {error}"
            ) from error
    if image_size is not None and dataset.shape[-2:] != (image_size, image_size):
        height, width = dataset.shape[-2:]
        dataset = central(dataset, min(height, width), image_size)
        if height != width:
            words = [dataset.stored, *said_of_squares([(width, height)], image_size)]
            dataset = replace(dataset, stored=", ".join(filter(None, words)))
    return dataset


def said_of_squares(sizes: list[tuple[int, int]], image_size: int | None) -> list[str]:
    """What is done to images of these sizes, (width, height), in words; warns where it is a trap.

    Their central squares are kept: of two images side by side, half of each.

    Args:
        sizes: The width and the height of images, each pair of them once.
        image_size: The side that they are brought to; None if they keep their own.

    Returns:
        The words in a list, which is empty where nothing is done to them.
    """
    if image_size is None or sizes == [(image_size, image_size)]:
        return []
    said = f"of {sizes[0][0]} × {sizes[0][1]}"
    if len(sizes) > 1:
        least, *_, most = sorted(sizes, key=math.prod)
        said = f"of {len(sizes)} sizes from {least[0]} × {least[1]} to {most[0]} × {most[1]}"
    if all(width == 2 * height for width, height in sizes):
        warnings.warn(
            f"images {said} are twice as wide as high, as pairs side by side are, and their "
            "central squares hold half of either: read pairs by given='pairs' (--condition pair), "
            "or store each image by itself",
            stacklevel=2,
        )
    size = f"{image_size} × {image_size}"
    if all(width == height for width, height in sizes):
        return [f"images {said}, brought to {size}"]
    return [f"images {said}, their central squares brought to {size}"]


def _changed(dataset: Dataset, suffix: str, train: Change, test: Change) -> Dataset:
    """Both parts changed."""
    if len(dataset.shape) != 3:
        raise ValueError(f"expected images (C, H, W), got data of shape {dataset.shape}")
    if dataset.binarize is not None:
        raise ValueError(
            "expected images in grey or colour, got them binarised "
            f"({dataset.binarize}); load them with binarize=None"
        )
    made = Dataset.of(
        f"{dataset.name}:{suffix}",
        _mapped(dataset.train, train),
        _mapped(dataset.test, test),
        dataset.classes,
    )
    return replace(
        made,
        attributes=dataset.attributes,
        stored=dataset.stored,
        class_names=dataset.class_names,
        captions=dataset.captions,
        attribute_names=dataset.attribute_names,
    )


def _count_in_memory(dataset: Dataset) -> int:
    """How many data are held at once: all of those in memory, one of a stream."""
    count = 1
    for split in (dataset.train, dataset.test):
        if isinstance(split, Split):
            count += len(split)
    return count


def _mapped(split: Split | StreamedSplit, change: Change) -> Split | StreamedSplit:
    if isinstance(split, StreamedSplit):
        return replace(split, source=_Mapped(split.source, change))
    return replace(split, x=change(split.x, torch.arange(len(split))))


class _Mapped(TorchDataset):
    """A torch dataset of (x, y) with x changed."""

    def __init__(self, source: Any, change: Change) -> None:
        self.source = source
        self.change = change

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        x, y = self.source[index]
        return self.change(x[None], torch.tensor([index]))[0], y

    def __getitems__(self, places: Sequence[int]) -> Rows:
        """Several data at once.

        Args:
            places: Which data.
        """
        x, y = rows_of(self.source, places)
        return Rows(self.change(x, torch.as_tensor(places)), y)


# Changes are functions of the module, not closures, so that the processes that read a stream can be
# handed them.


def _invert(x: Tensor, places: Tensor) -> Tensor:
    return 1 - x


def _rotate(x: Tensor, places: Tensor) -> Tensor:
    return x.rot90(1, (-2, -1)).contiguous()


def _repeat(x: Tensor, places: Tensor) -> Tensor:
    return x.repeat(1, 3, 1, 1)


def _centre(x: Tensor, places: Tensor, crop: int, size: int) -> Tensor:
    top, left = ((side - crop) // 2 for side in x.shape[-2:])
    inner = x[..., top : top + crop, left : left + crop]
    if size == crop:
        return inner.contiguous()
    if size < crop:
        return F.adaptive_avg_pool2d(inner, size)
    return F.interpolate(inner, size=(size, size), mode="bilinear", align_corners=False)


class _Coloured:
    """x times the colour of its place."""

    def __init__(self, colours: Tensor) -> None:
        self.colours = colours

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        return x * self.colours[places][..., None, None].to(x)


def _colours(count: int, seed: int) -> Tensor:
    """A colour for each place, (count, 3), the largest entry of each being 1."""
    colours = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    return colours / colours.amax(1, keepdim=True)


def _check_grey(dataset: Dataset) -> None:
    if dataset.shape[:1] != (1,) or len(dataset.shape) != 3:
        raise ValueError(f"expected grey images (1, H, W), got data of shape {dataset.shape}")
