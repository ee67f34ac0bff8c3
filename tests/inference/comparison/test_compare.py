"""A guide beside MCMC: numbers against closed forms, and the verdicts that they must lead to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, autoguide
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.guides import automatic, from_prior
from ppl_gen.inference import compare, fit_guide, log_evidence
from ppl_gen.inference.comparison.compare import Comparison
from ppl_gen.inference.comparison.guide_density import _WORK, Approximation
from ppl_gen.inference.comparison.marginals import standardised_distance
from ppl_gen.inference.comparison.verdict import missed_modes
from ppl_gen.inference.diagnostics import effective_size
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.inference.prediction.loo import Predictive
from ppl_gen.models import toy
from ppl_gen.program import simulate

OLD_ARVIZ = int(arviz.__version__.split(".")[0]) < 1


def perfect(posterior: Callable[[int, int], dict[str, Tensor]]) -> Callable[..., Draws]:
    """A sampler whose draws are independent, from a posterior that is known."""

    def sampler(
        model: Any, *args: Any, draws: int, warmup: int, chains: int, seed: int | None = None
    ) -> Draws:
        samples = posterior(chains, draws)
        zeros = torch.zeros(chains, draws)
        return Draws(samples, zeros, zeros.bool(), zeros + 1, 1.0, sampler="perfect")

    return sampler


def fitted(
    family: Any, posterior: Any, *data: Tensor, steps: int = 400, rate: float = 0.05, seed: int = 0
) -> Any:
    """A guide of Pyro's, trained by SVI."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        guide = automatic(family, posterior.model, *data, seed=seed)
        optimizer = torch.optim.Adam(guide.parameters(), rate)
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.01 ** (1 / steps))
        elbo = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
        for _ in range(steps):
            optimizer.zero_grad()
            elbo.differentiable_loss(posterior.model, guide, *data).backward()
            optimizer.step()
            decay.step()
    return guide


def regression() -> tuple[toy.LinearRegression, dist.MultivariateNormal]:
    """With known noise, and its posterior."""
    posterior = toy.LinearRegression.simulated(15, 3)
    x, noise = posterior.features, posterior.noise.square()
    covariance = torch.linalg.inv(x.T @ x / noise + torch.eye(3) / posterior.prior_scale.square())
    return posterior, dist.MultivariateNormal(
        covariance @ x.T @ posterior.y / noise, (covariance + covariance.T) / 2
    )


def off(q: dist.MultivariateNormal, shift: float, scale: float) -> dist.MultivariateNormal:
    """The same, moved by so many standard deviations in each coordinate and with all of them
    scaled.
    """
    return dist.MultivariateNormal(q.mean + shift * q.stddev, scale**2 * q.covariance_matrix)


def agrees(estimate: Any, exact: Tensor | float, errors: float = 4.5) -> bool:
    return bool(((estimate.value - exact).abs() <= errors * estimate.standard_error + 1e-5).all())


@functools.cache
def compared(shift: float = 0.3, scale: float = 0.8, known: bool = True) -> Comparison:
    """A wrong Gaussian guide of a Gaussian posterior, beside perfect draws."""
    posterior, truth = regression()
    q = off(truth, shift, scale)
    return compare(
        posterior,
        lambda y: pyro.sample("coefficients", q),
        *posterior.data,
        sampler=perfect(lambda c, s: {"coefficients": truth.sample((c, s))}),
        draws=2000,
        chains=4,
        exact=truth if known else None,
        seed=1,
    )


