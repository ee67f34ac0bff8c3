"""Moments: tests have their level at all sizes, errors are those of repetitions, and the moment
that was moved is the one that is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.data import Split
from ppl_gen.inference.samples.moments import moments

N, M = 3000, 2000
FEW = 19  # permutations: as many as a level of 0.95 needs


def gamma(n: int, shape: float = 4.0) -> Tensor:
    """Unit variance, mean 2, skewness 1, kurtosis 1.5."""
    return torch.distributions.Gamma(shape, shape**0.5).sample((n, 1))


def normal(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64)


def exponential(n: int, dim: int) -> Tensor:
    return torch.distributions.Exponential(torch.ones(dim)).sample((n,))


def heavy_tailed(n: int, dim: int) -> Tensor:
    """Student's t with 3 degrees of freedom: it has no skewness and no kurtosis."""
    return torch.distributions.StudentT(torch.full((dim,), 3.0)).sample((n,))


FAMILIES = {"normal": normal, "exponential": exponential, "heavy-tailed": heavy_tailed}


def coins(n: int, dim: int) -> Tensor:
    return torch.randint(2, (n, dim)).float()


def halves_of_digits() -> tuple[Tensor, Tensor]:
    """300 and 300 at random, binarised; 64 pixels, of which some never or seldom are 1."""
    both = data.load("digits", binarize="threshold")
    x = torch.cat([both.train.x, both.test.x])[torch.randperm(1797)]
    return x[:300], x[300:600]


BINARY: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "one coin": lambda: (coins(1000, 1), coins(1000, 1)),
    "balanced exactly": lambda: (torch.tensor([0.0, 1.0]).repeat(500)[:, None], coins(1000, 1)),
    "coins that are each other's": lambda: (doubled(coins(500, 4)), doubled(coins(700, 4))),
    "digits": halves_of_digits,
}


def doubled(x: Tensor) -> Tensor:
    return torch.cat([x, 1 - x], 1)


def rejections(family: str, m: int, n: int, dim: int, repetitions: int) -> dict[str, float]:
    """The share of repetitions that the verdict rejects at 5 %, and the mean share of each kind of
    moment whose own p-value is at most 5 %, both samples being of one distribution.
    """
    draw = FAMILIES[family]
    seen = dict.fromkeys(("verdict", "mean", "covariance", "skewness", "kurtosis"), 0.0)
    for _ in range(repetitions):
        found = moments(draw(m, dim), draw(n, dim), permutations=FEW, seed=None)
        seen["verdict"] += not found.matched
        for kind in found.kinds:
            seen[kind.name] += float((kind.p_value[kind.counted] <= 0.05).double().mean())
    return {name: count / repetitions for name, count in seen.items()}


class TestLevel:
    """The level is exact, 1/20 with 19 permutations."""

    @pytest.mark.parametrize(
        ("family", "m", "n", "dim"),
        [("exponential", 8, 300, 1), ("heavy-tailed", 300, 30, 3), ("normal", 20, 20, 2)],
    )
    def test_is_five_per_cent_at_all_sizes(self, family: str, m: int, n: int, dim: int) -> None:
        """Beside 4 √(0.05 · 0.95 / R), R = 200: 6 %. Of Bonferroni's z-scores it was 10 to 40 %."""
        for name, share in rejections(family, m, n, dim, 200).items():
            assert abs(share - 0.05) < 4 * (0.05 * 0.95 / 200) ** 0.5, name

    @pytest.mark.slow
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize(
        ("m", "n", "dim"),
        [
            (8, 1000, 1),
            (8, 8, 10),
            (8, 10_000, 1),
            (1000, 30, 5),
            (297, 2000, 10),
            (100, 10_000, 10),
        ],
    )
    def test_beside_two_per_cent(self, family: str, m: int, n: int, dim: int) -> None:
        """R = 2000: 4 √(0.05 · 0.95 / R) = 2 %."""
        for name, share in rejections(family, m, n, dim, 2000).items():
            assert abs(share - 0.05) < 4 * (0.05 * 0.95 / 2000) ** 0.5, name

    def test_of_a_mean_also_where_variances_differ(self) -> None:
        """50 points of standard deviation 3 beside 1000 of 1; beside √(0.05 · 0.95 / 150)."""
        pairs = [(3 * normal(50, 1), normal(1000, 1)) for _ in range(150)]
        found = [moments(y, x, permutations=FEW, seed=None) for y, x in pairs]
        off = sum(float(one.mean.p_value) <= 0.05 for one in found) / 150
        assert abs(off - 0.05) < 4 * (0.05 * 0.95 / 150) ** 0.5
        assert sum(one.worst.name == "variance[0]" for one in found) > 0.9 * 150

    def test_of_the_limit(self) -> None:
        """As many of the largest |z| lie above it as a level allows, the observed one included."""
        found = moments(normal(50, 2), normal(70, 2), permutations=99)
        assert int((found.null > found.limit).sum()) == 4
        assert found.matched == (abs(found.worst.z) <= found.limit)

    def test_a_level_that_permutations_cannot_reach(self) -> None:
        with pytest.raises(
            ValueError, match=r"at least 99 permutations for a level of 0\.99, got 98"
        ):
            moments(normal(20, 1), normal(20, 1), level=0.99, permutations=98)
        assert moments(normal(20, 1), normal(20, 1), level=0.99, permutations=99).level == 0.99

    def test_the_generator_stays_and_results_repeat(self) -> None:
        y, x = normal(20, 2), normal(30, 2)
        state = torch.random.get_rng_state()
        found = moments(y, x)
        torch.testing.assert_close(found.null, moments(y, x).null)
        assert bool((torch.random.get_rng_state() == state).all())

    def test_samples_that_are_equal(self) -> None:
        x = coins(50, 3)
        assert moments(x, x).worst.p_value == 1


