"""Posterior collapse against closed forms, where it is known to happen, and where latents are only
left over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from programs import PROGRAMS, TwoLayers, digits
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.inference import Estimate, fit, svi_step
from ppl_gen.inference.diagnosis.collapse import Collapse, collapse
from ppl_gen.models import cvae, toy, vae
from ppl_gen.plots.evidence import collapse_panel
from ppl_gen.priors import StandardNormal
from ppl_gen.program import simulate


def near(estimate: Estimate, exact: float, sampled: bool = False) -> bool:
    """Whether the mean is within 4 standard errors, of the draws alone or of the data as well."""
    mean = estimate.mean()
    error = math.hypot(float(mean.standard_error), float(mean.sampling_error) if sampled else 0.0)
    return abs(float(mean.value) - exact) < 4 * error + 1e-5


@pytest.fixture
def ppca() -> tuple[toy.PPCA, Tensor]:
    """Orthogonal columns, so that the posterior's entries are independent; I(x; z) is about 1.1
    nats.
    """
    program = toy.PPCA(torch.eye(5, 3) * torch.tensor([1.2, 0.8, 0.02]), torch.zeros(5), 0.7)
    return program, simulate(program, 600)


@pytest.fixture
def blind() -> Callable[[Tensor], Tensor]:
    """A guide that ignores the data."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", StandardNormal(3)())

    return guide


def divergences(program: toy.PPCA, x: Tensor) -> Tensor:
    """½ (s² + m² − 1 − log s²) of each entry of the exact posterior, (N, D)."""
    posterior = program.exact_posterior(x)
    return 0.5 * (posterior.variance + posterior.mean.square() - 1 - posterior.variance.log())


