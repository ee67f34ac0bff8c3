"""Posteriors learned from simulated pairs alone are those of a toy that is known exactly."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen.inference import Amortisation, amortise

COUNT = 5
NORMAL = dist.Normal(0.0, 1.0).expand([1]).to_event(1)
SMALL = {"simulations": 4000, "epochs": 15, "calibrations": 300}


def gaussian(theta: Tensor) -> Any:
    """Five points of variance 1 about θ, as a distribution."""
    return dist.Normal(theta, 1.0).expand((*theta.shape[:-1], COUNT)).to_event(1)


@cache
def of_gaussian() -> Amortisation:
    return amortise(gaussian, NORMAL, seed=0, **SMALL)


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
