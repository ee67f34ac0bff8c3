"""What a cell measures: numbers with their standard errors, and averages of them over seeds."""

from __future__ import annotations

__all__ = ["Number", "Spread", "average", "number_of", "shown"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ppl_gen.inference import Estimate

_DIGITS = 4  # of a number whose error is not known
_LEAST_EXPONENT = -4  # of a number that is written without one
_MOST_EXPONENT = 6
_ROUNDING = 1e-12  # of a number: an error that is none


class Number(NamedTuple):
    """One number with its standard error.

    Attributes:
        value: The number.
        error: Its standard error; None where it is exact, or the error is not known.
    """

    value: float
    error: float | None = None


class Spread(NamedTuple):
    """A number over the seeds that it was measured under.

    Attributes:
        mean: The average over seeds.
        error: Its standard error: sd / √n over n ≥ 2 seeds, that of the number itself over one;
            None where it is not known.
        deviation: sd over seeds, with n − 1; None for one seed.
        seeds: n, how many there are.
    """

    mean: float
    error: float | None
    deviation: float | None
    seeds: int

    @classmethod
    def over(cls, numbers: Sequence[Number]) -> Spread:
        """The spread of numbers that differ by their seed.

        Args:
            numbers: At least one.
        """
        n = len(numbers)
        mean = sum(number.value for number in numbers) / n
        if n == 1:
            return cls(mean, numbers[0].error, None, 1)
        squares = sum((number.value - mean) ** 2 for number in numbers)
        deviation = math.sqrt(squares / (n - 1))
        return cls(mean, deviation / math.sqrt(n), deviation, n)


def number_of(found: Any) -> Number:
    """A number from what a measure gives: an `Estimate`, a `Number`, a pair, or a bare number.

    Args:
        found: A single estimate, its Monte Carlo error being the error; (value, error); a number or
            a tensor with one entry, whose error is not known.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(found, Estimate) and found.value.numel() == 1:
        return Number(float(found), float(found.standard_error))
    if isinstance(found, tuple) and len(found) == 2:
        value, error = found
        return Number(float(value), _known(error))
    if isinstance(found, int | float) or (isinstance(found, Tensor) and found.numel() == 1):
        return Number(float(found))
    raise ValueError(
        f"expected a number, a pair (value, error) or an estimate of one number, got "
        f"{type(found).__name__}; say .mean()"
    )


def _known(error: Any) -> float | None:
    if error is None or math.isnan(error):
        return None
    return float(error)


def average(values: Tensor) -> Number:
    """The average of numbers, one for each datum or draw, with its standard error sd / √N.

    Args:
        values: (N,), with N of at least 1; the error is not known for one.
    """
    values = values.detach().double().flatten()
    n = len(values)
    if n == 1:
        return Number(float(values))
    return Number(float(values.mean()), float(values.std() / math.sqrt(n)))


def shown(value: float, error: float | None = None) -> str:
    """A number as a table has it, two digits of its error: "−22.541 ± 0.047", "0.5".

    Args:
        value: The number.
        error: Its standard error; None for a number alone.
    """
    if not math.isfinite(value):
        return str(value)
    if error is None or not _ROUNDING * abs(value) < error < math.inf:
        if value == round(value) and abs(value) < 10**_MOST_EXPONENT:
            return f"{value:.0f}"
        return f"{value:.{_DIGITS}g}"
    least = math.floor(math.log10(error)) - 1  # the place of the second digit of the error
    greatest = math.floor(math.log10(max(abs(value), error)))
    if greatest < _LEAST_EXPONENT or greatest >= _MOST_EXPONENT:
        digits = max(0, greatest - least)
        return f"{value:.{digits}e} ± {error:.1e}"
    decimals = max(0, -least)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
