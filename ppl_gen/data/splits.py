"""Data as programs see them: tensors (N, *shape), images in [0, 1], and how they are binarised."""

from __future__ import annotations

__all__ = ["Batches", "Dataset", "Split", "StreamedSplit", "nine_to_one"]

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ppl_gen.arguments import expect_tensor, whole
from ppl_gen.contexts import expect_seed
from ppl_gen.counts import expect_number
from ppl_gen.data.formats.columns import Columns
from ppl_gen.data.presentation import InMemory, Presentation, check_binarize
from ppl_gen.data.reader import Reader
from ppl_gen.data.words.sentences import Sentences
from ppl_gen.data.words.vocabulary import Vocabulary
from ppl_gen.memory import SINGLE, expect_memory

_SOME = 1000  # data of a stream that are held without a look at their size
_AT_ONCE = 256  # data of a stream that are read in one go where no batches are asked for


@dataclass(frozen=True, repr=False)
class Split:
    """Data held in memory, on one device.

    Attributes:
        x: Data (N, *shape), NaN where an entry is missing, binarised or not. "threshold" and
            "static" binarisation are applied once, when the split is made.
        y: Labels, Long (N,), −1 where missing; attribute vectors (N, A); images beside x,
            (N, C, H, W); the words of captions, Long (N, L); or None.
        binarize: None leaves x grey; "threshold" is x ≥ 1/2; "static" one Bernoulli(x) draw for
            good; "dynamic" a new draw at every presentation; "dequantize" adds uniform noise within
            a grey level at every presentation.
        levels: The number of grey levels of the stored images, which "dequantize" needs.
        before: x before binarisation, where x is one draw of it; else None.

    Raises:
        ValueError: If binarize is unknown, x or y is no tensor of real numbers, or x is outside
            [0, 1] and to be binarised.

    Examples:
        >>> grey = Split(torch.tensor([[0.2], [0.9]]), y=torch.tensor([0, 1]), binarize="threshold")
        >>> grey.x, grey.y, len(grey)
        (tensor([[0.],
                [1.]]), tensor([0, 1]), 2)
    """

    x: Tensor
    y: Tensor | None = None
    binarize: str | None = None
    levels: int = 256
    before: Tensor | None = None

    def __post_init__(self) -> None:
        check_binarize(self.binarize)
        expect_tensor("x", self.x)
        object.__setattr__(self, "x", whole(self.x))
        if self.y is not None:
            expect_tensor("y", self.y)
            object.__setattr__(self, "y", whole(self.y))
        if self.binarize is not None:
            _check_range(self.x)
        # Binary pixels come through both unchanged, so that a copy of this split holds the same
        # pixels.
        if self.binarize == "threshold":
            object.__setattr__(self, "x", self.presentation(self.x))
        elif self.binarize == "static":
            # Seeded by the number of data, so that training and test sets differ in their noise.
            drawn = Presentation("dynamic").fixed(self.x, seed=len(self))
            object.__setattr__(self, "x", drawn)

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        words = [f"{len(self)} data of shape {tuple(self.x.shape[1:])}"]
        if self.y is not None:
            words.append(f"y {tuple(self.y.shape)}")
        if self.binarize is not None:
            words.append(f"binarize {self.binarize!r}")
        return f"Split({', '.join(words)})"

    @property
    def device(self) -> torch.device:
        """Where the data lie."""
        return self.x.device

    @property
    def presentation(self) -> Presentation:
        """How the data are shown to a model."""
        return Presentation(self.binarize, self.levels)

    @property
    def stored(self) -> Tensor:
        """The data (N, *shape) before they were binarised by a draw."""
        if self.before is None:
            return self.x
        return self.before

    def to(self, device: torch.device | str) -> Split:
        """The same data on another device."""
        y = self.y
        if y is not None:
            y = y.to(device)
        before = self.before
        if before is not None:
            before = before.to(device)
        return replace(self, x=self.x.to(device), y=y, before=before)

    def divided(self, held_out: float, seed: int = 0) -> tuple[Split, Split]:
        """Two parts without a datum in common: what is kept, and what is held out for validation.

        Rows are drawn by a generator of its own and stay in their order, so that the same seed
        gives the same parts, on any device.

        Args:
            held_out: What is held out: below 1 a share of the data, rounded to at least one datum;
                from 1 on a count.
            seed: Of the draw.

        Raises:
            ValueError: If held_out is not above 0, no whole number from 1 on, or leaves no data.

        Examples:
            >>> kept, held_out = Split(torch.arange(10.0)).divided(0.2)
            >>> len(kept), len(held_out)
            (8, 2)
        """
        kept, taken = _parted(held_out, len(self), seed)
        return self._of(kept.to(self.device)), self._of(taken.to(self.device))

    def _of(self, rows: Tensor) -> Split:
        """The data of some rows, binarised as they are."""
        y = self.y
        if y is not None:
            y = y[rows]
        before = self.before
        if before is not None:
            before = before[rows]
        return replace(self, x=self.x[rows], y=y, before=before)

    def batches(self, size: int, shuffle: bool = True) -> Batches:
        """Tuples (x,) or, with labels, (x, y) of up to `size` data, on the data's device.

        Args:
            size: The number of data in a batch; the last batch of a pass may be smaller.
            shuffle: Whether every pass takes the data in a new order.

        Raises:
            ValueError: If size is below 1 or above the number of data.
        """
        return Batches(self, size, shuffle)

    def fixed(self, seed: int = 0, limit: int | None = None) -> Split:
        """The first data under one draw of their binarisation, the same for a seed on any device.

        A test set is scored on this, so that two models see the same pixels.

        Args:
            seed: Of the draw.
            limit: How many data; all if None.
        """
        stored = self.x[:limit]
        x = self.presentation.fixed(stored, seed)
        y = self.y
        if y is not None:
            y = y[:limit]
        return Split(x, y, levels=self.levels, before=_other(stored, x))


