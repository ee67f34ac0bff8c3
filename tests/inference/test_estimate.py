"""Shares: Wilson's interval holds what it should, at the ends too, and is scikit-learn's and
scipy's where they have one.
"""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from ppl_gen.inference.estimate import Share


class TestInterval:
    @pytest.mark.parametrize(("hits", "count"), [(7, 20), (80, 100), (500, 1000)])
    @pytest.mark.parametrize("level", [0.9, 0.95])
    def test_it_is_scipy_s(self, hits: int, count: int, level: float) -> None:
        """With n of the stated error as it is, which for counting is N up to the half that keeps it
        from 0.
        """
        found = Share.of(torch.arange(count) < hits).interval(level)
        expected = stats.binomtest(hits, count).proportion_ci(level, method="wilson")
        assert [float(end) for end in found] == pytest.approx(
            [expected.low, expected.high], rel=1e-9
        )

    @pytest.mark.parametrize("hits", [0, 20])
    def test_at_the_ends(self, hits: int) -> None:
        low, high = map(float, Share.of(torch.arange(20) < hits).interval())
        expected = stats.binomtest(hits, 20).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert 0 <= low < high <= 1

    @pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
    def test_it_holds_the_truth(self, p: float) -> None:
        """95 % of 4000 shares of 200 points, within 4 √(0.05 · 0.95 / 4000) and the 2 % that a
        share of counts can jump by.
        """
        hits = torch.distributions.Binomial(200, torch.tensor(p)).sample((4000,))
        held = 0
        for hit in hits.tolist():
            low, high = Share(
                torch.tensor(hit / 200),
                torch.tensor((hit * (200 - hit) / 200**3) ** 0.5),
                count=200,
            ).interval()
            held += int(low <= p <= high)
        jump = float(
            torch.distributions.Binomial(200, torch.tensor(p))
            .log_prob(torch.arange(201.0))
            .exp()
            .max()
        )
        assert abs(held / 4000 - 0.95) < 4 * (0.05 * 0.95 / 4000) ** 0.5 + jump / 2

    def test_a_larger_error_is_fewer_points(self) -> None:
        """Twice the error of counting is a quarter of the points, up to the half that is added."""
        p, count = torch.tensor(0.8, dtype=torch.float64), 4000
        error = (p * (1 - p) / count).sqrt()
        wide, expected = Share(p, 2 * error, count=count), Share(p, 2 * error, count=1000)
        torch.testing.assert_close(
            torch.stack(wide.interval()), torch.stack(expected.interval()), rtol=1e-3, atol=0
        )
        narrow = Share(p, error / 2, count=count).interval()
        torch.testing.assert_close(
            torch.stack(narrow), torch.stack(Share(p, error, count=count).interval())
        )

    @pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
    def test_level(self, level: float) -> None:
        with pytest.raises(ValueError, match="expected a level between 0 and 1"):
            Share.of(torch.ones(3)).interval(level)
