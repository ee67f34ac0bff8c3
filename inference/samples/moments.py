"""Moment matching: which moment of a sample is off, and by how many standard errors."""

from __future__ import annotations

__all__ = ["Moment", "Moments", "Worst", "moments"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.samples.vectors import Features, as_vectors

if TYPE_CHECKING:
    import pandas

_LEAST = 8  # points, below which a kurtosis has no error to speak of


def moments(
    sample: Tensor, data: Tensor, features: Features | None = None, level: float = 0.95
) -> Moments:
    """Means, covariances, skewness E z³ and excess kurtosis E z⁴ − 3 (z standardised), of the
    sample minus of the data.

    Each difference has the standard error of the delta method, √(V[IF(sample)]/M + V[IF(data)]/N)
    with the influences c for a mean, z³ − g − 3z − 3g(z² − 1)/2 for a skewness g, and z⁴ − k − 4gz
    − 2k(z² − 1) for a kurtosis k = E z⁴. That of a covariance s is exact, V = (E c²c′² − s²)/N + (v
    v′ + s²)/(N(N − 1)) with the variances v: the first term vanishes where c c′ is constant. The
    z-scores are normal for large samples; with heavy tails, or features that are seldom other than
    0, hundreds of points are not enough for the covariances and kurtoses.

    A feature that is constant in both samples, at one value, is equal and not counted (the border
    pixels of images). One that is constant in the sample or in the data alone has a mean and
    covariances to compare, and is named in the verdict. Of one that takes two values only (a binary
    pixel), the mean says all: its variance, skewness and kurtosis are not counted.

    Args:
        sample: Draws of a model, (M, *shape).
        data: Held-out data, (N, *shape).
        features: From (N, *shape) to (N, D); None takes the flattened data. Covariances take D²
            numbers.
        level: The confidence of intervals and, for all moments together, of the verdict.

    Raises:
        ValueError: If there are fewer than 8 points, shapes differ, values are not finite, level is
            not between 0 and 1, all features are constant, or some have zero variance in both
            samples at different values.
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}; 0.95 is usual")
    y, x = as_vectors(sample, data, features, least=_LEAST)
    shape = tuple(data.shape[1:]) if features is None else (x.shape[1],)
    still = torch.stack([(t == t[0]).all(0) for t in (y, x)])
    _expect_variance(y, x, still, shape)
    own, other = _Side.of(y, still[0]), _Side.of(x, still[1])
    seen = ~still.all(0)
    binary = _two_valued(torch.cat([y, x]))
    pairs = (seen[:, None] & seen).triu() & ~binary.diag()
    varies = ~(still.any(0) | binary)
    counted = {"mean": seen, "covariance": pairs, "skewness": varies, "kurtosis": varies}
    parts = [
        Moment(name, a[0], b[0], (a[1] / len(y) + b[1] / len(x)).sqrt(), counted[name])
        for name, a, b in zip(counted, own, other, strict=True)
    ]
    frozen = {where: int((still[i] & seen).sum()) for i, where in enumerate(("sample", "data"))}
    mean, covariance, skewness, kurtosis = parts
    return Moments(mean, covariance, skewness, kurtosis, shape, level, frozen)


@dataclass(frozen=True, eq=False)
class Moment:
    """One kind of moment, of each feature (D,), or of each pair (D, D).

    Attributes:
        name: "mean", "covariance", "skewness" or "kurtosis".
        sample: Of the sample.
        data: Of the data.
        standard_error: Of the difference.
        counted: Which entries are compared: the upper triangle, and no moments of constants, or
            that a mean determines.
    """

    name: str
    sample: Tensor
    data: Tensor
    standard_error: Tensor
    counted: Tensor

    @property
    def difference(self) -> Estimate:
        """sample − data, with its standard error and `.interval()`."""
        return Estimate(self.sample - self.data, self.standard_error)

    @property
    def z(self) -> Tensor:
        """The difference in standard errors; NaN where it is not counted."""
        return torch.where(self.counted, (self.sample - self.data) / self.standard_error, torch.nan)


class Worst(NamedTuple):
    """The moment that is farthest off, in standard errors.

    Attributes:
        name: Such as "mean[3]", "variance[3]", "covariance[0, 3]"; pixels by their place.
        sample: Of the sample.
        data: Of the data.
        z: The difference in standard errors.
        p_value: How often the largest of all moments would be as far off by chance: Bonferroni's
            bound.
    """

    name: str
    sample: float
    data: float
    z: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Four kinds of moments of a sample against those of data.

    Attributes:
        mean: E f.
        covariance: E (f − E f)(f′ − E f′), the variances on the diagonal.
        skewness: E z³, z the standardised feature.
        kurtosis: E z⁴ − 3.
        shape: The shape of the features, by which they are named.
        level: The confidence of intervals and verdict.
        frozen: How many features are constant in "sample", or in "data", alone.
    """

    mean: Moment
    covariance: Moment
    skewness: Moment
    kurtosis: Moment
    shape: tuple[int, ...]
    level: float
    frozen: dict[str, int]

    @property
    def kinds(self) -> tuple[Moment, ...]:
        """All four."""
        return (self.mean, self.covariance, self.skewness, self.kurtosis)

    @property
    def count(self) -> int:
        """The number of moments that are compared."""
        return sum(int(kind.counted.sum()) for kind in self.kinds)

    @property
    def limit(self) -> float:
        """How many standard errors are off: at the level, divided by the number of all moments
        (Bonferroni).
        """
        return NormalDist().inv_cdf(1 - (1 - self.level) / (2 * self.count))

    @cached_property
    def worst(self) -> Worst:
        """The moment with the largest |z|."""
        return max(
            (self._worst_of(kind) for kind in self.kinds if bool(kind.counted.any())),
            key=lambda w: abs(w.z),
        )

    @property
    def matched(self) -> bool:
        """Whether no moment is off at the level, all of them considered together."""
        return self.worst.p_value > 1 - self.level

    @property
    def verdict(self) -> str:
        """Which moment is off and by how much, in words."""
        worst, many = self.worst, f"{self.count} moments"
        what = f"{worst.name}, {worst.sample:.3g} in the sample, {worst.data:.3g} in the data ({worst.z:+.1f} standard errors)"
        chance = "p < 1e-6" if worst.p_value < 1e-6 else f"p = {worst.p_value:.2g}"
        if self.matched:
            text = (
                f"No moment is off: of {many} the farthest is {what}, as chance has it ({chance})."
            )
        else:
            off = sum(self._off(kind) for kind in self.kinds)
            text = f"{off} of {many} {'is' if off == 1 else 'are'} off; the farthest is {what}, {chance}."
        for where, number in self.frozen.items():
            text += (
                f" Constant in the {where} alone: {number} of {math.prod(self.shape)} features."
                * (number > 0)
            )
        return text

    def table(self) -> pandas.DataFrame:
        """A row for each kind: how many moments, how many are off, and the farthest with its
        interval at the level.
        """
        import pandas

        rows = []
        for kind in self.kinds:
            if not bool(kind.counted.any()):
                continue
            worst = self._worst_of(kind)
            place = int(kind.z.nan_to_num(0.0).abs().argmax())
            low, high = (
                float(end.flatten()[place]) for end in kind.difference.interval(self.level)
            )
            rows.append(
                {
                    "moment": kind.name,
                    "compared": int(kind.counted.sum()),
                    "off": self._off(kind),
                    "farthest": worst.name,
                }
                | {
                    "sample": worst.sample,
                    "data": worst.data,
                    "low": low,
                    "high": high,
                    "z": worst.z,
                }
            )
        return pandas.DataFrame(rows).set_index("moment")

    def __str__(self) -> str:
        return f"{self.table().to_string(float_format='{:.4g}'.format)}\n{self.verdict}"

    def _off(self, kind: Moment) -> int:
        return int((kind.z.abs() > self.limit).sum())

    def _worst_of(self, kind: Moment) -> Worst:
        z = kind.z.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf).flatten()
        place = int(z.abs().argmax())
        tail = 2 * float(torch.special.ndtr(-z[place].abs()))
        ours, theirs = (float(t.flatten()[place]) for t in (kind.sample, kind.data))
        return Worst(
            self._name(kind, place), ours, theirs, float(z[place]), min(1.0, self.count * tail)
        )

    def _name(self, kind: Moment, place: int) -> str:
        if kind.counted.dim() == 1:
            return f"{kind.name}{_index(place, self.shape)}"
        first, second = divmod(place, len(kind.counted))
        if first == second:
            return f"variance{_index(first, self.shape)}"
        ends = _index(first, self.shape), _index(second, self.shape)
        if len(self.shape) > 1:
            return f"covariance of {ends[0]} and {ends[1]}"
        return f"covariance[{first}, {second}]"


