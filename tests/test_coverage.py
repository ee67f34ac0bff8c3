"""Precision, recall, density and coverage against their known expectations, and on samples that miss something."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ppl_gen.inference.coverage import precision_recall


def modes(which: list[int], n: int) -> Tensor:
    """Tight clusters at 0, 10, 20, …"""
    centres = torch.tensor(which)[torch.arange(n) % len(which)]
    return 0.1 * torch.randn(n, 2) + 10 * centres[:, None]


class TestKnown:
    @pytest.mark.parametrize(("count", "k"), [(60, 3), (90, 5)])
    def test_expectations_where_both_are_of_one_distribution(self, count: int, k: int) -> None:
        """E density = 1 and E coverage = 1 − Πₗ (N − l)/(M + N − l), over 150 repetitions (Naeem et al., lemmas 1 and 2)."""
        n, runs = 80, 150
        found = [precision_recall(torch.randn(count, 4), torch.randn(n, 4), k) for _ in range(runs)]
        coverage = 1 - math.prod((n - i) / (count + n - i) for i in range(1, k + 1))
        for name, expected in (("density", 1.0), ("coverage", coverage)):
            values = torch.stack([getattr(f, name).value for f in found])
            assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / runs**0.5, name

    def test_a_plain_loop(self) -> None:
        y, x, k = torch.randn(30, 2), torch.randn(40, 2) + 0.5, 4
        found = precision_recall(y, x, k)
        reach_x, reach_y = (torch.cdist(t, t).sort(1).values[:, k] for t in (x, y))
        gaps = torch.cdist(x.double(), y.double()).float()
        in_x, in_y = gaps <= reach_x[:, None], gaps <= reach_y
        expected = (in_x.any(0), in_y.any(1), in_x.sum(0) / k, in_x.any(1))
        for estimate, counted in zip(vars(found).values(), expected, strict=True):
            torch.testing.assert_close(estimate.value, counted.double().mean())
            torch.testing.assert_close(estimate.standard_error, counted.double().std() / len(counted) ** 0.5)

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y, x = torch.randn(30, 2), torch.randn(40, 2)
        whole = precision_recall(y, x)
        monkeypatch.setattr("ppl_gen.inference.coverage._PAIRS", 200)
        assert str(precision_recall(y, x)) == str(whole)


class TestWhatIsMissing:
    def test_a_dropped_mode_lowers_recall_and_coverage(self) -> None:
        found = precision_recall(modes([0, 1, 2], 300), modes([0, 1, 2, 3], 400))
        assert float(found.precision.value) > 0.9
        # A quarter of the data lies in the mode that was dropped.
        assert float(found.recall.value) < 0.75
        assert float(found.coverage.value) < 0.75

    def test_an_invented_mode_lowers_precision_and_density(self) -> None:
        found = precision_recall(modes([0, 1, 2, 7], 400), modes([0, 1, 2], 300))
        assert float(found.precision.value) <= 0.75
        assert abs(float(found.density.value) - 0.75) < 4 * float(found.density.standard_error)
        assert float(found.recall.value) > 0.9

    def test_nothing_in_common(self) -> None:
        found = precision_recall(modes([5], 50), modes([0], 50))
        assert [float(e.value) for e in vars(found).values()] == [0, 0, 0, 0]
        assert str(found).startswith("precision 0.000 ± 0.000, recall")

    def test_features(self) -> None:
        y, x = torch.rand(50, 1, 3, 3), torch.rand(60, 1, 3, 3)
        first = precision_recall(y, x, features=lambda t: t.flatten(1)[:, :4])
        assert str(first) == str(precision_recall(y.flatten(1)[:, :4], x.flatten(1)[:, :4]))


@pytest.mark.parametrize(
    ("k", "points", "said"),
    [(0, 9, "expected k of at least 1, got 0"), (5, 5, "at least 6 points in each sample, got 5 and 5; draw more")],
)
def test_bad_input(k: int, points: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        precision_recall(torch.randn(points, 2), torch.randn(points, 2), k)
