"""Captions from measured attributes, "a thick slanted seven", and an encoder that reads them."""

from __future__ import annotations

__all__ = ["DIGITS", "WORDS", "Captions", "TextEncoder"]

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ppl_gen.data.attributes import slant, thickness
from ppl_gen.names import nearest

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
THICKNESS = ("thin", "", "thick")
SLANT = ("left-leaning", "upright", "slanted")
PADDING = ""
LONGEST = 4  # words of a caption
WORDS = ("a", "an", "thin", "thick", *SLANT)  # which no class can be named


@dataclass(frozen=True)
class Captions:
    """What is said of an image: its thickness unless it is middling, its slant, and its class.

    The words compare an image with a data set: the lower, middle and upper third of its thickness
    and slant.

    Attributes:
        thickness: Two thresholds, in pixels: below the first an image is "thin", above the second
            "thick".
        slant: Two thresholds, in columns per row: "left-leaning" below, "upright" between,
            "slanted" (to the right) above.
        names: A word for each class: lower-case, and none of `WORDS`.
        missing: The word for a class that is not known, −1.

    Raises:
        ValueError: If a name is not such a word, or two are the same.

    Examples:
        >>> digits = data.load("digits").train
        >>> captions = Captions.fitted(digits.x)
        >>> captions.of(digits.x[:2], digits.y[:2])
        ['a left-leaning two', 'a thin upright eight']
    """

    thickness: tuple[float, float]
    slant: tuple[float, float]
    names: tuple[str, ...] = DIGITS
    missing: str = "digit"

    def __post_init__(self) -> None:
        words = (*self.names, self.missing)
        for i, word in enumerate(words):
            if word.lower().split() != [word]:
                raise ValueError(
                    f"expected names of one lower-case word each, got {word!r}; join words by "
                    "hyphens"
                )
            if word in WORDS:
                raise ValueError(
                    f"expected names other than {', '.join(WORDS)}, which say other things, got "
                    f"{word!r}"
                )
            if word in words[:i]:
                raise ValueError(f"expected different names, got {word!r} twice; rename one")

    @classmethod
    def fitted(cls, x: Tensor, names: Sequence[str] = DIGITS) -> Captions:
        """With the thirds of a data set as thresholds.

        Args:
            x: Images (N, C, H, W), such as all training data.
            names: A word for each class.

        Raises:
            ValueError: If there are fewer than three images, all are alike in thickness or slant,
                or a name is no such word.
        """
        if len(x) < 3:
            raise ValueError(
                f"expected at least 3 images, whose thirds are taken, got {len(x)}; give some "
                "hundreds"
            )
        thirds = []
        ends = torch.tensor([1 / 3, 2 / 3]).double()
        for measure in (thickness, slant):
            low, high = torch.quantile(measure(x).double().cpu(), ends).tolist()
            if not low < high:
                raise ValueError(
                    f"expected images that differ in {measure.__name__}, got thirds of {low:.3g} "
                    f"and {high:.3g}"
                )
            thirds.append((low, high))
        return cls(thirds[0], thirds[1], tuple(names))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words, by their number; number 0 is the padding."""
        return (PADDING, *WORDS, *self.names, self.missing)

    @property
    def sentences(self) -> frozenset[str]:
        """All captions that `of` may say."""
        said = itertools.product(THICKNESS, SLANT, (*self.names, self.missing))
        return frozenset(map(_sentence, said))

    def expect_sentence(self, caption: str) -> None:
        """Raises ValueError if a caption, though of known words, is none that an image may get.

        Args:
            caption: A sentence; capital letters and repeated spaces do not matter.

        Raises:
            ValueError: If a word is unknown, there is none, or no image is ever said to be so.
        """
        self.encode([caption])
        if " ".join(caption.lower().split()) in self.sentences:
            return
        things = (*self.names, self.missing)
        example = _sentence(("thick", "slanted", things[0]))
        leanings = f"{', '.join(SLANT[:-1])} or {SLANT[-1]}"
        raise ValueError(
            f'expected a caption such as "{example}" (a or an; thin, thick or neither; '
            f"{leanings}; {things[0]} to {things[-1]}), got {caption!r}"
        )

    def of(self, x: Tensor, y: Tensor) -> list[str]:
        """The caption of each image.

        Args:
            x: Images (N, C, H, W).
            y: Labels, Long (N,), −1 where missing.

        Raises:
            ValueError: If there is not one label for each image, or one is out of range.
        """
        if y.shape != x.shape[:1] or y.is_floating_point():
            raise ValueError(
                f"expected {len(x)} labels, one for each image, got {y.dtype} of shape "
                f"{tuple(y.shape)}"
            )
        if not bool(((y >= -1) & (y < len(self.names))).all()):
            last = len(self.names) - 1
            raise ValueError(
                f"expected labels in 0, …, {last}, or −1 where missing, got {int(y.min())} to "
                f"{int(y.max())}"
            )
        thick = _thirds(thickness(x), self.thickness)
        lean = _thirds(slant(x), self.slant)
        named = (*self.names, self.missing)
        captions = []
        for i, j, k in zip(thick, lean, y.tolist(), strict=True):
            captions.append(_sentence([THICKNESS[i], SLANT[j], named[k]]))
        return captions

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions as numbers of words, with 0 after the end.

        Args:
            captions: N sentences of words of the vocabulary.

        Returns:
            Long (N, L); L is 4, or the longest caption's number of words if that is more.

        Raises:
            ValueError: If a word is unknown, or a caption has no words.
        """
        numbers = {word: i for i, word in enumerate(self.vocabulary)}
        sentences = [caption.lower().split() for caption in captions]
        for caption, words in zip(captions, sentences, strict=True):
            if not words:
                raise ValueError(f"expected captions with at least a word, got {caption!r}")
            for word in words:
                if word not in numbers:
                    raise ValueError(
                        f"no word {word!r}, of {caption!r}; {nearest(word, self.vocabulary[1:])}"
                    )
        length = max([LONGEST, *map(len, sentences)])
        tokens = torch.zeros(len(sentences), length, dtype=torch.long)
        for row, words in zip(tokens, sentences, strict=True):
            row[: len(words)] = torch.tensor([numbers[word] for word in words])
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """The captions of tokens (N, L), as `encode` made them."""
        vocabulary = self.vocabulary
        return [" ".join(vocabulary[i] for i in row if i) for row in tokens.tolist()]


