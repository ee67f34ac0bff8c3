"""What a program is built for: the outline of its data, which a run remembers without any datum."""

from __future__ import annotations

__all__ = ["Outline"]

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

# Torch is imported when an outline is used: configurations hold one.
if TYPE_CHECKING:
    from torch import Tensor

    from ppl_gen.data import Dataset

_SEEN = 500  # data of a stream, from the first, whose range is taken for that of all


@dataclass(frozen=True, kw_only=True)
class Outline:
    """All that a program of a configuration is built by, beside the configuration.

    With it, the folder of a run is enough to draw from its program, and to decompress what was
    compressed by it, where the data do not lie.

    Attributes:
        name: What the data were loaded as.
        shape: The shape of one datum.
        count: The number of training data.
        levels: The number of grey levels of stored images.
        lowest: The smallest value of the training data, as programs see them.
        highest: The largest one.
        classes: The number of labels; None where there are none.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    levels: int
    lowest: float
    highest: float
    classes: int | None

    @classmethod
    def of(cls, data: Any, condition: Any) -> Outline | None:
        """The outline of data; None where a program is built by more: by what data say in detail.

        Args:
            data: What a program was built for.
            condition: What it is conditioned on, None if nothing.
        """
        from ppl_gen.data import Dataset

        is_plain = isinstance(data, Dataset) and data.vocabulary is None and data.columns is None
        if not is_plain or (condition is not None and condition.classes is None):
            return None
        lowest, highest = _range(data.train)
        return cls(
            name=data.name,
            shape=tuple(data.shape),
            count=len(data.train),
            levels=data.train.levels,
            lowest=lowest,
            highest=highest,
            classes=data.classes,
        )

    @classmethod
    def read(cls, asked: Any) -> Outline:
        """The outline that `asked` has written.

        Raises:
            ValueError: If something is missing, too much, or of the wrong type.
        """
        if not isinstance(asked, dict) or asked.keys() != _CHECKS.keys():
            raise ValueError(f"expected an outline of {', '.join(_CHECKS)}, got {asked!r}")
        for name, is_sound in _CHECKS.items():
            if not is_sound(asked[name]):
                raise ValueError(f"expected the {name} of data in an outline, got {asked[name]!r}")
        return cls(**{**asked, "shape": tuple(asked["shape"])})

    def asked(self) -> dict[str, Any]:
        """All of it by name, as config.json has it."""
        return {**asdict(self), "shape": list(self.shape)}

    def data(self, binarize: str | None, class_names: tuple[str, ...]) -> Dataset:
        """Data of this outline to build a program for, each all of the lowest or highest value.

        Args:
            binarize: How they are binarised.
            class_names: A name for each label; empty if there are none.
        """
        from ppl_gen.data import Dataset, StreamedSplit

        if binarize == "static":  # whose draw has the values of the outline already
            binarize = None
        blank = StreamedSplit(
            _Blank(self),
            binarize=binarize,
            levels=self.levels,
            labelled=self.classes is not None,
            workers=0,
        )
        return Dataset(
            train=blank,
            test=blank,
            shape=self.shape,
            classes=self.classes,
            name=self.name,
            class_names=class_names,
        )


class _Blank:
    """The data of an outline, as a stream reads them.

    Args:
        outline: Their shape, number and values.
    """

    def __init__(self, outline: Outline) -> None:
        self.outline = outline

    def __len__(self) -> int:
        return self.outline.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import torch

        value = self.outline.lowest
        if index % 2:
            value = self.outline.highest
        return torch.full(self.outline.shape, float(value)), index % (self.outline.classes or 1)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**63


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_count, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


# What each entry of an outline has to be.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "name": _is_word,
    "shape": _is_shape,
    "count": _is_count,
    "levels": _is_count,
    "lowest": _is_number,
    "highest": _is_number,
    "classes": _is_count_or_none,
}


def _range(train: Any) -> tuple[float, float]:
    """The smallest and the largest value of training data, of what is observed of them."""
    x = getattr(train, "x", None)
    if x is None:
        x = train.fixed(0, min(_SEEN, len(train))).x
    observed = x[~x.isnan()]
    if not len(observed):
        return 0.0, 0.0
    return float(observed.min()), float(observed.max())
