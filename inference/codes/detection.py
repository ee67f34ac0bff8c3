"""How well a score tells what is novel from what is usual: ROC, and the area under it."""

from __future__ import annotations

__all__ = ["Detection", "detection"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.arguments import expect_tensor
from ppl_gen.inference.estimate import Share, summarised
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

_LEAST = 2  # data of each kind, for an error


@dataclass(frozen=True, eq=False, repr=False)
class Detection(Result):
    """Areas under the curve, P(score of a novel datum > score of a usual one), and the scores.

    Attributes:
        scores: By the name of the score, of all data, the larger the odder, (N,).
        novel: Whether each datum is novel, (N,).
        areas: By name, the area with its standard error (DeLong's).

    Examples:
        >>> novel = torch.tensor([False, False, True, True])
        >>> found = detection({"error": torch.tensor([1.0, 2.0, 1.5, 3.0])}, novel)
        >>> found.areas["error"].value
        tensor(0.7500, dtype=torch.float64)
    """

    scores: dict[str, Tensor]
    novel: Tensor
    areas: dict[str, Share]

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        """The ROC of a score: the shares of usual and of novel data above each threshold.

        Args:
            name: Of the score.

        Returns:
            False positive and true positive rates, each (T,), from 0 to 1.
        """
        from sklearn.metrics import roc_curve

        false, true, _ = roc_curve(self.novel.cpu().numpy(), self.scores[name].cpu().numpy())
        return torch.as_tensor(false), torch.as_tensor(true)

    def difference(self, first: str, second: str) -> tuple[float, float]:
        """The area of one score minus that of another, and its standard error, on the same data.

        Args:
            first: The name of a score.
            second: That of another.
        """
        usual_first, novel_first = _placements(self.scores[first].double(), self.novel)
        usual_second, novel_second = _placements(self.scores[second].double(), self.novel)
        error = _error(usual_first - usual_second, novel_first - novel_second)
        return float(self.areas[first].value - self.areas[second].value), float(error)

    @property
    def best(self) -> str:
        """The name of the score with the largest area."""
        return max(self.areas, key=lambda name: float(self.areas[name].value))

    @property
    def verdict(self) -> Verdict:
        """Whether the best score tells novel data at all, by its 95 % interval.

        Tags: "told" where it lies above one half, which passes; "not-told" where it does not.
        """
        area = self.areas[self.best]
        low, high = area.interval()
        said = f"{self.best}: AUC {area}, 95 % from {float(low):.3f} to {float(high):.3f}"
        if float(low) > 0.5:
            return Verdict((Finding("told", f"novel data are told, best by {said}"),), passes=True)
        return Verdict((Finding("not-told", f"novel data are not told: {said}"),), passes=False)

    @property
    def headline(self) -> str:
        """The areas with their errors."""
        areas = [f"{name} {area}" for name, area in self.areas.items()]
        novel = int(self.novel.sum())
        return f"AUC of {novel} novel among {len(self.novel)} data: {', '.join(areas)}"

    def table(self) -> pandas.DataFrame:
        """A row for each score: its area, error and 95 % interval."""
        return summarised(self.areas)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: whether it is novel, and its scores."""
        import pandas

        columns = {"novel": self.novel.cpu().numpy()}
        for name, score in self.scores.items():
            columns[name] = score.cpu().numpy()
        return pandas.DataFrame(columns)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """The curves of all scores.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.codes import roc_curves

        curves = {f"{name}: {area:.3f}": self.curve(name) for name, area in self.areas.items()}
        return roc_curves(curves, title, ax=ax)


def detection(scores: Mapping[str, Tensor], novel: Tensor) -> Detection:
    """AUC = (1/mn) Σᵢ Σⱼ 1[sᵢ > sⱼ] + ½ 1[sᵢ = sⱼ], over m novel and n usual data.

    Its variance is S₁/m + S₀/n, S₁ and S₀ being the variances of the share of usual data below each
    novel datum, and of novel data above each usual one. The interval is Wilson's, with the number
    of points of which counting would have that error.

    Args:
        scores: By name, the larger the odder, each (N,).
        novel: Whether each datum is novel, Boolean (N,).

    Raises:
        ValueError: If there are no scores, one is not of shape (N,) or not finite, or there are
            fewer than two data of either kind.

    Examples:
        >>> good, poor = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([4.0, 1.0, 3.0, 2.0])
        >>> novel = torch.tensor([False, False, True, True])
        >>> found = detection({"good": good, "poor": poor}, novel)
        >>> {name: area.value.item() for name, area in found.areas.items()}
        {'good': 1.0, 'poor': 0.5}

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated
        receiver operating characteristic curves; Hanley and McNeil (1982), The meaning and use of
        the area under a receiver operating characteristic curve.
    """
    from sklearn.metrics import roc_auc_score

    expect_tensor("novel", novel)
    if novel.dtype != torch.bool or novel.dim() != 1:
        raise ValueError(
            f"expected novel as booleans (N,), true where a datum is novel, got {novel.dtype} of "
            f"shape {tuple(novel.shape)}"
        )
    counts = {"novel": int(novel.sum()), "usual": int((~novel).sum())}
    for kind, count in counts.items():
        if count < _LEAST:
            raise ValueError(
                f"expected at least {_LEAST} {kind} data, got {count}; is the class empty?"
            )
    if not scores:
        raise ValueError("expected scores by name, got none")
    areas = {}
    for name, score in scores.items():
        _expect_score(name, score, novel)
        known = score.detach()
        value = float(roc_auc_score(novel.cpu().numpy(), known.cpu().numpy()))
        error = _error(*_placements(known.double(), novel))
        count = len(novel)
        if not float(error) > 0:  # no novel datum among the usual ones: as many as are the fewer
            count = min(counts.values())
        areas[name] = Share(torch.tensor(value, dtype=torch.float64), error, count=count)
    return Detection(scores=dict(scores), novel=novel, areas=areas)


def _placements(score: Tensor, novel: Tensor) -> tuple[Tensor, Tensor]:
    """The share of novel data above each usual one (n,), of usual data below each novel one (m,).

    Ties count one half.
    """
    above = score[novel]
    below = score[~novel]
    return 1 - _share_below(above, below), _share_below(below, above)


def _share_below(points: Tensor, at: Tensor) -> Tensor:
    """The share of points below each of others, ties counting one half, (len(at),)."""
    ordered = points.sort().values
    left = torch.searchsorted(ordered, at.contiguous())
    right = torch.searchsorted(ordered, at.contiguous(), right=True)
    return (left + right).double() / (2 * len(points))


def _error(of_usual: Tensor, of_novel: Tensor) -> Tensor:
    """√(S₁/m + S₀/n) of placements (n,) and (m,)."""
    return (of_novel.var() / len(of_novel) + of_usual.var() / len(of_usual)).sqrt()


def _expect_score(name: str, score: Tensor, novel: Tensor) -> None:
    """Raises ValueError unless there is a finite score for each datum."""
    expect_tensor(f"the score {name!r}", score)
    if score.shape != novel.shape:
        raise ValueError(
            f"expected a score {name!r} for each of {len(novel)} data, got shape "
            f"{tuple(score.shape)}"
        )
    if not bool(score.isfinite().all()):
        raise ValueError(f"expected finite scores {name!r}, got NaN or infinite ones")
