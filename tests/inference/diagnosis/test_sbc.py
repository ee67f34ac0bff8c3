"""Simulation-based calibration: right posteriors pass as often as they should, wrong ones fail and
are called by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS, TwoLayers
from pyro.infer.autoguide import AutoNormal
from scipy import stats
from torch import Tensor, nn

from ppl_gen.guides import automatic
from ppl_gen.inference import Draws, hmc
from ppl_gen.inference.diagnosis.sbc import LIKELIHOOD, Calibration, _holm, _ranks, _uniformity, sbc
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import cvae, toy, vae
from ppl_gen.plots.evidence import bounds, gap_bars, rank_histograms, sandwich
from ppl_gen.program import Observed

Guide = Callable[[Tensor], Tensor]


@pytest.fixture
def ppca() -> toy.PPCA:
    return toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.7)


def altered(program: toy.PPCA, scale: float = 1.0, shift: float = 0.0) -> Guide:
    """The exact posterior with other standard deviations, or moved by a share of them."""

    def guide(x: Tensor) -> Tensor:
        posterior = program.exact_posterior(x)
        with pyro.plate("data", x.shape[0]):
            mean = posterior.mean + shift * posterior.variance.sqrt()
            return pyro.sample(
                "z", dist.MultivariateNormal(mean, scale**2 * posterior.covariance_matrix)
            )

    return guide


def prior(program: toy.PPCA) -> Guide:
    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", program.prior())

    return guide


def _with_nan(z: Tensor) -> Tensor:
    """Diverged in one datum."""
    z[:, :, 7] = torch.nan
    return z


class TestRightPosteriors:
    def test_an_exact_guide_passes(self, ppca: toy.PPCA) -> None:
        found = sbc(ppca, 300, seed=1)
        assert found.passes()
        assert found.tags == found.verdict.tags == ("calibrated",)
        assert found.verdict.passes
        assert str(found).startswith("calibrated as far as 300 simulations show")
        assert {name: ranks.shape for name, ranks in found.ranks.items()} == {
            "z": (300, 2),
            LIKELIHOOD: (300,),
        }
        assert all(
            r.dtype == torch.long and r.min() >= 0 and r.max() <= 99 for r in found.ranks.values()
        )

    def test_a_discrete_latent(self) -> None:
        """Ties among draws and truth are broken at random, in its own rank and in that of the
        likelihood.
        """
        program = toy.GaussianMixture(torch.tensor([1.0, 2.0, 3.0]), torch.randn(3, 2), 0.7)
        found = sbc(program, 2000, seed=1)
        assert found.passes()
        assert found.ranks["z"].shape == (2000,)

    def test_a_sampler(self) -> None:
        program = toy.PPCA(torch.randn(3, 1), torch.zeros(3), 0.7)
        sampler = functools.partial(hmc, local=True, chains=8, draws=40, warmup=100, engine="eager")
        found = sbc(program, 100, sampler=sampler, seed=2)
        assert found.passes()
        assert found.remarks == ()

    @pytest.mark.slow
    def test_p_values_are_uniform(self, ppca: toy.PPCA) -> None:
        """Of 200 calibrations a tenth is below 0.1, within 4 standard errors of a binomial, and
        half below 0.5.
        """
        runs = [sbc(ppca, 100, draws=19, seed=i).p_values for i in range(200)]
        for p in (
            torch.stack([r["z"][0] for r in runs]),
            torch.stack([r[LIKELIHOOD] for r in runs]),
        ):
            assert abs(float((p < 0.1).double().mean()) - 0.1) < 4 * (0.1 * 0.9 / 200) ** 0.5
            assert abs(float((p < 0.5).double().mean()) - 0.5) < 4 * (0.5 * 0.5 / 200) ** 0.5

    @pytest.mark.long
    def test_the_test_of_all_together_keeps_its_level(self, ppca: toy.PPCA) -> None:
        failed = sum(not sbc(ppca, 100, draws=19, seed=i).passes(0.05) for i in range(200))
        assert failed <= stats.binom.ppf(0.9999, 200, 0.05)


class TestWrongPosteriors:
    @pytest.mark.parametrize(
        ("change", "tag", "said"),
        [
            ({"scale": 0.5}, "too-narrow", "z[0], z[1]: too narrow"),
            ({"scale": 2.0}, "too-wide", "z[0], z[1]: too wide"),
            ({"shift": 0.6}, "biased-up", "z[0], z[1]: biased upwards"),
            ({"shift": -0.6}, "biased-down", "z[0], z[1]: biased downwards"),
            ({"shift": 6.0}, "biased-up", "z[0], z[1]: biased upwards"),
        ],
    )
    def test_they_fail_and_are_named(
        self, ppca: toy.PPCA, change: dict[str, float], tag: str, said: str
    ) -> None:
        found = sbc(ppca, 300, guide=altered(ppca, **change), seed=1)
        assert not found.passes()
        assert found.verdict.passes is False
        assert tag in found.tags
        assert said in str(found)

    @pytest.mark.parametrize("scale", [0.75, 1.33])
    def test_a_quarter_off_shows_in_two_hundred(self, ppca: toy.PPCA, scale: float) -> None:
        assert not sbc(ppca, 200, guide=altered(ppca, scale), seed=1).passes()

    def test_the_prior_passes_but_for_the_likelihood(self, ppca: toy.PPCA) -> None:
        found = sbc(ppca, 300, guide=prior(ppca), seed=1)
        assert not found.passes()
        assert found.worst == LIKELIHOOD
        assert found.tags == ("data-unused",)
        assert float(found.p_values["z"].min()) > 0.01

    def test_skewness_is_another_shape(self) -> None:
        """A gamma of the posterior's mean and variance: no bias, no error in scale."""
        program = toy.PPCA(torch.ones(1, 1), torch.zeros(1), 1.0)

        def guide(x: Tensor) -> Tensor:
            posterior = program.exact_posterior(x)
            with pyro.plate("data", x.shape[0]):
                skew = dist.transforms.AffineTransform(
                    posterior.mean - posterior.variance.sqrt(), 1.0, event_dim=1
                )
                rate = (1 / posterior.variance.sqrt()).expand(len(x), 1)
                return pyro.sample(
                    "z", dist.TransformedDistribution(dist.Exponential(rate).to_event(1), [skew])
                )

        found = sbc(program, 500, guide=guide, seed=1)
        assert not found.passes()
        assert float(found.p_values["z"]) < 1e-6

    def test_the_verdict_counts_many_coordinates(self) -> None:
        program = toy.PPCA(torch.randn(8, 6), torch.zeros(8), 0.7)
        found = sbc(program, 300, guide=altered(program, 0.4), seed=1)
        assert "z[0], z[1], z[2], z[3], … (6 of 7 quantities): too narrow" in str(found)