class TestAgainstClosedForms:
    def test_divergences_of_gaussians(self) -> None:
        _, p = regression()
        q = off(p, 0.3, 0.8)
        comparison = compared()
        forward, backward = (torch.distributions.kl_divergence(*pair) for pair in ((p, q), (q, p)))
        assert agrees(comparison.divergence["KL(q‖p)"], backward)
        assert agrees(comparison.divergence["KL(p‖q)"], forward)
        assert agrees(comparison.divergence["KL(q‖p) + KL(p‖q)"], forward + backward)
        assert float(comparison.divergence["KL(q‖p)"].standard_error) < 0.03
        assert float(comparison.divergence["KL(p‖q)"].standard_error) < 0.05

    def test_the_evidence_by_bayes_rule_and_by_weights(self) -> None:
        posterior, _ = regression()
        exact = posterior._log_evidence(posterior.noise[None])
        torch.testing.assert_close(compared().evidence["exact"].value, exact, rtol=0, atol=1e-4)
        wide = compared(0.0, 1.2, known=False)
        assert agrees(wide.evidence["importance"], exact)
        assert "exact" not in wide.evidence
        assert agrees(wide.divergence["KL(q‖p)"], torch.tensor(1.5 * (0.44 - math.log(1.44))))
        assert wide.evidence["elbo"].value < exact < wide.evidence["upper"].value

    @pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 0.8), (0.0, 1.2)])
    def test_coverage_and_moments(self, shift: float, scale: float) -> None:
        marginals = compared(shift, scale, shift != 0.0).marginals
        normal = torch.distributions.Normal(0.0, 1.0)
        for level, share, error in zip(
            (0.5, 0.8, 0.95), marginals.coverage, marginals.coverage_error, strict=True
        ):
            half = scale * normal.icdf(torch.tensor((1 + level) / 2))
            exact = normal.cdf(shift + half) - normal.cdf(shift - half)
            assert ((share - exact).abs() < 4 * error).all()
            assert (error < 0.02).all()
        assert ((marginals.sd_ratio - scale).abs() < 4 * marginals.sd_ratio_error).all()
        assert ((marginals.shift - shift).abs() < 4 * marginals.shift_error).all()
        assert (marginals.sd_ratio_error < 0.03).all()

    def test_sliced_wasserstein_of_shifted_gaussians(self) -> None:
        a, b = torch.randn(4000, 2, 5), torch.randn(3000, 2, 5)
        shift = torch.tensor([[3.0, 0.0, 0.0, 0.0, 4.0], [0.0] * 5])
        far, near = standardised_distance(a + shift, b).tolist()
        assert far == pytest.approx(5 / 5**0.5, abs=4 * (1 / 3000 + 1 / 4000) ** 0.5)
        assert near < 0.06
        scaled = standardised_distance(7 * (a + shift), 7 * b, torch.full((2, 5), 7.0))
        assert scaled.tolist() == pytest.approx([far, near], rel=1e-6)
        assert float(standardised_distance(torch.zeros(50, 1, 1), torch.full((60, 1, 1), 2.0))) == 2

    def test_its_baseline_is_what_noise_gives(self) -> None:
        same = compared(0.0, 1.0, False)
        assert 0.3 < float(same.distance / same.distance_baseline) < 3
        assert float(compared().distance) > 5 * float(compared().distance_baseline)

    @pytest.mark.parametrize("rho", [-0.4, 0.0, 0.9])
    def test_effective_size_is_arviz_s(self, rho: float) -> None:
        z = torch.randn(4, 1000, 3, dtype=torch.float64)
        for t in range(1, 1000):
            z[:, t] = rho * z[:, t - 1] + (1 - rho**2) ** 0.5 * z[:, t]
        reference = [float(arviz.ess(z[..., k].numpy(), method="mean")) for k in range(3)]
        np.testing.assert_allclose(effective_size(z), reference, rtol=0.02)

    def test_effective_size_of_what_has_none(self) -> None:
        assert effective_size(torch.ones(2, 100, 1)).isnan().all()
        assert effective_size(torch.randn(2, 7, 1)).isnan().all()
        apart = torch.randn(2, 100, 1) + torch.tensor([0.0, 50.0])[:, None, None]
        assert float(effective_size(apart)) < 10


