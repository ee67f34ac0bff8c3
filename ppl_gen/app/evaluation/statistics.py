"""Draws against held-out data by the statistics that need no likelihood, over features that fit the
data.
"""

from __future__ import annotations

__all__ = [
    "FEATURES",
    "MOST",
    "Chosen",
    "Row",
    "choose",
    "compared",
    "expect_features",
    "rows",
    "table",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

from rich.table import Table
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from ppl_gen.data import Dataset
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.samples.classifier_test import classifier_test
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.features import PCA, classifier_features, inception_features
from ppl_gen.inference.samples.permutation import Statistic, TwoSample, two_sample_test
from ppl_gen.inference.samples.precision_recall import PrecisionRecall, precision_recall
from ppl_gen.inference.samples.vectors import Features, as_vectors
from ppl_gen.names import resolve

MOST = 2000  # data of each sample, unless more are asked for: time grows with their square
_TRAINED = 20_000  # data that features are made of
_COMPONENTS = 16
_WIDE = 256  # features, from which on a Fréchet distance takes a tenth of a second and more ...
_FEW = 99  # ... and is permuted no more often than so
_NEIGHBOUR = 5


class Chosen(NamedTuple):
    """Features, and what they are in words; None are the pixels."""

    features: Features | None
    words: str


def _pixels(dataset: Dataset, seed: int) -> Chosen:
    return Chosen(None, "the data as they are")


def _components(dataset: Dataset, seed: int) -> Chosen:
    x = dataset.train.fixed(0, _TRAINED).x
    pca = PCA(x, min(_COMPONENTS, len(x), math.prod(dataset.shape)))
    return Chosen(
        pca,
        f"{pca.weight.shape[1]} principal components, {float(pca.explained.sum()):.0%} of the "
        "variance",
    )


def _classified(dataset: Dataset, seed: int) -> Chosen:
    train = dataset.train.fixed(0, _TRAINED)
    classifier = classifier_features(train.x, cast(Tensor, train.y), dataset.classes, seed=seed)
    words = f"of a classifier of {dataset.name}, held-out accuracy {classifier.held_out}"
    return Chosen(classifier, f"{words}, standardised, {len(classifier.mean)} of them")


def _photographed(dataset: Dataset, seed: int) -> Chosen:
    try:
        return Chosen(inception_features(), "2048 of Inception-v3, trained on photographs")
    except ImportError as error:
        raise ValueError(str(error)) from error


FEATURES: dict[str, Callable[[Dataset, int], Chosen]] = {
    "pixels": _pixels,
    "pca": _components,
    "classifier": _classified,
    "inception": _photographed,
}


def expect_features(name: str | None, dataset: Dataset) -> None:
    """Says when there are no features of that name, or none for such data.

    Raises:
        ValueError: Then.
    """
    kind = None if name is None else resolve("kind of features", name, FEATURES)
    if kind == "classifier" and (dataset.classes is None or dataset.train.fixed(0, 1).y is None):
        raise ValueError(
            f"expected labels for --features classifier, got none with {dataset.name}; say pca or "
            "pixels"
        )
    if kind == "inception" and (len(dataset.shape) != 3 or dataset.shape[0] != 3):
        raise ValueError(
            f"expected colour images for --features inception, got {dataset.name} of shape "
            f"{tuple(dataset.shape)}; say classifier, pca or pixels"
        )


def choose(name: str | None, dataset: Dataset, seed: int) -> Chosen:
    """Features of the name, made from training data; of a classifier where there are labels, else
    PCA, if left out.

    Raises:
        ValueError: If there are none of the name, or none for such data, or if they need a library
            that is not installed.
    """
    expect_features(name, dataset)
    name = name or ("classifier" if dataset.classes else "pca")
    return FEATURES[resolve("kind of features", name, FEATURES)](dataset, seed)


class _Distance(NamedTuple):
    """An estimate without bias, and what is permuted: the plain form, whose bias is the same in
    every permutation.
    """

    shown: Callable[..., Estimate]
    tested: Statistic


def _distances(seed: int) -> dict[str, _Distance]:
    """All of them, large where two samples differ; both forms of a sliced one take the same
    directions.
    """
    sliced = partial(sliced_wasserstein, seed=seed)
    return {
        "MMD²": _Distance(mmd, mmd),
        "polynomial MMD²": _Distance(polynomial_mmd, polynomial_mmd),
        "energy distance": _Distance(energy_distance, energy_distance),
        "Fréchet distance": _Distance(
            partial(frechet_distance, extrapolate=True), frechet_distance
        ),
        "sliced Wasserstein²": _Distance(partial(sliced, extrapolate=True), sliced),
    }


@dataclass(frozen=True)
class Row:
    """One number of a comparison of two samples, and the test of it, if there is one."""

    name: str
    estimate: Estimate
    p_value: float | None = None
    test: TwoSample | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 %; None where no error is known."""
        low, high = map(float, self.estimate.interval())
        return (low, high) if low < high else None

    def asdict(self) -> dict[str, Any]:
        """For a file."""
        value, error = float(self.estimate.value), float(self.estimate.standard_error)
        tested = {} if self.p_value is None else {"p_value": self.p_value}
        if self.test is not None:
            tested |= {"tested": self.test.statistic, "permutations": len(self.test.null)}
        return {
            "value": value,
            "standard_error": error,
            "interval": self.interval and [*self.interval],
            **tested,
        }


def rows(
    drawn: Tensor,
    data: Tensor,
    chosen: Chosen,
    permutations: int,
    seed: int,
    progress: bool = False,
) -> list[Row]:
    """All statistics with their errors, and the p-values of permutations for those that test.

    Raises:
        ValueError: If there are too few points, or they are not finite.
    """
    y, x = as_vectors(drawn, data, chosen.features, least=10)
    found = []
    for name, (shown, tested) in _distances(seed).items():
        few = tested is frechet_distance and x.shape[1] > _WIDE
        count = min(permutations, _FEW) if few else permutations
        test = two_sample_test(y, x, tested, count, seed=seed, progress=progress)
        found.append(Row(name, shown(y, x), test.p_value, test))
    tried = classifier_test(y, x, classifier=_forest(), permutations=permutations, seed=seed)
    found.append(Row("C2ST accuracy, random trees", tried.accuracy, tried.p_value))
    return [*found, *(Row(name, share) for name, share in vars(_shares(y, x, seed)).items())]


def compared(
    drawn: Tensor, data: Tensor, chosen: Chosen, kernel: Any, seed: int
) -> dict[str, Estimate]:
    """The columns of a comparison of runs, under one kernel for all."""
    y, x = as_vectors(drawn, data, chosen.features, least=10)
    return {
        "MMD²": mmd(y, x, kernel),
        "polynomial MMD²": polynomial_mmd(y, x),
        "Fréchet": frechet_distance(y, x, extrapolate=True),
        **vars(_shares(y, x, seed)),
        "C2ST": classifier_test(y, x, classifier=_forest(), seed=seed).accuracy,
    }


def table(found: list[Row], title: str) -> Table:
    """A line for each number: value ± error, its interval, and p; below, how p was found."""
    made = Table("", "value ± error", "95 % interval", "p", title=title)
    for row in found:
        value, error = float(row.estimate.value), float(row.estimate.standard_error)
        interval = "" if row.interval is None else "{:.4g} to {:.4g}".format(*row.interval)
        p = "" if row.p_value is None else f"{row.p_value:.3f}"
        made.add_row(row.name, f"{value:.4g} ± {error:.2g}", interval, p)
    counts = {row.name: len(row.test.null) for row in found if row.test is not None}
    most = max(counts.values(), default=0)
    fewer = "".join(f", {count} of the {name}" for name, count in counts.items() if count < most)
    made.caption = f"p by {most} permutations{fewer}; Fréchet, Wasserstein extrapolated to n = ∞"
    made.caption_justify = "left"
    return made


def _forest() -> ExtraTreesClassifier:
    """Sees more than means, in any scale of features, within a second."""
    return ExtraTreesClassifier(200, min_samples_leaf=3)


def _shares(y: Tensor, x: Tensor, seed: int) -> PrecisionRecall:
    return precision_recall(y, x, min(_NEIGHBOUR, min(len(y), len(x)) // 2 - 1), seed=seed)