class TestAgainstClosedForms:
    def test_moments_and_the_divergence_of_each_latent(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        found = collapse(program, None, x)
        posterior = program.exact_posterior(x)
        torch.testing.assert_close(found.means, posterior.mean.double())
        torch.testing.assert_close(found.sds, posterior.variance.sqrt().double())
        torch.testing.assert_close(
            found.kl, divergences(program, x).mean(0).double(), rtol=1e-4, atol=1e-6
        )
        assert (found.prior_mean.tolist(), found.prior_sd.tolist()) == ([0, 0, 0], [1, 1, 1])
        torch.testing.assert_close(
            found.activity, posterior.mean.var(0).double(), rtol=1e-4, atol=1e-6
        )
        assert found.active.tolist() == [True, True, False]
        assert found.dead == 1

    def test_the_rate_is_the_divergence(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        rate = collapse(program, None, x, particles=400).rate
        exact = divergences(program, x).sum(-1)
        assert near(rate, float(exact.mean()))
        assert bool(((rate.value - exact).abs() < 4.5 * rate.standard_error).all())

    def test_mutual_information_is_that_of_the_channel(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        """½ log |I + WᵀW/σ²|; q(z) = p(z), so that nothing is left between the rate and it."""
        program, x = ppca
        found = collapse(program, None, x)
        gram = torch.eye(3) + program.weight.T @ program.weight / program.scale.square()
        exact = 0.5 * float(torch.logdet(gram))
        assert near(found.mutual_information, exact, sampled=True)
        assert near(found.marginal_kl, 0.0)

    def test_many_nats_are_extrapolated_from_few_data_within_bounds(self) -> None:
        """6 nats of 300 data, of which the plain average over them shows at most log 300 = 5.7."""
        program = toy.PPCA(torch.eye(3, 2) * math.sqrt(math.exp(6) - 1), torch.zeros(3), 1.0)
        found = collapse(program, None, simulate(program, 300), seed=0)
        assert found.marginal_kl is not None
        assert float(found.at_least.mean().value) < 5.3
        assert found.at_most is found.rate
        assert near(found.at_most, 6.0, sampled=True)
        information = found.mutual_information.mean()
        assert abs(float(information.value) - 6.0) < 2 * float(information.standard_error) < 1.0
        marginal = found.marginal_kl.mean()
        assert abs(float(marginal.value)) < 2 * float(marginal.standard_error)

    def test_the_parts_sum_up_to_the_rate(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        found = collapse(ppca[0], None, ppca[1][:50])
        parts = found.mutual_information.value + found.marginal_kl.value
        torch.testing.assert_close(parts, found.rate.value)

    def test_the_aggregate_is_that_of_a_plain_loop(self) -> None:
        """A hierarchical guide, q(z1 | x) q(z2 | z1), whose draws are kept by hand."""
        program, x = TwoLayers(), digits(binarize="threshold").x[:70].flatten(1)
        for parameter in program.up1.parameters():
            parameter.data *= 3
        found = collapse(program, None, x, seed=0)
        terms = torch.stack([self.pointwise(program, x) for _ in range(40)])
        loop, error = float(terms.mean()), float(terms.mean(1).std()) / 40**0.5
        mean = found.at_least.mean()
        assert abs(float(mean.value) - loop) < 4 * math.hypot(error, float(mean.standard_error))
        assert 0.5 < loop < math.log(70) - 0.5

    @staticmethod
    @torch.no_grad()
    def pointwise(program: TwoLayers, x: Tensor) -> Tensor:
        z1 = program.up1(x).sample()
        z2 = program.up2(z1).sample()
        log_q = program.up1(x).log_prob(z1[:, None]) + program.up2(z1).log_prob(z2)[:, None]
        return log_q.diagonal() - (log_q.logsumexp(-1) - math.log(len(x)))

    def test_two_clusters_hold_one_bit(self) -> None:
        """Posteriors far apart in two groups: I = log 2, however many data."""

        def guide(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", dist.Normal(10 * x[:, :1].sign(), 1.0).to_event(1))

        program = toy.PPCA(torch.ones(2, 1), torch.zeros(2), 1.0)
        x = torch.ones(40, 2) * torch.tensor([1.0, -1.0]).repeat(20)[:, None]
        found = collapse(program, guide, x)
        torch.testing.assert_close(found.at_least.value, torch.full((40,), math.log(2)).double())
        assert near(found.mutual_information, math.log(2))
        assert near(found.rate, 50.0)
        assert found.kl.tolist() == pytest.approx([50.0])

    def test_information_is_at_most_log_n(self) -> None:
        program = toy.PPCA(20 * torch.eye(4, 3), torch.zeros(4), 0.1)
        found = collapse(program, None, simulate(program, 30))
        torch.testing.assert_close(found.at_least.value, torch.full((30,), math.log(30)).double())
        assert "30 data, which show log 30 = 3.4 nats at most, are few" in str(found)
        assert found.verdict.tags == ("in-use", "near-ceiling")
        assert found.verdict.passes

    @pytest.mark.long
    def test_a_guide_without_moments_of_its_own(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        """The same posterior as a transformed distribution, whose mean Pyro does not know: moments
        are those of draws.
        """
        program, x = ppca

        def guide(x: Tensor) -> Tensor:
            posterior = program.exact_posterior(x)
            shift = dist.transforms.AffineTransform(
                posterior.mean, posterior.variance.sqrt(), event_dim=1
            )
            unit = dist.Normal(torch.zeros_like(posterior.mean), 1.0).to_event(1)
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", dist.TransformedDistribution(unit, [shift]))

        draws = 200
        n = len(x)
        found = collapse(program, guide, x, particles=draws)
        exact = collapse(program, None, x)
        # Each is χ² with one degree of freedom.
        scaled = ((found.means - exact.means) / exact.sds).square() * draws
        assert float(scaled.mean()) == pytest.approx(1, abs=4 * (2 / scaled.numel()) ** 0.5)
        # What the draws' noise adds is taken off again: the dead unit stays dead.
        variance = exact.sds.square().mean(0)
        noise = variance / draws
        error = ((4 * exact.activity * noise + 2 * noise.square()) / n).sqrt()
        assert bool(((found.activity - exact.activity).abs() < 4 * error).all())
        assert found.dead == 1
        # ½ (v − log v + m²), v with a relative error √(2/K), whose logarithm is low by 1/K, and m
        # with √(v/K).
        error = (((variance - 1).square() / 2 / draws + exact.activity * noise) / n).sqrt()
        assert bool(((found.kl - exact.kl).abs() < 4 * error + 0.5 / (draws - 1)).all())

    def test_the_prior_s_moments_in_a_hierarchy(self) -> None:
        """z2 ~ N(0, I), z1 ~ N(2 z2, 1): Var z1 = 5, from the conditional moments."""

        class Linear:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else x.shape[0]):
                    z2 = pyro.sample("z2", StandardNormal(1)())
                    z1 = pyro.sample("z1", dist.Normal(2 * z2 + 1, 1.0).to_event(1))
                    return pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)

            def guide(self, x: Tensor) -> None:
                with pyro.plate("data", x.shape[0]):
                    z2 = pyro.sample("z2", dist.Normal(x / 6, 0.5).to_event(1))
                    pyro.sample("z1", dist.Normal(x / 2 + z2, 0.6).to_event(1))

        x = simulate(Linear(), 400)
        found = collapse(Linear(), None, x)
        assert found.names == ["z2[0]", "z1[0]"]
        # 6400 draws: the sd of a mean is 1.25 % of the prior's, that of a variance 1.8 %.
        assert found.prior_mean.tolist() == pytest.approx([0, 1], abs=4 * 0.0125 * 5**0.5)
        assert found.prior_sd.tolist() == pytest.approx([1, 5**0.5], rel=4 * 0.009)
        variance = torch.tensor([0.25, 0.36 + 0.25]).double().expand(400, 2)
        torch.testing.assert_close(found.sds.square().mean(0), variance[0], rtol=4 * 0.0075, atol=0)
        exact = torch.stack([x[:, 0] / 6, x[:, 0] * (1 / 2 + 1 / 6)], -1).double()
        torch.testing.assert_close(
            found.activity, exact.var(0) / torch.tensor([1.0, 5.0]), rtol=4 * 0.02, atol=0
        )


class TestCollapsed:
    def test_a_guide_that_ignores_the_data(
        self, ppca: tuple[toy.PPCA, Tensor], blind: object
    ) -> None:
        program, x = ppca
        found = collapse(program, blind, x)
        assert found.dead == 3
        assert found.collapsed
        assert float(found.rate.value.abs().max()) < 1e-5
        assert float(found.mutual_information.value.abs().max()) < 1e-5
        assert "collapsed: 0 of 3 latents are active" in found.verdict[0]
        assert "annealed" in found.verdict[0]
        assert found.verdict.tags == ("collapsed",)
        assert found.verdict.passes is False

    @pytest.mark.long
    def test_a_digits_vae_under_a_heavy_weight(self) -> None:
        heavy, plain = fitted(10, beta=20.0), fitted(10, beta=1.0)
        assert heavy.collapsed
        assert heavy.dead == 10
        assert "collapsed: 0 of 10" in str(heavy)
        assert not plain.collapsed
        assert plain.dead < 5

    @pytest.mark.slow
    def test_spare_latents_are_not_a_collapse(self) -> None:
        """Of 20 latents many are left over, and the others tell all there is."""
        found = fitted(20, beta=1.0, hidden=(200, 200), rate=3e-3, epochs=60)
        assert not found.collapsed
        assert found.dead >= 8
        assert found.nats > 2
        assert found.verdict[0].startswith("partly unused")
        assert found.verdict.tags == ("partly-unused", "near-ceiling")

    def test_unequal_variances_tell_of_the_data_too(self) -> None:
        """No mean moves, so that no latent is active, and yet there is information."""

        def guide(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample(
                    "z", dist.Normal(torch.zeros(1), (3 * x[:, :1].sign()).exp()).to_event(1)
                )

        program = toy.PPCA(torch.ones(2, 1), torch.zeros(2), 1.0)
        found = collapse(program, guide, torch.randn(100, 2))
        assert found.dead == 1
        assert not found.collapsed
        assert found.nats > 0.4


def fitted(
    latents: int,
    beta: float,
    hidden: tuple[int, ...] = (100,),
    rate: float = 2e-3,
    epochs: int = 30,
) -> Collapse:
    split = data.load("digits", binarize="dynamic")
    program = vae(split.shape, latents, hidden=hidden)
    step = svi_step(program, torch.optim.Adam(program.parameters(), rate), beta=beta)
    fit(step, split.train.batches(50), epochs, progress=False)
    return collapse(program, None, split.test.fixed().x, seed=0)


class TestConditional:
    def test_a_prior_that_depends_on_the_label(self) -> None:
        program, x, labels = PROGRAMS["cvae, labels"]()
        found = collapse(program, None, x, *labels)
        assert found.marginal_kl is None
        assert found.prior_mean.shape == (6, 3)
        assert "KL(q(z)‖p(z))" not in str(found)
        assert found.nats == min(
            float(found.rate.mean().value), float(found.mutual_information.mean().value)
        )

    def test_a_posterior_that_is_such_a_prior_is_collapsed(self) -> None:
        """Its means vary with the label, and so does the prior: it holds nothing of x."""
        program = cvae((1, 8, 8), 3, classes=10, hidden=(16,))
        for parameter in program.prior.parameters():
            nn.init.normal_(parameter)

        def guide(x: Tensor, y: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", program.prior(y))

        found = collapse(program, guide, digits(binarize="threshold").x[:60], torch.arange(60) % 10)
        assert found.dead == 3
        assert found.collapsed
        assert float(found.mutual_information.mean().value) > 0.5

    def test_a_prior_that_ignores_it(self) -> None:
        program, x, labels = PROGRAMS["cvae, prior without label"]()
        found = collapse(program, None, x, *labels)
        assert found.marginal_kl is not None
        assert found.prior_mean.shape == (3,)


# Latents that are discrete, or have no standard deviation to be measured in.
OUTSIDE = {
    "gaussian",
    "gaussian mixture",
    "ss-vae",
    "ss-vae, masked and a scale per datum",
    "ss-vae, some labels",
    "stacked vae, some labels",
    "toy mixture",
    "vae, horseshoe",
}


class TestPromises:
    @pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - OUTSIDE))
    def test_every_program_with_continuous_latents(self, name: str) -> None:
        program, x, context = PROGRAMS[name]()
        found = collapse(program, None, x, *context, particles=4)
        assert found.means.shape == found.sds.shape == (len(x), len(found.names))
        assert bool((found.sds > 0).all() and torch.isfinite(found.kl).all())

    def test_a_prior_without_moments_is_refused(self) -> None:
        program, x, _ = PROGRAMS["vae, horseshoe"]()
        with pytest.raises(
            ValueError, match=r"a prior with a mean and a variance, .* got .*Horseshoe"
        ):
            collapse(program, None, x)

    @pytest.mark.parametrize(
        ("name", "names"),
        [
            ("pixels in a plate", ["z[0, 0]", "z[0, 1]"]),
            ("two latent layers", ["z2[0]", "z2[1]", "z1[0]", "z1[1]", "z1[2]"]),
        ],
    )
    def test_names(self, name: str, names: list[str]) -> None:
        program, x, _ = PROGRAMS[name]()
        assert collapse(program, None, x).names == names

    def test_chunks_do_not_matter(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        whole, cut = (collapse(program, None, x[:90], chunk=chunk) for chunk in (None, 50))
        for name in ("means", "sds", "kl", "activity"):
            torch.testing.assert_close(getattr(cut, name), getattr(whole, name))
        assert near(cut.rate, float(divergences(program, x[:90]).sum(-1).mean()))

    def test_a_seed_repeats_and_leaves_the_generator(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        program, x = ppca
        state = torch.get_rng_state()
        one = collapse(program, None, x[:20], seed=3)
        two = collapse(program, None, x[:20], seed=3)
        assert torch.equal(one.rate.value, two.rate.value)
        assert torch.equal(torch.get_rng_state(), state)

    def test_modes_and_statistics_stay(self, binary: Tensor) -> None:
        program = vae((1, 8, 8), 2)
        program.encoder.net.append(nn.BatchNorm1d(4))
        before = program.state_dict()["encoder.net.2.running_mean"].clone()
        collapse(program, None, binary)
        assert torch.equal(program.state_dict()["encoder.net.2.running_mean"], before)
        assert program.training

    def test_a_table_and_a_picture(self, ppca: tuple[toy.PPCA, Tensor]) -> None:
        found = collapse(ppca[0], None, ppca[1])
        table = found.table()
        assert list(table.columns) == ["kl", "activity", "active", "sd of means", "mean of sds"]
        assert list(table.index) == ["z[0]", "z[1]", "z[2]"]
        assert table["active"].dtype == bool
        picture = collapse_panel(
            found.means, found.sds, found.kl, found.active, (found.prior_mean, found.prior_sd)
        )
        assert len(picture.axes) == 4
        with pytest.raises(ValueError, match="expected means and sds"):
            collapse_panel(found.means, found.sds, found.kl[:2], found.active)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "nats"), [(2, 1.0), (2, 6.0), (5, 3.0), (5, 6.0)])
def test_errors_cover_the_exact_answers(size: int, nats: float) -> None:
    """In 30 repetitions with 200 data: 2 errors hold I and KL = 0 in 95 of 100 cases, or more."""
    torch.manual_seed(0)
    weight = torch.eye(size + 2, size) * math.sqrt(math.exp(2 * nats / size) - 1)
    program = toy.PPCA(weight, torch.zeros(size + 2), 1.0)
    held = []
    for seed in range(30):
        found = collapse(program, None, simulate(program, 200), seed=seed)
        assert found.marginal_kl is not None
        for estimate, exact in ((found.mutual_information, nats), (found.marginal_kl, 0.0)):
            mean = estimate.mean()
            error = math.hypot(float(mean.standard_error), float(mean.sampling_error))
            held.append(abs(float(mean.value) - exact) < 1.96 * error)
    assert sum(held) / 60 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 60)
