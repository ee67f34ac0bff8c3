"""Where chains begin: led down from steep places, each to its own mode, or where the user says."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from scenarios import counts, walk
from torch import Tensor

from ppl_gen.inference import ConvergenceWarning, Draws, hmc, nuts
from ppl_gen.inference.latents.descent import descended
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.moves import Moves
from ppl_gen.inference.mcmc.starts import starts_from
from ppl_gen.models import toy


def steep(y: Tensor) -> None:
    """One rate, which is e⁶⁰ at an end of [−2, 2], and e⁻⁶⁰ at the other."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Poisson((30 * z).exp()), obs=y)


class TestDescent:
    def test_a_random_walk_is_left_where_it_can_be_sampled(self) -> None:
        potential = Potential(walk, (counts(200),))
        q = potential.starts(16)
        before, _ = potential.energies(q, *potential.tensors)
        led = descended(potential.energies, q, potential.tensors)
        after, _ = potential.energies(led, *potential.tensors)
        assert float(before.max()) > 1e20
        # Posterior draws have about 720; what is left is for the first sixth of warm-up.
        assert float(after.max()) < 5e4
        assert bool((after <= before).all())
        # The mode has about 610: the chains have stopped on their way there.
        assert float(after.min()) > 650

    def test_starts_that_are_not_steep_stay(self) -> None:
        posterior = toy.LogisticRegression.simulated(60, 2)
        potential = Potential(posterior.model, posterior.data)
        q = potential.starts(8)
        assert descended(potential.energies, q, potential.tensors) is q

    def test_each_chain_goes_to_its_own_mode_and_draws_nothing(self) -> None:
        def two(y: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 10.0).to_event(1))
            pyro.sample("y", dist.Normal(z.square(), 1e-3).to_event(1), obs=y)

        potential = Potential(two, (torch.tensor([1.0, 9.0]),))
        q = potential.starts(64)
        state = torch.get_rng_state()
        led = descended(potential.energies, q, potential.tensors)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(led.sign(), q.sign())
        torch.testing.assert_close(
            led.abs(), torch.tensor([1.0, 3.0]).expand_as(led), atol=0.02, rtol=0
        )

    def test_blocks_of_a_datum_go_down_by_themselves(self) -> None:
        def each(y: Tensor) -> None:
            with pyro.plate("data", len(y)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("y", dist.Poisson((30 * z).exp()), obs=y)

        potential = Potential(each, (torch.ones(2),), local=True)
        q = torch.tensor([[[1.9], [0.1]], [[0.15], [1.5]]])
        led = descended(potential.energies, q, potential.tensors)
        assert torch.equal(led[0, 1], q[0, 1])
        assert torch.equal(led[1, 0], q[1, 0])
        assert bool((led[[0, 1], [0, 1]] < 0.3).all())

    def test_hmc_samples_from_steep_starts(self) -> None:
        with warnings.catch_warnings(action="error", category=ConvergenceWarning):
            draws = hmc(
                steep, torch.tensor(1.0), draws=100, warmup=60, chains=32, seed=0, engine="fx"
            )
        grid = torch.linspace(-2, 2, 20001, dtype=torch.float64)
        rate = (30 * grid).exp()
        log_density = 30 * grid - rate - 0.5 * grid.square()
        weights = log_density.softmax(0)
        exact = float((weights * grid).sum())
        z = (float(draws.mean["z"]) - exact) / float(draws.mcse["z"])
        assert abs(z) < 4

    @pytest.mark.slow
    @pytest.mark.parametrize("steps", [60, 100])
    def test_hmc_samples_a_random_walk(self, steps: int) -> None:
        draws = hmc(walk, counts(steps), draws=100, warmup=300, seed=0, engine="fx")
        assert draws.max_r_hat < 1.03
        assert draws.min_ess > 1000
        assert draws.divergences == 0


class Halves:
    """An algorithm that begins all chains at one half."""

    def starts(self, potential: Potential, chains: int) -> Tensor:
        return torch.full((chains, *potential.shape), 0.5)


class TestInit:
    """The model has one latent for each datum, with priors of positive numbers."""

    y = torch.tensor([0.5, 1.0, 4.0])

    @staticmethod
    def model(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    @staticmethod
    def guide(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            pyro.sample("z", dist.LogNormal(y.log(), 0.01))

    @pytest.mark.parametrize("local", [False, True])
    def test_a_guide_a_dict_and_an_algorithm(self, local: bool) -> None:
        potential = Potential(self.model, (self.y,), local=local)

        def begun(init: Any) -> Tensor:
            q = starts_from(init, potential, (self.y,), 4)
            assert q.shape == (4, *potential.shape)
            return potential.sites(q)["z"]

        z = begun(self.guide)
        torch.testing.assert_close(z, self.y.expand(4, 3), rtol=0.05, atol=0)
        assert bool((z.std(0) > 0).all())
        given = torch.rand(4, 3) + 0.1
        torch.testing.assert_close(begun({"z": given}), given)
        torch.testing.assert_close(begun(Halves()), torch.full((4, 3), 0.5).exp())

    def test_an_earlier_run_goes_on(self) -> None:
        run = functools.partial(hmc, self.model, self.y, warmup=20, engine="eager")
        first = run(draws=6, chains=4, seed=0)
        potential = Potential(self.model, (self.y,))
        q = starts_from(first, potential, (self.y,), 4)
        torch.testing.assert_close(potential.sites(q)["z"], first.samples["z"][:, -1])
        fewer = starts_from(first, potential, (self.y,), 3)
        pool = first.samples["z"].flatten(0, 1)
        near = (potential.sites(fewer)["z"][:, None] - pool).abs().amax(-1).amin(1)
        assert float(near.max()) < 1e-5
        assert len(fewer.unique(dim=0)) == 3

    @pytest.mark.parametrize("chunk", [None, 2])
    def test_chains_of_hmc_begin_there(self, chunk: int | None) -> None:
        """Without warm-up and with trajectories of no length to speak of, they stay."""
        given = torch.rand(3, 3) + 1
        draws = hmc(
            self.model,
            self.y,
            draws=1,
            warmup=0,
            chains=3,
            local=True,
            chunk=chunk,
            init={"z": given},
            trajectory=1e-9,
            engine="eager",
            seed=0,
        )
        torch.testing.assert_close(draws.samples["z"][:, 0], given, rtol=0.5, atol=0)
        assert float((draws.samples["z"][:, 0] - given).abs().median()) < 0.2

    def test_chains_of_nuts_begin_there(self) -> None:
        with warnings.catch_warnings(action="ignore"):
            draws = nuts(
                steep, torch.tensor(1.0), draws=20, warmup=0, chains=1, init={"z": torch.zeros(1)}
            )
        assert float(draws.samples["z"].abs().max()) < 1

    @pytest.mark.parametrize(
        ("init", "said"),
        [
            ("pathfinder", "expected init to be a guide, a dict of draws by site, Draws"),
            ({"w": torch.ones(4, 3)}, r"expected starts of the sites \['z'\] from init, got"),
            ({"z": torch.ones(4, 3), "w": torch.ones(4)}, "and nothing else"),
            ({"z": torch.ones(3)}, r"of shape \(4, 3\), one for each chain, got \(3,\)"),
            ({"z": torch.ones(5, 3)}, "chains=5 takes as many"),
            ({"z": -torch.ones(4, 3)}, "inside its support, .* got values from -1 to -1"),
            ({"z": torch.full((4, 3), torch.nan)}, "inside its support"),
            ({"z": torch.full((4, 3), 1e30)}, "of finite log density from init, got none for"),
            (lambda y: pyro.sample("w", dist.Normal(0.0, 1.0)), r"of the sites \['z'\] from init"),
        ],
    )
    def test_bad_starts(self, init: Any, said: str) -> None:
        for sampler in (hmc, nuts):
            with pytest.raises(ValueError, match=said):
                sampler(self.model, self.y, chains=4, init=init, draws=2, warmup=2)

    def test_too_few_draws(self) -> None:
        few = Draws(
            samples={"z": torch.ones(1, 2, 3)},
            log_density=torch.zeros(1, 2),
            divergent=torch.zeros(1, 2, dtype=torch.bool),
            acceptance=torch.ones(1, 2),
            seconds=0.0,
        )
        with pytest.raises(ValueError, match="a draw for each of 4 chains from init, got 2"):
            hmc(self.model, self.y, chains=4, init=few)


def test_starts_that_were_given_are_not_led_anywhere() -> None:
    potential = Potential(steep, (torch.tensor(1.0),))
    given = torch.full((2, 1, 1), 1.5)
    assert torch.equal(Moves(potential, 2, "eager", 1, given).start.q, given)
    assert not torch.equal(Moves(potential, 64, "eager", 1).start.q, given)