class TestStatistics:
    @pytest.mark.parametrize(
        ("n", "draws", "bins"), [(400, 99, 20), (100, 99, 10), (20, 99, 4), (300, 9, 10)]
    )
    def test_the_p_value_is_scipy_s(self, n: int, draws: int, bins: int) -> None:
        ranks = torch.randint(0, draws + 1, (n, 3)).square() // draws
        got = _uniformity(ranks, draws)
        for k in range(3):
            counts = torch.bincount(ranks[:, k] * bins // (draws + 1), minlength=bins)
            assert float(got[k]) == pytest.approx(stats.chisquare(counts.numpy()).pvalue)

    def test_bins_of_unlike_size(self) -> None:
        """101 ranks in 20 bins: one of six, the others of five."""
        ranks = torch.randint(0, 101, (400,))
        held = torch.bincount(torch.arange(101) * 20 // 101).double()
        counts = torch.bincount(ranks * 20 // 101, minlength=20)
        expected = stats.chisquare(counts.numpy(), (400 * held / 101).numpy()).pvalue
        assert float(_uniformity(ranks, 100)) == pytest.approx(expected)

    def test_holm(self) -> None:
        adjusted = _holm(torch.tensor([0.04, 0.001, 0.9, 0.02]).double())
        assert adjusted.tolist() == pytest.approx([0.08, 0.004, 0.9, 0.06])

    def test_ranks_are_those_of_a_plain_loop(self) -> None:
        values = torch.randn(8, 5, 2)
        got = _ranks("z", values)
        for i in range(5):
            for j in range(2):
                assert int(got[i, j]) == sum(
                    float(v) < float(values[0, i, j]) for v in values[1:, i, j]
                )

    def test_ties_are_broken_at_random(self) -> None:
        """All equal: every rank from 0 to L is as likely."""
        ranks = _ranks("z", torch.zeros(10, 5000))
        assert stats.chisquare(torch.bincount(ranks, minlength=10).numpy()).pvalue > 1e-4

    def test_slope_and_spread(self) -> None:
        """All ranks in the middle, or at the top."""
        ranks = {"a": torch.full((100,), 50), "b": torch.full((100,), 99), "c": torch.arange(100)}
        table = Calibration(ranks, 99).table()
        assert list(table.index) == ["a", "b", "c"]
        assert table.loc["a", "spread"] == pytest.approx(-(5**0.5) / 2 * 10, rel=0.01)
        assert table.loc["b", "slope"] == pytest.approx(3**0.5 * 10, rel=0.02)
        assert abs(table.loc["c"][["slope", "spread"]]).max() < 1e-9
        assert Calibration(ranks, 99).tags == ("too-wide", "biased-down")


class TestPrograms:
    def test_a_hierarchy_has_all_sites(self) -> None:
        found = sbc(TwoLayers(), 40, draws=19, seed=0)
        assert {name: r.shape[1:] for name, r in found.ranks.items()} == {
            "z2": (2,),
            "z1": (3,),
            LIKELIHOOD: (),
        }
        assert found.names == ["z2[0]", "z2[1]", "z1[0]", "z1[1]", "z1[2]", LIKELIHOOD]

    @pytest.mark.parametrize("name", PROGRAMS)
    def test_every_program(self, name: str) -> None:
        program, _, context = PROGRAMS[name]()
        context = [c[torch.arange(20) % len(c)] for c in context]
        found = sbc(program, 20, *context, draws=9, seed=0)
        assert 0 <= found.p_value <= 1
        assert all(len(ranks) == 20 for ranks in found.ranks.values())

    def test_a_condition_belongs_to_its_pair(self) -> None:
        """Chunks keep labels and data together: the prior of a CVAE is a calibrated guide, but for
        the likelihood.
        """
        program = cvae((4,), 2, classes=3, hidden=(8,))
        for parameter in program.prior.parameters():
            nn.init.normal_(parameter)

        def guide(x: Tensor, y: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", program.prior(y))

        found = sbc(program, 200, torch.arange(200) % 3, guide=guide, chunk=7, seed=0)
        assert float(found.p_values["z"].min()) > 0.001

    def test_a_sampler_of_one_datum_s_own_order(self) -> None:
        """Exact draws in the shape of a sampler's, of pixels in a plate left of the data."""
        program, _, _ = PROGRAMS["pixels in a plate"]()

        def sampler(model: object, x: Tensor) -> Draws:
            shape = (2, 50)
            z = torch.randn(*shape, len(x), 1, 2)
            return Draws(
                {"z": z},
                torch.zeros(shape),
                torch.zeros(shape, dtype=torch.bool),
                torch.ones(shape),
                1.0,
            )

        found = sbc(program, 60, sampler=sampler, draws=49, seed=0)
        assert found.ranks["z"].shape == (60, 1, 2)
        assert float(found.p_values["z"].min()) > 0.001


class TestPromises:
    def test_a_seed_repeats_and_leaves_the_generator(self, ppca: toy.PPCA) -> None:
        state = torch.get_rng_state()
        one, two, other = (sbc(ppca, 20, draws=9, seed=seed).ranks["z"] for seed in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)

    def test_modes_and_statistics_stay(self) -> None:
        program = vae((1, 8, 8), 2)
        program.encoder.net.append(nn.BatchNorm1d(4))
        before = program.state_dict()["encoder.net.2.running_mean"].clone()
        sbc(program, 20, draws=9)
        assert torch.equal(program.state_dict()["encoder.net.2.running_mean"], before)
        assert program.training

    def test_dependent_draws_are_remarked_upon(self, ppca: toy.PPCA) -> None:
        def sampler(model: object, x: Tensor) -> Draws:
            """Twenty draws of the exact posterior, each of them five times."""
            z = ppca.exact_posterior(x).sample((1, 20)).repeat_interleave(5, 1)
            shape = z.shape[:2]
            return Draws(
                {"z": z},
                torch.zeros(shape),
                torch.zeros(shape, dtype=torch.bool),
                torch.ones(shape),
                1.0,
            )

        with pytest.warns(RuntimeWarning, match="effective sample size.*is below the 99 draws"):
            found = sbc(ppca, 40, sampler=sampler, seed=0)
        assert "ask the sampler for" in str(found)
        assert found.verdict.tags == (*found.tags, "dependent-draws")

    def test_pictures(self, ppca: toy.PPCA) -> None:
        found = sbc(ppca, 40, seed=0)
        assert len(rank_histograms(found.ranks, found.draws).axes) == 3
        many = rank_histograms({"z": torch.randint(0, 101, (50, 30))}, 100, "a title")
        assert len(many.axes) == 16
        assert many._suptitle.get_text() == "a title: the 16 least uniform of 30"
        with pytest.raises(ValueError, match="expected ranks from 0 to 9"):
            rank_histograms(found.ranks, 9)

    def test_pictures_of_gaps_and_bounds(self) -> None:
        parts = {"amortisation": (0.7, 0.1), "family": (-0.2, float("nan"))}
        for figure in (gap_bars(parts), bounds(parts, exact=0.5)):
            (axes,) = figure.axes
            assert [label.get_text() for label in axes.get_yticklabels()] == list(parts)
            assert {"0.70 ± 0.10", "−0.20"} <= {text.get_text() for text in axes.texts}
        lower = torch.randn(30)
        assert (
            len(sandwich(lower, lower + 0.1).axes)
            == len(sandwich(lower, lower + 0.1, lower + 0.05).axes)
            == 2
        )
        with pytest.raises(
            ValueError, match=r"expected bounds of shape \(N,\), got \(30,\) and \(29,\)"
        ):
            sandwich(lower, lower[1:])
        for picture in (gap_bars, bounds):
            with pytest.raises(ValueError, match="at least one named value"):
                picture({})


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"n": 19}, "expected n of at least 20, got 19"),
            ({"draws": 0}, "expected draws of at least 9, got 0"),
            ({"chunk": 0}, "expected chunk of at least 1, got 0"),
            ({"guide": "both", "sampler": hmc}, "expected a guide or a sampler, got both"),
        ],
    )
    def test_numbers(self, ppca: toy.PPCA, options: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            sbc(ppca, **{"n": 30, **options})

    def test_no_guide(self) -> None:
        with pytest.raises(ValueError, match="Curve has no guide of its own"):
            sbc(toy.Curve(lambda z: z, 0.1), 30)

    def test_context(self) -> None:
        program = cvae((4,), 2, classes=3)
        with pytest.raises(ValueError, match="expected 1 context tensors"):
            sbc(program, 30)
        with pytest.raises(ValueError, match="expected a context of length n = 30, got 5"):
            sbc(program, 30, torch.zeros(5).long())
        with pytest.raises(ValueError, match="expected labels in 0, …, 2"):
            sbc(program, 30, torch.full((30,), 7))

    def test_an_automatic_guide_knows_its_own_data_only(self, ppca: toy.PPCA) -> None:
        guide = automatic(AutoNormal, ppca.model, torch.zeros(30, 6))
        with pytest.raises(
            ValueError, match="expected a guide that is a function of the data, got AutoNormal"
        ):
            sbc(ppca, 30, guide=guide)

    def test_other_sites(self) -> None:
        with pytest.raises(ValueError, match=r"latent sites \['z'\], got \['z1', 'z2'\]"):
            sbc(vae((64,), 2), 30, guide=TwoLayers().guide)

    def test_a_program_without_a_density(self) -> None:
        with pytest.raises(ValueError, match="got a Dirac"):
            sbc(Observed(vae((4,), 2), Dirac()), 30)

    def test_a_latent_outside_the_plate(self) -> None:
        class Shared:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                w = pyro.sample("w", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                with pyro.plate("data", n if x is None else x.shape[0]):
                    return pyro.sample("x", dist.Normal(w.expand(n, 1), 1.0).to_event(1), obs=x)

        with pytest.raises(ValueError, match="inside the plate 'data', got 'w' outside it"):
            sbc(Shared(), 30, guide=lambda x: None)

    @pytest.mark.parametrize(
        ("samples", "said"),
        [
            (
                {"z": torch.zeros(1, 5, 30, 2)},
                "expected the sampler to give 99 draws or more, got 1 × 5",
            ),
            (
                {"z": torch.zeros(1, 99, 30, 3)},
                r"expected the sampler to draw 'z' of shape \(30, 2\).*got \(30, 3\)",
            ),
            (
                {"w": torch.zeros(1, 99, 30, 2)},
                r"expected the sampler to draw 'z' of shape \(30, 2\).*got \(\)",
            ),
            (
                {"z": _with_nan(torch.randn(1, 400, 30, 2))},
                "expected draws that can be ranked, got NaN for z",
            ),
        ],
    )
    def test_draws(self, ppca: toy.PPCA, samples: dict[str, Tensor], said: str) -> None:
        shape = next(iter(samples.values())).shape[:2]
        draws = Draws(
            samples,
            torch.zeros(shape),
            torch.zeros(shape, dtype=torch.bool),
            torch.ones(shape),
            1.0,
        )
        with pytest.raises(ValueError, match=said):
            sbc(ppca, 30, sampler=lambda model, x: draws)


def test_a_likelihood_that_does_not_look_at_the_latents() -> None:
    class Blind:
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else len(x)):
                pyro.sample("z", dist.Normal(0.0, 1.0))
                return pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def prior(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    found = sbc(Blind(), 100, guide=prior, seed=0)
    assert found.ranks["log p(x | z)"].shape == (100,)
    assert found.passes()
