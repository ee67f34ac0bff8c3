"""Fidelity and diversity apart: precision, recall, density and coverage of a sample, by nearest neighbours."""

from __future__ import annotations

__all__ = ["PrecisionRecall", "precision_recall"]

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.kernels import squared_distances
from ppl_gen.inference.samples import Features, as_vectors

_PAIRS = 2**23  # distances held at once


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of points inside the balls of the other sample. Errors are those of counting points, sd / √N.

    They leave out that the balls themselves are of a finite sample: two data sets of other sizes have other balls, so that
    numbers are comparable at equal sizes only.

    Attributes:
        precision: The share of the sample within a ball of the data: fidelity.
        recall: The share of the data within a ball of the sample: diversity.
        density: The number of balls of the data around a point of the sample, over k; 1 where the distributions are equal.
        coverage: The share of the data's balls that hold a point of the sample: diversity, less moved by outliers.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


def precision_recall(sample: Tensor, data: Tensor, k: int = 5, features: Features | None = None) -> PrecisionRecall:
    """Precision, recall, density and coverage under balls B_k(xᵢ) that reach to the k-th nearest point of their own sample.

    precision = (1/M) Σⱼ 1[yⱼ ∈ ∪ᵢ B_k(xᵢ)] and recall the other way round, density = (1/kM) Σⱼ Σᵢ 1[yⱼ ∈ B_k(xᵢ)], and
    coverage = (1/N) Σᵢ 1[∃j: yⱼ ∈ B_k(xᵢ)], for data xᵢ and sample yⱼ. Where both are of one distribution the expected density
    is 1, the expected coverage 1 − Πₗ₌₁ᵏ (N − l) / (M + N − l).

    Args:
        sample: Draws of a model, (M, *shape).
        data: Held-out data, (N, *shape).
        k: Which neighbour a ball reaches to.
        features: From (N, *shape) to (N, D); None takes the flattened data.

    Raises:
        ValueError: If k is below 1, there are no more than k points, shapes differ, or values are not finite.

    Reference:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models, eq. 2; Naeem et al.
        (2020), Reliable fidelity and diversity metrics for generative models, eqs. 3 and 4, lemma 1 and 2.
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    y, x = as_vectors(sample, data, features, least=k + 1)
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    around, inside, covered = x.new_zeros(len(y)), [], []
    size = max(1, _PAIRS // len(y))
    for i in range(0, len(x), size):
        squares = squared_distances(x[i : i + size], y)
        in_x = squares <= reach_x[i : i + size, None]
        around += in_x.sum(0)
        covered.append(in_x.any(1))
        inside.append((squares <= reach_y).any(1))
    counts = ((around > 0).double(), torch.cat(inside).double(), around / k, torch.cat(covered).double())
    return PrecisionRecall(*(Estimate(c.mean(), c.std() / len(c) ** 0.5) for c in counts))


def _reach(x: Tensor, k: int) -> Tensor:
    """The squared distance of each point to its k-th nearest other one, (N,)."""
    size = max(1, _PAIRS // len(x))
    found = []
    for i in range(0, len(x), size):
        squares = squared_distances(x[i : i + size], x)
        squares.diagonal(i).fill_(torch.inf)
        found.append(squares.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
