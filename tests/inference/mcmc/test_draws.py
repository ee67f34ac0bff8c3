"""Diagnostics of draws: ArviZ's numbers under either version, and NaN where there are none."""

from __future__ import annotations

import math
from dataclasses import replace

import arviz
import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_gen.inference import Draws
from ppl_gen.inference.mcmc.draws import Progress, reporting

COLUMNS = [
    "mean",
    "sd",
    "eti_5%",
    "eti_95%",
    "mcse_mean",
    "mcse_sd",
    "ess_bulk",
    "ess_tail",
    "r_hat",
]


def autoregressive(*shape: int, rho: float = 0.7) -> Tensor:
    """A stationary series along the second axis, with variance 1."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = [noise[:, 0]]
    for t in range(1, shape[1]):
        z.append(rho * z[-1] + (1 - rho**2) ** 0.5 * noise[:, t])
    return torch.stack(z, 1)


def made(**samples: Tensor) -> Draws:
    shape = next(iter(samples.values())).shape[:2]
    return Draws(
        samples,
        torch.zeros(shape),
        torch.zeros(shape, dtype=torch.bool),
        torch.ones(shape),
        1.5,
        sampler="fake",
    )


@pytest.fixture(scope="module")
def draws() -> Draws:
    z = autoregressive(4, 500, 2, 3)
    return made(z=z, mu=z[..., 0, 0].float(), on=z[..., 0, :1] > 0)


class TestDiagnostics:
    @pytest.mark.parametrize(
        ("ours", "reference"),
        [
            ("r_hat", lambda z: arviz.rhat(z)),
            ("ess", lambda z: arviz.ess(z)),
            ("ess_tail", lambda z: arviz.ess(z, method="tail", prob=(0.05, 0.95))),
            ("mcse", lambda z: arviz.mcse(z)),
            ("mcse_sd", lambda z: arviz.mcse(z, method="sd")),
        ],
    )
    def test_they_are_arviz_s_by_coordinate(
        self, draws: Draws, ours: str, reference: object
    ) -> None:
        got = getattr(draws, ours)
        assert {name: value.shape for name, value in got.items()} == {
            "z": (2, 3),
            "mu": (),
            "on": (1,),
        }
        assert all(value.dtype == torch.float64 for value in got.values())
        for index in np.ndindex(2, 3):
            z = draws.samples["z"][(..., *index)].numpy()
            assert float(got["z"][index]) == pytest.approx(float(reference(z)))
        on = draws.samples["on"][..., 0].double()
        assert float(got["on"][0]) == pytest.approx(float(reference(on.numpy())))

    def test_the_effective_sample_size_of_an_autoregression(self) -> None:
        """(1 − ρ) / (1 + ρ) of the draws for the mean."""
        ess = made(z=autoregressive(4, 4000, 3)).ess["z"]
        torch.testing.assert_close(ess, torch.full_like(ess, 16000 * 0.3 / 1.7), rtol=0.15, atol=0)

    def test_the_error_of_the_mean_is_the_spread_of_means(self) -> None:
        z = autoregressive(4, 500, 400)
        draws = made(z=z)
        ratio = draws.mean["z"].std() / draws.mcse["z"].mean()
        assert abs(float(ratio) - 1) < 4 / math.sqrt(2 * 400)

    def test_mean_and_sd(self, draws: Draws) -> None:
        z = draws.samples["z"]
        torch.testing.assert_close(draws.mean["z"], z.mean((0, 1)))
        torch.testing.assert_close(draws.sd["z"], z.flatten(0, 1).std(0))
        assert draws.mean["mu"].dtype == torch.float64

    def test_chunks_do_not_matter(self, draws: Draws, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ppl_gen.memory.DIAGNOSED", 3000)
        cut = replace(draws)
        assert torch.equal(cut.r_hat["z"], draws.r_hat["z"])
        assert torch.equal(cut.sd["z"], draws.sd["z"])

    def test_they_are_computed_once(self, draws: Draws) -> None:
        assert draws.ess is draws.ess
        assert replace(draws).ess is not draws.ess

    def test_chains_at_odds_are_seen(self) -> None:
        z = autoregressive(4, 200, 2)
        z[0, :, 1] += 3
        draws = made(z=z)
        assert draws.r_hat["z"][0] < 1.1 < 1.3 < draws.max_r_hat
        assert draws.max_r_hat == draws.r_hat["z"][1]
        assert draws.min_ess == draws.ess["z"].min()

    def test_local_draws_have_diagnostics_by_datum(self) -> None:
        z = autoregressive(4, 50, 7, 2)
        draws = Draws(
            {"z": z},
            *(torch.zeros(4, 50, 7) for _ in range(3)),
            seconds=1.0,
            dims={"z": ("data", "")},
        )
        assert draws.r_hat["z"].shape == (7, 2)
        assert (draws.chains, draws.draws, draws.divergences) == (4, 50, 0)


class TestNothingToSay:
    def test_constant_coordinates_are_nan_and_left_out(self) -> None:
        z = torch.cat([autoregressive(4, 100, 2), torch.ones(4, 100, 1)], -1)
        draws = made(z=z)
        for name in ("r_hat", "ess", "ess_tail", "mcse", "mcse_sd"):
            assert getattr(draws, name)["z"].isnan().tolist() == [False, False, True]
        assert draws.max_r_hat == draws.r_hat["z"][:2].max()
        assert draws.min_ess == draws.ess["z"][:2].min()
        assert draws.mean["z"][2] == 1
        assert draws.sd["z"][2] == 0

    def test_a_draw_that_is_not_finite_is_not_left_out(self) -> None:
        z = autoregressive(4, 100, 2)
        z[1, 7, 1] = math.inf
        draws = made(z=z)
        assert draws.r_hat["z"].isnan().tolist() == [False, True]
        assert math.isnan(draws.max_r_hat)

    def test_chains_that_stand_still_apart_have_no_bound_on_r_hat(self) -> None:
        draws = made(z=torch.arange(4.0)[:, None].expand(4, 100))
        assert draws.max_r_hat > 1e6 or math.isnan(draws.max_r_hat)
        assert draws.min_ess < 10

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_fewer_than_four_draws(self, count: int) -> None:
        draws = made(z=autoregressive(4, 4, 2)[:, :count])
        for name in ("r_hat", "ess", "ess_tail", "mcse", "mcse_sd"):
            assert getattr(draws, name)["z"].isnan().all()
        assert math.isnan(draws.max_r_hat)
        assert math.isnan(draws.min_ess)
        assert list(draws.summary().columns) == COLUMNS

    def test_a_single_chain_has_no_r_hat(self) -> None:
        draws = made(z=autoregressive(1, 200, 2))
        assert draws.r_hat["z"].isnan().all()
        assert (draws.ess["z"] > 10).all()
        assert math.isnan(draws.max_r_hat)

    def test_a_single_draw_of_a_single_chain(self) -> None:
        draws = made(z=torch.ones(1, 1))
        assert math.isnan(float(draws.sd["z"]))
        assert draws.summary().loc["z", "mean"] == 1


class TestSummary:
    def test_rows_and_columns(self, draws: Draws) -> None:
        table = draws.summary()
        assert list(table.columns) == COLUMNS
        assert list(table.index) == [f"z[{i}, {j}]" for i in range(2) for j in range(3)] + [
            "mu",
            "on[0]",
        ]
        assert table.loc["z[1, 2]", "r_hat"] == draws.r_hat["z"][1, 2]
        assert table.loc["mu", "eti_5%"] == pytest.approx(
            np.quantile(draws.samples["mu"].double(), 0.05)
        )

    def test_in_a_line(self, draws: Draws) -> None:
        assert (
            repr(draws)
            == "Draws(fake: 4 × 500 draws of z (2, 3), mu (), on (1,); 0 divergences, 1.5 s)"
        )
        assert repr(replace(draws, remarks=("interrupted",))).endswith("1.5 s; interrupted)")


class TestVerdict:
    def test_good_draws_pass(self) -> None:
        found = made(z=torch.randn(4, 400, generator=torch.Generator().manual_seed(0))).verdict
        assert (found.tags, found.passes) == (("converged",), True)
        assert "R̂" in found[0]

    def test_chains_apart_a_stuck_one_and_divergences(self, draws: Draws) -> None:
        z = draws.samples["z"].clone()
        z[3] = 5.0
        bad = replace(made(z=z), divergent=torch.arange(2000).reshape(4, 500) < 20)
        assert bad.verdict.tags == ("divergences", "stuck-chains", "not-converged")
        assert bad.verdict.passes is False
        assert "20 divergent transitions among 2000 draws (1.00%)" in bad.verdict
        assert "1 of 4 chains never moved (3)" in bad.verdict

    def test_one_chain_is_not_diagnosed(self, draws: Draws) -> None:
        one = made(z=draws.samples["z"][:1])
        assert (one.verdict.tags, one.verdict.passes) == (("undiagnosed",), None)


@pytest.mark.parametrize("shown", [False, True])
def test_progress_reaches_the_callback_with_and_without_a_bar(shown: bool) -> None:
    seen = []
    with reporting(seen.append, shown) as report:
        report(Progress("draws", 5, 10, 0.8, 1, 1.02))
    assert seen == [Progress("draws", 5, 10, 0.8, 1, 1.02)]
