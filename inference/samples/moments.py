"""Moment matching: which moment of a sample is off, and by how many of its errors."""

from __future__ import annotations

__all__ = ["Moment", "Moments", "Worst", "moments"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import seeded
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.permutation import random_orders
from ppl_gen.inference.samples.vectors import Features, as_vectors, expect_permutations

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_LEAST = 8  # points, below which a kurtosis has no error to speak of
_NAMED = 10  # features that an error names
_SCALE_FREE = ("skewness", "kurtosis")
_PERMUTATIONS = 500
_WIDE = 256  # features, beyond which there are fewer permutations
_FEW_PERMUTATIONS = 99
_ROUNDING = (
    1e-9  # relative: equal values may differ in their last digits, by the order of summation
)


def moments(
    sample: Tensor,
    data: Tensor,
    features: Features | None = None,
    level: float = 0.95,
    permutations: int | None = None,
    seed: int | None = 0,
) -> Moments:
    """Means, covariances, skewness E z³ and kurtosis E z⁴ − 3, of the sample minus of the data.

    z is the standardised feature. Each difference has two errors, from the variance v/N of each
    side. The standard error √(v_M/M + v_N/N), Welch's, is that of the difference, whatever the two
    distributions are; intervals are made of it. The null error is the larger of that and
    √(v_M/N + v_N/M), Student's, which holds where the distributions are equal: a test counts in
    null errors, since with few points v is itself uncertain. Of skewness and kurtosis, which have
    no scale, the null error is the standard error too: v of tens of points is mostly too small.

    p-values are those of a permutation test of |difference| / null error, the same for each
    permutation of the pooled points. They are exact at any sizes and for any distribution: if
    both samples are of one, p ≤ α with a probability of at most α. The verdict is that of the
    largest over all moments.

    v is by the delta method the variance of the influences c for a mean, z³ − g − 3z − 3g(z² − 1)/2
    for a skewness g, and z⁴ − k − 4gz − 2k(z² − 1) for a kurtosis k = E z⁴. That of a covariance s
    is exact, v = E c²c′² − s² + (w w′ + s²)/(N − 1) with the variances w: what stands first
    vanishes where c c′ is constant. Standard errors, unlike p-values, want points: with tens of
    them the intervals of variances miss the truth more often than they say; with heavy tails, or
    features that are seldom other than 0, so do those of covariances and kurtoses with hundreds.

    A feature that is constant in both samples, at one value, is equal and not counted (the border
    pixels of images). One that is constant in the sample or in the data alone has a mean and
    covariances to compare, and is named in the verdict. Of one that takes two values only (a binary
    pixel), the mean says all: its variance, skewness and kurtosis are not counted.

    Args:
        sample: Draws of a model, (M, *shape).
        data: Held-out data, (N, *shape).
        features: From (N, *shape) to (N, D); None takes the flattened data. Covariances take D²
            numbers, and each permutation a time of (M + N) D².
        level: The confidence of intervals and, for all moments together, of the verdict.
        permutations: P, at least 19 and 1 / (1 − level) − 1; None takes 500, and 99 of more than
            256 features.
        seed: Seeds the permutations and leaves the global generator as it was; None draws from the
            global one.

    Raises:
        ValueError: If there are fewer than 8 points, shapes differ, values are not finite, level is
            not between 0 and 1, permutations are too few for it, all features are constant, or some
            have zero variance in both samples at different values.

    Reference:
        Chung and Romano (2013), Exact and asymptotically robust permutation tests, for statistics
        in units of their errors; Westfall and Young (1993), Resampling-based multiple testing,
        section 2.5, for the largest of many.
    """
    expect_level(level)
    y, x = as_vectors(sample, data, features, least=_LEAST)
    if permutations is None:
        permutations = _default_permutations(x.shape[1])
    _expect_enough(permutations, level)
    expect_permutations(permutations, len(x) + len(y))
    shape: tuple[int, ...] = (x.shape[1],)
    if features is None:
        shape = tuple(data.shape[1:])
    is_still_y = _constant(y.T)
    is_still_x = _constant(x.T)
    _expect_variance(y, x, is_still_y & is_still_x, shape)

    # What is compared: the moments of features that vary somewhere, less those that others fix.
    is_seen = ~(is_still_y & is_still_x)
    is_binary = _two_valued(torch.cat([y, x]))
    pairs = (is_seen[:, None] & is_seen).triu() & ~is_binary.diag()
    is_shaped = ~is_binary
    comparable = {
        "mean": is_seen,
        "covariance": pairs,
        "skewness": is_shaped,
        "kurtosis": is_shaped,
    }

    pooled = torch.cat([y, x]).T.contiguous()
    m = len(y)
    compared = _compare(pooled[:, :m], pooled[:, m:])
    observed = {name: _comparable(found.z, comparable[name]) for name, found in compared.items()}
    with seeded(x.device, seed):
        orders = random_orders(pooled.shape[1], permutations, x.device)
    null, reached = _permute(pooled, m, orders, comparable, observed)
    kinds = {}
    for name, found in compared.items():
        kinds[name] = Moment(
            name=name,
            sample=found.sample,
            data=found.data,
            standard_error=found.standard_error,
            null_error=found.null_error,
            p_value=(1 + reached[name]) / (1 + permutations),
            counted=comparable[name] & ~found.z.isnan(),
        )
    still = torch.stack([is_still_y & is_seen, is_still_x & is_seen])
    frozen = dict(zip(("sample", "data"), still.sum(1).tolist(), strict=True))
    return Moments(
        mean=kinds["mean"],
        covariance=kinds["covariance"],
        skewness=kinds["skewness"],
        kurtosis=kinds["kurtosis"],
        shape=shape,
        level=level,
        frozen=frozen,
        null=null,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Moment:
    """One kind of moment, of each feature (D,), or of each pair (D, D).

    Attributes:
        name: "mean", "covariance", "skewness" or "kurtosis".
        sample: Of the sample.
        data: Of the data.
        standard_error: Of the difference, whether the distributions are equal or not.
        null_error: Of the difference if both samples are of one distribution: what a test counts
            in. At least the standard error.
        p_value: The chance of such a difference in null errors, or a larger one, if both samples
            were of one distribution: of each moment by itself.
        counted: Which entries are compared: the upper triangle, and no moments of constants, or
            that a mean determines.
    """

    name: str
    sample: Tensor
    data: Tensor
    standard_error: Tensor
    null_error: Tensor
    p_value: Tensor
    counted: Tensor

    @property
    def difference(self) -> Estimate:
        """sample − data, with its standard error and `.interval()`."""
        return Estimate(self.sample - self.data, self.standard_error)

    @property
    def z(self) -> Tensor:
        """The difference in null errors; NaN where it is not counted."""
        return torch.where(self.counted, (self.sample - self.data) / self.null_error, torch.nan)

    def __repr__(self) -> str:
        return f"{self.name}: {int(self.counted.sum())} compared, of shape {tuple(self.data.shape)}"


class Worst(NamedTuple):
    """The moment that is farthest off, in null errors.

    Attributes:
        name: Such as "mean[3]", "variance[3]", "covariance[0, 3]"; pixels by their place.
        sample: Of the sample.
        data: Of the data.
        z: The difference in null errors.
        p_value: How often the largest of all moments would be as far off by chance, by permutation.
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
        null: The largest |z| of all moments after each permutation, (permutations,).
    """

    mean: Moment
    covariance: Moment
    skewness: Moment
    kurtosis: Moment
    shape: tuple[int, ...]
    level: float
    frozen: dict[str, int]
    null: Tensor

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
        """The |z| above which a moment is off: at the level over all moments, by permutation."""
        largest = self.null.topk(_allowed(len(self.null), self.level)).values
        return float(largest[-1]) * (1 + _ROUNDING)

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
            f"(z = {worst.z:+.1f})"
        )
        chance = f"p = {worst.p_value:.2g}"
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
            from "low" to "high", by its standard error; "z", in null errors; and "p", how often
            the largest of all moments would be as far off by chance.
        """
        import pandas

        rows = []
        for kind in self.kinds:
            if not bool(kind.counted.any()):
                continue
            worst = self._worst_of(kind)
            place = _farthest(kind)
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
                    "p": worst.p_value,
                }
            )
        return pandas.DataFrame(rows).set_index("moment")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each moment that is compared, indexed by its name.

        Returns:
            "kind"; its value in "sample" and "data"; their "difference" with its "standard_error"
            and "null_error", "z", and "p_value", of each by itself.
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
                "null_error": kind.null_error,
                "z": kind.z,
                "p_value": kind.p_value,
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
        place = _farthest(kind)
        z = float(kind.z.flatten()[place])
        reached = int((self.null >= abs(z) * (1 - _ROUNDING)).sum())
        return Worst(
            name=self._name(kind, place),
            sample=float(kind.sample.flatten()[place]),
            data=float(kind.data.flatten()[place]),
            z=z,
            p_value=(1 + reached) / (1 + len(self.null)),
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


def _farthest(kind: Moment) -> int:
    """The place of the largest |z|, counted through the flattened moments."""
    return int(torch.where(kind.counted, kind.z.abs(), -1.0).argmax())


def _comparable(z: Tensor, is_compared: Tensor) -> Tensor:
    """|z| (…, D) or (…, D, D) in rows, 0 where it is not defined or not compared."""
    size = torch.where(is_compared, z.abs(), 0.0).nan_to_num(0.0, posinf=math.inf)
    return size.flatten(-is_compared.dim())


class _Compared(NamedTuple):
    """One kind of moment of a sample beside that of data, (…, D), or (…, D, D) of pairs.

    Attributes:
        sample: Of the sample.
        data: Of the data.
        standard_error: Of their difference: Welch's, but of skewness and kurtosis the null error.
        null_error: The larger of Welch's and Student's.
    """

    sample: Tensor
    data: Tensor
    standard_error: Tensor
    null_error: Tensor

    @property
    def z(self) -> Tensor:
        """The difference in null errors; NaN where it is not defined."""
        return (self.sample - self.data) / self.null_error


def _compare(y: Tensor, x: Tensor) -> dict[str, _Compared]:
    """All kinds by their names, of features y (…, D, M) and x (…, D, N)."""
    m = y.shape[-1]
    n = x.shape[-1]
    of_data = _sampled_moments(x)
    compared = {}
    for name, own in _sampled_moments(y).items():
        other = of_data[name]
        welch = own.spread / m + other.spread / n
        student = own.spread / n + other.spread / m
        larger = torch.maximum(welch, student)
        if name in _SCALE_FREE:
            welch = larger
        compared[name] = _Compared(
            sample=own.value,
            data=other.value,
            standard_error=welch.sqrt(),
            null_error=larger.sqrt(),
        )
    return compared


def _permute(
    pooled: Tensor,
    m: int,
    orders: Tensor,
    comparable: Mapping[str, Tensor],
    observed: Mapping[str, Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the moments are after permutations of the pooled points.

    Args:
        pooled: The features of both samples, (D, M + N).
        m: M, how many points are given to the first.
        orders: The permutations, (P, M + N).
        comparable: Which entries of each kind are compared, (D,) or (D, D).
        observed: |z| of each kind before, in a row.

    Returns:
        The largest |z| of all kinds after each permutation, (P,); and of each kind, how many
        permutations reach the observed |z|, (D,) or (D, D).
    """
    parts = []
    reached = {name: torch.zeros_like(size, dtype=torch.long) for name, size in observed.items()}
    width = len(pooled) * max(pooled.shape)
    for part in orders.split(memory.rows(memory.PERMUTED, width)):
        permuted = pooled[:, part].transpose(0, 1)
        largest = pooled.new_zeros(len(part))
        for name, found in _compare(permuted[..., :m], permuted[..., m:]).items():
            z = _comparable(found.z, comparable[name])
            largest = torch.maximum(largest, z.amax(1))
            is_reached = z >= observed[name] * (1 - _ROUNDING)
            reached[name] += is_reached.sum(0)
        parts.append(largest)
    shaped = {name: count.view_as(comparable[name]) for name, count in reached.items()}
    return torch.cat(parts), shaped


class _Sampled(NamedTuple):
    """One kind of moment of a sample.

    Attributes:
        value: Of each feature (…, D), or of each pair (…, D, D).
        spread: N times its sampling variance.
    """

    value: Tensor
    spread: Tensor


def _sampled_moments(x: Tensor) -> dict[str, _Sampled]:
    """All kinds by their names, of features (…, D, N).

    Of constants they are exactly 0, or NaN for skewness and kurtosis.
    """
    n = x.shape[-1]
    mean = torch.where(_constant(x), x[..., 0], x.mean(-1))
    centred = x - mean.unsqueeze(-1)
    covariance = centred @ centred.mT / (n - 1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    squares = centred.square()
    # With the biased covariance, since the other would make it negative where c c' is nearly
    # constant.
    biased = covariance * (n - 1) / n
    first = (squares @ squares.mT / n - biased.square()).clamp(min=0)
    products = variance.unsqueeze(-1) * variance.unsqueeze(-2)
    second = (products + covariance.square()) / (n - 1)
    z = centred / squares.mean(-1, keepdim=True).sqrt()
    z_squared = z.square()
    z_cubed = z_squared * z
    z_fourth = z_squared.square()
    g = z_cubed.mean(-1, keepdim=True)
    k = z_fourth.mean(-1, keepdim=True)
    influence_on_skewness = z_cubed - g - 3 * z - 1.5 * g * (z_squared - 1)
    influence_on_kurtosis = z_fourth - k - 4 * g * z - 2 * k * (z_squared - 1)
    return {
        "mean": _Sampled(mean, variance),
        "covariance": _Sampled(covariance, first + second),
        "skewness": _Sampled(g.squeeze(-1), _variance_of_centred(influence_on_skewness)),
        "kurtosis": _Sampled(k.squeeze(-1) - 3, _variance_of_centred(influence_on_kurtosis)),
    }


def _variance_of_centred(values: Tensor) -> Tensor:
    """Of values (…, N) whose mean is 0."""
    return values.square().sum(-1) / (values.shape[-1] - 1)


def _constant(x: Tensor) -> Tensor:
    """Which features (…, D, N) take one value only, (…, D)."""
    return (x == x[..., :1]).all(-1)


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


def _default_permutations(width: int) -> int:
    """How many permutations there are where none are asked for, of a number of features."""
    if width > _WIDE:
        return _FEW_PERMUTATIONS
    return _PERMUTATIONS


def _allowed(permutations: int, level: float) -> int:
    """How many of the permutations and the samples as they are may be as far off at the level."""
    return math.floor((1 - level) * (1 + permutations) * (1 + _ROUNDING))


def _expect_enough(permutations: int, level: float) -> None:
    """Raises ValueError if no p-value can be as small as the level demands."""
    expect_permutations(permutations)
    if _allowed(permutations, level) < 1:
        least = math.ceil(1 / (1 - level)) - 1
        raise ValueError(
            f"expected at least {least} permutations for a level of {level}, got {permutations}; "
            "raise permutations, or lower level"
        )


def _expect_variance(
    sample: Tensor, data: Tensor, is_constant: Tensor, shape: Sequence[int]
) -> None:
    """Raises ValueError if all features are constant, or one at different values in both."""
    remedy = "drop them, or compare features that vary (features=PCA(data, 10))"
    differs = is_constant & (sample[0] != data[0])
    some_differ, all_constant = torch.stack([differs.any(), is_constant.all()]).tolist()
    if some_differ:
        differing = differs.nonzero()[:, 0].tolist()
        names = ", ".join(_index(i, shape) for i in differing[:_NAMED])
        if len(differing) > _NAMED:
            names += ", …"
        raise ValueError(
            "expected features that vary, got zero variance in both samples, at different "
            f"values, in {len(differing)} of {len(is_constant)}: {names}; {remedy}"
        )
    if all_constant:
        raise ValueError(
            f"expected features that vary, got zero variance in all {len(is_constant)} features; "
            f"{remedy}"
        )
