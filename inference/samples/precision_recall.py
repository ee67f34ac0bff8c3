"""Fidelity and diversity apart: precision, recall, density and coverage of a sample, by nearest
neighbours.
"""

from __future__ import annotations

__all__ = ["PrecisionRecall", "precision_recall"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.contexts import seeded
from ppl_gen.inference.estimate import Estimate, Share
from ppl_gen.inference.samples.kernels import blocks, squared_distances
from ppl_gen.inference.samples.vectors import Features, as_vectors


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of points inside the balls of the other sample, with errors of points and balls, and
    Wilson's intervals.

    Intervals hold the expectation at these sizes: in larger samples balls are smaller, so that
    numbers are comparable at equal sizes only.

    Attributes:
        precision: The share of the sample within a ball of the data: fidelity.
        recall: The share of the data within a ball of the sample: diversity.
        density: The number of balls of the data around a point of the sample, over k; 1 where the
            distributions are equal.
        coverage: The share of the data's balls that hold a point of the sample: diversity, less
            moved by outliers.
    """

    precision: Share
    recall: Share
    density: Estimate
    coverage: Share

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


def precision_recall(
    sample: Tensor,
    data: Tensor,
    k: int = 5,
    features: Features | None = None,
    splits: int = 30,
    seed: int | None = None,
) -> PrecisionRecall:
    """Precision, recall, density and coverage under balls B_k(xᵢ) that reach to the k-th nearest
    point of their own sample.

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
        seed: Seeds them and leaves the global generator as it was.

    Raises:
        ValueError: If k or splits is below 1, there are fewer than 2k + 2 points, shapes differ, or
            values are not finite.

    Reference:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative
        models, eq. 2; Naeem et al. (2020), Reliable fidelity and diversity metrics for generative
        models, eqs. 3 and 4, lemma 1 and 2.
    """
    if min(k, splits) < 1:
        raise ValueError(f"expected k and splits of at least 1, got {k} and {splits}")
    y, x = as_vectors(sample, data, features, least=2 * k + 2)
    values, halves = _counted(y, x, k), []
    with seeded(x.device, seed):
        for _ in range(splits):
            ys, xs = (t[torch.randperm(len(t), device=t.device)].tensor_split(2) for t in (y, x))
            halves.append(torch.stack([_counted(*pair, k) for pair in zip(ys, xs, strict=True)]))
    errors = torch.stack(halves).diff(dim=1).square().mean((0, 1)).sqrt() / 2
    (precision, recall, density, coverage), n = zip(values, errors, strict=True), len(x)
    return PrecisionRecall(
        Share(*precision, count=len(y)),
        Share(*recall, count=n),
        Estimate(*density),
        Share(*coverage, count=n),
    )


def _counted(y: Tensor, x: Tensor, k: int) -> Tensor:
    """The four numbers, (4,)."""
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    around, inside, covered = x.new_zeros(len(y)), [], []
    for part in blocks(len(x), len(y)):
        squares = squared_distances(x[part], y)
        in_x = squares <= reach_x[part, None]
        around += in_x.sum(0)
        covered.append(in_x.any(1))
        inside.append((squares <= reach_y).any(1))
    counts = (
        (around > 0).double(),
        torch.cat(inside).double(),
        around / k,
        torch.cat(covered).double(),
    )
    return torch.stack([c.mean() for c in counts])


def _reach(x: Tensor, k: int) -> Tensor:
    """The squared distance of each point to its k-th nearest other one, (N,)."""
    found = []
    for part in blocks(len(x), len(x)):
        squares = squared_distances(x[part], x)
        squares.diagonal(part.start).fill_(torch.inf)
        found.append(squares.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
