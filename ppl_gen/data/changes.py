"""Two domains without pairs: batches of each shuffled apart, and ways of making another domain of a
data set.
"""

from __future__ import annotations

__all__ = [
    "SUFFIXES",
    "Domains",
    "Unpaired",
    "UnpairedBatches",
    "central",
    "coloured",
    "in_colour",
    "inverted",
    "load",
    "parse",
    "prepared",
    "rotated",
]

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset

from ppl_gen import data
from ppl_gen.data import sources
from ppl_gen.data.splits import Dataset, Split, StreamedSplit
from ppl_gen.names import nearest

# Makes images (N, C, H, W) of images, and of the places of these in their data set (N,).
Change = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Domains:
    """Two data sets of images of one shape, without pairs.

    Attributes:
        a: One domain; its labels, if any, are at `a.train.y` and stay out of the batches.
        b: The other.

    Raises:
        ValueError: If the shapes of their data differ.
    """

    a: Dataset
    b: Dataset

    def __post_init__(self) -> None:
        one, two = self.a.shape, self.b.shape
        if one == two:
            return
        said = f"got {one} ({self.a.name or 'a'}) and {two} ({self.b.name or 'b'})"
        if len(one) == len(two) == 3 and one[1:] == two[1:]:
            raise ValueError(
                f"expected two domains of the same channels, {said}; repeat grey images in colour "
                "(in_colour(dataset), or a name that ends in :colour)"
            )
        raise ValueError(
            f"expected two domains of one size, {said}; bring both to one side (load(..., "
            "image_size=...), --image-size)"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum of either."""
        return self.a.shape

    @property
    def train(self) -> Unpaired:
        """The training data of both."""
        return Unpaired(self.a.train, self.b.train)

    @property
    def test(self) -> Unpaired:
        """The test data of both."""
        return Unpaired(self.a.test, self.b.test)

    def to(self, device: torch.device | str) -> Domains:
        """The same data on another device."""
        return Domains(self.a.to(device), self.b.to(device))


@dataclass(frozen=True)
class Unpaired:
    """One part of two domains, to be trained or tested on; as long as the longer of them."""

    a: Split | StreamedSplit
    b: Split | StreamedSplit

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def batches(self, size: int, shuffle: bool = True) -> UnpairedBatches:
        """Tuples (x_a, x_b) of up to `size` data of each, shuffled apart and anew in every pass.

        Raises:
            ValueError: If size is below 1 or above the number of data in either domain.
        """
        return UnpairedBatches(self, size, shuffle)


class UnpairedBatches:
    """A re-iterable of tuples (x_a, x_b) of one length. A pass shows the longer domain once; the
    shorter begins again, in another order, as often as it has run out.
    """

    def __init__(self, split: Unpaired, size: int, shuffle: bool) -> None:
        self.split, self.size, self.shuffle = split, size, shuffle
        self._a, self._b = split.a.batches(size, shuffle), split.b.batches(size, shuffle)

    def __len__(self) -> int:
        return max(len(self._a), len(self._b))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = len(self.split.a) >= len(self.split.b)
        longer, shorter = (self._a, self._b) if first else (self._b, self._a)
        endless = itertools.chain.from_iterable(itertools.repeat(shorter))
        held = next(endless)[0]
        for x, *_ in longer:
            while len(held) < len(
                x
            ):  # a batch goes on over the end of a pass, so that both are of one length
                held = torch.cat([held, next(endless)[0]])
            other, held = held[: len(x)], held[len(x) :]
            yield (x, other) if first else (other, x)


def inverted(dataset: Dataset) -> Dataset:
    """1 − x: white on black becomes black on white.

    Raises:
        ValueError: If the data are not grey images, or are binarised, as for all that follow.
    """
    return _changed(dataset, "inverted", lambda _: _invert)


def rotated(dataset: Dataset) -> Dataset:
    """Turned by 90°, anticlockwise."""
    return _changed(dataset, "rotated", lambda _: _rotate)


def coloured(dataset: Dataset, seed: int = 0) -> Dataset:
    """Grey images in a colour each, (N, 3, H, W): x times a random (r, g, b) whose largest entry is
    1.

    Args:
        dataset: Grey images.
        seed: Fixes the colours, one for each place in the data set; the test images have others
            than the training ones.
    """
    _expect_grey(dataset)
    return _changed(dataset, "coloured", lambda part: _Coloured(_colours(part, seed)))


def in_colour(dataset: Dataset) -> Dataset:
    """Grey images repeated to three channels, to stand beside coloured ones; these are left as they
    are.
    """
    if dataset.shape[:1] == (3,):
        return dataset
    _expect_grey(dataset)
    return _changed(dataset, "colour", lambda _: _repeat)


def central(dataset: Dataset, crop: int, size: int | None = None) -> Dataset:
    """The central crop × crop pixels, brought to size × size: shrunk by averaging over areas,
    enlarged bilinearly.

    Args:
        dataset: Images, (C, H, W).
        crop: The side of what is kept, up to the shorter of H and W. MNIST's digits fill 20 of
            their 28 pixels.
        size: The side of what comes out; that of the crop if left out.

    Raises:
        ValueError: If a side is below 1, or the crop above the image's.
    """
    size = crop if size is None else size
    side = min(dataset.shape[-2:]) if len(dataset.shape) == 3 else crop
    if not 1 <= crop <= side:
        raise ValueError(f"expected a crop from 1 to the image's side, {side}, got {crop}")
    if size < 1:
        raise ValueError(f"expected an image size of at least 1, got {size}")
    return _changed(
        dataset, f"{size}x{size}", lambda _: functools.partial(_centre, crop=crop, size=size)
    )


_CENTRE = 20  # pixels that MNIST's digits fill, of 28


def _inner(dataset: Dataset, size: int) -> Dataset:
    """The central 20 × 20, brought to size × size."""
    if len(dataset.shape) == 3 and min(dataset.shape[1:]) < _CENTRE:
        sides = " × ".join(map(str, dataset.shape[1:]))
        raise ValueError(
            f"it takes the central {_CENTRE} × {_CENTRE} pixels, got images of {sides}; leave it "
            "out"
        )
    return central(dataset, _CENTRE, size)


# What may follow a name, after a colon.
SUFFIXES: dict[str, Callable[[Dataset], Dataset]] = {
    "inverted": inverted,
    "rotated": rotated,
    "coloured": coloured,
    "colour": in_colour,
    "central": functools.partial(_inner, size=_CENTRE),
    "8x8": functools.partial(_inner, size=8),
}


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    *,
    download: bool = False,
    binarize: str | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
) -> Dataset:
    """As `ppl_gen.data.load`, with suffixes: "digits:inverted", "mnist:8x8", "mnist:8x8:coloured",
    and any image size.

    Suffixes, from left to right: `inverted`; `rotated` by 90°; `coloured` at random; `colour`, grey
    in three channels; `central`, the central 20 × 20 pixels; `8x8`, these shrunk to 8 × 8, as
    scikit-learn's digits are.

    Args:
        name_or_path: A name or path that `ppl_gen.data.load` takes, then suffixes, each after a
            colon.
        root: As there.
        download: As there.
        binarize: As there; after all that the suffixes and the size change.
        image_size: Side to which images are brought: folders and CelebA as there, others at last,
            from their central square.
        stream: As there.

    Raises:
        ValueError: As there; or if a suffix is unknown, or does not fit the data.

    Example:
        >>> load("digits:rotated:coloured").shape
        (3, 8, 8)
    """
    name, suffixes = parse(name_or_path)
    for suffix in suffixes:
        if suffix not in SUFFIXES:
            raise ValueError(
                f"no suffix named {suffix!r} in '{name_or_path}'; {nearest(suffix, SUFFIXES)}"
            )
    Split(
        torch.zeros(1), binarize=binarize
    )  # says what is wrong with the word, before anything is read
    size = image_size if name == "celeba" or name not in sources.NAMES else None
    read = data.load(name, root, download=download, image_size=size, stream=stream)
    made = prepared(read, suffixes, image_size)
    train, test = (
        split if binarize is None else replace(split, binarize=binarize)
        for split in (made.train, made.test)
    )
    return replace(made, train=train, test=test, name=":".join([read.name, *suffixes]))


def parse(name_or_path: str | Path) -> tuple[str, list[str]]:
    """The name or path itself, which may hold colons if it exists, and the suffixes after it."""
    whole = str(name_or_path)
    name, *suffixes = [whole] if Path(whole).exists() else whole.split(":")
    return name, suffixes


def prepared(dataset: Dataset, suffixes: Sequence[str], image_size: int | None = None) -> Dataset:
    """A data set as the suffixes change it, one after the other, and then the size, from the
    central square of images.

    Raises:
        ValueError: If a suffix, which is named, does not fit the data.
    """
    for suffix in suffixes:
        try:
            dataset = SUFFIXES[suffix](dataset)
        except ValueError as error:
            raise ValueError(
                f"the suffix :{suffix} does not fit {dataset.name}: {error}"
            ) from error
    if image_size is not None and dataset.shape[-2:] != (image_size, image_size):
        dataset = central(dataset, min(dataset.shape[-2:]), image_size)
    return dataset


def _changed(
    dataset: Dataset, suffix: str, change_of: Callable[[tuple[int, int]], Change]
) -> Dataset:
    """Both parts changed; `change_of` is told the part's number and length."""
    if len(dataset.shape) != 3:
        raise ValueError(f"expected images (C, H, W), got data of shape {dataset.shape}")
    if dataset.binarize is not None:
        raise ValueError(
            f"expected images in grey or colour, got them binarised ({dataset.binarize}); load "
            "them with binarize=None"
        )
    train, test = (
        _mapped(split, change_of((part, len(split))))
        for part, split in enumerate((dataset.train, dataset.test))
    )
    first = train.x[0] if isinstance(train, Split) else train.source[0][0]
    return replace(
        dataset, train=train, test=test, shape=tuple(first.shape), name=f"{dataset.name}:{suffix}"
    )


def _mapped(split: Split | StreamedSplit, change: Change) -> Split | StreamedSplit:
    if isinstance(split, StreamedSplit):
        return replace(split, source=_Mapped(split.source, change))
    return replace(split, x=change(split.x, torch.arange(len(split))))


class _Mapped(TorchDataset):
    """A torch dataset of (x, y) with x changed."""

    def __init__(self, source: Any, change: Change) -> None:
        self.source, self.change = source, change

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        x, y = self.source[index]
        return self.change(x[None], torch.tensor([index]))[0], y


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


def _colours(part: tuple[int, int], seed: int) -> Tensor:
    number, length = part  # two generators for a seed: seeds next to each other share no colours
    colours = torch.rand(length, 3, generator=torch.Generator().manual_seed(2 * seed + number))
    return colours / colours.amax(1, keepdim=True)


def _expect_grey(dataset: Dataset) -> None:
    if dataset.shape[:1] != (1,) or len(dataset.shape) != 3:
        raise ValueError(f"expected grey images (1, H, W), got data of shape {dataset.shape}")