class TextEncoder(nn.Module):
    """e = W GRU(E t₁, …, E t_L) at the last word: a sentence as a vector, its order included.

    Args:
        vocabulary_size: The number of words, with the padding, whose number is 0.
        dim: The size of e.
        hidden: The size of a word's embedding and of the GRU's state.

    Raises:
        ValueError: If there are fewer than two words, or a size is below 1.

    Examples:
        >>> encoder = TextEncoder(vocabulary_size=12, dim=5)
        >>> encoder(torch.tensor([[1, 7, 9, 0]])).shape  # one caption of three words
        torch.Size([1, 5])

    Reference:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    """

    def __init__(self, vocabulary_size: int, dim: int, hidden: int = 32) -> None:
        super().__init__()
        if vocabulary_size < 2 or dim < 1 or hidden < 1:
            raise ValueError(
                f"expected at least 2 words and sizes of at least 1, got {vocabulary_size} words, "
                f"dim {dim} and hidden {hidden}"
            )
        self.embedding = nn.Embedding(vocabulary_size, hidden, padding_idx=0)
        self.recurrent = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """From Long (*leading, L), with 0 after the end, to (*leading, dim)."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        states, _ = self.recurrent(self.embedding(flat))
        last = ((flat != 0).sum(-1) - 1).clamp(min=0)
        ends = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
        return self.head(ends).unflatten(0, tokens.shape[:-1])


def _thirds(values: Tensor, thresholds: tuple[float, float]) -> list[int]:
    """Which third each value lies in: 0, 1 or 2."""
    ends = torch.tensor(thresholds, dtype=torch.float64, device=values.device)
    return torch.bucketize(values.double(), ends).tolist()


def _sentence(words: Sequence[str]) -> str:
    """The words, without empty ones, after "a" or "an"."""
    kept = [word for word in words if word]
    article = "an" if kept[0][0] in "aeiou" else "a"
    return " ".join([article, *kept])
