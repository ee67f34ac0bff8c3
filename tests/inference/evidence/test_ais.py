"""Annealed importance sampling and its sandwich against exact answers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from posteriors import ppca, rough
from programs import PROGRAMS, TwoLayers
from torch import Tensor, nn

from ppl_gen.contexts import evaluating
from ppl_gen.inference import Estimate, ais, bdmc, elbo, log_evidence
from ppl_gen.inference.engine.replay import Replay
from ppl_gen.inference.evidence import path as path_module
from ppl_gen.inference.evidence.path import Anneal, Path
from ppl_gen.inference.evidence.temperatures import linear, sigmoid
from ppl_gen.inference.fitting.guides import refit, same_family
from ppl_gen.inference.mcmc.leapfrog import log_uniform
from ppl_gen.likelihoods import Dirac, Gaussian
from ppl_gen.models import toy
from ppl_gen.program import Observed, simulate
from ppl_gen.protocols import Guide
from ppl_gen.pyro_patches import tracing


def prior_guide(program: Any, site: str = "z") -> Guide:
    """The prior of a toy, written out as a guide."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(site, program.prior())

    return guide


def uniform_prior(program: toy.GaussianMixture) -> Guide:
    """Any component, whatever x is."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Categorical(torch.ones(len(program.weights))))

    return guide


def mixture() -> toy.GaussianMixture:
    return toy.GaussianMixture(torch.tensor([1.0, 2.0, 3.0]), 2 * torch.randn(3, 2), 0.7)


def curve() -> toy.Curve:
    return toy.Curve(lambda z: torch.cat([z, z.square() / 2], -1), 0.3)


TOYS: dict[str, tuple[Callable[[], Any], Callable[[Any], Guide]]] = {
    "PPCA": (ppca, rough),
    "mixture": (mixture, uniform_prior),
    "curve": (curve, prior_guide),
}


def small_ppca() -> toy.PPCA:
    return toy.PPCA(0.5 * torch.randn(4, 2), torch.zeros(4), 0.7)


SMALL = TOYS | {"PPCA": (small_ppca, rough)}


def _small(name: str) -> tuple[Any, Guide]:
    make, guide_of = SMALL[name]
    program = make()
    return program, guide_of(program)


def agrees(estimate: Estimate, exact: Tensor) -> bool:
    """The average over data, within 4 standard errors plus the bias of a log mean."""
    mean = estimate.mean()
    off = float(mean.value - exact.double().mean())
    bias = float(estimate.standard_error.square().mean() / 2)
    return abs(off) <= 4 * float(mean.standard_error) + bias + 1e-4


class TestAgainstExactAnswers:
    @pytest.mark.long
    @pytest.mark.parametrize("name", TOYS)
    def test_importance_weights_ais_and_the_exact_evidence(self, name: str) -> None:
        make, guide_of = TOYS[name]
        program = make()
        x = simulate(program, 40)
        exact = program.exact_log_evidence(x)
        guide = guide_of(program)
        assert agrees(log_evidence(program, guide, x, particles=5000, seed=1), exact)
        assert agrees(ais(program, x, temperatures=300, chains=32, seed=1), exact)
        assert agrees(ais(program, x, guide=guide, temperatures=100, chains=32, seed=1), exact)

    @pytest.mark.long
    @pytest.mark.parametrize("name", TOYS)
    @pytest.mark.parametrize("temperatures", [1, pytest.param(8, marks=pytest.mark.slow)])
    def test_weights_are_unbiased_however_few_temperatures(
        self, name: str, temperatures: int
    ) -> None:
        """E[w] = p(x), also where the chains are far behind the path."""
        program, guide = _small(name)
        x = simulate(program, 20)
        got = ais(program, x, guide=guide, temperatures=temperatures, chains=3000, seed=3)
        assert agrees(got, program.exact_log_evidence(x))

    @pytest.mark.slow
    @pytest.mark.parametrize("name", TOYS)
    def test_backwards_so_are_their_inverses(self, name: str) -> None:
        """E[1/w] = 1/p(x), where 1/w has a variance: temperatures enough that no weight is lost."""
        program, guide = _small(name)
        sandwich = bdmc(program, 20, guide=guide, temperatures=100, chains=1000, seed=3)
        assert agrees(sandwich.upper, program.exact_log_evidence(sandwich.x))

    @pytest.mark.parametrize("schedule", [linear, sigmoid, None])
    def test_every_schedule_gives_the_evidence(
        self, schedule: Callable[[int], Tensor] | None
    ) -> None:
        program = curve()
        x = simulate(program, 30)
        got = ais(program, x, temperatures=100, schedule=schedule, chains=32, seed=0)
        assert agrees(got, program.exact_log_evidence(x))

    def test_a_constrained_latent(self) -> None:
        """z ~ Gamma, x ~ Poisson(z): the evidence is negative binomial."""

        class Counts:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else x.shape[0]):
                    rate = pyro.sample("rate", dist.Gamma(3.0, 0.5))
                    return pyro.sample("x", dist.Poisson(rate), obs=x)

        x = torch.arange(12.0)
        exact = dist.NegativeBinomial(3.0, probs=torch.tensor(1 / 1.5)).log_prob(x)
        assert agrees(ais(Counts(), x, temperatures=100, chains=64, seed=0), exact)

    def test_two_layers(self) -> None:
        program = TwoLayers()
        _, x, _ = PROGRAMS["two latent layers"]()
        got = ais(program, x, temperatures=100, chains=32, seed=0).mean()
        expected = log_evidence(program, None, x, particles=50_000, seed=0).mean()
        error = math.hypot(float(got.standard_error), float(expected.standard_error))
        assert abs(float(got.value - expected.value)) < 4 * error

    def test_discrete_and_continuous_latents_together(self) -> None:
        """Two noisy lines: the component is moved by Metropolis steps, the place on it by HMC."""
        slope = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])

        class Lines:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else x.shape[0]):
                    k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
                    z = pyro.sample("z", dist.Normal(0.0, 1.0))
                    return pyro.sample(
                        "x", dist.Normal(z[..., None] * slope[k], 0.3).to_event(1), obs=x
                    )

        x = simulate(Lines(), 20)
        parts = [
            math.log(w)
            + dist.LowRankMultivariateNormal(
                torch.zeros(2), s[:, None], torch.full((2,), 0.09)
            ).log_prob(x)
            for w, s in zip((0.3, 0.7), slope, strict=True)
        ]
        assert agrees(
            ais(Lines(), x, temperatures=200, chains=64, seed=0), torch.stack(parts).logsumexp(0)
        )

    def test_a_generator_under_noise(self) -> None:
        """What has no density of its own has one under a Gaussian."""
        program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.4)
        implicit = Observed(program, Dirac())
        x = simulate(program, 20)
        got = ais(Observed(implicit, Gaussian(0.4)), x, temperatures=200, chains=32, seed=0)
        assert agrees(got, program.exact_log_evidence(x))


def some_long(names: list[str]) -> list[Any]:
    """Every third, which is long; all others are slow."""
    chosen: list[Any] = []
    for number, name in enumerate(names):
        mark = pytest.mark.slow
        if number % 3 == 0:
            mark = pytest.mark.long
        chosen.append(pytest.param(name, marks=mark))
    return chosen


@pytest.mark.parametrize("name", some_long(list(PROGRAMS)))
def test_any_program_from_its_guide_is_no_lower_than_its_elbo(name: str) -> None:
    program, x, context = PROGRAMS[name]()
    annealed = ais(
        program,
        x,
        *context,
        guide=program.guide,
        temperatures=20,
        leapfrogs=2,
        chains=8,
        seed=0,
        engine="eager",
    ).mean()
    bound = elbo(program, None, x, *context, particles=200, seed=0).mean()
    error = math.hypot(float(annealed.standard_error), float(bound.standard_error))
    assert float(annealed.value - bound.value) > -4 * error - 1e-3


class TestSampler:
    @pytest.mark.long
    def test_steps_are_learned_for_the_acceptance_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Anneal] = []
        original = Anneal.__init__

        def remember(self: Anneal, **options: Any) -> None:
            original(self, **options)
            made.append(self)

        monkeypatch.setattr(path_module.Anneal, "__init__", remember)
        program = ppca()
        for target in (0.65, 0.9):
            ais(program, simulate(program, 30), temperatures=200, target_accept=target, seed=0)
            taken = torch.stack(made[-1].acceptance)
            assert abs(float(taken.mean()) - target) < 0.03
            along = [float(part.mean()) for part in taken.chunk(10)]
            assert (
                min(along) > target - 0.1
            )  # all along the path, from the wide base to the sharp posterior

    @pytest.mark.parametrize("engine", ["fx", pytest.param("inductor", marks=pytest.mark.long)])
    def test_engines_make_the_same_moves(self, engine: Any) -> None:
        program, x, context = PROGRAMS["cvae, labels"]()
        moved = []
        for rung in ("eager", engine):
            torch.manual_seed(0)
            with evaluating(program), tracing():
                replays = (Replay(rung), Replay(rung))
                path = Path(
                    program,
                    program.guide,
                    (x, *context),
                    nesting=1,
                    chains=4,
                    leapfrogs=3,
                    replays=replays,
                )
                state = path.draw()
                for beta in (0.3, 0.6):
                    state, acceptance = path.transition(
                        state, torch.tensor(beta), torch.full((len(x),), 0.3)
                    )
            moved.append((*state[:5], acceptance))
        torch.testing.assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-4)

    @pytest.mark.long
    def test_from_a_guide_refitted_to_these_data(self) -> None:
        program = ppca()
        x = simulate(program, 12)
        best = refit(program, rough(program), same_family, x, steps=100)
        got = ais(program, x, guide=best, temperatures=50, chunk=5, seed=0)
        assert agrees(got, program.exact_log_evidence(x))

    @pytest.mark.long
    def test_in_chunks_too(self) -> None:
        program = ppca()
        x = simulate(program, 23)
        got = ais(program, x, temperatures=300, chunk=10, chains=32, seed=0)
        assert got.value.shape == (23,)
        assert agrees(got, program.exact_log_evidence(x))

    def test_it_leaves_nothing_behind(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        program.train()
        state = torch.get_rng_state()
        store = set(pyro.get_param_store().keys())
        ais(program, x, temperatures=5, seed=0)
        bdmc(program, 4, temperatures=5, seed=0)
        assert torch.equal(torch.get_rng_state(), state)
        assert set(pyro.get_param_store().keys()) == store
        assert program.training
        assert all(p.grad is None for p in program.parameters())

    def test_from_a_guide_it_leaves_nothing_behind_either(self) -> None:
        """Not in BatchNorm's statistics, not in the generator, not in the param store."""

        class Program(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                weight = pyro.param("weight", torch.ones(3))
                with pyro.plate("data", n if x is None else len(x)):
                    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                    return pyro.sample(
                        "x", dist.Normal(z.sum(-1, keepdim=True) * weight, 1.0).to_event(1), obs=x
                    )

            def guide(self, x: Tensor) -> None:
                loc, scale = self.encoder(x).chunk(2, -1)
                with pyro.plate("data", len(x)):
                    pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

        program = Program()
        before = copy.deepcopy(program.state_dict())
        state = torch.get_rng_state()
        ais(program, torch.zeros(4, 3), guide=program.guide, temperatures=2, seed=0)
        bdmc(program, 4, guide=program.guide, temperatures=2, seed=0)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())
        assert not pyro.get_param_store().keys()

    def test_a_uniform_number_of_zero_accepts_nothing_hopeless(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
        assert -20 < float(log_uniform(torch.zeros(()))) < -15
        assert -40 < float(log_uniform(torch.zeros((), dtype=torch.float64))) < -35

    def test_discrete_latents_and_integer_data(self) -> None:
        class Counts:
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                with pyro.plate("data", n if x is None else len(x)):
                    z = pyro.sample("z", dist.Bernoulli(0.3))
                    return pyro.sample("x", dist.Poisson(1 + 3 * z), obs=x)

        x = torch.arange(6)
        parts = [
            math.log(w) + dist.Poisson(rate).log_prob(x) for w, rate in ((0.7, 1.0), (0.3, 4.0))
        ]
        assert agrees(
            ais(Counts(), x, temperatures=20, chains=64, seed=0), torch.stack(parts).logsumexp(0)
        )

    def test_a_seed_gives_the_same_answer_and_another_another(self) -> None:
        program, x, _ = PROGRAMS["vae"]()
        one, same, other = (ais(program, x, temperatures=5, seed=s).value for s in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    def test_schedules_rise_from_zero_to_one(self) -> None:
        for schedule in (linear, sigmoid):
            betas = schedule(10)
            assert len(betas) == 11
            assert float(betas[0]) == 0.0
            assert float(betas[-1]) == 1.0
            assert bool((betas.diff() > 0).all())
        assert float(sigmoid(10)[5]) == pytest.approx(0.5)
        assert float(sigmoid(10).diff()[0]) < float(linear(10).diff()[0])

    @pytest.mark.long
    def test_where_the_weights_vary_the_temperatures_are_close(self) -> None:
        """Half of the temperatures go where the path is long.

        From a wide prior to a sharp posterior that is near β = 0.
        """
        program = toy.PPCA(torch.randn(64, 10), torch.zeros(64), 0.5)
        x = simulate(program, 30)
        straight, learned = (
            ais(program, x, temperatures=200, schedule=s, seed=0).mean() for s in (linear, None)
        )
        error = math.hypot(float(straight.standard_error), float(learned.standard_error))
        assert float(learned.value - straight.value) > 4 * error


@pytest.mark.cuda
def test_on_cuda() -> None:
    program = toy.PPCA(torch.randn(6, 2), torch.zeros(6), 0.4).cuda()
    x = simulate(program, 20)
    assert agrees(
        ais(program, x, temperatures=200, chains=32, seed=0), program.exact_log_evidence(x)
    )
