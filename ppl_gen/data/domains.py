"""Two data sets without pairs, and batches of each, shuffled apart."""

from __future__ import annotations

__all__ = ["Domains", "Unpaired", "UnpairedBatches"]

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_gen.data.splits import Dataset, Split, StreamedSplit


@dataclass(frozen=True)
class Domains:
    """Two data sets of images of one shape, without pairs.

    Attributes:
        a: One domain; its labels, if any, are at `a.train.y` and stay out of the batches.
        b: The other.

    Raises:
        ValueError: If the shapes of their data differ.

    Examples:
        >>> digits = load("digits")
        >>> both = Domains(digits, inverted(digits))
        >>> x_a, x_b = next(iter(both.train.batches(50)))
        >>> x_a.shape == x_b.shape, len(both.train)
        (True, 1500)
    """

    a: Dataset
    b: Dataset

    def __post_init__(self) -> None:
        one, two = self.a.shape, self.b.shape
        if one == two:
            return
        got = f"got {one} ({self.a.name or 'a'}) and {two} ({self.b.name or 'b'})"
        if len(one) == len(two) == 3 and one[1:] == two[1:]:
            raise ValueError(
                f"expected two domains of the same channels, {got}; repeat grey images in colour "
                "(in_colour(dataset), or a name that ends in :colour)"
            )
        raise ValueError(
            f"expected two domains of one size, {got}; bring both to one side "
            "(load(..., image_size=...), --image-size)"
        )

    @classmethod
    def unpaired(cls, a: Dataset, b: Dataset) -> Domains:
        """Two data sets whose rows are pairs, as domains that share no training datum.

        The first half of a's training data is kept, and the second half of b's. Test data stay
        pairs, so that translations of them can be held against what they should be.

        Args:
            a: One domain, in memory.
            b: The other, in the same order.

        Raises:
            ValueError: If either is streamed, they differ in length, or their shapes differ.

        Examples:
            >>> from ppl_gen import data
            >>> pair = Domains.unpaired(data.load("digits"), data.load("digits:inverted"))
            >>> len(pair.train.a), len(pair.train.b), len(pair.test.a)
            (750, 750, 297)
        """
        one, two = a.train, b.train
        if not isinstance(one, Split) or not isinstance(two, Split) or len(one) != len(two):
            raise ValueError(
                f"expected two data sets of one length, in memory, got {len(one)} and {len(two)} "
                "training data; load both with stream=False"
            )
        middle = len(one) // 2
        first = replace(a, train=_rows(one, slice(None, middle)))
        return cls(first, replace(b, train=_rows(two, slice(middle, None))))

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


def _rows(split: Split, which: slice) -> Split:
    """Some rows of a split, presented as all of them are."""
    labels = split.y
    if labels is not None:
        labels = labels[which]
    return replace(split, x=split.x[which], y=labels, before=None)


@dataclass(frozen=True)
class Unpaired:
    """The training or the test data of two domains; as long as the longer of them.

    Examples:
        >>> digits = load("digits")
        >>> both = Unpaired(digits.train, digits.test)
        >>> len(both)  # the longer of the two
        1500
    """

    a: Split | StreamedSplit
    b: Split | StreamedSplit

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def batches(self, size: int, shuffle: bool = True) -> UnpairedBatches:
        """Tuples (x_a, x_b) of up to `size` data of each.

        Args:
            size: The number of data in a batch; the last batch of a pass may be smaller.
            shuffle: Whether both are shuffled, apart from each other and anew in every pass.

        Raises:
            ValueError: If size is below 1 or above the number of data in either domain.
        """
        return UnpairedBatches(self, size, shuffle)


class UnpairedBatches:
    """A re-iterable of tuples (x_a, x_b) of one length.

    A pass shows the longer domain once; the shorter begins again, in another order, as often as it
    has run out.

    Args:
        split: The data of both.
        size: The number of data in a batch; the last batch of a pass may be smaller.
        shuffle: Whether both are shuffled, apart from each other and anew in every pass.

    Raises:
        ValueError: If size is below 1 or above the number of data in either domain.

    Examples:
        >>> digits = load("digits")
        >>> batches = Unpaired(digits.train, digits.test).batches(100)
        >>> len(batches), [x.shape for x in next(iter(batches))]
        (15, [torch.Size([100, 1, 8, 8]), torch.Size([100, 1, 8, 8])])
    """

    def __init__(self, split: Unpaired, size: int, shuffle: bool) -> None:
        self.split = split
        self.size = size
        self.shuffle = shuffle
        self._a = split.a.batches(size, shuffle)
        self._b = split.b.batches(size, shuffle)

    def __len__(self) -> int:
        return max(len(self._a), len(self._b))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        a_is_longer = len(self.split.a) >= len(self.split.b)
        longer, shorter = self._a, self._b
        if not a_is_longer:
            longer, shorter = self._b, self._a
        endless = itertools.chain.from_iterable(itertools.repeat(shorter))
        held = next(endless)[0]
        for x, *_ in longer:
            # A batch goes on over the end of a pass, so that both are of one length.
            while len(held) < len(x):
                held = torch.cat([held, next(endless)[0]])
            other, held = held[: len(x)], held[len(x) :]
            if a_is_longer:
                yield x, other
            else:
                yield other, x
