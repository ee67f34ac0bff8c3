"""Data as programs see them: tensors (N, *shape), images in [0, 1], with one record of how they are
binarised.
"""

from __future__ import annotations

__all__ = ["BINARIZATIONS", "Batches", "Dataset", "Split", "StreamedSplit", "load"]

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

BINARIZATIONS = ("threshold", "static", "dynamic", "dequantize")


@dataclass(frozen=True)
class Split:
    """Data held in memory, on one device.

    Attributes:
        x: (N, *shape). "threshold" and "static" binarisation are applied once, when the split is
            made.
        y: Labels, Long (N,), −1 where missing; attribute vectors (N, A); or None.
        binarize: None leaves x grey; "threshold" is x ≥ 1/2; "static" one Bernoulli(x) draw for
            good; "dynamic" a new draw at every presentation; "dequantize" adds uniform noise within
            a grey level at every presentation.
        levels: The number of grey levels of the stored images, which "dequantize" needs.

    Raises:
        ValueError: If binarize is unknown, or x is outside [0, 1] and to be binarised.
    """

    x: Tensor
    y: Tensor | None = None
    binarize: str | None = None
    levels: int = 256

    def __post_init__(self) -> None:
        _check_binarize(self.binarize)
        if self.binarize is not None and not bool(((self.x >= 0) & (self.x <= 1)).all()):
            raise ValueError(
                "expected values in [0, 1] to binarise or dequantise, got "
                f"{float(self.x.min()):.3g} to {float(self.x.max()):.3g}; rescale them, or take "
                "binarize=None with a Gaussian likelihood"
            )
        # Binary pixels come through both unchanged, so that a copy of this split holds the same
        # pixels.
        if self.binarize == "threshold":
            object.__setattr__(self, "x", (self.x >= 0.5).to(self.x.dtype))
        elif (
            self.binarize == "static"
        ):  # seeded by the number of data: training and test sets differ in their noise
            object.__setattr__(self, "x", _draw(self.x, "dynamic", self.levels, len(self)))

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str) -> Split:
        """The same data on another device."""
        return replace(self, x=self.x.to(device), y=None if self.y is None else self.y.to(device))

    def batches(self, size: int, shuffle: bool = True) -> Batches:
        """Tuples (x,) or, with labels, (x, y) of up to `size` data; shuffled anew in every pass, on
        the data's device.

        Raises:
            ValueError: If size is below 1 or above the number of data.
        """
        return Batches(self, size, shuffle)

    def fixed(self, seed: int = 0, limit: int | None = None) -> Split:
        """The first `limit` data under one draw of their binarisation, the same for a seed on any
        device.

        A test set is scored on this, so that two models see the same pixels.
        """
        x = _draw(self.x[:limit], self.binarize, self.levels, seed)
        return Split(x, None if self.y is None else self.y[:limit], None, self.levels)


@dataclass(frozen=True)
class StreamedSplit:
    """Data that do not fit in memory: read from disk by background processes, batch by batch.

    Attributes:
        source: Any torch dataset of (x, y), or of (x, −1) without labels.
        binarize: "threshold", "dynamic" or "dequantize", as in `Split`; None leaves the images
            grey.
        levels: The number of grey levels.
        device: Where batches go.
        labelled: Whether y is worth handing out.
        workers: The number of reading processes.
    """

    source: Any
    binarize: str | None = None
    levels: int = 256
    device: torch.device | str = "cpu"
    labelled: bool = True
    workers: int = 2

    def __post_init__(self) -> None:
        _check_binarize(self.binarize)
        if self.binarize == "static":
            raise ValueError(
                "expected data in memory for static binarisation, got a stream: take 'dynamic' or "
                "'threshold'"
            )

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device | str) -> StreamedSplit:
        """The same stream, ending on another device."""
        return replace(self, device=device)

    def batches(self, size: int, shuffle: bool = True) -> Batches:
        """As `Split.batches`."""
        return Batches(self, size, shuffle)

    def fixed(self, seed: int = 0, limit: int | None = None) -> Split:
        """The first `limit` data in memory, under one draw of their binarisation."""
        chosen = (
            self.source
            if limit is None
            else Subset(self.source, range(min(limit, len(self.source))))
        )
        own = (
            torch.Generator()
        )  # a loader draws a seed for its workers, even where it does not shuffle
        rows = list(DataLoader(chosen, batch_size=256, num_workers=self.workers, generator=own))
        x, y = (torch.cat(column) for column in zip(*rows, strict=True))
        grey = Split(x, y if self.labelled else None, None, self.levels)
        return replace(grey, x=_draw(x, self.binarize, self.levels, seed)).to(self.device)