class TestErrors:
    def test_z_scores_are_standard_normal(self) -> None:
        """Of correlated features, some skewed: over R = 150 repetitions, mean 0 ± 1/√R and mean
        square 1 ± sd(z²)/√R.
        """
        mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
        found = {"mean": [], "covariance": [], "skewness": [], "kurtosis": []}
        for _ in range(150):
            y, x = (torch.cat([torch.randn(n, 2), gamma(n, 20.0)], 1) @ mix for n in (800, 600))
            for kind in moments(y, x, permutations=FEW).kinds:
                found[kind.name].append(kind.z[kind.counted])
        for name, parts in found.items():
            z = torch.stack(parts)
            assert float(z.mean(0).abs().max()) < 4 / 150**0.5, name
            squares = z.square()
            assert bool(((squares.mean(0) - 1).abs() < 4 * squares.std(0) / 150**0.5).all()), name

    def test_are_those_of_repetitions_where_distributions_and_sizes_differ(self) -> None:
        """Over R = 200: a standard deviation has a relative error of about √((κ − 1) / 4R), 7 % at
        κ = 5. The error of the test is no smaller.
        """
        found = [
            moments(gamma(250, 20.0), normal(1000, 1), permutations=FEW).kinds for _ in range(200)
        ]
        for kinds in zip(*found, strict=True):
            values = torch.stack([kind.difference.value for kind in kinds])
            errors = torch.stack([kind.standard_error for kind in kinds])
            assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1, abs=0.28)
            assert all(bool((kind.null_error >= kind.standard_error).all()) for kind in kinds)

    def test_intervals_of_the_shape_of_few_points_hold_the_truth(self) -> None:
        """Of 30 gamma variates beside 1000 normal ones: at least 95 % of 150 intervals, beside 4
        √(0.95 · 0.05 / 150); by Welch's error they held the kurtosis in 70 %.
        """
        truth = {"mean": 20**0.5, "skewness": 2 / 20**0.5, "kurtosis": 6 / 20}
        held = dict.fromkeys(truth, 0)
        for _ in range(150):
            found = moments(gamma(30, 20.0), normal(1000, 1), permutations=FEW)
            for kind in found.kinds:
                if kind.name in truth:
                    low, high = kind.difference.interval()
                    held[kind.name] += int(low <= truth[kind.name] <= high)
        least = 0.95 - 4 * (0.95 * 0.05 / 150) ** 0.5
        assert min(held.values()) / 150 > least, held

    @pytest.mark.parametrize(
        "name",
        [*(n for n in BINARY if n != "digits"), pytest.param("digits", marks=pytest.mark.slow)],
    )
    def test_nor_does_it_err_on_binary_data(self, name: str) -> None:
        """At most 5 % of 60 repetitions, beside the standard error; with variances, 30 to 100 % of
        them were rejected.
        """
        off = 0
        for _ in range(60):
            found = moments(*BINARY[name](), permutations=FEW)
            off += not found.matched
        assert off / 60 < 0.05 + 4 * (0.05 * 0.95 / 60) ** 0.5
        assert not bool(found.skewness.counted.any() | found.covariance.counted.diagonal().any())

    def test_errors_of_covariances_are_exact_also_where_the_first_order_vanishes(self) -> None:
        """V = 2v²/N(N − 1) of each side, v = ¼, for a fair coin, whose first-order error is 0; R =
        200 repetitions.
        """
        found = [
            moments(
                coins(60, 2) + 1e-3 * torch.randn(60, 2), coins(90, 2), permutations=FEW
            ).covariance
            for _ in range(200)
        ]
        differences = torch.stack([f.sample - f.data for f in found])
        stated = torch.stack([f.standard_error.square() for f in found]).mean(0)
        exact = (1 / 16) * (2 / (60 * 59) + 2 / (90 * 89))
        seen = differences[:, 0, 0].square()
        assert abs(float(seen.mean()) - exact) < 4 * float(seen.std()) / 200**0.5
        # Three times that: the first-order term, estimated where it is 0, has an expectation of its
        # own.
        assert exact < float(stated[0, 0]) < 4 * exact

    def test_intervals(self) -> None:
        found = moments(torch.randn(M, 4) + 0.5, torch.randn(N, 4), level=0.9)
        low, high = found.mean.difference.interval(found.level)
        reach = 1.645 * (1 / M + 1 / N) ** 0.5
        torch.testing.assert_close(
            high - low, torch.full((4,), 2 * reach).double(), rtol=0.1, atol=0
        )


