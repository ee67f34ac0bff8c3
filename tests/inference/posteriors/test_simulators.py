"""Posteriors learned from simulated pairs alone are those of two toys that are known exactly."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen.inference import Amortisation, amortise, correct, sbc

COUNT = 5
NORMAL = dist.Normal(0.0, 1.0).expand([1]).to_event(1)
GAMMA = dist.Gamma(2.0, 1.0).expand([1]).to_event(1)
SMALL = {"simulations": 4000, "epochs": 15, "calibrations": 300}


def gaussian(theta: Tensor) -> Any:
    """Five points of variance 1 about θ, as a distribution."""
    return dist.Normal(theta, 1.0).expand((*theta.shape[:-1], COUNT)).to_event(1)


def poisson(theta: Tensor) -> Tensor:
    """Five counts of mean θ, as draws."""
    return torch.poisson(theta.expand(*theta.shape[:-1], COUNT))


@cache
def of_gaussian() -> Amortisation:
    return amortise(gaussian, NORMAL, seed=0, **SMALL)


@cache
def of_poisson() -> Amortisation:
    return amortise(poisson, GAMMA, seed=0, **SMALL)


def divergence(exact: Any, q: Any) -> float:
    """KL(p ‖ q) averaged over data, in nats, by draws."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        theta = exact.sample(torch.Size([500]))
        return float((exact.log_prob(theta) - q.log_prob(theta[..., None])).mean())


@pytest.mark.long
class TestExactPosteriors:
    def test_of_a_gaussian_s_mean(self) -> None:
        x = torch.randn(100, 1, generator=torch.Generator().manual_seed(1)) + torch.randn(
            100, COUNT, generator=torch.Generator().manual_seed(2)
        )
        exact = dist.Normal(x.sum(1) / (COUNT + 1), (COUNT + 1) ** -0.5)
        assert divergence(exact, of_gaussian().posterior(x)) < 0.05

    def test_of_a_poisson_rate(self) -> None:
        x = torch.tensor([[0.0, 1, 0, 2, 1], [3, 4, 1, 2, 2], [0, 0, 0, 1, 0], [2, 1, 3, 1, 2]])
        exact = dist.Gamma(2 + x.sum(1), torch.tensor(1.0 + COUNT))
        assert divergence(exact, of_poisson().posterior(x)) < 0.05

    def test_the_information_is_the_exact_one(self) -> None:
        found = of_gaussian().information
        exact = 0.5 * torch.tensor(1.0 + COUNT).log()
        error = float(found.standard_error)
        assert float(exact) - 0.05 - 4 * error < float(found.value) < float(exact) + 4 * error

    def test_it_is_calibrated(self) -> None:
        for found in (of_gaussian(), of_poisson()):
            assert found.calibration.p_value > 1e-4
            assert len(found.to_pandas()) == SMALL["calibrations"]

    def test_with_a_density_it_is_corrected(self) -> None:
        program = of_gaussian().program
        x = gaussian(torch.linspace(-1, 1, 6)[:, None]).sample()
        found = correct(program, x, engine="fx", seed=0)
        mean = x.sum(1) / (COUNT + 1)
        sd = (COUNT + 1) ** -0.5
        off = (found.mean["theta"][:, 0] - mean) / sd
        weighted = torch.from_numpy(found.how != "guide")
        assert float(off.abs().max()) < 0.33
        assert float(off[weighted].abs().max() if bool(weighted.any()) else 0.0) < 0.25
        assert bool((off.abs() <= 1.2 * found.bound + 0.1).all())

    def test_with_a_density_sbc_takes_its_program(self) -> None:
        assert sbc(of_gaussian().program, 100, draws=19, seed=0).p_value > 1e-4


@pytest.mark.parametrize("judge", [correct, sbc])
def test_what_has_no_density_is_not_scored(judge: Any) -> None:
    small = {"simulations": 100, "epochs": 1, "calibrations": 20, "draws": 9, "hidden": (4,)}
    program = amortise(poisson, GAMMA, seed=0, **small).program
    asked = torch.ones(3, COUNT)
    if judge is sbc:
        asked = 20
    with pytest.raises(ValueError, match="a simulator with a density"):
        judge(program, asked)


class TestInput:
    @pytest.mark.parametrize(
        ("prior", "said"),
        [
            (dist.Normal(0.0, 1.0), "one vector"),
            (dist.Normal(torch.zeros(3), 1.0), "one vector"),
            (None, "pyro.distributions"),
            (dist.Poisson(1.0).expand([1]).to_event(1), "continuous support"),
        ],
    )
    def test_priors(self, prior: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            amortise(gaussian, prior)

    @pytest.mark.parametrize(
        ("simulator", "said"),
        [
            (lambda theta: theta[:3], "row for each"),
            (lambda theta: 1.0, "row for each"),
            (lambda theta: theta.log(), "finite data"),
            (lambda theta: theta @ torch.ones(7), "parameters"),
        ],
    )
    def test_simulators(self, simulator: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            amortise(simulator, NORMAL, simulations=100)

    def test_numbers(self) -> None:
        with pytest.raises(ValueError, match="simulations"):
            amortise(gaussian, NORMAL, simulations=10)
        with pytest.raises(ValueError, match="calibrations"):
            amortise(gaussian, NORMAL, calibrations=3)