class TestTheGuidesDensity:
    """log q at given points is the density of the guide's own trace, whatever the order and the
    supports of its sites.
    """

    @staticmethod
    def model(x: Tensor) -> None:
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        scale = pyro.sample("a_scale", dist.HalfCauchy(1.0))
        with pyro.plate("groups", 2):
            loc = pyro.sample("loc", dist.Normal(0.0, scale))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc.sum(-1) + weights[..., 0], scale), obs=x)

    @staticmethod
    def by_hand(x: Tensor) -> None:
        with pyro.plate("groups", 2):
            loc = pyro.sample("loc", dist.Normal(torch.tensor([0.5, -0.5]), 0.7))
        pyro.sample("a_scale", dist.LogNormal(0.1 * loc.sum(-1), 0.5))
        pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])))

    @pytest.mark.parametrize(
        "family",
        ["AutoNormal", "AutoDiagonalNormal", "AutoMultivariateNormal", "AutoIAFNormal", "by hand"],
    )
    def test_it_is_that_of_its_trace(self, family: str) -> None:
        x = torch.randn(4)
        guide = self.by_hand
        if family != "by hand":
            guide = automatic(getattr(autoguide, family), self.model, x, seed=0)
            for p in guide.parameters():
                p.data += 0.3 * torch.randn_like(p)
        potential = Potential(self.model, (x,))
        approximation = Approximation(guide, potential, (x,))
        trace = poutine.trace(guide).get_trace(x)
        values = {name: trace.nodes[name]["value"].detach()[None] for name in potential.names}
        q = potential.flatten(values)
        expected = trace.log_prob_sum().detach() + potential.log_jacobian(q)
        torch.testing.assert_close(approximation.log_prob(q), expected, rtol=1e-4, atol=1e-3)
        own, log_q = approximation.draw(50)
        torch.testing.assert_close(approximation.log_prob(own), log_q, rtol=1e-4, atol=1e-3)
        assert own.shape == (50, 1, 5)

    def test_by_datum_of_a_guide_over_all_data(self) -> None:
        """The marginals of a Gaussian are Gaussian."""
        program = toy.PPCA(torch.randn(3, 2), torch.zeros(3), 0.5)
        x = simulate(program, 3)
        guide = automatic(autoguide.AutoMultivariateNormal, program.model, x, seed=0)
        for p in guide.parameters():
            p.data += 0.3 * torch.randn_like(p)
        whole = guide.get_posterior()
        approximation = Approximation(guide, Potential(program.model, (x,), local=True), (x,))
        q, log_q = approximation.draw(10)
        part = dist.MultivariateNormal(whole.mean[2:4], whole.covariance_matrix[2:4, 2:4])
        torch.testing.assert_close(log_q[:, 1], part.log_prob(q[:, 1]), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("family", "local", "said"),
        [
            (autoguide.AutoDelta, False, "a point mass"),
            (autoguide.AutoLaplaceApproximation, False, "a point mass"),
            (
                autoguide.AutoIAFNormal,
                True,
                "one density over all data, not one for each; compare with local=False",
            ),
        ],
    )
    def test_what_has_no_density_says_so(self, family: Any, local: bool, said: str) -> None:
        program = toy.PPCA(torch.randn(3, 2), torch.zeros(3), 0.5)
        x = simulate(program, 2)
        guide = automatic(family, program.model, x, seed=0)
        approximation = Approximation(guide, Potential(program.model, (x,), local=local), (x,))
        assert said in approximation.own_reason
        assert approximation.draw(3)[1] is None
        with pytest.raises(ValueError, match="expected a guide with a density at given points"):
            approximation.log_prob(approximation.draw(3)[0])

    def test_draws_at_once_are_counted_by_all_of_their_numbers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of 50 data with 2 latents each, 100 numbers and not 52."""
        widths = []

        def counted(*arguments: Any, width: int, **options: Any) -> Any:
            widths.append(width)
            return at_each(*arguments, width=width, **options)

        monkeypatch.setattr(f"{Approximation.__module__}.at_each", counted)
        program = toy.PPCA(torch.randn(3, 2), torch.zeros(3), 0.5)
        x = simulate(program, 50)
        potential = Potential(program.model, (x,), local=True)
        approximation = Approximation(from_prior(program), potential, (x,))
        q, _ = approximation.draw(2)
        approximation.log_prob(q)
        assert set(widths) == {100 * _WORK}

    def test_draws_that_are_rounded_follow_no_density(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Beta(2.0, 2.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                rounded = dist.RelaxedBernoulliStraightThrough(torch.tensor(1.0), torch.tensor(0.5))
                pyro.sample("z", rounded)

        x = torch.zeros(2)
        approximation = Approximation(guide, Potential(model, (x,), local=True), (x,))
        assert (
            "follow no density: they are of RelaxedBernoulliStraightThrough, which rounds them"
            in (approximation.own_reason)
        )

    def test_a_distribution_without_a_density_says_so(self) -> None:
        """It can still be drawn from and compared by its draws."""

        class Undefined(dist.Normal):
            def log_prob(self, value: Tensor) -> Tensor:
                raise NotImplementedError("no density")

        program = toy.PPCA(torch.randn(3, 2), torch.zeros(3), 0.5)
        x = simulate(program, 2)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", Undefined(torch.zeros(2), 1.0).to_event(1))

        approximation = Approximation(guide, Potential(program.model, (x,), local=True), (x,))
        said = "the guide's density at 'z' cannot be computed: no density"
        assert approximation.own_reason == said
        q, log_q = approximation.draw(3)
        assert q.shape == (3, 2, 2)
        assert log_q is None


class TestDatumByDatum:
    def test_an_amortised_guide(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Posteriors of standard deviations 1.3 times too large: KL = D/2 (1.69 − 1 − log 1.69) for
        every datum.
        """
        program = toy.PPCA(torch.randn(5, 2), torch.zeros(5), 0.7)
        x = simulate(program, 6)
        truth = program.exact_posterior(x)

        def guide(x: Tensor) -> None:
            posterior = program.exact_posterior(x)
            with pyro.plate("data", x.shape[0]):
                pyro.sample(
                    "z", dist.MultivariateNormal(posterior.mean, 1.69 * posterior.covariance_matrix)
                )

        sampler = perfect(lambda c, s: {"z": truth.sample((c, s))})
        comparison = compare(program, guide, x, sampler=sampler, draws=1000, chains=4, seed=0)
        assert comparison.distance.shape == (6,)
        assert agrees(comparison.divergence["KL(q‖p)"], 0.69 - math.log(1.69))
        assert agrees(comparison.divergence["KL(p‖q)"], 1 / 1.69 - 1 + math.log(1.69))
        assert agrees(comparison.evidence["importance"], program.exact_log_evidence(x).double())
        assert comparison.tags == ("over-dispersed",)
        torch.testing.assert_close(
            comparison.elpd["mcmc"].pointwise, program.exact_log_evidence(x).double()
        )
        assert "since all latents are local" in comparison.elpd["mcmc"].how
        assert (
            comparison.correlations["exact"] - comparison.correlations["guide"]
        ).abs().max() < 0.1

        replayed = Replayed(comparison.guide_samples["z"])(guide)
        # A guide that replays draws closes over a row for each datum, which is refused elsewhere.
        monkeypatch.setattr("ppl_gen.inference.cuts.expect_same_when_cut", lambda *_: None)
        own = log_evidence(program, replayed, x, particles=4000, chunk=24_000)
        torch.testing.assert_close(comparison.k_hat, own.k_hat, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            comparison.evidence["importance"].value, own.value, rtol=1e-5, atol=1e-5
        )