class TestWhichIsOff:
    def test_a_binary_pixel_by_its_mean(self) -> None:
        y = coins(M, 3)
        y[:, 1] = (torch.rand(M) < 0.6).float()
        found = moments(y, coins(N, 3))
        assert found.worst.name == "mean[1]"
        assert found.count == 3 + 3
        assert list(found.table().index) == ["mean", "covariance"]

    @pytest.mark.parametrize(
        ("sample", "name"),
        [
            (torch.tensor([0.0, 0.0, 0.3]), "mean[2]"),
            (torch.tensor([1.0, 1.3, 1.0]), "variance[1]"),
        ],
    )
    def test_means_and_variances(self, sample: Tensor, name: str) -> None:
        noise = torch.randn(M, 3)
        found = moments(noise + sample if name == "mean[2]" else noise * sample, torch.randn(N, 3))
        assert found.worst.name == name
        assert found.worst.z > 5
        assert not found.matched
        assert f"the farthest is {name}" in found.verdict

    def test_a_covariance(self) -> None:
        y = torch.randn(M, 3)
        y[:, 2] = 0.4 * y[:, 0] + (1 - 0.16) ** 0.5 * y[:, 2]
        worst = moments(y, torch.randn(N, 3)).worst
        assert worst.name == "covariance[0, 2]"
        assert worst.sample == pytest.approx(0.4, abs=4 * (1.16 / M) ** 0.5)
        assert worst.data == pytest.approx(0, abs=4 / N**0.5)

    def test_skewness_under_equal_means_and_variances(self) -> None:
        x = torch.randn(N, 2)
        y = torch.cat([torch.randn(M, 1), gamma(M) - 2], 1)
        found = moments(y, x)
        assert found.worst.name == "skewness[1]"
        assert abs(float(found.skewness.sample[1]) - 1) < 4 * float(
            found.skewness.standard_error[1]
        )

    def test_kurtosis_under_equal_variances(self) -> None:
        y = torch.distributions.Laplace(0, 0.5**0.5).sample((M, 2))
        found = moments(y, torch.randn(N, 2))
        assert found.worst.name.startswith("kurtosis")
        assert bool(((found.kurtosis.sample - 3).abs() < 4 * found.kurtosis.standard_error).all())

    def test_pixels_are_named_by_their_place(self) -> None:
        y = torch.randn(M, 1, 4, 4)
        y[:, 0, 2, 3] += 0.5
        x = torch.randn(N, 1, 4, 4)
        assert moments(y, x, permutations=FEW).worst.name == "mean[0, 2, 3]"
        y[:, 0, 2, 3] = 0.9 * y[:, 0, 0, 1] + 0.19**0.5 * torch.randn(M)
        assert moments(y, x, permutations=FEW).worst.name == "covariance of [0, 0, 1] and [0, 2, 3]"

    def test_features(self) -> None:
        y = torch.randn(M, 1, 2, 2)
        found = moments(
            y + 0.3, torch.randn(N, 1, 2, 2), features=lambda x: x.flatten(1).sum(1, keepdim=True)
        )
        assert found.worst.name == "mean[0]"
        assert found.count == 4

    def test_the_table(self) -> None:
        found = moments(torch.randn(M, 3) + torch.tensor([0.0, 0.5, 0.0]), torch.randn(N, 3))
        table = found.table()
        assert list(table.index) == ["mean", "covariance", "skewness", "kurtosis"]
        assert table["compared"].tolist() == [3, 6, 3, 3]
        assert table.loc["mean", "off"] == 1
        assert table.loc["mean", "low"] < 0.5 < table.loc["mean", "high"]
        assert "mean[1]" in str(found)
        assert str(found.verdict) in str(found)


