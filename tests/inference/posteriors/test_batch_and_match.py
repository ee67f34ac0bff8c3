"""Batch and match: its equation is solved, normal posteriors are met exactly, and guides are."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from everyday import EVERYDAY
from torch import Tensor

from ppl_gen.inference import GaussianGuide, Pathfinder, fit, hmc, match_step
from ppl_gen.inference.evidence.weights import evidence_of
from ppl_gen.inference.latents.potential import log_joint
from ppl_gen.inference.posteriors.batch_and_match import matched
from ppl_gen.models import toy


def log_weights(guide: GaussianGuide, count: int = 2000) -> Tensor:
    points, log_q = guide.draw(count)
    return log_joint(guide.potential, points).double() - log_q


@pytest.mark.parametrize(("count", "width"), [(12, 5), (3, 8), (8, 8)])
def test_the_equation_is_solved(count: int, width: int) -> None:
    """By both forms: of full rank, and of low rank where there are fewer draws than latents."""
    g = torch.Generator().manual_seed(0)
    points, scores = torch.randn(2, count, width, generator=g, dtype=torch.double)
    mean = torch.randn(width, generator=g, dtype=torch.double)
    factor = torch.randn(width, width, generator=g, dtype=torch.double).tril()
    rate = 7.0
    new, lower = matched(mean, factor, points, scores, rate)
    s = lower @ lower.mT
    share = rate / (1 + rate)
    shift = mean - points.mean(0)
    v = factor @ factor.mT + rate * points.T.cov(correction=0) + share * torch.outer(shift, shift)
    score = scores.mean(0)
    u = rate * scores.T.cov(correction=0) + share * torch.outer(score, score)
    torch.testing.assert_close(s @ u @ s + s, v)
    torch.testing.assert_close(new, mean / (1 + rate) + share * (s @ score + points.mean(0)))


@pytest.mark.long
def test_a_correlated_normal_is_met_by_640_gradients() -> None:
    """Fifty coordinates, condition number 10⁴, from the better of two paths."""
    posterior = EVERYDAY["correlated normal"]()
    assert posterior.exact is not None
    torch.manual_seed(0)
    step = match_step(posterior.model, init=Pathfinder(paths=2))
    step(*posterior.data)
    start = step.gradients
    for _ in range(63):
        step(*posterior.data)
    assert step.gradients == start + 630
    mean, sd = posterior.exact["z"]
    assert float(((step.guide.mean - mean) / sd).abs().max()) < 0.05
    ratio = step.guide.covariance.diagonal().sqrt() / sd
    assert float((ratio - 1).abs().max()) < 0.05
    weights = log_weights(step.guide)
    assert float(weights.logsumexp(0) - math.log(len(weights)) - weights.mean()) < 0.05


@pytest.mark.slow
def test_a_logistic_regression_is_nearly_met() -> None:
    posterior = toy.LogisticRegression.simulated(500, 25)
    torch.manual_seed(0)
    step = match_step(posterior.model, init=Pathfinder(paths=2))
    records = fit(step, [posterior.data], epochs=64)
    found = evidence_of(log_weights(step.guide))
    assert found.k_hat is not None
    assert float(found.k_hat) < 0.7
    # The bound loses 0.15 nats, of which sampling hides four standard errors at the most.
    weights = log_weights(step.guide)
    error = float(weights.std()) / math.sqrt(len(weights))
    assert float(found.value - weights.mean()) < 0.3 + 4 * error
    assert records[-1].metrics["elbo"] > records[0].metrics["elbo"]


def mixed(y: Tensor) -> None:
    """Sites of several shapes, out of the order of their names, one of them positive."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
    with pyro.plate("rows", 3):
        a = pyro.sample("a", dist.Normal(torch.zeros(2), scale).to_event(1))
    pyro.deterministic("total", a.sum())
    pyro.sample("y", dist.Normal(a.sum(-1), 1.0).to_event(1), obs=y)


@pytest.fixture(scope="module")
def fitted() -> GaussianGuide:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        step = match_step(mixed, engine="eager")
        y = torch.tensor([1.0, -1.0, 2.0])
        for _ in range(8):
            step(y)
    return step.guide