class Replayed(Messenger):
    """Puts these draws in the place of what a guide would draw for as many data."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__()
        self.draws = draws

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "z" and msg["fn"].batch_shape[-1] == self.draws.shape[1]:
            msg["value"], msg["done"] = self.draws, True


PPCA = toy.PPCA(torch.tensor([[1.0, 0.9], [1.0, 1.1], [0.95, 1.0]]), torch.zeros(3), 0.6)


class TestVerdicts:
    @pytest.mark.slow
    def test_a_diagonal_guide_is_too_sure_and_a_full_one_is_good(self) -> None:
        """A posterior with a correlation of −0.89 between the latents of each datum."""
        x = torch.tensor([[0.5, 0.7, 0.6], [-1.0, -0.8, -1.1]])
        kept: dict[str, Draws] = {}

        def once(*args: Any, local: bool, **options: Any) -> Draws:
            assert not local
            if not kept:
                kept["draws"] = hmc(*args, **options)
            return kept["draws"]

        def verdict(family: Any) -> Comparison:
            guide = fitted(family, PPCA, x, steps=800, rate=0.1)
            return compare(PPCA, guide, x, sampler=once, draws=400, chains=16, warmup=300, seed=0)

        diagonal, full = (
            verdict(autoguide.AutoDiagonalNormal),
            verdict(autoguide.AutoMultivariateNormal),
        )
        assert {"under-dispersed", "correlations"} <= set(diagonal.tags)
        assert "good" not in diagonal.tags
        assert full.tags == ("good",), full.verdict
        covariance = PPCA.exact_posterior(x).covariance_matrix[0]
        exact = (
            covariance.det() / covariance.diagonal().prod()
        ).sqrt()  # √(1 − ρ²), where the ELBO of a diagonal guide peaks
        assert ((diagonal.marginals.sd_ratio - exact).abs() < 0.05).all()
        assert agrees(full.evidence["importance"], PPCA.exact_log_evidence(x).double().sum())
        assert full.divergence["KL(q‖p)"].value < 0.05 < diagonal.divergence["KL(q‖p)"].value
        assert (full.outside < 0.05) & (diagonal.outside > 0.5)
        names, guide, mcmc = diagonal.arrays()
        assert (names[1], guide.shape, mcmc.shape) == ("z[0, 1]", (4000, 4), (16, 400, 4))

    @pytest.mark.long
    def test_a_gaussian_on_two_modes_seeks_one(self) -> None:
        posterior = toy.SignFlip.simulated()
        guide = fitted(autoguide.AutoNormal, posterior, *posterior.data, steps=150)
        comparison = compare(
            posterior, guide, *posterior.data, draws=100, warmup=150, chains=16, seed=0
        )
        assert "mode-seeking" in comparison.tags
        assert "not-converged" in comparison.tags
        assert "under-dispersed" not in comparison.tags
        sentence = next(f.sentence for f in comparison.findings if f.tag == "mode-seeking")
        assert "theta has two modes" in sentence
        assert "cannot see the mode that is missed" in sentence
        assert comparison.divergence["KL(p‖q)"].value > 10
        assert "k_hat" not in comparison.unavailable

    @pytest.mark.slow
    def test_a_funnel_diverges(self) -> None:
        posterior = toy.Funnel(5)
        guide = automatic(autoguide.AutoDiagonalNormal, posterior.model, seed=0)
        sampler = functools.partial(hmc, target_accept=0.5, trajectory=2.0)
        comparison = compare(
            posterior, guide, sampler=sampler, draws=150, warmup=150, chains=16, seed=0
        )
        assert "divergences" in comparison.tags
        assert "do not trust it here" in comparison.verdict[0]
        assert not {"good", "undecided"} & set(comparison.tags)
        assert "nothing observed" in comparison.unavailable["elpd"]

    def test_mcmc_that_never_moves_is_no_judge(self) -> None:
        posterior, truth = regression()

        def stuck(chains: int, draws: int) -> dict[str, Tensor]:
            value = truth.sample((chains, draws))
            value[1] = value[1, 0]
            return {"coefficients": value}

        comparison = compare(
            posterior,
            lambda y: pyro.sample("coefficients", truth),
            *posterior.data,
            sampler=perfect(stuck),
            seed=0,
        )
        assert {"stuck-chains", "not-converged", "undecided"} <= set(comparison.tags)
        assert comparison.verdict.passes is None

    def test_mcmc_that_misses_the_reference_is_told(self) -> None:
        posterior, truth = regression()
        wrong = off(truth, 0.5, 1.0)
        sampler = perfect(lambda c, s: {"coefficients": wrong.sample((c, s))})
        guide: Any = lambda y: pyro.sample("coefficients", truth)  # noqa: E731
        comparison = compare(posterior, guide, *posterior.data, sampler=sampler, seed=0)
        assert {"off-reference", "biased"} <= set(comparison.tags)

    def test_heavy_tails_beside_good_moments(self) -> None:
        """Of a bare model without data: a Student posterior and the normal of its standard
        deviation.
        """
        student = dist.StudentT(5.0)

        def model() -> Tensor:
            return pyro.sample("z", student)

        guide: Any = lambda: pyro.sample("z", dist.Normal(0.0, (5 / 3) ** 0.5))  # noqa: E731
        sampler = perfect(lambda c, s: {"z": student.sample((c, s))})
        comparison = compare(model, guide, sampler=sampler, draws=500, chains=4, seed=0)
        assert comparison.tags == ("heavy-tails", "good-moments")
        assert agrees(comparison.evidence["importance"], 0.0, 5)

    def test_ends_of_supports(self) -> None:
        """Of a scale, a share, and what has none; its picture shows no value beyond them."""
        truth = {
            "scale": dist.HalfNormal(1.0),
            "share": dist.Beta(9.0, 1.0),
            "z": dist.Normal(0.0, 1.0),
        }

        def model() -> dict[str, Tensor]:
            return {name: pyro.sample(name, law) for name, law in truth.items()}

        sampler = perfect(lambda c, s: {name: law.sample((c, s)) for name, law in truth.items()})
        exact = {name: (law.mean, law.stddev) for name, law in truth.items()}
        comparison = compare(model, model, sampler=sampler, draws=50, chains=2, exact=exact, seed=0)
        lowest, highest = comparison.support
        assert lowest.tolist() == [0, 0, -math.inf]
        assert highest.tolist() == [math.inf, 1, math.inf]
        assert comparison.plot().axes[0].get_lines()[0].get_xdata().shape == (3,)

    def test_a_point_mass(self) -> None:
        posterior, truth = regression()
        guide = automatic(autoguide.AutoDelta, posterior.model, *posterior.data, seed=0)
        sampler = perfect(lambda c, s: {"coefficients": truth.sample((c, s))})
        comparison = compare(posterior, guide, *posterior.data, sampler=sampler, seed=0)
        assert {"no-density", "under-dispersed"} <= set(comparison.tags)
        assert "point mass" in comparison.unavailable["KL(p‖q)"]
        assert not comparison.divergence
        assert comparison.k_hat is None

    @pytest.mark.parametrize("name", ["normal", "student", "log-normal", "exponential", "uniform"])
    def test_one_mode_is_not_taken_for_two(self, name: str) -> None:
        draws = {
            "normal": torch.randn(4000),
            "student": dist.StudentT(2.0).sample((4000,)),
            "log-normal": torch.randn(4000).exp(),
            "exponential": torch.rand(4000).log(),
            "uniform": torch.rand(4000),
        }[name][:, None]
        assert not missed_modes(draws, draws.new_full((100, 1), -50.0))
        assert missed_modes(
            torch.cat([draws / draws.std(), draws / draws.std() + 12]), draws / draws.std()
        )


class TestPrediction:
    @staticmethod
    def draws() -> dict[str, Tensor]:
        return {
            "mu": 4.4 + 3.3 * torch.randn(4, 250),
            "tau": (0.8 + 0.9 * torch.randn(4, 250)).exp(),
            "eta": torch.randn(4, 250, 8),
        }

    @staticmethod
    def direct(posterior: toy.EightSchools, mu: Tensor, tau: Tensor) -> Tensor:
        """log N(yⱼ; μ, τ² + σⱼ²)."""
        scale = (tau[..., None].square() + posterior.sigma.square()).sqrt()
        return dist.Normal(mu[..., None], scale).log_prob(posterior.y)

    @pytest.mark.parametrize("centred", [False, True])
    def test_eight_schools_with_their_effects_integrated_out(self, centred: bool) -> None:
        posterior, samples = toy.EightSchools(centred), self.draws()
        if centred:
            samples["theta"] = samples["mu"][..., None] + samples["tau"][..., None] * samples.pop(
                "eta"
            )
        predictive = Predictive(posterior.model, posterior.data, samples)
        assert (predictive.plate, predictive.outer) == ("schools", ["mu", "tau"])
        got, error = predictive.log_likelihood({n: samples[n].flatten() for n in ("mu", "tau")})
        exact = self.direct(posterior, samples["mu"].flatten(), samples["tau"].flatten())
        assert error < 0.1
        # 99 % of the draws of the worst school have a smaller error; the average is unbiased but
        # for s²/2.
        assert ((got - exact).abs() < 4 * error).double().mean() > 0.99
        assert float((got - exact).mean().abs()) < 0.005

        elpd = predictive.loo(samples)
        value = self.direct(posterior, samples["mu"], samples["tau"]).numpy()
        reference = self.arviz_loo(value)
        assert elpd.value == pytest.approx(reference, abs=0.05)
        assert elpd.k_hat.shape == (8,)
        assert "integrated out" in elpd.how

    @staticmethod
    def arviz_loo(value: Any) -> float:
        if OLD_ARVIZ:
            return float(arviz.loo(arviz.from_dict(log_likelihood={"y": value}), reff=1.0).elpd_loo)
        return float(arviz.loo(arviz.from_dict({"log_likelihood": {"y": value}}), reff=1.0).elpd)

    def test_discrete_latents_are_summed_out(self) -> None:
        posterior = toy.OrderedMixture.simulated()
        samples = {"locs": torch.tensor([-1.0, 2.0]) + 0.2 * torch.randn(2, 20, 2)}
        predictive = Predictive(posterior.model, posterior.data, samples)
        got, error = predictive.log_likelihood({"locs": samples["locs"].flatten(0, 1)})
        mixture = dist.Normal(samples["locs"].flatten(0, 1)[:, None], posterior.scale).log_prob(
            posterior.x[:, None]
        )
        assert error == 0
        torch.testing.assert_close(
            got, (mixture + posterior.weights.log()).logsumexp(-1), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.skipif(OLD_ARVIZ, reason="ArviZ below 1.0 has no LOO of approximate posteriors")
    def test_of_the_guide(self) -> None:
        comparison = compared()
        assert comparison.elpd["guide"].value == pytest.approx(
            comparison.elpd["mcmc"].value, abs=0.3
        )

    @pytest.mark.skipif(not OLD_ARVIZ, reason="ArviZ from 1.0 on has LOO of approximate posteriors")
    def test_of_the_guide_says_what_it_needs(self) -> None:
        assert "needs ArviZ 1.0, got 0." in compared().unavailable["elpd of the guide"]

    def test_a_chain_of_states_has_no_datum_to_leave_out(self) -> None:
        posterior = toy.HiddenMarkov.simulated(4)
        with pytest.raises(
            ValueError, match=r"observed sites in a plate, and there is 'x_0', .* in no plate"
        ):
            Predictive(
                posterior.model, posterior.data, {"locs": torch.tensor([-1.0, 2.0]).expand(2, 5, 2)}
            )


class TestPromises:
    @pytest.mark.long
    def test_a_toy_from_end_to_end(self) -> None:
        posterior = toy.EightSchools()
        guide = automatic(autoguide.AutoDiagonalNormal, posterior.model, *posterior.data, seed=0)
        state, seen = torch.get_rng_state(), []
        options: dict[str, Any] = {
            "draws": 60,
            "warmup": 60,
            "chains": 16,
            "guide_draws": 300,
            "seed": 3,
        }
        one, two = (
            compare(posterior, guide, *posterior.data, on_draw=seen.append, **options)
            for _ in range(2)
        )
        assert torch.equal(one.distance, two.distance)
        assert torch.equal(torch.get_rng_state(), state)
        assert seen
        table = one.table()
        assert list(table.index[:3]) == ["mu", "tau", "eta[0]"]
        assert table["exact mean"]["mu"] == pytest.approx(4.410518)
        assert math.isnan(table["exact mean"]["eta[0]"])
        assert set(table.columns) >= {"guide sd", "mcmc mean", "mcse", "sd ratio", "r_hat", "ess"}
        assert one.guide_samples["theta"].shape == (300, 8)
        assert one.unconstrained.names[1] == "tau (unconstrained)"
        assert "elbo" in str(one)
        assert {"mcmc", "guide"} <= one.seconds.keys()
        assert one.ess_per_second > 0

    def test_more_particles_than_kept_draws(self) -> None:
        posterior, truth = regression()
        comparison = compare(
            posterior,
            lambda y: pyro.sample("coefficients", off(truth, 0.1, 1.1)),
            *posterior.data,
            sampler=perfect(lambda c, s: {"coefficients": truth.sample((c, s))}),
            draws=50,
            guide_draws=100,
            particles=3000,
            exact={"coefficients": (truth.mean, truth.stddev)},
        )
        assert comparison.guide_samples["coefficients"].shape == (100, 3)
        assert float(comparison.evidence["importance"].ess) > 1000
        torch.testing.assert_close(comparison.marginals.exact_sd, truth.stddev.double())

    def test_one_draw_of_the_guide_is_enough(self) -> None:
        posterior, truth = regression()
        sampler = perfect(lambda c, s: {"coefficients": truth.sample((c, s))})
        guide: Any = lambda y: pyro.sample("coefficients", truth)  # noqa: E731
        comparison = compare(
            posterior, guide, *posterior.data, sampler=sampler, draws=20, guide_draws=1, seed=0
        )
        assert comparison.guide_samples["coefficients"].shape == (1, 3)
        assert comparison.marginals.guide_sd.isnan().all()

    def test_the_verdict_says_whether_the_guide_passes(self) -> None:
        good, wrong = compared(0.0, 1.0, False), compared()
        assert (good.tags, good.verdict.passes) == (("good",), True)
        assert wrong.verdict.passes is False
        assert wrong.verdict.findings == wrong.findings
        assert wrong.verdict.tags == wrong.tags
        assert list(wrong.verdict) == [finding.sentence for finding in wrong.findings]

    def test_a_reference_of_other_data_is_not_used(self) -> None:
        posterior, truth = regression()
        sampler = perfect(lambda c, s: {"coefficients": truth.sample((c, s))})
        guide: Any = lambda y: pyro.sample("coefficients", truth)  # noqa: E731
        comparison = compare(posterior, guide, posterior.y + 1, sampler=sampler, draws=20, seed=0)
        assert "other data" in comparison.unavailable["exact"]
        assert comparison.marginals.exact_mean.isnan().all()


def bad(**options: Any) -> Comparison:
    posterior, truth = regression()
    guide = options.pop("guide", lambda y: pyro.sample("coefficients", truth))
    sampler = perfect(lambda c, s: {"coefficients": truth.sample((c, s))})
    return compare(posterior, guide, options.pop("y", posterior.y), sampler=sampler, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draws": 0}, "expected draws of at least 1, got 0"),
        ({"chains": 0}, "expected chains of at least 1, got 0"),
        ({"warmup": -1}, "expected warmup of at least 0, got -1"),
        ({"guide_draws": 0}, "expected guide_draws of at least 1, got 0"),
        ({"particles": 0}, "expected particles of at least 1, got 0"),
        ({"guide": None}, "LinearRegression has no guide of its own: pass one"),
        (
            {"y": torch.full((15,), torch.nan)},
            "expected finite data, got NaN or infinite values in argument 0",
        ),
        (
            {"guide": lambda y: pyro.sample("beta", dist.Normal(torch.zeros(3), 1.0).to_event(1))},
            r"latent sites \['coefficients'\], got \['beta'\]",
        ),
        (
            {
                "guide": lambda y: pyro.sample(
                    "coefficients", dist.Normal(torch.zeros(2), 1.0).to_event(1)
                )
            },
            r"'coefficients' of shape \(3,\), as the model does, got \(2,\)",
        ),
        (
            {"exact": {"beta": (0.0, 1.0)}},
            r"sites among \['coefficients'\], got some of \['beta'\]",
        ),
        (
            {"exact": {"coefficients": torch.ones(())}},
            r"exact\['coefficients'\] to be \(mean, sd\), got Tensor",
        ),
        (
            {"exact": {"coefficients": (torch.ones(2), torch.ones(2))}},
            r"of shape \(3,\), got \(2,\)",
        ),
        (
            {"exact": dist.Normal(0.0, 1.0)},
            r"only latent site, got shape \(\) for \{'coefficients': \(3,\)\}",
        ),
        (
            {"exact": 3.0},
            r"a distribution of pyro\.distributions or \(mean, sd\) by site, got float",
        ),
        ({"local": True}, "inside the plate 'data'"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bad(**options)


def test_the_fit_of_the_guide_is_timed_as_well() -> None:
    line = toy.LinearRegression.simulated(40, 2)
    fitted = fit_guide(
        line.model, autoguide.AutoNormal, *line.data, steps=20, seed=0, engine="eager"
    )
    assert fitted.seconds > 0
    sampled: dict[str, Any] = {"draws": 40, "warmup": 40, "chains": 4, "engine": "eager"}
    found = compare(line, fitted, *line.data, guide_draws=200, seed=0, **sampled)
    assert found.seconds["guide fit"] == fitted.seconds
    seconds = found.seconds_to_equal_error
    assert seconds["guide"] == fitted.seconds
    needed = (seconds["mcmc"] - found.seconds["mcmc preparation"]) / found.seconds["mcmc"]
    ess = 1 / float((found.marginals.mcse / found.marginals.mcmc_sd).square().mean())
    assert needed * ess == pytest.approx(found.guide_error**-2, rel=1e-6)
    untimed = compare(line, fitted.guide, *line.data, guide_draws=200, seed=0, **sampled)
    assert untimed.seconds_to_equal_error.keys() == {"mcmc"}