class TestConstants:
    def test_equal_in_both_are_carried_as_equal(self) -> None:
        border = torch.full((N, 2), 0.1)
        with_border = moments(
            torch.cat([torch.randn(M, 3), border[:M]], 1), torch.cat([torch.randn(N, 3), border], 1)
        )
        assert with_border.count == 3 + 6 + 3 + 3
        assert with_border.mean.difference.value[3:].tolist() == [0, 0]
        assert with_border.frozen == {"sample": 0, "data": 0}
        assert "Constant" not in with_border.verdict

    def test_in_one_alone_is_compared_and_said(self) -> None:
        y = torch.cat([torch.randn(M, 2), torch.zeros(M, 1)], 1)
        found = moments(y, torch.randn(N, 3))
        assert found.worst.name == "variance[2]"
        assert "Constant in the sample alone: 1 of 3 features." in found.verdict
        assert found.count == 3 + 6 + 2 + 2
        assert math.isnan(float(found.kurtosis.z[2]))

    def test_at_different_values(self) -> None:
        y, x = torch.randn(M, 3), torch.randn(N, 3)
        y[:, 1], x[:, 1] = 0.5, 0.7
        with pytest.raises(
            ValueError,
            match=r"zero variance in both samples, at different values, in 1 of 3: \[1\]; drop",
        ):
            moments(y, x)

    def test_all(self) -> None:
        with pytest.raises(
            ValueError, match=r"zero variance in all 2 features; drop them.*features=PCA"
        ):
            moments(torch.ones(9, 2), torch.ones(9, 2))


