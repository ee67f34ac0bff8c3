"""The table of draws against data: intervals that are intervals, tests of what is shown, features
that fit the data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.app.evaluation import features, statistics
from ppl_gen.app.evaluation.features import Chosen, choose, expect_features
from ppl_gen.app.evaluation.statistics import Row, columns, rows, table
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.samples.discrepancies import squared_frechet
from ppl_gen.inference.samples.distances import sliced_wasserstein
from ppl_gen.inference.samples.kernels import default_kernel

PLAIN = Chosen(None, "the data as they are")


def named(y: Tensor, x: Tensor, permutations: int = 19, seed: int = 0) -> dict[str, Row]:
    return {row.name: row for row in rows(y, x, PLAIN, permutations, seed)}


class TestRows:
    @pytest.mark.slow
    def test_every_interval_holds_zero_or_the_mean_under_the_null(self) -> None:
        """Of 60 repetitions, 95 % less 4 √(0.05 · 0.95 / 60) = 11 %: 84 %."""
        found = [named(torch.randn(80, 3), torch.randn(80, 3), seed=i) for i in range(60)]
        for name, first in found[0].items():
            values = torch.stack([repetition[name].estimate.value for repetition in found])
            truth = float(values.mean())
            if first.test is not None:
                truth = 0.0
            elif name.startswith("C2ST"):
                truth = 0.5
            held = 0
            for repetition in found:
                low, high = repetition[name].interval
                held += low <= truth <= high
            assert held / 60 > 0.95 - 4 * (0.05 * 0.95 / 60) ** 0.5, name

    def test_what_is_tested_is_what_is_shown_without_its_bias_taken_off(self) -> None:
        y = torch.randn(40, 3)
        x = torch.randn(50, 3) + 0.5
        found = named(y, x, seed=3)
        for name in ("MMD²", "polynomial MMD²", "energy distance"):
            assert found[name].test.statistic == pytest.approx(float(found[name].estimate.value))
        assert found["Fréchet distance"].test.statistic == pytest.approx(
            float(squared_frechet(y.double(), x.double()))
        )
        expected = sliced_wasserstein(y, x, seed=3)
        assert found["sliced Wasserstein²"].test.statistic == pytest.approx(float(expected.value))
        better = sliced_wasserstein(y, x, extrapolate=True, seed=3)
        torch.testing.assert_close(found["sliced Wasserstein²"].estimate.value, better.value)

    def test_the_classifier_sees_more_than_means(self) -> None:
        found = named(torch.randn(200, 2), 2 * torch.randn(200, 2), 99)
        assert found["C2ST accuracy, random trees"].p_value == 0.01

    def test_of_ten_points(self) -> None:
        assert len(named(torch.randn(10, 2), torch.randn(10, 2))) == 10

    def test_an_end_has_a_width_and_what_has_no_error_has_no_interval(self) -> None:
        found = named(torch.zeros(30, 2) + 5 + 0.1 * torch.randn(30, 2), torch.randn(30, 2))
        low, high = found["recall"].interval
        assert (low, float(found["recall"].estimate.value)) == (0, 0)
        assert 0.05 < high < 0.3
        assert found["density"].interval is None
        assert found["density"].asdict()["interval"] is None

    def test_wide_features_are_permuted_less_often_and_it_is_said(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statistics, "_WIDE", 2)
        monkeypatch.setattr(statistics, "_FEW", 19)
        found = rows(torch.randn(20, 3), torch.randn(20, 3), PLAIN, 30, 0)
        [frechet] = [row for row in found if row.name == "Fréchet distance"]
        assert frechet.asdict()["permutations"] == 19
        assert table(found, "").caption.startswith(
            "p by 30 permutations, 19 of the Fréchet distance;"
        )

    def test_nothing_is_called_what_it_is_not(self) -> None:
        """The kernel inception distance is one on Inception's features alone."""
        y = torch.randn(20, 3)
        x = torch.randn(20, 3)
        names = list(columns(y, x, PLAIN, default_kernel(y, x), 0))
        assert not any("KID" in name for name in (*named(y, x), *names))
        assert "polynomial MMD²" in names

    def test_the_table(self) -> None:
        made = table([Row("share", Estimate(torch.tensor(0.5), torch.tensor(0.1)))], "title")
        assert [list(column.cells) for column in made.columns] == [
            ["share"],
            ["0.5 ± 0.1"],
            ["0.304 to 0.696"],
            [""],
        ]


class TestFeatures:
    @pytest.mark.long
    def test_of_a_classifier_are_of_one_scale(self) -> None:
        digits = data.load("digits")
        chosen = choose("classifier", digits, 0)
        found = chosen.features(digits.test.x)
        assert float(found.std(0).mean()) == pytest.approx(1, abs=0.1)
        assert f"standardised, {found.shape[1]} of them" in chosen.words

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (
                "inception",
                r"expected colour images for --features inception, got digits of shape "
                r"\(1, 8, 8\); say class",
            ),
            ("incepton", "unknown kind of features 'incepton'.*inception"),
        ],
    )
    def test_that_do_not_fit_are_refused(self, name: str, said: str) -> None:
        digits = data.load("digits")
        with pytest.raises(ValueError, match=said):
            expect_features(name, digits)
        with pytest.raises(ValueError, match=said):
            choose(name, digits, 0)

    def test_inception_without_its_library_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
        split = data.Split(torch.rand(20, 3, 8, 8))
        colours = data.Dataset(split, split, (3, 8, 8))
        with pytest.raises(ValueError, match=r"pip install 'ppl-gen\[fidelity\]'"):
            choose("inception", colours, 0)

    def test_inception_is_of_photographs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def flattened() -> Callable[[Tensor], Tensor]:
            return lambda x: x.flatten(1)

        monkeypatch.setattr(features, "inception_features", flattened)
        split = data.Split(torch.rand(20, 3, 8, 8))
        chosen = choose("inception", data.Dataset(split, split, (3, 8, 8)), 0)
        assert chosen.features(split.x).shape == (20, 192)
        assert "Inception" in chosen.words
