"""Pyro's NUTS: exact posteriors, what is promised of a run, and runs that go wrong."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scenarios import SCENARIOS, check_draws
from torch import Tensor, nn

from ppl_gen.inference import ConvergenceWarning, Draws, nuts
from ppl_gen.inference.mcmc.draws import Progress
from ppl_gen.models import toy

Y = torch.tensor([[0.3, -1.0], [1.2, 0.4], [0.9, 0.1]])


def conjugate(y: Tensor) -> Tensor:
    """μ ~ N(0, 2²), yᵢ ~ N(μ, 1): the posterior is N(Σy / (n + ¼), 1 / (n + ¼))."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    pyro.deterministic("twice", 2 * mu)
    with pyro.plate("data", y.shape[0]):
        return pyro.sample("y", dist.Normal(mu, 1.0).to_event(1), obs=y)


@pytest.fixture(scope="module")
def run() -> Draws:
    return nuts(conjugate, Y, draws=250, warmup=150, chains=3, seed=0)


def expect_moments(draws: Draws, name: str, mean: Tensor, sd: Tensor, error: float = 0.0) -> None:
    """Means and standard deviations within four Monte Carlo errors.

    `error` is that of the reference, in its standard deviations.
    """
    for got, wanted, own in ((draws.mean, mean, draws.mcse), (draws.sd, sd, draws.mcse_sd)):
        allowed = 4 * (own[name].square() + (error * sd).square()).sqrt()
        assert ((got[name] - wanted).abs() < allowed).all(), (name, got[name], wanted, allowed)


class TestExactness:
    @pytest.mark.slow
    def test_the_conjugate_normal(self, run: Draws) -> None:
        mean = Y.double().sum(0) / 3.25
        sd = torch.full((2,), 3.25**-0.5, dtype=torch.float64)
        expect_moments(run, "mu", mean, sd)
        expect_moments(run, "twice", 2 * mean, 2 * sd)
        assert run.max_r_hat < 1.05
        assert run.min_ess > 100

    @pytest.mark.slow
    def test_the_eight_schools(self) -> None:
        schools = toy.EightSchools()
        draws = nuts(schools.model, *schools.data, draws=200, warmup=150, chains=2, seed=1)
        for name, (mean, sd) in schools.reference().items():
            expect_moments(draws, name, mean.double(), sd.double(), error=0.01)
        assert draws.dims == {"mu": (), "tau": (), "eta": ("schools",), "theta": ("schools",)}

    @pytest.mark.slow
    def test_discrete_latents_are_summed_out(self) -> None:
        mixture = toy.OrderedMixture.simulated(30)
        draws = nuts(mixture.model, *mixture.data, draws=150, warmup=150, chains=2, seed=0)
        assert list(draws.samples) == ["locs"]
        mean, sd = mixture.reference()["locs"]
        expect_moments(draws, "locs", mean.double(), sd.double())


@pytest.mark.long
class TestTheRecord:
    def test_shapes(self, run: Draws) -> None:
        assert {n: v.shape for n, v in run.samples.items()} == {
            "mu": (3, 250, 2),
            "twice": (3, 250, 2),
        }
        for each in (run.log_density, run.divergent, run.acceptance):
            assert each.shape == (3, 250)
        assert run.divergent.dtype == torch.bool
        assert torch.equal(run.samples["twice"], 2 * run.samples["mu"])
        assert run.sampler == "nuts"
        assert run.remarks == ()
        assert run.seconds > 0

    def test_the_log_density_is_that_of_the_program(self, run: Draws) -> None:
        mu = run.samples["mu"]
        prior = dist.Normal(0.0, 2.0).log_prob(mu).sum(-1)
        likelihood = dist.Normal(mu[:, :, None], 1.0).log_prob(Y).sum((-1, -2))
        torch.testing.assert_close(run.log_density, prior + likelihood, rtol=1e-4, atol=1e-4)

    def test_acceptance_and_settings(self, run: Draws) -> None:
        assert ((run.acceptance >= -1e-6) & (run.acceptance <= 1 + 1e-6)).all()
        assert 0.7 < float(run.acceptance.mean()) < 0.99
        assert run.settings["step_size"] > 0.1
        assert 1 <= run.settings["leapfrogs"] <= 15
        assert run.settings["warmup"] == 150

    def test_every_chain_starts_and_adapts_by_itself(self) -> None:
        draws = nuts(conjugate, Y, draws=1, warmup=0, chains=8, seed=0)
        assert len(draws.samples["mu"][:, 0, 0].unique()) == 8


