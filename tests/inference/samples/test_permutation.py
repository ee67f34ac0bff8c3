"""Two-sample tests: their level under the null, their power at a stated shift, and that
permutations are all there is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch import Tensor

from ppl_gen.inference.samples.classifier_test import classifier_test
from ppl_gen.inference.samples.discrepancies import squared_energy, squared_mmd
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.kernels import Gaussian
from ppl_gen.inference.samples.permutation import two_sample_test

Test = Callable[[Tensor, Tensor], float]


def by(statistic: Any, permutations: int) -> Test:
    return lambda x, y: two_sample_test(x, y, statistic, permutations).p_value


# With the number of repetitions under the null. Statistics of which each permutation costs have 19
# of them, where the level is 1/20 as exactly as with 199: only time is saved.
TESTS: dict[str, tuple[Test, int]] = {
    "mmd": (by(mmd, 199), 3000),
    "polynomial": (by(polynomial_mmd, 199), 3000),
    "energy": (by(energy_distance, 199), 3000),
    "sliced": (by(partial(sliced_wasserstein, projections=16), 19), 1000),
    "frechet": (by(frechet_distance, 19), 1000),
    "classifier": (lambda x, y: classifier_test(x, y, permutations=199).p_value, 1000),
}


QUICK = ("mmd", "frechet")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TESTS if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
class TestLevelAndPower:
    @pytest.mark.long
    def test_five_per_cent_are_rejected_under_the_null(self, name: str) -> None:
        """Within 2 %, 50 against 40 points: the share has a standard error of √(0.05 · 0.95 / 1000)
        = 0.7 % at most.
        """
        test, repetitions = TESTS[name]
        rejected = sum(
            test(torch.randn(50, 2), torch.randn(40, 2)) <= 0.05 for _ in range(repetitions)
        )
        assert abs(rejected / repetitions - 0.05) <= 0.02

    def test_a_shift_is_found(self, name: str) -> None:
        """One standard deviation in each of two coordinates, 50 against 40 points, in more than 9
        of 10 repetitions.
        """
        rejected = sum(
            TESTS[name][0](torch.randn(50, 2), torch.randn(40, 2) + 1) <= 0.05 for _ in range(60)
        )
        assert rejected / 60 > 0.9


class TestPermutations:
    @pytest.mark.parametrize(
        ("fast", "slow"),
        [
            (partial(mmd, kernel=Gaussian(0.7)), lambda x, y: mmd(x, y, Gaussian(0.7))),
            (
                partial(squared_mmd, kernel=Gaussian(0.7)),
                lambda x, y: squared_mmd(x, y, Gaussian(0.7)),
            ),
            (polynomial_mmd, lambda x, y: polynomial_mmd(x, y)),
            (energy_distance, lambda x, y: energy_distance(x, y)),
            (squared_energy, lambda x, y: squared_energy(x, y)),
            (frechet_distance, lambda x, y: frechet_distance(x, y)),
            (partial(sliced_wasserstein, seed=3), lambda x, y: sliced_wasserstein(x, y, seed=3)),
            (
                partial(sliced_wasserstein, seed=3, projections=9),
                lambda x, y: sliced_wasserstein(x, y, projections=9, seed=3),
            ),
        ],
    )
    def test_all_at_once_are_those_one_by_one(
        self, fast: Any, slow: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, y = torch.randn(12, 3), torch.randn(9, 3) + 0.3
        monkeypatch.setattr("ppl_gen.memory.KERNEL_VALUES", 100)
        first, second = (two_sample_test(x, y, s, permutations=30, seed=4) for s in (fast, slow))
        torch.testing.assert_close(first.null, second.null)
        assert first.statistic == pytest.approx(second.statistic)
        assert first.p_value == second.p_value

    def test_the_p_value_is_that_of_all_splits(self) -> None:
        """Eight points have 70 splits; the share of permutations has a standard error of √(p (1 −
        p) / 4000).
        """
        x, y = torch.randn(4, 1), torch.randn(4, 1) + 1
        pooled, observed = torch.cat([x, y]), float(squared_energy(x, y))
        values = []
        for chosen in itertools.combinations(range(8), 4):
            rest = [i for i in range(8) if i not in chosen]
            values.append(float(squared_energy(pooled[list(chosen)], pooled[rest])))
        exact = sum(v >= observed - 1e-6 for v in values) / 70
        found = two_sample_test(x, y, energy_distance, permutations=4000)
        assert abs(found.p_value - exact) < 4 * (exact * (1 - exact) / 4000) ** 0.5 + 1 / 4001
        assert found.p_value == (1 + int((found.null >= found.statistic - 1e-6).sum())) / 4001

    def test_random_numbers_of_a_statistic_are_the_same_each_time(self) -> None:
        found = two_sample_test(
            torch.randn(8, 2), torch.randn(8, 2), lambda x, y: torch.randn(()), permutations=19
        )
        assert len({*found.null.tolist(), found.statistic}) == 1
        assert found.p_value == 1

    def test_a_seed_repeats_and_leaves_the_generator(self) -> None:
        x, y = torch.randn(10, 2), torch.randn(10, 2)
        for test in (
            two_sample_test,
            partial(two_sample_test, statistic=sliced_wasserstein),
            classifier_test,
        ):
            state = torch.get_rng_state()
            assert torch.equal(*(test(x, y, permutations=19, seed=3).null for _ in range(2)))
            assert torch.equal(torch.get_rng_state(), state)

    def test_it_reads(self) -> None:
        assert "p = 0.0196 by 50 permutations" in str(
            two_sample_test(torch.zeros(30, 1), torch.ones(30, 1), energy_distance, permutations=50)
        )


class TestClassifier:
    def test_accuracy_is_the_best_there_is(self) -> None:
        """Φ(½) = 0.691 for a shift of one standard deviation; 2000 points a side leave 0.2 % to the
        training.
        """
        found = classifier_test(
            torch.randn(2000, 3), torch.randn(2000, 3) + torch.tensor([1.0, 0, 0])
        )
        best = float(torch.special.ndtr(torch.tensor(0.5)))
        assert (
            abs(float(found.accuracy.value) - best)
            < 4 * float(found.accuracy.standard_error) + 0.002
        )
        assert float(found.accuracy.standard_error) == pytest.approx(
            (best * (1 - best) / 2000) ** 0.5, rel=0.05
        )
        assert found.p_value == 1 / 501
        assert str(found).startswith("accuracy 0.6")

    def test_a_difference_in_spread_needs_another_classifier(self) -> None:
        x, y = torch.randn(300, 2), 2 * torch.randn(300, 2)
        assert classifier_test(x, y, classifier=KNeighborsClassifier(15), seed=0).p_value < 0.01
        assert (
            abs(float(classifier_test(x, y, seed=0).accuracy.value) - 0.5) < 4 * (0.25 / 300) ** 0.5
        )

    def test_samples_of_unequal_size_are_balanced(self) -> None:
        """Ten times as many x: a classifier that always says x would otherwise be right nine times
        in ten.
        """
        found = classifier_test(torch.randn(1000, 2), torch.randn(100, 2))
        assert abs(float(found.accuracy.value) - 0.5) < 4 * (0.25 / 100) ** 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda x: two_sample_test(x, x, permutations=18),
            "at least 19 permutations, for a p-value of 0.05, got 18",
        ),
        (lambda x: two_sample_test(x[:3], x), "at least 4 points in each sample, got 3 and 20"),
        (lambda x: two_sample_test(x, x[:, :1]), "of one shape"),
        (lambda x: two_sample_test(x * math.inf, x), "finite samples"),
        (
            lambda x: two_sample_test(x, x, lambda a, b: a - b),
            "expected a statistic that is a finite number",
        ),
        (lambda x: classifier_test(x[:9], x), "at least 10 points in each sample, got 9 and 20"),
        (lambda x: classifier_test(x, x, permutations=5), "at least 19 permutations"),
        (lambda x: classifier_test(x, x, classifier=LinearSVC()), "predict_proba, got LinearSVC"),
    ],
)
def test_bad_input(call: Callable[[Tensor], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(torch.randn(20, 2))