class TestInParts:
    @pytest.fixture
    def samples(self) -> tuple[Tensor, Tensor]:
        """Skewed features, one of them constant in both, one in the data, and one binary."""
        y = torch.randn(500, 3, 2).exp()
        x = torch.randn(800, 3, 2).exp()
        y[:, 0, 0] = x[:, 0, 0] = 0.1
        x[:, 0, 1] = 2
        y[:, 1, 1] = (y[:, 1, 1] > 1).float()
        x[:, 1, 1] = (x[:, 1, 1] > 1).float()
        return y, x

    def test_numbers_are_those_of_all_points_at_once(
        self, samples: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        y, x = samples
        whole = moments(y, x, permutations=FEW)
        monkeypatch.setattr("ppl_gen.inference.samples.sampled_moments._AT_ONCE", 700)
        of_tensors = moments(y, x, permutations=0)
        labelled = Split(x, torch.arange(800)).batches(64)
        of_batches = moments(Split(y).batches(33), labelled)
        for found in (of_tensors, of_batches):
            assert found.count == whole.count
            assert found.frozen == whole.frozen == {"sample": 0, "data": 1}
            assert found.worst[:1] == whole.worst[:1]
            for one, other in zip(found.kinds, whole.kinds, strict=True):
                for name in ("sample", "data", "standard_error", "null_error", "z"):
                    torch.testing.assert_close(
                        getattr(one, name),
                        getattr(other, name),
                        rtol=1e-10,
                        atol=1e-12,
                        equal_nan=True,
                    )

    def test_features_are_taken_batch_by_batch(self, samples: tuple[Tensor, Tensor]) -> None:
        y, x = samples
        features = torch.nn.Sequential(torch.nn.Flatten(), _Halves())
        whole = moments(y, x, features, permutations=FEW)
        found = moments(Split(y).batches(100), Split(x).batches(100), features)
        torch.testing.assert_close(found.covariance.data, whole.covariance.data)
        assert found.shape == whole.shape == (3,)

    def test_bytes_of_a_file_are_numbers_as_they_are(self, tmp_path: Path) -> None:
        stored = np.random.RandomState(0).randint(0, 256, (300, 5)).astype("u1")
        np.save(tmp_path / "x.npy", stored)
        mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
        sample = torch.from_numpy(stored[:100])
        found = moments(sample, mapped, permutations=0)
        assert found.mean.data.numpy() == pytest.approx(stored.mean(0), rel=1e-13)
        assert found.covariance.data.numpy() == pytest.approx(np.cov(stored.T), rel=1e-10)
        of_stream = moments(sample / 255, load_stream(tmp_path / "x.npy").batches(50))
        whole = moments(sample / 255, load_stream(tmp_path / "x.npy").fixed().x, permutations=0)
        torch.testing.assert_close(of_stream.covariance.z, whole.covariance.z, equal_nan=True)

    def test_tests_have_their_level(self) -> None:
        """The largest of all normal z, of which 0.05 are to be beyond the limit, or fewer."""
        off = 0
        for _ in range(200):
            found = moments(normal(400, 3), normal(300, 3), permutations=0)
            off += not found.matched
            assert (abs(found.worst.z) > found.limit) == (not found.matched)
        assert off / 200 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)

    def test_what_is_off_is_named(self) -> None:
        x = normal(2000, 3)
        y = normal(1000, 3)
        y[:, 2] *= 1.3
        found = moments([(y,)], x)
        assert found.worst.name == "variance[2]"
        assert found.worst.p_value < 1e-6
        assert not found.matched
        assert float(found.covariance.p_value[2, 2]) == pytest.approx(
            2 * scipy.stats.norm.sf(abs(found.worst.z)), rel=1e-6
        )
        assert "variance[2]" in str(found)

    @pytest.mark.parametrize(
        ("sample", "given", "options", "said"),
        [
            (
                # That all eight means are drawn alike twice has a chance of some 1e-11.
                Split(torch.full((400, 8), 0.5), binarize="dynamic").batches(100),
                torch.rand(9, 8),
                {},
                "anew",
            ),
            ([(torch.randn(9, 2),)], torch.randn(9, 2), {"permutations": 20}, "tensors to permute"),
            ([(torch.randn(7, 2),)], torch.randn(9, 2), {}, "at least 8 points"),
            ([(torch.randn(9, 2),)], torch.randn(9, 3), {}, "of one shape, got"),
            ([(torch.randn(9, 2),), (torch.randn(9, 3),)], torch.randn(9, 2), {}, "of one shape"),
            ([(torch.randn(9, 2) / 0,)], torch.randn(9, 2), {}, "finite samples"),
            ([("x",)], torch.randn(9, 2), {}, "tuples"),
            ([(1.0,)], torch.randn(9, 2), {}, "a tensor, got builtins.list"),
            ([(torch.ones(9, 2),)], torch.ones(9, 2), {}, "zero variance in all 2 features"),
        ],
    )
    def test_bad_batches_are_refused(
        self, sample: Any, given: Tensor, options: dict[str, int], said: str
    ) -> None:
        with pytest.raises(ValueError, match=said):
            moments(sample, given, **options)


class _Halves(torch.nn.Module):
    """Sums of two neighbours each."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, ::2] + x[:, 1::2]


def load_stream(path: Path) -> data.StreamedSplit:
    split = data.load(path, stream=True).train
    assert isinstance(split, data.StreamedSplit)
    return split


@pytest.mark.parametrize(
    ("sample", "data", "options", "said"),
    [
        (torch.randn(7, 2), torch.randn(9, 2), {}, "at least 8 points in each sample, got 7 and 9"),
        (torch.randn(9, 2), torch.randn(9, 3), {}, "of one shape"),
        (torch.randn(9, 2), torch.randn(9, 2) / 0, {}, "finite samples"),
        (torch.randn(9, 2), torch.randn(9, 2), {"level": 95.0}, "level between 0 and 1, got 95"),
    ],
)
def test_bad_input(sample: Tensor, data: Tensor, options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        moments(sample, data, **options)
