"""Two samples compared by statistics that need no likelihood: distances, a classifier, coverage."""

from __future__ import annotations

__all__ = ["LEAST", "Row", "columns", "rows", "table"]

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from rich.table import Table
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from ppl_gen.app.evaluation.features import Chosen
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.samples.classifier_test import classifier_test
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.kernels import Kernel
from ppl_gen.inference.samples.permutation import Statistic, TwoSample, two_sample_test
from ppl_gen.inference.samples.precision_recall import PrecisionRecall, precision_recall
from ppl_gen.inference.samples.vectors import as_vectors

LEAST = 10  # points of each sample
_WIDE = 256  # features, above which one Fréchet distance takes a tenth of a second or more ...
_FEW = 99  # ... and is permuted at most this often
_NEIGHBOUR = 5  # the neighbour that a ball of precision and recall reaches to


class _Distance(NamedTuple):
    """One distance in two forms.

    Attributes:
        shown: With its bias taken off, and with a standard error.
        tested: The plain form, which is permuted: its bias is the same in every permutation.
    """

    shown: Callable[..., Estimate]
    tested: Statistic


@dataclass(frozen=True)
class Row:
    """One number of a comparison of two samples.

    Attributes:
        name: What it is called in tables and files.
        estimate: The number with its standard error.
        p_value: How often chance alone gives as much; None if nothing is tested.
        test: The permutation test behind the p-value, if it is one.
    """

    name: str
    estimate: Estimate
    p_value: float | None = None
    test: TwoSample | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None where no error is known."""
        low, high = map(float, self.estimate.interval())
        if low < high:
            return low, high
        return None

    def asdict(self) -> dict[str, Any]:
        """The numbers for a JSON file."""
        numbers: dict[str, Any] = {
            "value": float(self.estimate.value),
            "standard_error": float(self.estimate.standard_error),
            "interval": self.interval,
        }
        if self.p_value is not None:
            numbers["p_value"] = self.p_value
        if self.test is not None:
            numbers["tested"] = self.test.statistic
            numbers["permutations"] = len(self.test.null)
        return numbers


def rows(
    drawn: Tensor,
    data: Tensor,
    chosen: Chosen,
    permutations: int,
    seed: int,
    progress: bool = False,
) -> list[Row]:
    """All statistics with their errors, and p-values for those that test equality.

    Args:
        drawn: Draws of a model, (M, *shape).
        data: Held-out data, (N, *shape).
        chosen: The features that both are compared in.
        permutations: How many permutations a p-value is computed from; 99 at most for a Fréchet
            distance of more than 256 features.
        seed: Seed of permutations, directions, splits and classifiers.
        progress: Whether a progress bar is shown.

    Raises:
        ValueError: If there are fewer than 10 points, or they are not finite.
    """
    y, x = as_vectors(drawn, data, chosen.features, least=LEAST)
    found = []
    for name, distance in _distances(seed).items():
        count = permutations
        if distance.tested is frechet_distance and x.shape[1] > _WIDE:
            count = min(permutations, _FEW)
        test = two_sample_test(y, x, distance.tested, count, seed=seed, progress=progress)
        found.append(Row(name, distance.shown(y, x), test.p_value, test))
    told = classifier_test(y, x, classifier=_trees(), permutations=permutations, seed=seed)
    found.append(Row("C2ST accuracy, random trees", told.accuracy, told.p_value))
    for name, share in _precision_recall(y, x, seed).parts.items():
        found.append(Row(name, share))
    return found


def columns(
    drawn: Tensor, data: Tensor, chosen: Chosen, kernel: Kernel, seed: int
) -> dict[str, Estimate]:
    """The statistics that several runs are compared by, without p-values.

    Args:
        drawn: Draws of one run, (M, *shape).
        data: Held-out data, (N, *shape).
        chosen: The features that both are compared in.
        kernel: The kernel of the MMD², the same for all runs.
        seed: Seed of splits and classifiers.

    Raises:
        ValueError: If there are fewer than 10 points, or they are not finite.
    """
    y, x = as_vectors(drawn, data, chosen.features, least=LEAST)
    return {
        "MMD²": mmd(y, x, kernel),
        "polynomial MMD²": polynomial_mmd(y, x),
        "Fréchet": frechet_distance(y, x, extrapolate=True),
        **_precision_recall(y, x, seed).parts,
        "C2ST": classifier_test(y, x, classifier=_trees(), seed=seed).accuracy,
    }


def table(found: list[Row], title: str) -> Table:
    """A line for each number: value ± error, its interval, and p; below, how p was computed."""
    made = Table("", "value ± error", "95 % interval", "p", title=title)
    for row in found:
        value = float(row.estimate.value)
        error = float(row.estimate.standard_error)
        interval = ""
        if row.interval is not None:
            low, high = row.interval
            interval = f"{low:.4g} to {high:.4g}"
        p = ""
        if row.p_value is not None:
            p = f"{row.p_value:.3f}"
        made.add_row(row.name, f"{value:.4g} ± {error:.2g}", interval, p)
    made.caption = _caption(found)
    made.caption_justify = "left"
    return made


def _distances(seed: int) -> dict[str, _Distance]:
    """The distances by name; both forms of the sliced one take the same directions."""
    extrapolated_frechet = partial(frechet_distance, extrapolate=True)
    sliced = partial(sliced_wasserstein, seed=seed)
    extrapolated_sliced = partial(sliced, extrapolate=True)
    return {
        "MMD²": _Distance(mmd, mmd),
        "polynomial MMD²": _Distance(polynomial_mmd, polynomial_mmd),
        "energy distance": _Distance(energy_distance, energy_distance),
        "Fréchet distance": _Distance(extrapolated_frechet, frechet_distance),
        "sliced Wasserstein²": _Distance(extrapolated_sliced, sliced),
    }


def _trees() -> ExtraTreesClassifier:
    """A classifier that sees more than means, in features of any scale, within a second."""
    return ExtraTreesClassifier(200, min_samples_leaf=3)


def _precision_recall(y: Tensor, x: Tensor, seed: int) -> PrecisionRecall:
    smaller = min(len(y), len(x))
    return precision_recall(y, x, min(_NEIGHBOUR, smaller // 2 - 1), seed=seed)


def _caption(found: list[Row]) -> str:
    """How many permutations p-values are computed from, and which of them from fewer."""
    counts = {row.name: len(row.test.null) for row in found if row.test is not None}
    most = max(counts.values(), default=0)
    caption = f"p by {most} permutations"
    for name, count in counts.items():
        if count < most:
            caption += f", {count} of the {name}"
    return f"{caption}; Fréchet, Wasserstein extrapolated to n = ∞"
