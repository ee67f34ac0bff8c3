"""The features that draws and data are compared in, by name: pixels, pca, classifier, inception."""

from __future__ import annotations

__all__ = ["FEATURES", "MOST", "Chosen", "choose", "expect_features"]

import math
from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor

from ppl_gen.data import Dataset
from ppl_gen.inference.samples.features import PCA, classifier_features, inception_features
from ppl_gen.inference.samples.vectors import Features
from ppl_gen.names import resolve

MOST = 2000  # data of each sample, unless more are asked for: time grows with their square
_TRAINING_DATA = 20_000  # the most that features are computed from
_COMPONENTS = 16


class Chosen(NamedTuple):
    """Features to compare two samples in.

    Attributes:
        features: From data (N, *shape) to features (N, D); None takes the flattened data.
        words: What they are, for people.
    """

    features: Features | None
    words: str


def _pixels(dataset: Dataset, seed: int) -> Chosen:
    return Chosen(None, "the data as they are")


def _principal_components(dataset: Dataset, seed: int) -> Chosen:
    x = dataset.train.fixed(0, _TRAINING_DATA).x
    pca = PCA(x, min(_COMPONENTS, len(x), math.prod(dataset.shape)))
    count = pca.weight.shape[1]
    explained = float(pca.explained.sum())
    return Chosen(pca, f"{count} principal components, {explained:.0%} of the variance")


def _classifier_layer(dataset: Dataset, seed: int) -> Chosen:
    train = dataset.train.fixed(0, _TRAINING_DATA)
    labels = cast(Tensor, train.y)
    classifier = classifier_features(train.x, labels, dataset.classes, seed=seed)
    words = (
        f"of a classifier of {dataset.name}, held-out accuracy {classifier.held_out}, "
        f"standardised, {len(classifier.mean)} of them"
    )
    if classifier.is_poor:
        words += " (a poor classifier, which tells little of the data: see --features pca as well)"
    return Chosen(classifier, words)


def _inception_layer(dataset: Dataset, seed: int) -> Chosen:
    try:
        features = inception_features()
    except ImportError as error:
        raise ValueError(str(error)) from error
    return Chosen(features, "2048 of Inception-v3, trained on photographs")


FEATURES: dict[str, Callable[[Dataset, int], Chosen]] = {
    "pixels": _pixels,
    "pca": _principal_components,
    "classifier": _classifier_layer,
    "inception": _inception_layer,
}


def expect_features(name: str | None, dataset: Dataset) -> None:
    """Raises ValueError if there are no features of that name, or they cannot be had of such data.

    Args:
        name: A name of `FEATURES`; None is passed over.
        dataset: The data that are compared, from whose training data features are computed.
    """
    if name is None:
        return
    kind = resolve("kind of features", name, FEATURES)
    if kind == "classifier" and not _has_labels(dataset):
        raise ValueError(
            f"expected labels for --features classifier, got none with {dataset.name}; say pca or "
            "pixels"
        )
    in_colour = len(dataset.shape) == 3 and dataset.shape[0] == 3
    if kind == "inception" and not in_colour:
        raise ValueError(
            f"expected colour images for --features inception, got {dataset.name} of shape "
            f"{tuple(dataset.shape)}; say classifier, pca or pixels"
        )


def choose(name: str | None, dataset: Dataset, seed: int) -> Chosen:
    """The features of a name, computed from training data.

    Args:
        name: A name of `FEATURES`; None takes a classifier's where there are labels, else PCA's.
        dataset: The data that are compared.
        seed: Seed of the classifier's weights and batches.

    Raises:
        ValueError: If there are no features of that name, they cannot be had of such data, or they
            need a library that is not installed.
    """
    expect_features(name, dataset)
    if name is None:
        name = "pca"
        if dataset.classes:
            name = "classifier"
    return FEATURES[name](dataset, seed)


def _has_labels(dataset: Dataset) -> bool:
    return dataset.classes is not None and dataset.train.fixed(0, 1).y is not None
