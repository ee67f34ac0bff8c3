"""Fidelity and diversity of a sample apart, by nearest neighbours.

Precision and density say how faithful it is, recall and coverage how diverse.
"""

from __future__ import annotations

__all__ = ["PrecisionRecall", "precision_recall"]

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.contexts import seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Estimate, Share, summarised
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.kernels import blocks, squared_distances
from ppl_gen.inference.samples.vectors import Features, as_vectors

if TYPE_CHECKING:
    import pandas

_LEVEL = math.erf(4 / math.sqrt(2))  # of an interval of four standard errors


@dataclass(frozen=True, eq=False, repr=False)
class PrecisionRecall(Result):
    """Shares of points inside the balls of the other sample, with Wilson's intervals.

    Errors are those of points and balls. Intervals hold the expectation at these sizes: in larger
    samples balls are smaller, so that numbers are comparable at equal sizes only.

    Attributes:
        precision: The share of the sample within a ball of the data: fidelity.
        recall: The share of the data within a ball of the sample: diversity.
        density: The number of balls of the data around a point of the sample, over k; 1 where the
            distributions are equal.
        coverage: The share of the data's balls that hold a point of the sample: diversity, less
            moved by outliers.
        coverage_if_equal: What the coverage is expected to be where the distributions are equal.

    Examples:
        >>> x, _ = data.ring(400, modes=8, seed=0)
        >>> half = x[x[:, 0] > 0.5]  # three of eight modes
        >>> found = precision_recall(half, x[:200], seed=0)
        >>> found.precision.value.item() > 0.9, found.recall.value.item() < 0.6
        (True, True)
    """

    precision: Share
    recall: Share
    density: Estimate
    coverage: Share
    coverage_if_equal: float

    @property
    def verdict(self) -> Verdict:
        """Whether density and coverage are what they are where the distributions are equal.

        Both by four standard errors. Tags: "crowded" for draws where data are densest alone,
        "sparse" for draws where they are not, "not-covered" for data without draws near by; "alike"
        where there is none of these, which passes.
        """
        findings = []
        low, high = self.density.interval(_LEVEL)
        if float(low) > 1:
            said = f"density {self.density}, above 1: draws lie where data are densest"
            findings.append(Finding("crowded", said))
        if float(high) < 1:
            said = f"density {self.density}, below 1: draws lie where data are sparse, or off them"
            findings.append(Finding("sparse", said))
        expected = f"{self.coverage_if_equal:.3f} where the distributions are equal"
        if float(self.coverage.interval(_LEVEL)[1]) < self.coverage_if_equal:
            said = f"coverage {self.coverage}, {expected}: some data have no draws near by"
            findings.append(Finding("not-covered", said))
        if findings:
            return Verdict(tuple(findings), passes=False)
        said = f"no difference shows: density {self.density} of 1, coverage {self.coverage} of "
        return Verdict((Finding("alike", said + expected),), passes=True)

    def table(self) -> pandas.DataFrame:
        """A row for each of the four, with its error and 95 % interval."""
        return summarised(self.parts)

    def to_pandas(self) -> pandas.DataFrame:
        """The same rows: nothing finer is kept."""
        return self.table()

    @property
    def parts(self) -> dict[str, Estimate]:
        """The four by name."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "density": self.density,
            "coverage": self.coverage,
        }

    @property
    def headline(self) -> str:
        """The four numbers with their errors."""
        return ", ".join([f"{name} {value}" for name, value in self.parts.items()])

    def __str__(self) -> str:
        return self.headline


def precision_recall(
    sample: Tensor,
    data: Tensor,
    k: int = 5,
    features: Features | None = None,
    splits: int = 30,
    seed: int | None = None,
) -> PrecisionRecall:
    """Precision, recall, density and coverage of a sample, by its neighbours among the data.

    Around each point lies a ball B_k that reaches to the k-th nearest point of its own sample:
    precision = (1/M) Σⱼ 1[yⱼ ∈ ∪ᵢ B_k(xᵢ)] and recall the other way round, density = (1/kM) Σⱼ Σᵢ
    1[yⱼ ∈ B_k(xᵢ)], and coverage = (1/N) Σᵢ 1[∃j: yⱼ ∈ B_k(xᵢ)], for data xᵢ and sample yⱼ. Where
    both are of one distribution the expected density is 1, the expected coverage 1 − Πₗ₌₁ᵏ (N − l)
    / (M + N − l).

    Neighbours make points depend on each other, and a point moves the balls as well. The variance
    is therefore that of the same number t over disjoint halves of both samples, ¼ E (t₁ − t₂)²,
    averaged over random splits: right where it falls as 1/N.

    Args:
        sample: Draws of a model, (M, *shape).
        data: Held-out data, (N, *shape).
        k: Which neighbour a ball reaches to.
        features: From (N, *shape) to (N, D); None takes the flattened data.
        splits: How many splits; the error has a relative error of about 1 / √(2 splits).
        seed: Seeds the splits and leaves the global generator as it was.

    Raises:
        ValueError: If k or splits is below 1, there are fewer than 2k + 2 points, shapes differ, or
            values are not finite.

    Examples:
        >>> x, _ = data.ring(400, modes=8, seed=0)
        >>> half = x[x[:, 0] > 0.5]  # three of eight modes
        >>> found = precision_recall(half, x[:200], seed=0)
        >>> round(found.recall.value.item(), 1)  # the share of the data that is reached
        0.4

    Reference:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative
        models, eq. 2; Naeem et al. (2020), Reliable fidelity and diversity metrics for generative
        models, eqs. 3 and 4, lemma 1 and 2.
    """
    expect_at_least(1, k=k, splits=splits)
    y, x = as_vectors(sample, data, features, least=2 * k + 2)
    values = _counted(y, x, k)
    halves = []
    with seeded(x.device, seed):
        for _ in range(splits):
            first_y, second_y = _split(y)
            first_x, second_x = _split(x)
            pair = [_counted(first_y, first_x, k), _counted(second_y, second_x, k)]
            halves.append(torch.stack(pair))
    differences = torch.stack(halves).diff(dim=1)
    errors = differences.square().mean((0, 1)).sqrt() / 2
    precision, recall, density, coverage = zip(values, errors, strict=True)
    return PrecisionRecall(
        precision=Share(*precision, count=len(y)),
        recall=Share(*recall, count=len(x)),
        density=Estimate(*density),
        coverage=Share(*coverage, count=len(x)),
        coverage_if_equal=_coverage_if_equal(len(y), len(x), k),
    )


def _coverage_if_equal(m: int, n: int, k: int) -> float:
    """1 − Πₗ₌₁ᵏ (N − l) / (M + N − l)."""
    empty = 1.0
    for place in range(1, k + 1):
        empty *= (n - place) / (m + n - place)
    return 1 - empty


def _split(x: Tensor) -> tuple[Tensor, ...]:
    """Two halves of points (n, D), at random."""
    return x[torch.randperm(len(x), device=x.device)].tensor_split(2)


def _counted(y: Tensor, x: Tensor, k: int) -> Tensor:
    """Precision, recall, density and coverage of a sample y of data x, (4,)."""
    reach_x = _reach(x, k)
    reach_y = _reach(y, k)
    balls_around_y = x.new_zeros(len(y))
    is_x_near_y = []
    is_ball_filled = []
    for part in blocks(len(x), len(y)):
        squares = squared_distances(x[part], y)
        is_in_ball = squares <= reach_x[part, None]
        balls_around_y += is_in_ball.sum(0)
        is_ball_filled.append(is_in_ball.any(1))
        is_x_near_y.append((squares <= reach_y).any(1))
    precision = (balls_around_y > 0).double().mean()
    recall = torch.cat(is_x_near_y).double().mean()
    density = (balls_around_y / k).mean()
    coverage = torch.cat(is_ball_filled).double().mean()
    return torch.stack([precision, recall, density, coverage])


def _reach(x: Tensor, k: int) -> Tensor:
    """The squared distance of each point to its k-th nearest other one, (N,)."""
    found = []
    for part in blocks(len(x), len(x)):
        squares = squared_distances(x[part], x)
        squares.diagonal(part.start).fill_(torch.inf)
        found.append(squares.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
