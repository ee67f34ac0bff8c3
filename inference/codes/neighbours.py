"""Nearest neighbours by code and by pixels: is what lies near in latent space alike?"""

from __future__ import annotations

__all__ = ["Labelled", "Neighbours", "Retrieval", "nearest", "over_data", "retrieval"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ppl_gen.arguments import expect_tensor
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Estimate, summarised
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.kernels import blocks, squared_distances
from ppl_gen.inference.samples.vectors import as_vectors

if TYPE_CHECKING:
    import pandas


class Neighbours(NamedTuple):
    """The nearest of a gallery, nearest first.

    Attributes:
        places: Which of the gallery they are, (Q, k).
        distances: How far they are, (Q, k).
    """

    places: Tensor
    distances: Tensor

    def __repr__(self) -> str:
        return f"{self.places.shape[1]} neighbours of each of {self.places.shape[0]}"


def nearest(queries: Tensor, gallery: Tensor, k: int = 10) -> Neighbours:
    """The k points yⱼ of a gallery with the smallest ‖xᵢ − yⱼ‖, for each query xᵢ.

    Args:
        queries: Codes or data, (Q, *shape).
        gallery: Codes or data, (N, *shape), with at least k points.
        k: How many.

    Raises:
        ValueError: If k is below 1 or above the number of points, shapes differ, or values are not
            finite.

    Examples:
        >>> gallery = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
        >>> found = nearest(torch.zeros(1, 2), gallery, k=2)
        >>> found.places.tolist(), found.distances.tolist()
        ([[0, 1]], [[0.0, 5.0]])
    """
    expect_at_least(1, k=k)
    x, y = as_vectors(queries, gallery, least=1)
    if k > len(y):
        raise ValueError(f"expected a gallery of at least k = {k} points, got {len(y)}")
    places = []
    distances = []
    for rows in blocks(len(x), len(y)):
        found = squared_distances(x[rows], y).clamp(min=0).topk(k, largest=False)
        places.append(found.indices)
        distances.append(found.values.sqrt())
    return Neighbours(torch.cat(places), torch.cat(distances))


@dataclass(frozen=True, eq=False, repr=False)
class Retrieval(Result):
    """Which share of the k nearest have the query's label, by code and by pixels.

    Errors are those of the queries, sd / √Q: the gallery is as it is.

    Attributes:
        by_code: P@k of each query by its code, (Q,).
        by_pixels: P@k of each query by its pixels, (Q,).
        labels: Of the queries, (Q,).
        k: How many neighbours are looked at.
        by_chance: P@k of neighbours drawn at random.

    Examples:
        >>> digits = data.load("digits")
        >>> x, y = digits.train.x, digits.train.y
        >>> codes = encode(models.pca(x, code_dim=10), x).mean
        >>> found = retrieval((x[:50], codes[:50], y[:50]), (x[50:], codes[50:], y[50:]), k=5)
        >>> found.by_code.shape, found.by_code.mean().item() > 0.9
        (torch.Size([50]), True)
    """

    by_code: Tensor
    by_pixels: Tensor
    labels: Tensor
    k: int
    by_chance: float

    @property
    def parts(self) -> dict[str, Estimate]:
        """P@k of both ways, and their difference, query by query."""
        return {
            "by code": over_data(self.by_code),
            "by pixels": over_data(self.by_pixels),
            "difference": over_data(self.by_code - self.by_pixels),
        }

    @property
    def verdict(self) -> Verdict:
        """Whether codes find the like of a query better than pixels, by two standard errors.

        Tags: "better", "alike" or "worse".
        """
        difference = self.parts["difference"]
        value = float(difference.value)
        said = f"by code minus by pixels: {difference}, {self.by_chance:.3f} by chance"
        if abs(value) <= 2 * float(difference.standard_error):
            return Verdict((Finding("alike", f"no difference shows: {said}"),))
        if value > 0:
            return Verdict((Finding("better", f"codes retrieve better: {said}"),))
        return Verdict((Finding("worse", f"pixels retrieve better: {said}"),))

    @property
    def headline(self) -> str:
        """P@k of both ways."""
        by_code, by_pixels, _ = self.parts.values()
        return f"precision at {self.k}: by code {by_code}, by pixels {by_pixels}"

    def table(self) -> pandas.DataFrame:
        """A row for each way, and their difference."""
        return summarised(self.parts)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each query: its label, and P@k by code and by pixels."""
        import pandas

        columns = {
            "label": self.labels.cpu().numpy(),
            "by code": self.by_code.cpu().numpy(),
            "by pixels": self.by_pixels.cpu().numpy(),
        }
        return pandas.DataFrame(columns)


class Labelled(NamedTuple):
    """Data with their codes and labels.

    Attributes:
        x: Data (N, *shape).
        codes: (N, D).
        y: Labels, Long (N,).
    """

    x: Tensor
    codes: Tensor
    y: Tensor

    def __repr__(self) -> str:
        return f"{len(self.y)} data with codes and labels"


def retrieval(
    queries: tuple[Tensor, Tensor, Tensor], gallery: tuple[Tensor, Tensor, Tensor], k: int = 10
) -> Retrieval:
    """P@k = (1/k) Σ 1[y of a neighbour = y of the query], over the k nearest of a gallery.

    Args:
        queries: (x, codes, y): data (Q, *shape), such as test data, their codes (Q, D), such as
            `encode(program, x).mean`, and labels, Long (Q,).
        gallery: (x, codes, y) of what is searched, such as training data; none of the queries is
            among it.
        k: How many neighbours are looked at.

    Raises:
        ValueError: If there is not a code and a label for each datum, a label is missing (−1), or
            there are fewer than k data.

    Examples:
        >>> digits = data.load("digits")
        >>> x, y = digits.train.x, digits.train.y
        >>> codes = encode(models.pca(x, code_dim=10), x).mean
        >>> found = retrieval((x[:50], codes[:50], y[:50]), (x[50:], codes[50:], y[50:]), k=5)
        >>> round(found.by_code.mean().item(), 1), round(found.by_chance, 1)
        (1.0, 0.1)
    """
    asked = Labelled(*queries)
    held = Labelled(*gallery)
    for name, part in (("queries", asked), ("gallery", held)):
        _expect_labelled(name, part)
    found = []
    for points, others in ((asked.codes, held.codes), (asked.x, held.x)):
        places = nearest(points, others, k).places
        hits = held.y[places] == asked.y[:, None]
        found.append(hits.double().mean(1))
    shares = [(held.y == label).double().mean() for label in asked.y.unique()]
    of_queries = [(asked.y == label).double().mean() for label in asked.y.unique()]
    by_chance = torch.stack(shares) @ torch.stack(of_queries)
    return Retrieval(
        by_code=found[0],
        by_pixels=found[1],
        labels=asked.y,
        k=k,
        by_chance=float(by_chance),
    )


def over_data(values: Tensor) -> Estimate:
    """The mean of values (N,) with the standard error of their spread, sd / √N."""
    return Estimate(values.double().mean(), values.double().std() / len(values) ** 0.5)


def _expect_labelled(name: str, part: Labelled) -> None:
    """Raises ValueError unless there is a code and a known label for each datum."""
    for what, values in (("data", part.x), ("codes", part.codes), ("labels", part.y)):
        expect_tensor(f"{what} of the {name}", values)
    n = part.x.shape[:1]
    if part.codes.shape[:1] != n or part.y.shape != n or part.y.is_floating_point():
        raise ValueError(
            f"expected a code and a label, a whole number, for each datum of the {name}, got data "
            f"{tuple(part.x.shape)}, codes {tuple(part.codes.shape)} and {part.y.dtype} labels "
            f"{tuple(part.y.shape)}"
        )
    if bool((part.y < 0).any()):
        raise ValueError(f"expected labels of all {name}, got −1, a missing one; leave these out")
