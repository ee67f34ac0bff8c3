"""Estimates: arithmetic with errors, entries, formats. Shares: Wilson's interval holds what it
should, at the ends too, and is scipy's where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ppl_gen.inference.estimate import Estimate, Share


def estimated(*value: float, error: float = 0.3, k_hat: float | None = None) -> Estimate:
    values = torch.tensor(value, dtype=torch.float64)
    worst = None if k_hat is None else torch.full_like(values, k_hat)
    return Estimate(values, torch.full_like(values, error), k_hat=worst)


class TestArithmetic:
    def test_differences_are_paired(self) -> None:
        """Both share what varies over data; only its differences are in the sampling error."""
        generator = torch.Generator().manual_seed(0)
        common, first, second = 10 * torch.randn(3, 400, generator=generator, dtype=torch.float64)
        errors = torch.full_like(common, 0.5)
        a = Estimate(common + first / 100, errors)
        b = Estimate(common + second / 100, errors * 2)
        difference = a - b
        torch.testing.assert_close(difference.value, (first - second) / 100)
        torch.testing.assert_close(difference.standard_error, errors * 5**0.5)
        paired = difference.mean().sampling_error
        assert paired is not None
        assert float(paired) == pytest.approx(float((first - second).std()) / 100 / 20)
        alone = a.mean().sampling_error
        assert alone is not None
        assert float(alone) > 50 * float(paired)
        assert (a.mean() - b.mean()).sampling_error is None

    def test_the_error_of_a_difference_holds_the_truth(self) -> None:
        """Of 4000 differences of two normals, within four standard errors of 95 %."""
        noise = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1)).double()
        sds = torch.tensor([0.3, 0.4]).double()
        a, b = (Estimate(sd * e, sd.expand(4000)) for sd, e in zip(sds, noise, strict=True))
        low, high = (a - b).interval()
        held = float(((low < 0) & (high > 0)).double().mean())
        assert abs(held - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5

    @pytest.mark.parametrize(
        ("made", "value", "error"),
        [
            (lambda e: e - 3.0, [-2.0, -5.0], 0.3),
            (lambda e: 3.0 - e, [2.0, 5.0], 0.3),
            (lambda e: np.float64(3) - e, [2.0, 5.0], 0.3),
            (lambda e: e + np.array([1.0, 2.0]), [2.0, 0.0], 0.3),
            (lambda e: e - torch.tensor([1.0, -2.0]), [0.0, 0.0], 0.3),
            (lambda e: torch.tensor([1.0, -2.0]) - e, [0.0, 0.0], 0.3),
            (lambda e: -e, [-1.0, 2.0], 0.3),
            (lambda e: 2 * e, [2.0, -4.0], 0.6),
            (lambda e: e / -2, [-0.5, 1.0], 0.15),
            (lambda e: sum([e, e]), [2.0, -4.0], 0.3 * 2**0.5),
        ],
    )
    def test_numbers_are_exact(
        self, made: Callable[[Estimate], Estimate], value: list[float], error: float
    ) -> None:
        found = made(estimated(1.0, -2.0))
        assert found.value.tolist() == pytest.approx(value)
        assert found.standard_error.tolist() == pytest.approx([error, error])

    def test_a_mean_keeps_its_sampling_error(self) -> None:
        mean = estimated(1.0, 3.0).mean()
        for moved, scale in ((mean - 5, 1.0), (mean / -2, 0.5)):
            assert float(moved.sampling_error) == pytest.approx(scale)  # type: ignore[arg-type]

    def test_the_worse_weights_are_kept(self) -> None:
        difference = estimated(1.0, k_hat=0.2) - estimated(1.0, k_hat=0.9)
        assert difference.k_hat is not None
        assert float(difference.k_hat) == pytest.approx(0.9)
        assert (estimated(1.0) - estimated(1.0, k_hat=0.9)).verdict.passes is False

    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (lambda e: e - estimated(1.0), r"same data, got shapes \(2,\) and \(1,\)"),
            (lambda e: e - e.mean(), r"average last: \(a - b\).mean\(\)"),
            (lambda e: e + torch.ones(3), r"numbers of shape \(2,\) .* got shape \(3,\)"),
        ],
    )
    def test_unlike_sizes(self, made: Callable[[Estimate], Estimate], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            made(estimated(1.0, 2.0))

    @pytest.mark.parametrize("other", ["x", None])
    def test_what_is_no_number(self, other: Any) -> None:
        with pytest.raises(TypeError, match="unsupported operand"):
            estimated(1.0) - other


class TestEntries:
    whole = estimated(1.0, -2.0, 4.0, k_hat=0.1)

    @pytest.mark.parametrize(
        ("index", "value"),
        [
            (2, 4.0),
            (slice(2), [1.0, -2.0]),
            (torch.tensor([True, False, True]), [1.0, 4.0]),
            (np.array([True, False, True]), [1.0, 4.0]),
            ([2, 0], [4.0, 1.0]),
        ],
    )
    def test_they_are_picked(self, index: Any, value: Any) -> None:
        picked = self.whole[index]
        assert picked.value.tolist() == value
        assert picked.k_hat is not None
        assert picked.value.shape == picked.standard_error.shape == picked.k_hat.shape

    def test_length_and_iteration(self) -> None:
        assert len(self.whole) == 3
        assert [float(one) for one in self.whole] == [1.0, -2.0, 4.0]

    def test_a_single_number_has_none(self) -> None:
        mean = self.whole.mean()
        assert mean
        assert float(mean) == 1.0
        for wrong in (len, iter):
            with pytest.raises(TypeError, match="got a single number"):
                wrong(mean)
        with pytest.raises(IndexError, match="got a single number"):
            mean[0]

    def test_a_mask_of_another_length(self) -> None:
        with pytest.raises(ValueError, match=r"mask of shape \(3,\).* got \(2,\)"):
            self.whole[torch.tensor([True, False])]

    def test_many_are_no_number(self) -> None:
        with pytest.raises(ValueError, match=r"got an estimate of 3 data; say .*mean\(\)"):
            float(self.whole)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("", "-22.541 ± 0.005"),
        (".2f", "-22.54 ± 0.01"),
        ("+.1e", "-2.3e+01 ± 5.2e-03"),
        (">20.1f", "         -22.5 ± 0.0"),
        ("^21", "   -22.541 ± 0.005   "),
    ],
)
def test_formats(spec: str, shown: str) -> None:
    assert format(estimated(-22.54149, error=0.0052), spec) == shown


def test_a_format_that_is_none() -> None:
    with pytest.raises(ValueError, match="expected a format of numbers such as"):
        format(estimated(1.0), "d")


class TestVerdict:
    @pytest.mark.parametrize(
        ("made", "tags", "passes"),
        [
            (estimated(1.0, 2.0), (), None),
            (estimated(1.0, 2.0, k_hat=0.5), ("reliable",), True),
            (estimated(1.0, 2.0, k_hat=0.8), ("unreliable",), False),
            (estimated(1.0, 2.0, k_hat=float("nan")), ("unreliable",), False),
            (estimated(1.0, float("nan"), k_hat=0.5), ("not-finite",), False),
        ],
    )
    def test_it_reads_the_weights(
        self, made: Estimate, tags: tuple[str, ...], passes: bool | None
    ) -> None:
        assert (made.verdict.tags, made.verdict.passes) == (tags, passes)

    def test_it_counts(self) -> None:
        k_hat: Tensor = torch.tensor([0.1, 0.75, 0.9])
        found = Estimate(torch.zeros(3), torch.ones(3), k_hat=k_hat)
        assert "k̂ of 2 of 3 data is above 0.7 (up to 0.90)" in found.verdict


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
