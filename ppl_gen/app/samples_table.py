"""Draws against held-out data by the statistics that need no likelihood, over features that fit the data."""

from __future__ import annotations

__all__ = ["FEATURES", "MOST", "STATISTICS", "Chosen", "Row", "choose", "compared", "rows", "table"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.table import Table
from torch import Tensor

from ppl_gen.app.config import resolve
from ppl_gen.calling import forked
from ppl_gen.data import Dataset
from ppl_gen.inference.classifier_test import classifier_test
from ppl_gen.inference.coverage import precision_recall
from ppl_gen.inference.distances import energy_distance, frechet_distance, mmd, polynomial_mmd, sliced_wasserstein
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.features import PCA, classifier_features
from ppl_gen.inference.samples import Features, as_vectors
from ppl_gen.inference.two_sample import two_sample_test

MOST = 2000  # data of each sample, unless more are asked for: time grows with their square
_TRAINED = 20_000  # data that features are made of
_COMPONENTS = 16


class Chosen(NamedTuple):
    """Features, and what they are in words; None are the pixels."""

    features: Features | None
    words: str


def _pixels(dataset: Dataset, seed: int) -> Chosen:
    return Chosen(None, "the data as they are")


def _components(dataset: Dataset, seed: int) -> Chosen:
    x = dataset.train.fixed(0, _TRAINED).x
    pca = PCA(x, min(_COMPONENTS, len(x), math.prod(dataset.shape)))
    return Chosen(pca, f"{pca.weight.shape[1]} principal components, {float(pca.explained.sum()):.0%} of the variance")


def _classified(dataset: Dataset, seed: int) -> Chosen:
    train = dataset.train.fixed(0, _TRAINED)
    if train.y is None or dataset.classes is None:
        raise ValueError(f"expected labels for --features classifier, got none with {dataset.name}; say pca or pixels")
    classifier = classifier_features(train.x, train.y, dataset.classes, seed=seed)
    return Chosen(classifier, f"of a classifier of {dataset.name}, held-out accuracy {classifier.held_out}")


FEATURES: dict[str, Callable[[Dataset, int], Chosen]] = {
    "pixels": _pixels,
    "pca": _components,
    "classifier": _classified,
}


def choose(name: str | None, dataset: Dataset, seed: int) -> Chosen:
    """Features of the name, made from training data; of a classifier where there are labels, else PCA, if left out.

    Raises:
        ValueError: If there are none of the name, or no labels to train on.
    """
    name = name or ("classifier" if dataset.classes else "pca")
    return FEATURES[resolve("kind of features", name, FEATURES)](dataset, seed)


# Large where two samples differ.
STATISTICS: dict[str, Callable[..., Estimate]] = {
    "MMD²": mmd,
    "MMD², polynomial (KID)": polynomial_mmd,
    "energy distance": energy_distance,
    "Fréchet distance": frechet_distance,
    "sliced Wasserstein²": sliced_wasserstein,
}


@dataclass(frozen=True)
class Row:
    """One number of a comparison of two samples."""

    name: str
    estimate: Estimate
    p_value: float | None = None
    null: Tensor | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %."""
        low, high = self.estimate.interval()
        return float(low), float(high)

    def asdict(self) -> dict[str, Any]:
        """For a file."""
        low, high = self.interval
        value, error = float(self.estimate.value), float(self.estimate.standard_error)
        tested = {} if self.p_value is None else {"p_value": self.p_value}
        return {"value": value, "standard_error": error, "interval": [low, high], **tested}


def rows(drawn: Tensor, data: Tensor, chosen: Chosen, permutations: int, seed: int) -> list[Row]:
    """All statistics with their errors, and the p-values of permutations for those that test.

    Raises:
        ValueError: If there are too few points, or they are not finite.
    """
    y, x = as_vectors(drawn, data, chosen.features, least=10)
    found = []
    for name, statistic in STATISTICS.items():
        with forked(x.device, seed):
            estimate = statistic(y, x)
        test = two_sample_test(y, x, statistic, permutations, seed=seed)
        found.append(Row(name, estimate, test.p_value, test.null))
    tried = classifier_test(y, x, permutations=permutations, seed=seed)
    found.append(Row("C2ST accuracy", tried.accuracy, tried.p_value))
    shares = precision_recall(y, x)
    return [*found, *(Row(name, share) for name, share in vars(shares).items())]


def compared(drawn: Tensor, data: Tensor, chosen: Chosen, kernel: Any, seed: int) -> dict[str, Estimate]:
    """The columns of a comparison of runs, under one kernel for all."""
    y, x = as_vectors(drawn, data, chosen.features, least=10)
    columns = {
        "MMD²": mmd(y, x, kernel),
        "KID": polynomial_mmd(y, x),
        "Fréchet": frechet_distance(y, x),
        **vars(precision_recall(y, x)),
        "C2ST": classifier_test(y, x, seed=seed).accuracy,
    }
    return columns


def table(found: list[Row], title: str) -> Table:
    """A line for each number: value ± error, its interval, and p."""
    made = Table("", "value ± error", "95 % interval", "p", title=title)
    for row in found:
        low, high = row.interval
        value, error = float(row.estimate.value), float(row.estimate.standard_error)
        p = "" if row.p_value is None else f"{row.p_value:.3f}"
        made.add_row(row.name, f"{value:.4g} ± {error:.2g}", f"{low:.4g} to {high:.4g}", p)
    return made
