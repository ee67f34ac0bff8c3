"""Captions that people wrote, as the numbers of their words."""

from __future__ import annotations

__all__ = ["Sentences"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from ppl_gen.names import nearest


@dataclass(frozen=True)
class Sentences:
    """The words of captions that people wrote, by their number.

    Attributes:
        words: The words, lower-case, with the numbers 1, 2, …; number 0 is the padding.
        length: L, the number of words of the longest caption.
    """

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, captions: Sequence[str]) -> Sentences:
        """The words of some captions.

        Args:
            captions: Sentences.
        """
        split = [caption.lower().split() for caption in captions]
        words = sorted(set(chain.from_iterable(split)))
        return cls(tuple(words), max(map(len, split)))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, by their number; number 0 is the padding."""
        return ("", *self.words)

    def expect_sentence(self, caption: str) -> None:
        """Raises ValueError if a caption has no words, too many, or one that is unknown."""
        self.encode([caption])

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions as numbers of words, Long (N, L), with 0 after the end.

        Args:
            captions: N sentences; capital letters and repeated spaces do not matter.

        Raises:
            ValueError: If a caption has no words, more than L, or one that is unknown.
        """
        numbers = {word: i for i, word in enumerate(self.words, 1)}
        tokens = torch.zeros(len(captions), self.length, dtype=torch.long)
        for row, caption in zip(tokens, captions, strict=True):
            words = caption.lower().split()
            if not 1 <= len(words) <= self.length:
                raise ValueError(
                    f"expected a caption of 1 to {self.length} words, got {caption!r}; the longest "
                    f"that was fitted to has {self.length}"
                )
            for word in words:
                if word not in numbers:
                    raise ValueError(f"no word {word!r}, of {caption!r}; {nearest(word, numbers)}")
            row[: len(words)] = torch.tensor([numbers[word] for word in words])
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """The captions of tokens (N, L), as `encode` made them."""
        vocabulary = self.vocabulary
        return [" ".join(vocabulary[i] for i in row if i) for row in tokens.tolist()]