class Batches:
    """A re-iterable of tuples (x,) or (x, y); each pass draws a new order and new binary pixels
    from torch's generator.

    Raises:
        ValueError: If size is below 1 or above the number of data.
    """

    def __init__(self, split: Split | StreamedSplit, size: int, shuffle: bool) -> None:
        if not 1 <= size <= len(split):
            raise ValueError(
                f"expected a batch size from 1 to the number of data, {len(split)}, got {size}"
            )
        self.split, self.size, self.shuffle = split, size, shuffle

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for x, *y in self._stored():
            yield _present(x, self.split.binarize, self.split.levels), *y

    def _stored(self) -> Iterator[tuple[Tensor, ...]]:
        split = self.split
        if isinstance(split, StreamedSplit):
            for x, y in DataLoader(
                split.source, self.size, self.shuffle, num_workers=split.workers
            ):
                yield (
                    (x.to(split.device), y.to(split.device))
                    if split.labelled
                    else (x.to(split.device),)
                )
            return
        stored = [t for t in (split.x, split.y) if t is not None]
        n, device = len(split), split.x.device
        order = torch.randperm(n, device=device) if self.shuffle else torch.arange(n, device=device)
        for index in order.split(self.size):
            yield tuple(t.index_select(0, index) for t in stored)


@dataclass(frozen=True)
class Dataset:
    """A training and a test set.

    Attributes:
        train: What is fitted.
        test: What is scored, never seen in fitting.
        shape: The shape of one datum.
        classes: The number of labels; None where there are none, or attribute vectors.
        name: What it was loaded as.
        attributes: The length of attribute vectors, where y is one.
    """

    train: Split | StreamedSplit
    test: Split | StreamedSplit
    shape: tuple[int, ...]
    classes: int | None = None
    name: str = ""
    attributes: int | None = None

    @property
    def binarize(self) -> str | None:
        """How the pixels are binarised; belongs beside every number computed from them."""
        return self.train.binarize

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    *,
    download: bool = False,
    binarize: str | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
) -> Dataset:
    """Loads a data set by name, or from a folder of images, a .npy or a .npz file.

    Names: `digits` (scikit-learn's, no download); `mnist`, `fashion_mnist`, `kmnist`, `emnist`,
    `usps`, `svhn`, `cifar10`, `celeba` (torchvision's); `line`, `circle`, `swiss-roll`, `curve`
    (toy manifolds), `ring` (eight Gaussians, their number being the label), drawn from fixed seeds.

    A folder holds images, or one folder of images per class; `train` and `test` folders of that
    kind are taken as they are. An .npz file holds x_train and x_test, with y_train and y_test if
    labelled, or x, with y. What comes without a test set is split nine to one, by a fixed
    permutation. Bytes are divided by 255, unless they are all 0 or 1.

    Args:
        name_or_path: A name of the above, or a path.
        root: Where torchvision's files lie; the environment's PPL_GEN_DATA, or ~/.cache/ppl-gen, if
            left out.
        download: Whether torchvision may download what is missing.
        binarize: None, "threshold", "static", "dynamic" or "dequantize"; see `Split`.
        image_size: Side to which the images of a folder, or CelebA's, are cropped and resized.
        stream: Whether images in files are read anew in every epoch; None does so where they would
            take over 2 GiB.

    Raises:
        ValueError: If the name or file is unknown or unreadable, or the data are empty, of
            different sizes or not finite.

    Example:
        >>> digits = load("digits", binarize="dynamic")
        >>> len(digits.train), len(digits.test), digits.shape, digits.classes
        (1500, 297, (1, 8, 8), 10)
        >>> x, y = next(iter(digits.train.batches(100)))
        >>> x.shape, x.unique()
        (torch.Size([100, 1, 8, 8]), tensor([0., 1.]))
    """
    from ppl_gen.data import sources

    _check_binarize(binarize)
    return sources.find(name_or_path, root, download, binarize, image_size, stream)


def _check_binarize(binarize: str | None) -> None:
    if binarize is not None and binarize not in BINARIZATIONS:
        raise ValueError(
            f"expected binarize None or one of {', '.join(BINARIZATIONS)}, got {binarize!r}"
        )


def _draw(x: Tensor, binarize: str | None, levels: int, seed: int) -> Tensor:
    """One presentation whose noise comes from a generator of its own, on the CPU."""
    if binarize not in ("dynamic", "dequantize"):
        return _present(x, binarize, levels)
    uniform = torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed)).to(
        x.device
    )
    return _present(x, binarize, levels, uniform)


def _present(x: Tensor, binarize: str | None, levels: int, uniform: Tensor | None = None) -> Tensor:
    if binarize == "threshold":
        return (x >= 0.5).to(x.dtype)
    if binarize == "dynamic":
        return (torch.rand_like(x) if uniform is None else uniform).lt_(x)
    if binarize == "dequantize":
        return (x * (levels - 1) + (torch.rand_like(x) if uniform is None else uniform)) / levels
    return x
