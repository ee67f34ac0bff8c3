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
from ppl_gen.inference.expect import expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.vectors import Features, as_vectors

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_LEAST = 8  # points, below which a kurtosis has no error to speak of
_NAMED = 10  # features that an error names


def moments(
    sample: Tensor, data: Tensor, features: Features | None = None, level: float = 0.95
) -> Moments:
    """Means, covariances, skewness E z³ and kurtosis E z⁴ − 3, of the sample minus of the data.

    z is the standardised feature. Each difference has the standard error of the delta method,
    √(V[IF(sample)]/M + V[IF(data)]/N) with the influences c for a mean, z³ − g − 3z − 3g(z² − 1)/2
    for a skewness g, and z⁴ − k − 4gz − 2k(z² − 1) for a kurtosis k = E z⁴. That of a covariance s
    is exact, V = (E c²c′² − s²)/N + (v v′ + s²)/(N(N − 1)) with the variances v: the first term
    vanishes where c c′ is constant. The z-scores are normal for large samples; with heavy tails, or
    features that are seldom other than 0, hundreds of points are not enough for the covariances and
    kurtoses.

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
    expect_level(level)
    y, x = as_vectors(sample, data, features, least=_LEAST)
    shape: tuple[int, ...] = (x.shape[1],)
    if features is None:
        shape = tuple(data.shape[1:])
    is_still_y = (y == y[0]).all(0)
    is_still_x = (x == x[0]).all(0)
    _expect_variance(y, x, is_still_y & is_still_x, shape)

    # What is compared: the moments of features that vary somewhere, less those that others fix.
    is_seen = ~(is_still_y & is_still_x)
    is_binary = _two_valued(torch.cat([y, x]))
    pairs = (is_seen[:, None] & is_seen).triu() & ~is_binary.diag()
    is_shaped = ~(is_still_y | is_still_x | is_binary)
    counted = {
        "mean": is_seen,
        "covariance": pairs,
        "skewness": is_shaped,
        "kurtosis": is_shaped,
    }

    of_sample = _sampled_moments(y, is_still_y)
    of_data = _sampled_moments(x, is_still_x)
    kinds = {}
    for name, entries in counted.items():
        own = of_sample[name]
        other = of_data[name]
        variance = own.spread / len(y) + other.spread / len(x)
        kinds[name] = Moment(
            name=name,
            sample=own.value,
            data=other.value,
            standard_error=variance.sqrt(),
            counted=entries,
        )
    frozen = {
        "sample": int((is_still_y & is_seen).sum()),
        "data": int((is_still_x & is_seen).sum()),
    }
    return Moments(
        mean=kinds["mean"],
        covariance=kinds["covariance"],
        skewness=kinds["skewness"],
        kurtosis=kinds["kurtosis"],
        shape=shape,
        level=level,
        frozen=frozen,
    )


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        return f"{self.name}: {int(self.counted.sum())} compared, of shape {tuple(self.data.shape)}"


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


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Result):
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
        """The |z| above which a moment is off: at the level over all moments, by Bonferroni."""
        return NormalDist().inv_cdf(1 - (1 - self.level) / (2 * self.count))

    @cached_property
    def worst(self) -> Worst:
        """The moment with the largest |z|."""
        candidates = [self._worst_of(kind) for kind in self.kinds if bool(kind.counted.any())]
        return max(candidates, key=lambda candidate: abs(candidate.z))

    @property
    def matched(self) -> bool:
        """Whether no moment is off at the level, all of them considered together."""
        return self.worst.p_value > 1 - self.level

    @property
    def verdict(self) -> Verdict:
        """Which moment is off and by how much: tagged "matched" or "off", and "constant"."""
        findings = [self._finding()]
        for where, number in self.frozen.items():
            if number > 0:
                of_all = f"{number} of {math.prod(self.shape)} features"
                findings.append(Finding("constant", f"Constant in the {where} alone: {of_all}."))
        return Verdict(tuple(findings), passes=self.matched)

    def _finding(self) -> Finding:
        worst = self.worst
        farthest = (
            f"{worst.name}, {worst.sample:.3g} in the sample, {worst.data:.3g} in the data "
            f"({worst.z:+.1f} standard errors)"
        )
        chance = f"p = {worst.p_value:.2g}"
        if worst.p_value < 1e-6:
            chance = "p < 1e-6"
        if self.matched:
            sentence = (
                f"No moment is off: of {self.count} moments the farthest is {farthest}, as chance "
                f"has it ({chance})."
            )
            return Finding("matched", sentence)
        off = sum(self._off(kind) for kind in self.kinds)
        verb = "are"
        if off == 1:
            verb = "is"
        sentence = (
            f"{off} of {self.count} moments {verb} off; the farthest is {farthest}, {chance}."
        )
        return Finding("off", sentence)

    def table(self) -> pandas.DataFrame:
        """A row for each kind of moment, with the one that is farthest off.

        Returns:
            Indexed by "moment", its name; "compared" and "off", numbers of moments; "farthest", a
            name, with its value in "sample" and "data", the interval of the difference at the level
            from "low" to "high", and "z".
        """
        import pandas

        rows = []
        for kind in self.kinds:
            if not bool(kind.counted.any()):
                continue
            worst = self._worst_of(kind)
            place = int(_comparable(kind).abs().argmax())
            low, high = kind.difference.interval(self.level)
            rows.append(
                {
                    "moment": kind.name,
                    "compared": int(kind.counted.sum()),
                    "off": self._off(kind),
                    "farthest": worst.name,
                    "sample": worst.sample,
                    "data": worst.data,
                    "low": float(low.flatten()[place]),
                    "high": float(high.flatten()[place]),
                    "z": worst.z,
                }
            )
        return pandas.DataFrame(rows).set_index("moment")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each moment that is compared, indexed by its name.

        Returns:
            "kind"; its value in "sample" and "data"; their "difference" with its "standard_error",
            and "z".
        """
        import pandas

        parts = []
        for kind in self.kinds:
            places = kind.counted.flatten().nonzero().flatten().tolist()
            columns = {
                "sample": kind.sample,
                "data": kind.data,
                "difference": kind.difference.value,
                "standard_error": kind.standard_error,
                "z": kind.z,
            }
            names = pandas.Index([self._name(kind, place) for place in places], name="moment")
            part = pandas.DataFrame({"kind": kind.name}, index=names)
            for name, column in columns.items():
                part[name] = column.flatten()[places].cpu().numpy()
            parts.append(part)
        return pandas.concat(parts)

    def plot(self, title: str = "") -> Figure:
        """Moments of the sample against those of the data, see `ppl_gen.plots.samples.moments`.

        Args:
            title: Stands above.
        """
        from ppl_gen.plots.samples import moments

        return moments(self, title)

    def __str__(self) -> str:
        return f"{self.table().to_string(float_format='{:.4g}'.format)}\n{self.verdict}"

    def _off(self, kind: Moment) -> int:
        return int((kind.z.abs() > self.limit).sum())

    def _worst_of(self, kind: Moment) -> Worst:
        z = _comparable(kind)
        place = int(z.abs().argmax())
        tail = 2 * float(torch.special.ndtr(-z[place].abs()))
        return Worst(
            name=self._name(kind, place),
            sample=float(kind.sample.flatten()[place]),
            data=float(kind.data.flatten()[place]),
            z=float(z[place]),
            p_value=min(1.0, self.count * tail),
        )

    def _name(self, kind: Moment, place: int) -> str:
        """Of the entry at a place, counted through the flattened moments: "mean[3]"."""
        if kind.counted.dim() == 1:
            return f"{kind.name}{_index(place, self.shape)}"
        first, second = divmod(place, len(kind.counted))
        if first == second:
            return f"variance{_index(first, self.shape)}"
        if len(self.shape) > 1:
            return f"covariance of {_index(first, self.shape)} and {_index(second, self.shape)}"
        return f"covariance[{first}, {second}]"


