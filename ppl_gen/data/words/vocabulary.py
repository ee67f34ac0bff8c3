"""The characters or words of lines of text, and lines as their numbers."""

from __future__ import annotations

__all__ = ["LEVELS", "Vocabulary", "shown", "split_line", "tokens_per_line"]

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_memory
from ppl_gen.names import resolve

LEVELS = ("characters", "words")
UNKNOWN = "⟨unknown⟩"
_SEPARATOR = {"characters": "", "words": " "}
_BYTES = 8  # of a token's number
_OFTEN = 2  # times that a word of a vocabulary has occurred
_MOST_WORDS = 20_000
_SHOWN = 40  # characters of a line in an error


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The tokens of lines: number 0 ends a line and fills what is behind, then each has its own.

    Attributes:
        tokens: The characters, or words, with the numbers 1, 2, …; `UNKNOWN` among them stands for
            all others.
        level: "characters" or "words", which are what is between spaces.

    Raises:
        ValueError: If the level is unknown, there are fewer than two tokens, or one occurs twice.

    Examples:
        >>> letters = Vocabulary(("a", "b"))
        >>> letters.encode(["ab", "b"], 3)
        tensor([[1, 2, 0],
                [2, 0, 0]])
        >>> letters.decode(letters.encode(["ab", "b"]))
        ['ab', 'b']
    """

    tokens: tuple[str, ...]
    level: str = "characters"

    def __post_init__(self) -> None:
        resolve("level", self.level, LEVELS)
        if len(self.tokens) < 2:
            raise ValueError(
                f"expected at least two different {self.level}, got {len(self.tokens)}: nothing "
                "is uncertain in such lines; give lines that differ"
            )
        if len(set(self.tokens)) < len(self.tokens):
            raise ValueError("expected different tokens, got one of them twice; leave it out")

    def __len__(self) -> int:
        """The number of tokens, the end of a line included."""
        return len(self.tokens) + 1

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self.tokens)} {self.level} and the end of a line"

    @classmethod
    def of(cls, lines: Sequence[str], level: str = "characters") -> Vocabulary:
        """All characters of some lines; or their words that occur twice, and one for all others.

        Args:
            lines: Such as all lines of a file, or those to train on.
            level: "characters" or "words".

        Raises:
            ValueError: If the level is unknown, or there are fewer than two tokens.
        """
        resolve("level", level, LEVELS)
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(split_line(line, level))
        if level == "characters":
            return cls(tuple(sorted(counts)), level)
        often = [word for word, count in counts.most_common(_MOST_WORDS) if count >= _OFTEN]
        if not often:
            raise ValueError(
                f"expected lines with words that occur twice, got {len(counts)} words that occur "
                "once; give more lines, or take level='characters'"
            )
        return cls((UNKNOWN, *sorted(often)), level)

    def encode(self, lines: Sequence[str], length: int | None = None) -> Tensor:
        """Lines as numbers of tokens, Long (N, L), with 0 behind the last.

        Args:
            lines: N lines; spaces at their ends do not count.
            length: L, the most tokens that a line may have; the longest line's number if None.

        Raises:
            ValueError: If a line has more tokens, or one that is unknown, and there is no
                `UNKNOWN`.
        """
        split = [split_line(line, self.level) for line in lines]
        longest = max([1, *map(len, split)])
        if length is None:
            length = longest
        expect_at_least(1, length=length)
        if longest > length:
            number = max(range(len(split)), key=lambda i: len(split[i]))
            raise ValueError(
                f"expected lines of at most {length} {self.level}, got one of {longest}, "
                f"{shown(lines[number])}; raise the length to {longest}, or cut such lines"
            )
        expect_memory("the lines", 2 * _BYTES * len(split) * length, "give fewer, or shorter ones")
        numbers = {token: i for i, token in enumerate(self.tokens, 1)}
        tokens = torch.zeros(len(split), length, dtype=torch.long)
        for row, line, own in zip(tokens, lines, split, strict=True):
            if own:
                row[: len(own)] = torch.tensor([self._number(numbers, t, line) for t in own])
        return tokens

    def _number(self, numbers: dict[str, int], token: str, line: str) -> int:
        if token in numbers:
            return numbers[token]
        if UNKNOWN in numbers:
            return numbers[UNKNOWN]
        kind = self.level.removesuffix("s")
        raise ValueError(
            f"expected {self.level} of the {len(self.tokens)} that are known, got the {kind} "
            f"{token!r} in {shown(line)}; leave such lines out, or fit to lines that have it"
        )

    def decode(self, tokens: Tensor) -> list[str]:
        """The lines of tokens (N, L), as `encode` made them."""
        lines = []
        for row in tokens.tolist():
            words = [self.tokens[i - 1] for i in row if i]
            lines.append(_SEPARATOR[self.level].join(words))
        return lines


def tokens_per_line(x: Tensor) -> Tensor:
    """How many tokens are uncertain in each line: its own and its end, which a full line has not.

    Args:
        x: Lines, Long (N, L).

    Returns:
        The numbers, (N,).

    Examples:
        >>> lines = torch.tensor([[3, 1, 0, 0], [2, 2, 1, 3]])  # 0 ends a line; the second is full
        >>> tokens_per_line(lines)
        tensor([3, 4])
    """
    own = (x != 0).sum(-1)
    return (own + 1).clamp(max=x.shape[-1])


def split_line(line: str, level: str) -> list[str]:
    """The tokens of a line.

    Args:
        line: The line; spaces at its ends do not count.
        level: "characters" or "words".
    """
    if level == "words":
        return line.split()
    return list(line.strip())


def shown(line: str) -> str:
    """A line in an error, cut short.

    Args:
        line: The line.
    """
    if len(line) > _SHOWN:
        line = line[:_SHOWN] + "…"
    return repr(line)