class _Side(NamedTuple):
    """Of one sample: each kind of moment, with N times its sampling variance."""

    mean: tuple[Tensor, Tensor]
    covariance: tuple[Tensor, Tensor]
    skewness: tuple[Tensor, Tensor]
    kurtosis: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, x: Tensor, still: Tensor) -> _Side:
        """With moments of constants that are exactly 0, and skewness and kurtosis NaN."""
        n = len(x)
        mean = torch.where(still, x[0], x.mean(0))
        centred = x - mean
        covariance = centred.T @ centred / (n - 1)
        squares = centred.square()
        variance, biased = covariance.diagonal(), covariance * (n - 1) / n
        # With the biased covariance, since the other would make it negative where c c' is nearly
        # constant.
        first = (squares.T @ squares / n - biased.square()).clamp(min=0)
        spread = first + (variance[:, None] * variance + covariance.square()) / (n - 1)
        z = centred / (squares.mean(0).sqrt())
        skewness, fourth = z.pow(3).mean(0), z.pow(4).mean(0)
        of_skewness = z.pow(3) - 3 * z - 1.5 * skewness * (z.square() - 1)
        of_kurtosis = z.pow(4) - 4 * skewness * z - 2 * fourth * (z.square() - 1)
        return cls(
            (mean, variance),
            (covariance, spread),
            (skewness, of_skewness.var(0)),
            (fourth - 3, of_kurtosis.var(0)),
        )


def _two_valued(x: Tensor) -> Tensor:
    """Which features take no more than two values, (D,)."""
    low, high = x.aminmax(dim=0)
    return ((x == low) | (x == high)).all(0)


def _index(place: int, shape: Sequence[int]) -> str:
    return (
        str([int(i) for i in torch.unravel_index(torch.tensor(place), tuple(shape))])
        if shape
        else ""
    )


def _expect_variance(sample: Tensor, data: Tensor, still: Tensor, shape: Sequence[int]) -> None:
    constant = still.all(0)
    remedy = "drop them, or compare features that vary (features=PCA(data, 10))"
    if bool((constant & (sample[0] != data[0])).any()):
        which = (constant & (sample[0] != data[0])).nonzero()[:, 0].tolist()
        names = ", ".join(_index(i, shape) for i in which[:10]) + ", …" * (len(which) > 10)
        raise ValueError(
            "expected features that vary, got zero variance in both samples, at different "
            f"values, in {len(which)} of {len(constant)}: {names}; {remedy}"
        )
    if bool(constant.all()):
        raise ValueError(
            f"expected features that vary, got zero variance in all {len(constant)} features; "
            f"{remedy}"
        )
