"""Precision, recall, density and coverage against their known expectations, and on samples that
miss something.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ppl_gen.inference.samples.precision_recall import precision_recall


def modes(which: list[int], n: int) -> Tensor:
    """Tight clusters at 0, 10, 20, …"""
    centres = torch.tensor(which)[torch.arange(n) % len(which)]
    return 0.1 * torch.randn(n, 2) + 10 * centres[:, None]


class TestKnown:
    @pytest.mark.parametrize(("count", "k"), [(60, 3), (90, 5)])
    def test_expectations_where_both_are_of_one_distribution(self, count: int, k: int) -> None:
        """E density = 1 and E coverage = 1 − Πₗ (N − l)/(M + N − l), over 150 repetitions (Naeem et
        al., lemmas 1 and 2).
        """
        n, runs = 80, 150
        found = [
            precision_recall(torch.randn(count, 4), torch.randn(n, 4), k, splits=1)
            for _ in range(runs)
        ]
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
        for estimate, counted in zip(found.parts.values(), expected, strict=True):
            torch.testing.assert_close(estimate.value, counted.double().mean())

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y, x = torch.randn(30, 2), torch.randn(40, 2)
        whole = precision_recall(y, x, seed=0)
        monkeypatch.setattr("ppl_gen.memory.KERNEL_VALUES", 200)
        assert str(precision_recall(y, x, seed=0)) == str(whole)


def shifted() -> tuple[Tensor, Tensor]:
    return 0.8 * torch.randn(200, 6) + 0.3, torch.randn(150, 6)


SAMPLES: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "equal": lambda: (torch.randn(200, 8), torch.randn(200, 8)),
    "plane": lambda: (torch.randn(200, 2), torch.randn(150, 2)),
    "shifted": shifted,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["equal", *(pytest.param(c, marks=pytest.mark.slow) for c in ("plane", "shifted"))]
)
def test_errors_and_intervals_are_those_of_repetitions(case: str) -> None:
    """95 % of R = 200 intervals hold the mean: 4 √(0.05 · 0.95 / R) = 6.2 %, and so do errors
    within 4 / √(2R) = 20 %.

    The rms of errors may be up to √2 times too large, where a number depends on its points mostly
    by pairs and more.
    """
    found = [precision_recall(*SAMPLES[case](), splits=20) for _ in range(200)]
    for name in ("precision", "recall", "density", "coverage"):
        values = torch.stack([getattr(f, name).value for f in found])
        errors = torch.stack([getattr(f, name).standard_error for f in found])
        ends = torch.stack([torch.stack(getattr(f, name).interval()) for f in found])
        mean, held = values.mean(), 0.05 + 4 * (0.05 * 0.95 / 200) ** 0.5
        assert float(((ends[:, 0] <= mean) & (mean <= ends[:, 1])).double().mean()) > 1 - held, name
        ratio = float(errors.square().mean().sqrt() / values.std())
        assert 1 - 0.2 < ratio < 2**0.5 * (1 + 0.2), name


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
        assert [float(e.value) for e in found.parts.values()] == [0, 0, 0, 0]
        assert str(found).startswith("precision 0.000 ± 0.000, recall")

    def test_features(self) -> None:
        y, x = torch.rand(50, 1, 3, 3), torch.rand(60, 1, 3, 3)
        first = precision_recall(y, x, features=lambda t: t.flatten(1)[:, :4], seed=1)
        assert str(first) == str(precision_recall(y.flatten(1)[:, :4], x.flatten(1)[:, :4], seed=1))

    def test_a_seed_repeats_and_leaves_the_generator(self) -> None:
        y, x, state = torch.randn(40, 2), torch.randn(50, 2), torch.get_rng_state()
        assert len({str(precision_recall(y, x, seed=s)) for s in (1, 1)}) == 1
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("k", "splits", "points", "said"),
    [
        (0, 1, 9, "expected k of at least 1, got 0"),
        (5, 0, 9, "expected splits of at least 1, got 0"),
        (5, 1, 11, "at least 12 points in each sample, got 11 and 11; draw more"),
    ],
)
def test_bad_input(k: int, splits: int, points: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        precision_recall(torch.randn(points, 2), torch.randn(points, 2), k, splits=splits)
