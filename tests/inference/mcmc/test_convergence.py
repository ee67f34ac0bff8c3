"""A warning, once and with the remedy, where draws are no sample of the posterior."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen.inference import ConvergenceWarning, Draws, compare, hmc, nuts, sbc
from ppl_gen.inference.mcmc.convergence import warn_unless_converged


def independent(chains: int = 8, draws: int = 50, *shape: int) -> Draws:
    """Draws of a sampler that could not be better."""
    return Draws(
        samples={"z": torch.randn(chains, draws, *shape)},
        log_density=torch.randn(chains, draws),
        divergent=torch.zeros(chains, draws, dtype=torch.bool),
        acceptance=torch.ones(chains, draws),
        seconds=1.0,
        sampler="hmc",
    )


def said_of(draws: Draws) -> list[str]:
    """The warnings that draws give rise to."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_unless_converged(draws, stacklevel=1)
    assert all(warning.category is ConvergenceWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("shape", [(), (3,), (2, 40)])
def test_good_draws_pass_in_silence(shape: tuple[int, ...]) -> None:
    assert said_of(independent(8, 50, *shape)) == []
    assert said_of(independent(1, 100, *shape)) == []


def test_few_draws_have_no_r_hat() -> None:
    assert said_of(independent(8, 3)) == []
    assert said_of(independent(8, 1)) == []


def test_chains_apart() -> None:
    draws = independent(8, 50, 2, 40)
    draws.samples["z"][3, :, 1, 7] += 5
    (said,) = said_of(draws)
    assert f"R̂ is up to {draws.max_r_hat:.4g}" in said
    assert "init=" in said


def test_chains_that_have_not_mixed() -> None:
    draws = independent(8, 1000)
    draws.samples["z"][3] += 0.8
    assert 1.01 < draws.max_r_hat < 1.1
    (said,) = said_of(draws)
    assert f"have not mixed: R̂ is up to {draws.max_r_hat:.4g} (1.01 is fine)" in said
    short = independent(8, 50)
    short.samples["z"][3] += 0.8
    assert 1.01 < short.max_r_hat < 1.1
    assert said_of(short) == []


def test_one_chain_that_drifts() -> None:
    draws = independent(1, 100)
    draws.samples["z"][:, 50:] += 5
    (said,) = said_of(draws)
    assert "R̂ is up to" in said


def test_divergences_count_by_their_share() -> None:
    draws = independent(8, 500)
    draws.divergent[0, :4] = True  # one in a thousand
    assert said_of(draws) == []
    draws.divergent[0, :40] = True
    (said,) = said_of(draws)
    assert "1.00% of the transitions diverged" in said


def test_stuck_chains_of_a_datum() -> None:
    draws = independent(8, 50, 3)
    energy = torch.randn(8, 50, 3)
    energy[5, :, 1] = energy[5, 0, 1]
    by_datum = replace(draws, log_density=energy)
    (said,) = said_of(by_datum)
    assert "1 of 8 chains never moved (5)" in said


def two_modes(y: Tensor) -> None:
    """Modes at 20 and −20, of width 0.3, between which no chain goes."""
    z = pyro.sample("z", dist.Normal(0.0, 20.0))
    pyro.sample("y", dist.Normal(z.abs(), 0.3), obs=y)


def test_hmc_and_nuts_warn_once() -> None:
    y = torch.tensor(20.0)
    given = {"z": torch.tensor([20.0, 20.0, -20.0, -20.0])}
    for sampler, options in ((hmc, {"engine": "eager", "trajectory": 0.5}), (nuts, {})):
        with pytest.warns(ConvergenceWarning, match="of the posterior: R̂ is up to") as caught:
            sampler(two_modes, y, draws=8, warmup=8, chains=4, init=given, seed=1, **options)
        assert len([w for w in caught if w.category is ConvergenceWarning]) == 1
        assert caught[0].filename == __file__


def test_compare_says_it_in_its_verdict() -> None:
    def guide(y: Tensor) -> None:
        pyro.sample("z", dist.Normal(20.0, 0.3))

    with warnings.catch_warnings(action="error", category=ConvergenceWarning):
        found = compare(
            two_modes,
            guide,
            torch.tensor(20.0),
            sampler=functools.partial(hmc, trajectory=0.5),
            draws=8,
            warmup=8,
            chains=4,
            guide_draws=50,
            seed=1,
            engine="eager",
        )
    assert "not-converged" in found.verdict.tags


def test_sbc_passes_one_on() -> None:
    class Program:
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            if x is not None:
                n = x.shape[0]
            with pyro.plate("data", n):
                z = pyro.sample("z", dist.Normal(torch.zeros(n), 1.0))
                return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    sampler = functools.partial(
        hmc, local=True, draws=5, warmup=0, chains=2, chunk=10, engine="eager"
    )
    with pytest.warns(ConvergenceWarning) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("always", ConvergenceWarning)
        sbc(Program(), 20, sampler=sampler, draws=9, seed=0)
    assert len([w for w in caught if w.category is ConvergenceWarning]) == 1
