"""What every evaluator returns: a number with its error."""

from __future__ import annotations

__all__ = ["Estimate", "Share", "by_datum", "summarised"]

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ppl_gen.inference.expect import expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

_K_HAT_LIMIT = 0.7  # with fewer than 2200 particles it is lower, which an estimate does not know
_FORMAT = re.compile(r"(?P<layout>(?:.?[<>^])?\d*)(?P<number>[+ ]?,?(?:\.\d+)?[eEfFgG%]?)")


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Result):
    """A Monte Carlo estimate, per datum (N,) or, after `.mean()`, of the average over data.

    It adds, subtracts and scales: a − b of two independent estimates of the same data is paired,
    datum by datum, with the error √(sₐ² + s_b²); the sampling error of (a − b).mean() is the spread
    of these differences. Numbers and tensors (N,) are taken as exact. Estimates computed from the
    same draws are not independent, and their difference has another error.

    Entries are picked as those of a tensor are: e[3], e[:10], e[mask].

    Attributes:
        value: The estimate, in nats per datum for an evidence.
        standard_error: Its Monte Carlo standard error: what more particles would shrink.
        ess: Effective sample size (Σw)² / Σw², from 1 to the number of particles; None where there
            are no weights.
        k_hat: Pareto shape of the weights' upper tail. Above min(1 − 1/log₁₀ K, 0.7), for K
            particles, the estimate and its error are not to be trusted (Vehtari et al. 2024, Pareto
            smoothed importance sampling). None where there are no weights, or too few.
        sampling_error: After `.mean()`, the spread over data, sd / √N: what more test data would
            shrink.

    Examples:
        >>> print(Estimate(torch.tensor([-1.0, -3.0]), torch.tensor([0.03, 0.04])).mean())
        -2.000 ± 0.025
        >>> old = Estimate(torch.tensor([-1.0, -3.0]), torch.tensor([0.03, 0.04]))
        >>> new = Estimate(torch.tensor([-0.5, -2.0]), torch.tensor([0.04, 0.03]))
        >>> print(f"{(new - old).mean():.2f}")
        0.75 ± 0.04
    """

    value: Tensor
    standard_error: Tensor
    ess: Tensor | None = None
    k_hat: Tensor | None = None
    sampling_error: Tensor | None = None

    __array_ufunc__: ClassVar[None] = None  # so that NumPy's numbers leave arithmetic to this class

    def mean(self) -> Estimate:
        """The average over data, with the standard error √(Σ sᵢ²) / N.

        Its ESS is the smallest, and its k̂ the largest, among the data. Its sampling error is NaN
        for a single datum.
        """
        value = self.value.double()
        n = value.numel()
        average = value.mean()
        summed_variance = self.standard_error.double().square().sum()
        sampling_error = torch.full_like(average, torch.nan)
        if n > 1:
            sampling_error = value.std() / n**0.5
        ess = self.ess
        if ess is not None:
            ess = ess.min()
        k_hat = self.k_hat
        if k_hat is not None:
            k_hat = k_hat.max()
        return Estimate(
            value=average,
            standard_error=summed_variance.sqrt() / n,
            ess=ess,
            k_hat=k_hat,
            sampling_error=sampling_error,
        )

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """value ± z s, which holds the truth with probability `level` if errors are normal.

        Args:
            level: The probability, between 0 and 1, for each entry by itself.

        Returns:
            The lower and the upper end, of the shape of `value`.

        Raises:
            ValueError: If level is not between 0 and 1.

        Examples:
            >>> Estimate(torch.tensor(1.0), torch.tensor(0.5)).interval()
            (tensor(0.0200), tensor(1.9800))
        """
        reach = _normal_reach(level) * self.standard_error
        return self.value - reach, self.value + reach

    @property
    def verdict(self) -> Verdict:
        """Whether value and error can be trusted, as far as the importance weights tell.

        Tags: "not-finite"; "unreliable" where k̂ is above 0.7 for any datum, else "reliable".
        Without weights nothing is tested, and there are no findings.
        """
        count = self.value.numel()
        finite = int(torch.isfinite(self.value).sum())
        if finite < count:
            sentence = f"{count - finite} of {count} values are not finite"
            return Verdict((Finding("not-finite", sentence),), passes=False)
        if self.k_hat is None or not count:
            return Verdict(())
        worst = float(self.k_hat.max())
        bad = int((~(self.k_hat <= _K_HAT_LIMIT)).sum())
        if not bad:
            sentence = f"the weights can be trusted: k̂ is at most {worst:.2f}"
            return Verdict((Finding("reliable", sentence),), passes=True)
        where = "k̂ is"
        if count > 1:
            where = f"k̂ of {bad} of {count} data is"
        sentence = (
            f"{where} above {_K_HAT_LIMIT} (up to {worst:.2f}): neither value nor error is to be "
            "trusted there; take a better guide, more particles, or ais"
        )
        return Verdict((Finding("unreliable", sentence),), passes=False)

    def table(self) -> pandas.DataFrame:
        """One row for the average over data, with its errors and 95 % interval."""
        return summarised({"mean": self})

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: value, standard_error, and ess and k_hat where there are any."""
        import pandas

        shape = self.value.shape
        index = pandas.RangeIndex(self.value.numel())
        if len(shape) > 1:
            index = pandas.MultiIndex.from_product([range(size) for size in shape])
        columns = {name: _flat(column) for name, column in self._columns().items()}
        if self.sampling_error is not None:
            columns["sampling_error"] = _flat(self.sampling_error)
        return pandas.DataFrame(columns, index=index)

    @property
    def headline(self) -> str:
        """The average over data with its Monte Carlo error, as `str` gives it."""
        return str(self)

    def __str__(self) -> str:
        mean = self._one()
        error = float(mean.standard_error)
        decimals = 3  # suits nats
        if 1e-12 < error < 5e-4:
            decimals = 1 - math.floor(math.log10(error))  # two digits of the error
        return _written(mean, f".{decimals}f")

    def __format__(self, spec: str) -> str:
        """The average and its error in a format of numbers: f"{e:.2f}", f"{e:>20.1f}", f"{e}"."""
        match = _FORMAT.fullmatch(spec)
        if match is None:
            raise ValueError(
                f"expected a format of numbers such as '.2f' or '>20.1f', got {spec!r}"
            )
        text = str(self)
        if match["number"]:
            text = _written(self._one(), match["number"])
        return format(text, match["layout"])

    def __float__(self) -> float:
        if self.value.numel() != 1:
            raise ValueError(
                f"expected one number, got an estimate of {self.value.numel()} data; say "
                "float(estimate.mean())"
            )
        return float(self.value)

    def __len__(self) -> int:
        if not self.value.dim():
            raise TypeError("expected an estimate per datum, got a single number, without length")
        return self.value.shape[0]

    def __bool__(self) -> bool:
        return True  # whatever its length: `if estimate` asks whether there is one

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Self:
        if not self.value.dim():
            raise IndexError(
                "expected an estimate per datum, got a single number, which has no entries; "
                "float(estimate) is its value"
            )
        if isinstance(index, np.ndarray | list):
            index = torch.as_tensor(index)
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            _expect_mask(index, self.value)
        picked = {name: column[index] for name, column in self._columns().items()}
        return replace(self, **picked)

    def __neg__(self) -> Estimate:
        return self * -1.0

    def __add__(self, other: Estimate | Tensor | float) -> Estimate:
        if isinstance(other, Estimate):
            return self._joined(other, self.value + _on(other.value, self.value))
        if not _is_number(other):
            return NotImplemented
        return self._with(self.value + _exact(other, self.value), 1.0)

    def __sub__(self, other: Estimate | Tensor | float) -> Estimate:
        if not isinstance(other, Estimate) and not _is_number(other):
            return NotImplemented
        return self + -1.0 * other

    def __mul__(self, factor: float) -> Estimate:
        if not isinstance(factor, Real):
            return NotImplemented
        return self._with(self.value * factor, abs(float(factor)))

    def __truediv__(self, divisor: float) -> Estimate:
        if not isinstance(divisor, Real):
            return NotImplemented
        return self * (1 / float(divisor))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Tensor | float) -> Estimate:
        return -self + other

    def _one(self) -> Estimate:
        """Itself if it is a single number, or else the average over data."""
        if self.value.dim() > 0:
            return self.mean()
        return self

    def _columns(self) -> dict[str, Tensor]:
        """What there is for each datum, by name."""
        columns = {"value": self.value, "standard_error": self.standard_error}
        if self.ess is not None:
            columns["ess"] = self.ess
        if self.k_hat is not None:
            columns["k_hat"] = self.k_hat
        return columns

    def _with(self, value: Tensor, scale: float) -> Estimate:
        """Another value with its errors scaled."""
        sampling_error = self.sampling_error
        if sampling_error is not None:
            sampling_error = sampling_error * scale
        return Estimate(
            value=value,
            standard_error=self.standard_error * scale,
            ess=self.ess,
            k_hat=self.k_hat,
            sampling_error=sampling_error,
        )

    def _joined(self, other: Estimate, value: Tensor) -> Estimate:
        """A sum or difference of two: √(sₐ² + s_b²), the smaller ESS and the larger k̂."""
        if self.value.shape != other.value.shape:
            raise ValueError(
                f"expected estimates of the same data, got shapes {tuple(self.value.shape)} and "
                f"{tuple(other.value.shape)}; score both on the same data, and average last: "
                "(a - b).mean()"
            )
        error = _on(other.standard_error, self.value)
        return Estimate(
            value=value,
            standard_error=(self.standard_error.square() + error.square()).sqrt(),
            ess=_worse(torch.minimum, self.ess, other.ess),
            k_hat=_worse(torch.maximum, self.k_hat, other.k_hat),
        )


def summarised(estimates: Mapping[str, Estimate]) -> pandas.DataFrame:
    """A row for each estimate: the average over data with its errors.

    Args:
        estimates: By the name of the row.

    Returns:
        value, standard_error and the interval of 95 % from low to high; where there are any, the
        sampling_error, the number of data, the smallest ess and the largest k_hat.
    """
    import pandas

    rows = {}
    for name, estimate in estimates.items():
        one = estimate._one()
        low, high = one.interval()
        row = {
            "value": float(one.value),
            "standard_error": float(one.standard_error),
            "low": float(low),
            "high": float(high),
        }
        if estimate.value.dim():
            row["data"] = estimate.value.numel()
        for column in ("sampling_error", "ess", "k_hat"):
            number = getattr(one, column)
            if number is not None:
                row[column] = float(number)
        rows[name] = row
    return pandas.DataFrame.from_dict(rows, orient="index")


def by_datum(estimates: Mapping[str, Estimate]) -> pandas.DataFrame:
    """A row for each datum, with columns "name" and "name error" for each estimate (N,).

    Args:
        estimates: By name, all of the same N data.
    """
    import pandas

    columns = {}
    for name, estimate in estimates.items():
        columns[name] = _flat(estimate.value)
        columns[f"{name} error"] = _flat(estimate.standard_error)
    return pandas.DataFrame(columns)


def _flat(column: Tensor) -> Any:
    return column.detach().flatten().cpu().numpy()


def _written(estimate: Estimate, spec: str) -> str:
    """value ± error of a single number, both in a format of numbers."""
    value = format(float(estimate.value), spec)
    error = float(estimate.standard_error)
    if math.isnan(error):
        return f"{value} ± unknown"
    return f"{value} ± {format(error, spec.lstrip('+ '))}"


def _is_number(other: object) -> bool:
    return isinstance(other, Real | Tensor | np.ndarray)


def _exact(other: Any, value: Tensor) -> Tensor:
    """Exact numbers beside values: one for all, or one each; raises ValueError for other shapes."""
    known = torch.as_tensor(other, device=value.device)
    if known.dim() and known.shape != value.shape:
        raise ValueError(
            f"expected a number, or numbers of shape {tuple(value.shape)} as the estimate's, got "
            f"shape {tuple(known.shape)}"
        )
    return known


def _on(column: Tensor, like: Tensor) -> Tensor:
    return column.to(like.device)


def _worse(
    which: Callable[[Tensor, Tensor], Tensor], one: Tensor | None, other: Tensor | None
) -> Tensor | None:
    """Entry by entry the one that says more against an estimate; what there is of them."""
    if one is None:
        return other
    if other is None:
        return one
    return which(one, _on(other, one))


def _expect_mask(mask: Tensor, value: Tensor) -> None:
    """Raises ValueError unless a mask has an entry for each datum."""
    if mask.shape != value.shape[: mask.dim()]:
        raise ValueError(
            f"expected a mask of shape {tuple(value.shape)}, an entry for each datum, got "
            f"{tuple(mask.shape)}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Share(Estimate):
    """A share p of N points with its standard error s, that of counting or another one.

    Its interval stays between 0 and 1, and has a width at the ends as well.

    Attributes:
        count: N, the number of points that were counted.

    Examples:
        >>> low, high = Share(torch.tensor(1.0), torch.tensor(0.0), count=100).interval()
        >>> print(f"{low:.3f} to {high:.3f}")
        0.963 to 1.000
    """

    count: int = field(kw_only=True)

    @classmethod
    def of(cls, hits: Tensor) -> Share:
        """The share of points that are hits, with the error of counting, s = √(p (1 − p) / N).

        Args:
            hits: Whether each point is one, (N,).
        """
        p = hits.double().mean()
        error = (p * (1 - p) / len(hits)).sqrt()
        return cls(p, error, count=len(hits))

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Wilson's (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n).

        n is the number of points of which counting would have the error s: q (1 − q)/s², and N at
        most, with q = (Np + ½)/(N + 1), which is neither 0 nor 1.

        Args:
            level: The probability to hold the truth, between 0 and 1.

        Returns:
            The lower and the upper end.

        Raises:
            ValueError: If level is not between 0 and 1.

        Reference:
            Wilson (1927), Probable inference, the law of succession, and statistical inference.
        """
        z = _normal_reach(level)
        p = self.value
        q = (self.count * p + 0.5) / (self.count + 1)
        n = (q * (1 - q) / self.standard_error.square()).clamp(1, self.count)
        centre = p + z**2 / (2 * n)
        reach = z * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()
        shrinkage = 1 + z**2 / n
        low = (centre - reach) / shrinkage
        high = (centre + reach) / shrinkage
        return low.clamp(min=0), high.clamp(max=1)


def _normal_reach(level: float) -> float:
    """z with P(|Z| ≤ z) = level for Z ~ N(0, 1); raises ValueError if there is none."""
    expect_level(level)
    return NormalDist().inv_cdf(0.5 + level / 2)