@dataclass(frozen=True)
class StreamedSplit:
    """Data that do not fit in memory: read from disk by background processes, batch by batch.

    Batches are read ahead, into pinned memory if they go to a CUDA device; they are the same for
    any number of workers. Processes that read stay from pass to pass, with the source as it was
    when they began.

    Attributes:
        source: Any torch dataset of (x, y), or of (x, −1) without labels. One that reads several
            data at once has `__getitems__`, from places to `ppl_gen.data.reader.Rows`.
        binarize: "threshold", "dynamic" or "dequantize", as for `Split`; None leaves images grey.
        levels: The number of grey levels of the stored images.
        device: Where batches go.
        labelled: Whether batches hold y.
        workers: The number of reading processes, or threads; with 0, data are read when they are
            asked for.
        by_threads: Whether threads of this process read: of what lets go of Python's lock, such as
            arrays, and draws nothing. Processes read all else.
        extremes: The least and the largest value of the data, as they are stored.

    Raises:
        ValueError: If binarize is unknown, or "static", which takes data in memory; or if the
            extremes are outside of [0, 1] and data are to be binarised.

    Examples:
        >>> from torch.utils.data import TensorDataset
        >>> source = TensorDataset(torch.rand(60, 4), torch.arange(60))
        >>> streamed = StreamedSplit(source, workers=0)
        >>> [part.shape for part in next(iter(streamed.batches(20)))]
        [torch.Size([20, 4]), torch.Size([20])]
    """

    source: Any
    binarize: str | None = None
    levels: int = 256
    device: torch.device | str = "cpu"
    labelled: bool = True
    workers: int = 2
    by_threads: bool = False
    extremes: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_binarize(self.binarize)
        if self.binarize == "static":
            raise ValueError(
                "expected data in memory for static binarisation, got a stream: take 'dynamic' or "
                "'threshold'"
            )
        if self.binarize is not None:
            _check_range(torch.tensor(self.extremes))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def presentation(self) -> Presentation:
        """How the data are shown to a model."""
        return Presentation(self.binarize, self.levels)

    def to(self, device: torch.device | str) -> StreamedSplit:
        """The same stream, ending on another device."""
        return replace(self, device=device)

    def batches(self, size: int, shuffle: bool = True) -> Batches:
        """Tuples (x,) or, with labels, (x, y) of up to `size` data, on the stream's device.

        Args:
            size: The number of data in a batch; the last batch of a pass may be smaller.
            shuffle: Whether every pass takes the data in a new order.

        Raises:
            ValueError: If size is below 1 or above the number of data.
        """
        return Batches(self, size, shuffle)

    def fixed(self, seed: int = 0, limit: int | None = None) -> Split:
        """The first data, in memory, under one draw of their binarisation.

        Args:
            seed: Of the draw; it gives the same pixels on any device.
            limit: How many data; all if None.
        """
        count = len(self)
        if limit is not None:
            count = min(limit, count)
        x, y = self._held(torch.arange(count))
        drawn = self.presentation.fixed(x, seed)
        return Split(drawn, y, levels=self.levels, before=_other(x, drawn))

    def divided(self, held_out: float, seed: int = 0) -> tuple[StreamedSplit, Split]:
        """Two parts without a datum in common: a stream, and in memory what is held out of it.

        Rows are drawn as those of a `Split` are: the same seed gives the same parts.

        Args:
            held_out: What is held out: below 1 a share of the data, rounded to at least one datum;
                from 1 on a count.
            seed: Of the draw.

        Raises:
            ValueError: If held_out is not above 0, no whole number from 1 on, or leaves no data; or
                if what is held out does not fit into memory.
        """
        kept, taken = _parted(held_out, len(self), seed)
        x, y = self._held(taken)
        held = Split(x, y, self.binarize, self.levels)
        return replace(self, source=Subset(self.source, kept.tolist())), held

    def _held(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """The data of some rows in memory as they are stored, and their labels if they have any."""
        if len(rows) > _SOME:
            needed = 2 * SINGLE * len(rows) * self.source[0][0].numel()
            expect_memory(f"{len(rows)} data at once", needed, "take fewer (limit=...)")
        # A reader of this pass alone, whose processes end with it; nothing is drawn for it.
        read = list(self.reader()(_places(rows.split(_AT_ONCE)), seed=0))
        x, y = (torch.cat(column) for column in zip(*read, strict=True))
        if self.labelled:
            return x, y
        return x, None

    def reader(self) -> Reader:
        """Reads chosen rows, ahead of whoever takes them."""
        return Reader(self.source, self.workers, self.by_threads, self.device)


class Batches:
    """A re-iterable of tuples (x,) or (x, y).

    Each pass draws a new order and new binary pixels from torch's generator.

    Args:
        split: The data.
        size: The number of data in a batch; the last batch of a pass may be smaller.
        shuffle: Whether every pass takes the data in a new order.

    Raises:
        ValueError: If size is below 1 or above the number of data.

    Examples:
        >>> batches = data.load("digits").train.batches(100)
        >>> len(batches), [part.shape for part in next(iter(batches))]
        (15, [torch.Size([100, 1, 8, 8]), torch.Size([100])])
    """

    def __init__(self, split: Split | StreamedSplit, size: int, shuffle: bool) -> None:
        expect_number(size=size)
        if not 1 <= size <= len(split):
            raise ValueError(
                f"expected a batch size from 1 to the number of data, {len(split)}, got {size}; "
                "take a smaller one (.batches(...), --batch-size)"
            )
        self.split = split
        self.size = size
        self.shuffle = shuffle
        self._reader: Reader | None = None

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if isinstance(self.split, StreamedSplit):
            seed = _drawn_seed()
            yield from self._read(self.split, self._streamed_order(), seed)
            return
        yield from self.of_rows(self.order())

    def of_rows(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Batches of chosen rows, of which a stream reads no others.

        Args:
            order: The rows of each batch, Long (B,).
        """
        if isinstance(self.split, StreamedSplit):
            yield from self._read(self.split, order, _drawn_seed())
            return
        held = self.in_memory
        assert held is not None
        for rows in order:
            yield held.draw(rows, *held.stored)

    @property
    def in_memory(self) -> InMemory | None:
        """The same, for what draws its batches by itself; None where data are read from disk."""
        if isinstance(self.split, StreamedSplit):
            return None
        stored = [self.split.x]
        if self.split.y is not None:
            stored.append(self.split.y)
        return InMemory(tuple(stored), self.order, self.split.presentation)

    def order(self) -> tuple[Tensor, ...]:
        """The rows of each batch of a pass."""
        device = self.split.device
        if self.shuffle:
            order = torch.randperm(len(self.split), device=device)
        else:
            order = torch.arange(len(self.split), device=device)
        return order.split(self.size)

    def _streamed_order(self) -> tuple[Tensor, ...]:
        """The rows of each batch of a pass of a stream, by a generator of the pass."""
        if not self.shuffle:
            return torch.arange(len(self.split)).split(self.size)
        own = torch.Generator().manual_seed(_drawn_seed())
        return torch.randperm(len(self.split), generator=own).split(self.size)

    def _read(
        self, split: StreamedSplit, order: Iterable[Tensor], seed: int
    ) -> Iterator[tuple[Tensor, ...]]:
        """Batches as they are read from disk, by what stays from pass to pass."""
        if self._reader is None:
            self._reader = split.reader()
        for x, y in self._reader(_places(order), seed):
            shown = split.presentation(x)
            if split.labelled:
                yield shown, y
            else:
                yield (shown,)


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
        stored: What was done to the numbers of a file of arrays, in words: "bytes from 0 to 255,
            divided by 255"; empty of other data.
        class_names: A name for each label, in order, where the data have such: those of the folders
            that images lie in.
        vocabulary: What the numbers of lines of text stand for; None of other data.
        captions: What the numbers of captions stand for, where y is such; else None.
        validation: Training data that are held out, and tell when to stop; None if there are none.
        columns: Of a table, the names of its columns, and the way back to their own units; else
            None.
        attribute_names: A name for each attribute, where the data have such.

    Examples:
        >>> x = torch.rand(60, 4)
        >>> mine = Dataset.of("mine", Split(x[:50]), Split(x[50:]))
        >>> mine.shape, len(mine.test)
        ((4,), 10)
    """

    train: Split | StreamedSplit
    test: Split | StreamedSplit
    shape: tuple[int, ...]
    classes: int | None = None
    name: str = ""
    attributes: int | None = None
    stored: str = ""
    class_names: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    captions: Sentences | None = None
    validation: Split | None = None
    columns: Columns | None = None
    attribute_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        train: Split | StreamedSplit,
        test: Split | StreamedSplit,
        classes: int | None = None,
    ) -> Dataset:
        """A data set whose shape and attributes are read off its first training datum.

        Args:
            name: What it is loaded as.
            train: The training set.
            test: The test set.
            classes: The number of labels, if y is labels.
        """
        if isinstance(train, Split):
            first, y = train.x[0], train.y
            if y is not None:
                y = y[0]
        else:
            first, y = train.source[0]
        attributes = None
        if isinstance(y, Tensor) and y.is_floating_point() and y.dim() == 1:
            attributes = y.shape[-1]
        return cls(train, test, tuple(first.shape), classes, name, attributes)

    @property
    def binarize(self) -> str | None:
        """How the pixels are binarised; belongs beside every number computed from them."""
        return self.train.binarize

    def binarized(self, binarize: str | None) -> Dataset:
        """The same grey data under a binarisation, or as they are if it is None.

        Args:
            binarize: As for `Split`.

        Raises:
            ValueError: If it is unknown, or data are outside [0, 1].
        """
        if binarize is None:
            return self
        train = replace(self.train, binarize=binarize)
        test = replace(self.test, binarize=binarize)
        validation = self.validation
        if validation is not None:
            validation = replace(validation, binarize=binarize)
        return replace(self, train=train, test=test, validation=validation)

    def divided(self, held_out: float, seed: int = 0) -> Dataset:
        """With some of the training data held out for validation; test data stay as they are.

        Args:
            held_out: What is held out: below 1 a share of the training data; from 1 on a count.
            seed: Of the draw of these rows.

        Raises:
            ValueError: If held_out is neither, leaves no data, or does not fit into memory, where
                it is held of a stream too.
        """
        train, validation = self.train.divided(held_out, seed)
        return replace(self, train=train, validation=validation)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on another device."""
        validation = self.validation
        if validation is not None:
            validation = validation.to(device)
        train = self.train.to(device)
        return replace(self, train=train, test=self.test.to(device), validation=validation)


def nine_to_one(n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a training and a test set, nine to one, by a fixed permutation.

    Args:
        n: The number of data.
        name: Of the data set, for the message.

    Raises:
        ValueError: If there are fewer than 2 data.
    """
    if n < 2:
        raise ValueError(f"expected at least 2 data in {name}, to train and to test, got {n}")
    order = np.random.RandomState(0).permutation(n)
    cut = max(1, n // 10)
    return order[cut:], order[:cut]


def _held_out(asked: float, n: int) -> int:
    """How many of n data a share below 1, or a count, means.

    Raises:
        ValueError: If it is neither, or leaves none.
    """
    expect_number(held_out=asked)
    if 0 < asked < 1:
        count = max(1, round(asked * n))
    elif asked >= 1 and asked == int(min(asked, n)):
        count = int(asked)
    else:
        raise ValueError(
            f"expected a share of the data between 0 and 1, or a count below {n} of them, to hold "
            f"out for validation, got {asked:g}"
        )
    if count >= n:
        raise ValueError(
            f"expected to hold out fewer than all {n} training data for validation, got {count} "
            "of them; hold out fewer"
        )
    return count


def _parted(held_out: float, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The rows that are kept and those that are held out, each in their order.

    Args:
        held_out: A share of n below 1, or a count.
        n: The number of data.
        seed: Of the draw.

    Raises:
        ValueError: If held_out is neither, or leaves none.
    """
    expect_seed(seed)
    count = _held_out(held_out, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[count:].sort().values, order[:count].sort().values


def _places(order: Iterable[Tensor]) -> Iterator[list[int]]:
    """The rows of each batch as integers."""
    for rows in order:
        yield rows.tolist()


def _drawn_seed() -> int:
    """A seed from the global generator."""
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _other(stored: Tensor, drawn: Tensor) -> Tensor | None:
    """What was stored, if what was drawn of it is another tensor."""
    if drawn is stored:
        return None
    return stored


def _check_range(x: Tensor) -> None:
    is_outside = (x < 0) | (x > 1)
    if bool(is_outside.any()):
        known = x[~x.isnan()]
        raise ValueError(
            "expected values in [0, 1] to binarise or dequantise, got "
            f"{float(known.min()):.3g} to {float(known.max()):.3g}; rescale them, or take "
            "binarize=None with a Gaussian likelihood"
        )