def _comparable(kind: Moment) -> Tensor:
    """Its z-scores in a row, 0 where they are not counted."""
    return kind.z.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf).flatten()


class _Sampled(NamedTuple):
    """One kind of moment of one sample.

    Attributes:
        value: Of each feature (D,), or of each pair (D, D).
        spread: N times its sampling variance.
    """

    value: Tensor
    spread: Tensor


def _sampled_moments(x: Tensor, is_still: Tensor) -> dict[str, _Sampled]:
    """All kinds by their names; exactly 0, or NaN for skewness and kurtosis, of constants."""
    n = len(x)
    mean = torch.where(is_still, x[0], x.mean(0))
    centred = x - mean
    covariance = centred.T @ centred / (n - 1)
    variance = covariance.diagonal()
    squares = centred.square()
    # With the biased covariance, since the other would make it negative where c c' is nearly
    # constant.
    biased = covariance * (n - 1) / n
    first = (squares.T @ squares / n - biased.square()).clamp(min=0)
    second = (variance[:, None] * variance + covariance.square()) / (n - 1)
    z = centred / squares.mean(0).sqrt()
    skewness = z.pow(3).mean(0)
    fourth = z.pow(4).mean(0)
    influence_on_skewness = z.pow(3) - 3 * z - 1.5 * skewness * (z.square() - 1)
    influence_on_kurtosis = z.pow(4) - 4 * skewness * z - 2 * fourth * (z.square() - 1)
    return {
        "mean": _Sampled(mean, variance),
        "covariance": _Sampled(covariance, first + second),
        "skewness": _Sampled(skewness, influence_on_skewness.var(0)),
        "kurtosis": _Sampled(fourth - 3, influence_on_kurtosis.var(0)),
    }


def _two_valued(x: Tensor) -> Tensor:
    """Which features take no more than two values, (D,)."""
    low, high = x.aminmax(dim=0)
    return ((x == low) | (x == high)).all(0)


def _index(place: int, shape: Sequence[int]) -> str:
    """A place in a flattened tensor as its index, "[0, 2, 3]"; "" for data of shape ()."""
    if not shape:
        return ""
    indices = torch.unravel_index(torch.tensor(place), tuple(shape))
    return str([int(i) for i in indices])


def _expect_variance(
    sample: Tensor, data: Tensor, is_constant: Tensor, shape: Sequence[int]
) -> None:
    """Raises ValueError if all features are constant, or one at different values in both."""
    remedy = "drop them, or compare features that vary (features=PCA(data, 10))"
    differs = is_constant & (sample[0] != data[0])
    differing = differs.nonzero()[:, 0].tolist()
    if differing:
        names = ", ".join(_index(i, shape) for i in differing[:_NAMED])
        if len(differing) > _NAMED:
            names += ", …"
        raise ValueError(
            "expected features that vary, got zero variance in both samples, at different "
            f"values, in {len(differing)} of {len(is_constant)}: {names}; {remedy}"
        )
    if bool(is_constant.all()):
        raise ValueError(
            f"expected features that vary, got zero variance in all {len(is_constant)} features; "
            f"{remedy}"
        )