class TestPromises:
    def test_a_seed_repeats_and_leaves_the_generator(self) -> None:
        state = torch.get_rng_state()
        one, two = (nuts(conjugate, Y, draws=5, warmup=5, chains=2, seed=3) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(one.samples["mu"], two.samples["mu"])
        nuts(conjugate, Y, draws=5, warmup=5, chains=1)
        assert not torch.equal(torch.get_rng_state(), state)

    def test_modes_buffers_and_the_param_store_stay(self) -> None:
        class Noisy(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))

            def model(self, y: Tensor) -> None:
                pyro.module("net", self.net)
                with pyro.plate("data", y.shape[0]):
                    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                    pyro.sample("y", dist.Normal(self.net(z), 1.0).to_event(1), obs=y)

        program = Noisy()
        pyro.param("mine", torch.ones(()))
        before = {name: value.clone() for name, value in program.state_dict().items()}
        draws = nuts(program.model, Y, draws=3, warmup=3, chains=1, seed=0)
        assert draws.dims == {"z": ("data", "")}
        assert program.net.training
        assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert not torch.isnan(draws.log_density).any()

    @pytest.mark.parametrize("shown", [False, True])
    def test_progress_is_reported_some_twenty_times(self, shown: bool) -> None:
        seen: list[Progress] = []
        nuts(
            conjugate, Y, draws=20, warmup=30, chains=2, seed=0, on_draw=seen.append, progress=shown
        )
        assert [p.done for p in seen] == list(range(5, 101, 5))
        assert {p.total for p in seen} == {100}
        assert [p.phase for p in seen[:10]] == ["warmup"] * 6 + ["draws"] * 4
        assert all(0 <= p.acceptance <= 1 + 1e-6 for p in seen)


class Stop:
    """Presses Ctrl-C once so many transitions are done."""

    def __init__(self, done: int) -> None:
        self.done = done

    def __call__(self, progress: Progress) -> None:
        if progress.done >= self.done:
            raise KeyboardInterrupt


class TestCtrlC:
    """Chains of 10 and 20, reported every third transition."""

    @pytest.mark.parametrize(
        ("done", "chains", "length"),
        [
            (15, 1, 5),  # in the first chain
            (30, 1, 20),  # between two chains
            (42, 1, 20),  # in the warm-up of the second
            (48, 1, 20),  # 8 draws in the second: twice 8 is less than 20
            (54, 2, 14),
        ],
    )
    def test_the_draws_so_far_are_returned(self, done: int, chains: int, length: int) -> None:
        with pytest.warns(
            RuntimeWarning, match=rf"interrupted: {chains} × {length} draws of 2 × 20"
        ):
            draws = nuts(conjugate, Y, draws=20, warmup=10, chains=2, seed=0, on_draw=Stop(done))
        assert draws.samples["mu"].shape == (chains, length, 2)
        assert draws.log_density.shape == (chains, length)
        assert "interrupted" in draws.remarks[0]
        whole = nuts(conjugate, Y, draws=20, warmup=10, chains=2, seed=0)
        assert torch.equal(draws.samples["mu"], whole.samples["mu"][:chains, :length])

    def test_without_a_draw_it_goes_on_up(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            nuts(conjugate, Y, draws=20, warmup=10, chains=2, seed=0, on_draw=Stop(9))
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


class TestGoingWrong:
    def test_a_chain_that_never_moves_is_told_of(self) -> None:
        calls = 0

        def ever_worse(y: Tensor) -> None:
            """Every look at the density finds it e²⁰⁰⁰ times smaller."""
            nonlocal calls
            calls += 1
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("worse", torch.tensor(-2000.0 * calls))

        with pytest.warns(ConvergenceWarning, match=r"2 of 2 chains never moved \(0, 1\)"):
            draws = nuts(ever_worse, Y, draws=5, warmup=0, chains=2, seed=0)
        assert draws.divergences == 10
        assert draws.divergent.all()
        assert draws.max_r_hat > 1e3

    def test_an_improper_prior(self) -> None:
        def flat(y: Tensor) -> None:
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0).mask(False))
            with pyro.plate("data", y.shape[0]):
                pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

        draws = nuts(flat, Y[:, 0], draws=150, warmup=100, chains=2, seed=0)
        assert draws.draws == 150
        expect_moments(
            draws, "mu", Y[:, 0].mean().double(), torch.tensor(3**-0.5, dtype=torch.float64)
        )

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"draws": 0}, "expected draws of at least 1, got 0"),
            ({"chains": 0}, "expected chains of at least 1, got 0"),
            ({"warmup": -1}, "expected warmup of at least 0, got -1"),
            ({"max_tree_depth": 0}, "expected max_tree_depth of at least 1, got 0"),
            ({"target_accept": 1.0}, "expected target_accept between 0 and 1, got 1.0"),
        ],
    )
    def test_bad_numbers(self, options: dict[str, float], said: str) -> None:
        def never(y: Tensor) -> None:
            raise AssertionError("work was begun")

        with pytest.raises(ValueError, match=said):
            nuts(never, Y, **options)

    def test_bad_data(self) -> None:
        with pytest.raises(
            ValueError, match="expected finite data, got NaN or infinite values in argument 0"
        ):
            nuts(conjugate, Y * math.nan)

    def test_nothing_to_sample(self) -> None:
        def observed(y: Tensor) -> None:
            pyro.sample("y", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2), obs=y)

        with pytest.raises(ValueError, match="expected a program with continuous latents"):
            nuts(observed, Y)

    def test_counts_cannot_be_summed_out(self) -> None:
        with pytest.raises(ValueError, match="the site 'k' from Poisson"):
            nuts(lambda y: pyro.sample("k", dist.Poisson(1.0)), Y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["linear regression", "logistic regression", "funnel, not centred", "ordered mixture"]
)
def test_moments_agree_with_the_reference(name: str) -> None:
    posterior = SCENARIOS[name]()
    check_draws(
        name,
        posterior,
        nuts(posterior.model, *posterior.data, draws=1000, warmup=400, chains=2, seed=1),
    )