class TestGuide:
    def test_draws_are_in_the_supports(self, fitted: GaussianGuide) -> None:
        drawn = fitted.sample(100, seed=1)
        assert {name: tuple(z.shape) for name, z in drawn.items()} == {
            "scale": (100,),
            "a": (100, 3, 2),
            "total": (100,),
        }
        assert float(drawn["scale"].min()) > 0
        torch.testing.assert_close(drawn["total"], drawn["a"].sum((1, 2)))
        assert torch.equal(drawn["a"], fitted.sample(100, seed=1)["a"])

    def test_densities_are_those_of_the_draws(self, fitted: GaussianGuide) -> None:
        points, log_q = fitted.draw(50)
        torch.testing.assert_close(fitted.log_prob(points), log_q, rtol=1e-3, atol=1e-3)
        exact = dist.MultivariateNormal(fitted.mean, scale_tril=fitted.factor)
        torch.testing.assert_close(
            log_q[:, 0], exact.log_prob(points[:, 0].double()), atol=1e-3, rtol=1e-3
        )

    def test_it_is_a_guide_of_pyro(self, fitted: GaussianGuide) -> None:
        """The importance-weighted evidence by Pyro's guide is that by the library's density."""
        torch.manual_seed(1)
        y = fitted.potential.args[0]
        assert set(fitted(y)) == {"scale", "a"}
        by_guide = pyro.infer.Trace_ELBO(num_particles=100).loss(mixed, fitted, y)
        weights = log_weights(fitted)
        error = float(weights.std()) * math.sqrt(1 / 100 + 1 / len(weights))
        assert abs(-by_guide - float(weights.mean())) < 4 * error

    @pytest.mark.filterwarnings("ignore::ppl_gen.inference.ConvergenceWarning")
    def test_chains_begin_at_it(self, fitted: GaussianGuide) -> None:
        y = fitted.potential.args[0]
        draws = hmc(mixed, y, init=fitted, chains=4, draws=20, warmup=20, engine="eager", seed=0)
        assert draws.divergences < 20

    def test_discrete_latents_are_summed_out(self) -> None:
        posterior = toy.OrderedMixture.simulated(20)
        torch.manual_seed(0)
        step = match_step(posterior.model, init=Pathfinder(paths=2), engine="eager")
        for _ in range(4):
            step(*posterior.data)
        assert set(step.guide.sample(3)) == {"locs"}
        assert step.guide(*posterior.data).keys() == {"locs"}


class TestBadInput:
    def test_numbers(self) -> None:
        with pytest.raises(ValueError, match="expected draws of at least 2, got 1"):
            match_step(mixed, draws=1)
        with pytest.raises(ValueError, match="expected an engine"):
            match_step(mixed, engine="quick")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected init to be a Pathfinder"):
            match_step(mixed, init=3)  # type: ignore[arg-type]

    def test_a_step_that_was_not_called_has_no_guide(self) -> None:
        step = match_step(mixed)
        assert step.gradients == 0
        with pytest.raises(ValueError, match="expected a step that was called"):
            step.guide  # noqa: B018

    def test_other_data(self, fitted: GaussianGuide) -> None:
        step = match_step(mixed, init=fitted, engine="eager")
        with pytest.raises(ValueError, match="expected the data that the step began with"):
            step(torch.zeros(3))

    def test_another_posterior(self, fitted: GaussianGuide) -> None:
        schools = toy.EightSchools()
        with pytest.raises(ValueError, match="expected the posterior that the guide was fitted to"):
            hmc(schools.model, *schools.data, init=fitted, chains=2)

    def test_no_continuous_latents(self) -> None:
        def known(y: Tensor) -> None:
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

        with pytest.raises(ValueError, match="expected a program with continuous latents"):
            match_step(known)(torch.zeros(()))

    def test_data_that_are_not_finite(self) -> None:
        with pytest.raises(ValueError, match="expected finite data"):
            match_step(mixed)(torch.tensor([1.0, math.nan, 0.0]))
