"""Moment matching: which moment of a sample is off, and by how many of its errors."""

from __future__ import annotations

__all__ = ["Moment", "Moments", "Worst", "moments"]

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import are_batches, expect_devices
from ppl_gen.contexts import seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.permutation import random_orders
from ppl_gen.inference.samples.sampled_moments import (
    Sampled,
    Streamed,
    constant,
    expect_alike,
    sampled_moments,
)
from ppl_gen.inference.samples.vectors import Features, as_vectors, expect_permutations

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
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
    sample: Tensor | Iterable[tuple[Tensor, ...]],
    data: Tensor | Iterable[tuple[Tensor, ...]],
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

    Data that do not fit into memory come in batches, three times, or in a tensor whose storage is a
    file, `torch.from_numpy(np.load("x.npy", mmap_mode="c"))`, of numbers as they are stored: some
    points are held at a time, and D² numbers a few times. There are no permutations then, as
    without any (`permutations=0`): p-values are those of a normal z, that of the largest of m is at
    most 1 − (1 − p)ᵐ (Šidák), which wants hundreds of points of light tails, and is too large
    where moments go together.

    p-values are else those of a permutation test of |difference| / null error, the same for each
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
        sample: Draws of a model, (M, *shape); or batches of them.
        data: Held-out data, (N, *shape); or batches of them, such as `split.batches(1000)`, the
            same in every pass: not binarised anew. Of a batch (x, y), x is taken.
        features: From (N, *shape) to (N, D); None takes the flattened data. Covariances take D²
            numbers, and each permutation a time of (M + N) D².
        level: The confidence of intervals and, for all moments together, of the verdict.
        permutations: P, at least 19 and 1 / (1 − level) − 1; 0 for p-values of normal z. None takes
            500, 99 of more than 256 features, and 0 of batches.
        seed: Seeds the permutations and leaves the global generator as it was; None draws from the
            global one.

    Raises:
        ValueError: If there are fewer than 8 points, shapes differ, values are not finite, level is
            not between 0 and 1, permutations are too few for it, or asked for of batches, all
            features are constant, some have zero variance in both samples at different values, or
            batches are others in another pass.

    Examples:
        >>> found = moments(torch.randn(500, 2) + 1, torch.randn(500, 2), seed=0)
        >>> found.matched  # the means differ
        False

    Reference:
        Chung and Romano (2013), Exact and asymptotically robust permutation tests, for statistics
        in units of their errors; Westfall and Young (1993), Resampling-based multiple testing,
        section 2.5, for the largest of many; Šidák (1967), Rectangular confidence regions for the
        means of multivariate normal distributions, for the largest of many normal ones.
    """
    expect_level(level)
    expect_at_least(0, permutations=permutations)
    is_in_batches = are_batches(sample) or are_batches(data)
    if permutations is None and is_in_batches:
        permutations = 0
    if permutations == 0:
        return _without_permutations(sample, data, features, level)
    if is_in_batches:
        raise ValueError(
            f"expected tensors to permute, got batches and permutations={permutations}; leave it "
            "out, or give points that fit into memory"
        )
    points = cast("tuple[Tensor, Tensor]", (sample, data))
    return _permuted(*points, features, level, permutations, seed)


def _permuted(
    sample: Tensor,
    data: Tensor,
    features: Features | None,
    level: float,
    permutations: int | None,
    seed: int | None,
) -> Moments:
    """Of samples in memory, with p-values by permutations of their points."""
    y, x = as_vectors(sample, data, features, least=_LEAST)
    if permutations is None:
        permutations = _default_permutations(x.shape[1])
    _expect_enough(permutations, level)
    expect_permutations(permutations, len(x) + len(y))
    shape: tuple[int, ...] = (x.shape[1],)
    if features is None:
        shape = tuple(data.shape[1:])
    is_still_y = constant(y.T)
    is_still_x = constant(x.T)
    _expect_variance(y[0], x[0], is_still_y & is_still_x, shape)
    pooled = torch.cat([y, x])
    comparable = _comparable_entries(is_still_y & is_still_x, _two_valued(pooled))
    pooled = pooled.T.contiguous()
    m = len(y)
    compared = _compare(pooled[:, :m], pooled[:, m:])
    observed = {name: _comparable(found.z, comparable[name]) for name, found in compared.items()}
    with seeded(x.device, seed):
        orders = random_orders(pooled.shape[1], permutations, x.device)
    null, reached = _permute(pooled, m, orders, comparable, observed)
    p_values = {name: (1 + count) / (1 + permutations) for name, count in reached.items()}
    return _found(compared, comparable, p_values, is_still_y, is_still_x, shape, level, null)


def _without_permutations(
    sample: Any, data: Any, features: Features | None, level: float
) -> Moments:
    """Of samples that come in parts, with p-values of normal z."""
    expect_devices((features,), (sample, data))
    y = Streamed(sample, features)
    x = Streamed(data, features)
    expect_alike(y, x, _LEAST)
    is_still_y = y.is_constant
    is_still_x = x.is_constant
    shape = x.shape
    _expect_variance(y.low, x.low, is_still_y & is_still_x, shape)
    low = torch.minimum(y.low, x.low)
    high = torch.maximum(y.high, x.high)
    of_y, is_binary_y = y.moments(low, high)
    of_x, is_binary_x = x.moments(low, high)
    comparable = _comparable_entries(is_still_y & is_still_x, is_binary_y & is_binary_x)
    compared = _difference(of_y, y.count, of_x, x.count)
    p_values = {name: _two_sided(found.z) for name, found in compared.items()}
    null = x.low.new_empty(0)
    return _found(compared, comparable, p_values, is_still_y, is_still_x, shape, level, null)


def _comparable_entries(is_still: Tensor, is_binary: Tensor) -> dict[str, Tensor]:
    """Which moments of each kind are compared, (D,) or (D, D), less those that others fix.

    Args:
        is_still: Which features are constant in both samples, (D,).
        is_binary: Which take no more than two values in both together, (D,).
    """
    is_seen = ~is_still
    pairs = (is_seen[:, None] & is_seen).triu() & ~is_binary.diag()
    return {
        "mean": is_seen,
        "covariance": pairs,
        "skewness": ~is_binary,
        "kurtosis": ~is_binary,
    }


def _found(
    compared: Mapping[str, _Compared],
    comparable: Mapping[str, Tensor],
    p_values: Mapping[str, Tensor],
    is_still_y: Tensor,
    is_still_x: Tensor,
    shape: tuple[int, ...],
    level: float,
    null: Tensor,
) -> Moments:
    """The result, of all kinds of moments with their p-values."""
    is_seen = comparable["mean"]
    kinds = {}
    for name, found in compared.items():
        kinds[name] = Moment(
            name=name,
            sample=found.sample,
            data=found.data,
            standard_error=found.standard_error,
            null_error=found.null_error,
            p_value=p_values[name],
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
            were of one distribution, by permutation or that of a normal z: of each moment by
            itself.
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
        p_value: How often the largest of all moments would be as far off by chance, by permutation;
            at most so often, without permutations.
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
        null: The largest |z| of all moments after each permutation, (permutations,); empty if there
            were none.

    Examples:
        >>> found = moments(torch.randn(500, 2), torch.randn(500, 2) * 2, seed=0)
        >>> found.matched, found.shape
        (False, (2,))
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
        """The |z| above which a moment is off: at the level over all moments."""
        if not len(self.null):
            return _normal_limit(self.level, self.count)
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

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Moments of the sample against those of the data, see `ppl_gen.plots.samples.moments`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.samples import moments

        return moments(self, title, ax=ax)

    def __str__(self) -> str:
        return f"{self.table().to_string(float_format='{:.4g}'.format)}\n{self.verdict}"

    def _off(self, kind: Moment) -> int:
        return int((kind.z.abs() > self.limit).sum())

    def _worst_of(self, kind: Moment) -> Worst:
        place = _farthest(kind)
        z = float(kind.z.flatten()[place])
        return Worst(
            name=self._name(kind, place),
            sample=float(kind.sample.flatten()[place]),
            data=float(kind.data.flatten()[place]),
            z=z,
            p_value=self._chance_of(abs(z)),
        )

    def _chance_of(self, z: float) -> float:
        """How often the largest |z| of all moments is as large by chance."""
        if not len(self.null):
            p = float(_two_sided(torch.tensor(z, dtype=torch.float64)))
            return -math.expm1(self.count * math.log1p(-min(p, 1 - _ROUNDING)))
        reached = int((self.null >= z * (1 - _ROUNDING)).sum())
        return (1 + reached) / (1 + len(self.null))

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
    return _difference(sampled_moments(y), y.shape[-1], sampled_moments(x), x.shape[-1])


def _difference(
    of_sample: Mapping[str, Sampled], m: int, of_data: Mapping[str, Sampled], n: int
) -> dict[str, _Compared]:
    """All kinds by their names, of moments of m points and of n points."""
    compared = {}
    for name, own in of_sample.items():
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


def _two_sided(z: Tensor) -> Tensor:
    """The chance of a normal number as far from 0, or farther."""
    return torch.special.erfc(z.abs() / math.sqrt(2))


def _normal_limit(level: float, count: int) -> float:
    """The largest |z| of `count` normal numbers is above it with a chance of at most 1 − level.

    Šidák's: exact if they are independent.
    """
    each = -math.expm1(math.log(level) / count)
    return -float(torch.special.ndtri(torch.tensor(each / 2, dtype=torch.float64)))


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
    """Raises ValueError if all features are constant, or one at different values in both.

    Args:
        sample: One point of the sample, (D,).
        data: One of the data.
        is_constant: Which features are constant in both, (D,).
        shape: The shape of the features.
    """
    remedy = "drop them, or compare features that vary (features=PCA(data, 10))"
    differs = is_constant & (sample != data)
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
