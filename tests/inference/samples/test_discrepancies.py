"""Distances between samples against closed forms between Gaussians, their errors, and their
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from gaussians import (
    Normal,
    draws,
    exact_energy,
    exact_frechet,
    exact_mmd,
    exact_sliced,
    pair,
)
from torch import Tensor

from ppl_gen.inference import Estimate
from ppl_gen.inference.samples.discrepancies import (
    squared_energy,
    squared_frechet,
    squared_mmd,
    squared_sliced_wasserstein,
)
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.kernels import (
    Gaussian,
    Mixture,
)


def near(found: Estimate, exact: float, bias: float = 0.0) -> bool:
    return abs(float(found.value) - exact - bias) < 4 * float(found.standard_error)


CASES = [(dim, case) for dim in (1, 2, 5) for case in ("equal", "shifted", "unequal")]


@pytest.mark.parametrize(("dim", "case"), CASES)
class TestAgainstClosedForms:
    n, m = 1200, 900

    def samples(self, dim: int, case: str) -> tuple[Normal, Normal, Tensor, Tensor]:
        p, q = pair(dim, case)
        return p, q, draws(p, self.n), draws(q, self.m)

    @pytest.mark.parametrize("bandwidth", [0.5, 2.0])
    def test_mmd(self, dim: int, case: str, bandwidth: float) -> None:
        p, q, x, y = self.samples(dim, case)
        assert near(mmd(x, y, Gaussian(bandwidth)), exact_mmd(p, q, bandwidth))

    def test_mmd_of_a_mixture(self, dim: int, case: str) -> None:
        p, q, x, y = self.samples(dim, case)
        exact = (exact_mmd(p, q, 0.5) + exact_mmd(p, q, 3.0)) / 2
        assert near(mmd(x, y, Mixture([0.5, 3.0])), exact)

    def test_energy(self, dim: int, case: str) -> None:
        p, q, x, y = self.samples(dim, case)
        assert near(energy_distance(x, y), exact_energy(p, q))

    def test_frechet(self, dim: int, case: str) -> None:
        """The extrapolated one has a bias of order 1/n² only."""
        p, q, x, y = self.samples(dim, case)
        assert near(frechet_distance(x, y, extrapolate=True), exact_frechet(p, q))

    def test_sliced_wasserstein(self, dim: int, case: str) -> None:
        """The bias is that of empirical quantiles: below σ² (log log n + 2) / n for a Gaussian, of
        each sample.
        """
        p, q, x, y = self.samples(dim, case)
        found = sliced_wasserstein(x, y, projections=256)
        most = sum(
            float(s.trace()) / dim * (math.log(math.log(n)) + 2) / n
            for s, n in ((p[1], self.n), (q[1], self.m))
        )
        gap = float(found.value) - exact_sliced(p, q)
        error = 4 * float(found.standard_error)
        assert -error < gap < error + most


class TestBias:
    def test_averages_over_pairs_have_none(self) -> None:
        """Over 400 repetitions with 12 and 9 points; the V-statistics of the same are off by many
        errors.
        """
        p, q = pair(2, "unequal")
        exact = {"mmd": exact_mmd(p, q, 1.0), "energy": exact_energy(p, q)}
        samples = [(draws(p, 12), draws(q, 9)) for _ in range(400)]
        for unbiased in (True, False):
            found = {
                "mmd": torch.stack(
                    [squared_mmd(x, y, Gaussian(1.0), unbiased) for x, y in samples]
                ),
                "energy": torch.stack([squared_energy(x, y, unbiased) for x, y in samples]),
            }
            for name, values in found.items():
                error = float(values.std()) / len(values) ** 0.5
                assert (abs(float(values.mean()) - exact[name]) < 4 * error) == unbiased

    @pytest.mark.parametrize("dim", [1, 3])
    def test_frechet_s_is_known_where_the_distributions_are_equal(self, dim: int) -> None:
        """(D + D(D + 1)/4) (1/n + 1/m): of the means, and of covariances by d² ≈ ¼|S − S′|²."""
        n, m = 300, 200
        p, _ = pair(dim, "equal")
        plain, better = (
            torch.stack(
                [
                    frechet_distance(draws(p, n), draws(p, m), extrapolate=e).value
                    for _ in range(300)
                ]
            )
            for e in (False, True)
        )
        bias = (dim + dim * (dim + 1) / 4) * (1 / n + 1 / m)
        for values, expected in ((plain, bias), (better, 0.0)):
            # What is left is of order 1/n², a few hundredths of the bias.
            assert (
                abs(float(values.mean()) - expected)
                < 4 * float(values.std()) / 300**0.5 + 0.03 * bias
            )
        assert float(plain.mean()) > 4 * float(plain.std()) / 300**0.5


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Estimate]] = {
    "mmd": lambda x, y: mmd(x, y, Gaussian(1.0)),
    "polynomial": polynomial_mmd,
    "energy": energy_distance,
    "frechet": frechet_distance,
    "frechet, extrapolated": lambda x, y: frechet_distance(x, y, extrapolate=True),
    "sliced": lambda x, y: sliced_wasserstein(x, y, projections=64),
    "sliced, extrapolated": lambda x, y: sliced_wasserstein(x, y, projections=16, extrapolate=True),
}


class TestErrors:
    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_are_those_of_repetitions(self, name: str) -> None:
        """Over R = 400: a standard deviation has a relative error of about √((κ − 1) / 4R), 5 % at
        κ = 5, and so has an rms.
        """
        p, q = pair(3, "unequal")
        found = [ESTIMATORS[name](draws(p, 80), draws(q, 120)) for _ in range(400)]
        values, errors = (
            torch.stack([getattr(e, a) for e in found]) for a in ("value", "standard_error")
        )
        ratio = float(errors.square().mean().sqrt() / values.std())
        assert ratio == pytest.approx(1, abs=4 * 0.05)

    @pytest.mark.parametrize("name", ESTIMATORS)
    def test_are_not_too_small_where_nothing_differs(self, name: str) -> None:
        """There the first-order variance vanishes, and the estimate of it is at most as large as
        the second-order one.
        """
        p, _ = pair(3, "equal")
        found = [ESTIMATORS[name](draws(p, 80), draws(p, 120)) for _ in range(400)]
        values, errors = (
            torch.stack([getattr(e, a) for e in found]) for a in ("value", "standard_error")
        )
        ratio = float(errors.square().mean().sqrt() / values.std())
        assert 1 - 4 * 0.06 < ratio < 2**0.5 * (1 + 4 * 0.06)

    def test_intervals_hold_the_truth(self) -> None:
        """95 % of 400 intervals: within 4 √(0.95 · 0.05 / 400) = 4.4 %."""
        p, q = pair(2, "shifted")
        exact, held = exact_mmd(p, q, 1.0), 0
        for _ in range(400):
            low, high = mmd(draws(p, 200), draws(q, 200), Gaussian(1.0)).interval(0.95)
            held += int(low <= exact <= high)
        assert abs(held / 400 - 0.95) < 4 * (0.95 * 0.05 / 400) ** 0.5

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["equal", "shifted", "unequal"])
    @pytest.mark.parametrize("name", ["frechet", "sliced"])
    def test_so_do_those_that_are_extrapolated(self, name: str, case: str) -> None:
        """At least 95 % of 300, beside 4 √(0.95 · 0.05 / 300); of the plain forms, less than half
        under the null.
        """
        sliced = partial(sliced_wasserstein, projections=16)
        estimator, exact = {
            "frechet": (frechet_distance, exact_frechet),
            "sliced": (sliced, exact_sliced),
        }[name]
        p, q = pair(5, case)
        truth, held = exact(p, q), {True: 0, False: 0}
        for _ in range(300):
            x, y = draws(p, 250), draws(q, 250)
            for extrapolate in held:
                low, high = estimator(x, y, extrapolate=extrapolate).interval()
                held[extrapolate] += int(low <= truth <= high)
        assert held[True] / 300 > 0.95 - 4 * (0.95 * 0.05 / 300) ** 0.5
        assert case != "equal" or held[False] / 300 < 0.5

    @pytest.mark.parametrize(("n", "m"), [(100, 1000), (300, 300)])
    def test_those_of_frechet_hold_the_truth_where_skewed_samples_are_of_one_distribution(
        self, n: int, m: int
    ) -> None:
        """At least 95 % of 200, beside 4 √(0.95 · 0.05 / 200); of two halves and influences it
        was 82 to 86 %.
        """
        unit = torch.distributions.Exponential(torch.ones(1))
        held = 0
        for _ in range(200):
            x, y = unit.sample((n,)), unit.sample((m,))
            low, high = frechet_distance(x, y, extrapolate=True).interval()
            held += int(low <= 0 <= high)
        assert held / 200 > 0.95 - 4 * (0.95 * 0.05 / 200) ** 0.5

    def test_a_jackknife_is_less_noisy_than_two_halves(self) -> None:
        """Where nothing differs, √(G/(G − 1)) of the noise of all pairs of points, for √2: the
        variance of halves is 1.8 times as large; R = 200.
        """
        p, _ = pair(3, "equal")
        found: dict[str, list[Tensor]] = {"jackknife": [], "halves": []}
        for _ in range(200):
            x, y = draws(p, 80), draws(p, 120)
            found["jackknife"].append(frechet_distance(x, y, extrapolate=True).value)
            halves = squared_frechet(x[::2], y[::2]) + squared_frechet(x[1::2], y[1::2])
            found["halves"].append(2 * squared_frechet(x, y) - halves / 2)
        jackknife, halves = (torch.stack(values).var() for values in found.values())
        assert float(jackknife / halves) < 0.8

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, y = torch.randn(50, 3), torch.randn(41, 3)
        whole = mmd(x, y)
        monkeypatch.setattr("ppl_gen.memory.KERNEL_VALUES", 300)
        cut = mmd(x, y)
        torch.testing.assert_close(
            [cut.value, cut.standard_error], [whole.value, whole.standard_error]
        )


class TestTheSameByOtherMeans:
    def test_polynomial_mmd_is_the_kernel_inception_distance(self) -> None:
        kid = pytest.importorskip("torch_fidelity.metric_kid")
        x, y = torch.randn(300, 64).relu(), 1.2 * torch.randn(300, 64).relu()
        theirs = kid.kid_features_to_metric(
            x, y, kid_subsets=1, kid_subset_size=300, rng_seed=0, verbose=False
        )
        expected = theirs["kernel_inception_distance_mean"]
        assert float(polynomial_mmd(x, y).value) == pytest.approx(expected, rel=1e-4)

    def test_subsets_average_to_the_whole(self) -> None:
        x, y = torch.randn(200, 8), torch.randn(150, 8) + 0.3
        whole, parts = (
            polynomial_mmd(x, y),
            polynomial_mmd(x, y, subsets=300, subset_size=50, seed=1),
        )
        noise = (parts.standard_error.square() - whole.standard_error.square()).sqrt()
        assert abs(float(parts.value - whole.value)) < 4 * float(noise)
        assert float(parts.value) == float(
            polynomial_mmd(x, y, subsets=300, subset_size=50, seed=1).value
        )

    def test_energy_in_one_dimension_is_twice_cramer_s(self) -> None:
        """2 ∫ (F − G)²: of empirical distributions, the V-statistic exactly."""
        x, y = torch.randn(30, 1).double(), torch.randn(20, 1).double() + 1
        grid = torch.cat([x, y]).flatten().sort().values
        f, g = ((sample.flatten() <= grid[:-1, None]).double().mean(1) for sample in (x, y))
        cramer = 2 * ((f - g).square() * grid.diff()).sum()
        torch.testing.assert_close(squared_energy(x, y, unbiased=False), cramer)

    def test_frechet_by_the_root_of_a_matrix(self) -> None:
        x, y = (
            torch.randn(50, 4).double() @ torch.randn(4, 4).double(),
            torch.randn(70, 4).double() + 1,
        )
        expected = exact_frechet((x.mean(0), x.T.cov()), (y.mean(0), y.T.cov()))
        assert float(squared_frechet(x, y)) == pytest.approx(expected, rel=1e-9)

    def test_frechet_of_fewer_points_than_features(self) -> None:
        """Singular covariances: the distance of a sample to its own reflection at its mean is 0."""
        x = torch.randn(10, 30).double()
        assert abs(float(squared_frechet(x, 2 * x.mean(0) - x))) < 1e-9

    def test_sliced_wasserstein_of_unequal_sizes_is_that_of_copies(self) -> None:
        x, y = torch.randn(6, 3).double(), torch.randn(4, 3).double()
        torch.manual_seed(1)
        found = squared_sliced_wasserstein(x, y)
        torch.manual_seed(1)
        copies = squared_sliced_wasserstein(x.repeat_interleave(2, 0), y.repeat_interleave(3, 0))
        torch.testing.assert_close(found, copies)
        torch.testing.assert_close(sliced_wasserstein(x, y, seed=1).value, found)

    def test_features_are_what_is_compared(self) -> None:
        x, y = torch.rand(20, 1, 4, 4), torch.rand(30, 1, 4, 4)

        def halves(t: Tensor) -> Tensor:
            return t.flatten(1)[:, :8]

        for estimator in (mmd, polynomial_mmd, energy_distance, frechet_distance):
            torch.testing.assert_close(
                estimator(x, y, features=halves).value, estimator(halves(x), halves(y)).value
            )


class TestInterval:
    def test_of_each_entry(self) -> None:
        low, high = Estimate(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.5])).interval(0.9)
        torch.testing.assert_close(low, torch.tensor([-1.644854, 2 - 0.822427]))
        torch.testing.assert_close(high, torch.tensor([1.644854, 2 + 0.822427]))

    @pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
    def test_level(self, level: float) -> None:
        with pytest.raises(ValueError, match="expected a level between 0 and 1"):
            Estimate(torch.zeros(()), torch.ones(())).interval(level)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), r"of one shape, got \(9, 2\) and \(9, 3\)"),
        (
            torch.randn(3, 2),
            torch.randn(9, 2),
            "at least 4 points in each sample, got 3 and 9; draw more",
        ),
        (
            torch.full((9, 2), math.nan),
            torch.randn(9, 2),
            "finite samples, got NaN or infinite values in 9 points",
        ),
    ],
)
@pytest.mark.parametrize(
    "estimator", [mmd, polynomial_mmd, energy_distance, frechet_distance, sliced_wasserstein]
)
def test_bad_samples(estimator: Callable[..., Estimate], x: Tensor, y: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimator(x, y)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda x: mmd(torch.ones(9, 2), torch.ones(9, 2)),
            "expected points that differ.*give a kernel",
        ),
        (
            lambda x: mmd(x, x, features=lambda t: t.sum(0)),
            r"expected features of shape \(9, D\), one row for each point",
        ),
        (lambda x: mmd(x, x, features=lambda t: t / 0), "expected finite features"),
        (
            lambda x: polynomial_mmd(x, x, subsets=1),
            "expected at least 2 subsets of 4 to 9 points, got 1 of 1000",
        ),
        (lambda x: polynomial_mmd(x, x, subsets=3, subset_size=10), "got 3 of 10"),
        (
            lambda x: sliced_wasserstein(x, x, projections=1),
            "expected at least 2 projections, got 1",
        ),
        (lambda x: squared_mmd(x[:1], x), "expected at least 2 points in each sample, got 1 and 9"),
    ],
)
def test_bad_options(call: Callable[[Tensor], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(torch.randn(9, 2))


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-2.0, 0.025, "-2.000 ± 0.025"),
        (3.21e-4, 1.23e-5, "0.000321 ± 0.000012"),
        (1.0, 0.0, "1.000 ± 0.000"),
    ],
)
def test_a_small_error_is_shown_with_two_digits(value: float, error: float, shown: str) -> None:
    assert str(Estimate(torch.tensor(value), torch.tensor(error))) == shown
