"""Numbers that functions are given: counts are whole and in range, sizes positive and finite."""

from __future__ import annotations

__all__ = ["expect_at_least", "expect_number", "expect_positive", "expect_weight"]

import math
import operator
from typing import Any

_MOST = 2**63 - 1  # the largest whole number that a tensor holds


def expect_at_least(least: int, **counts: Any) -> None:
    """Raises ValueError unless each is a whole number from `least` to 2⁶³ − 1; None is passed over.

    Args:
        least: The smallest that is allowed.
        **counts: By the names that the caller knows them by.
    """
    for name, count in counts.items():
        if count is None:
            continue
        if not _is_whole(count):
            raise ValueError(f"expected {name} as a whole number, got {_shown(count)}")
        if count < least:
            raise ValueError(f"expected {name} of at least {least}, got {count}")
        if count > _MOST:
            raise ValueError(f"expected {name} below 2⁶³, got {count}")


def expect_positive(**numbers: Any) -> None:
    """Raises ValueError unless each is a number above zero and finite; None is passed over.

    Args:
        **numbers: By the names that the caller knows them by.
    """
    for name, number in numbers.items():
        if number is None:
            continue
        expect_number(**{name: number})
        if not 0 < number < math.inf:
            raise ValueError(f"expected a positive, finite {name}, got {number}")


def expect_number(**numbers: Any) -> None:
    """Raises ValueError unless each is one real number, NaN and infinity among them.

    Args:
        **numbers: By the names that the caller knows them by.
    """
    for name, number in numbers.items():
        try:
            float(number)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            is_number = False
        else:
            is_number = not isinstance(number, str | bytes)
        if not is_number:
            raise ValueError(f"expected {name} as one number, got {_shown(number)}")


def expect_weight(**weights: float) -> None:
    """Raises ValueError unless every weight of a loss is finite and at least 0.

    Args:
        **weights: By the names that the caller knows them by.
    """
    for name, weight in weights.items():
        expect_number(**{name: weight})
        if not 0 <= weight < math.inf:
            raise ValueError(f"expected a finite {name} of at least 0, got {weight}")


def _is_whole(count: Any) -> bool:
    try:
        operator.index(count)
    except TypeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value in an error, cut short: tensors are long."""
    return " ".join(repr(value).split())[:40]
