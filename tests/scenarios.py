"""Posteriors that every sampler is held against, by name, and the laws of a sampler's draws."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.inference import Draws
from ppl_gen.models import toy

SCENARIOS: dict[str, Callable[[], toy.Posterior]] = {
    "banana": toy.Banana,
    "funnel, not centred": lambda: toy.Funnel(centred=False),
    "eight schools": toy.EightSchools,
    "linear regression": lambda: toy.LinearRegression.simulated(60, 3),
    "linear regression, noise unknown": lambda: toy.LinearRegression.simulated(60, 3, noise=None),
    "logistic regression": lambda: toy.LogisticRegression.simulated(60, 2),
    "ordered mixture": toy.OrderedMixture.simulated,
    "hidden Markov chain": toy.HiddenMarkov.simulated,
}


def walk(y: Tensor) -> None:
    """Counts of a latent random walk, whose rates are e¹⁰⁰ at starts of [−2, 2]."""
    s = pyro.sample("s", dist.LogNormal(-1.5, 0.5))
    e = pyro.sample("e", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1))
    h = 1 + s * e.cumsum(-1)
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Poisson(h.exp()), obs=y)


def counts(steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    h = 1 + 0.22 * torch.randn(steps, generator=generator).cumsum(-1)
    return torch.poisson(h.exp(), generator=generator)


# posteriordb's moments are of 10 chains of 1000 draws, nearly independent.
REFERENCE_DRAWS = {"eight schools": 10_000}


def check_draws(name: str, posterior: toy.Posterior, draws: Draws) -> None:
    """Means and standard deviations within 4 standard errors, R̂ below 1.01.

    The funnel's x has a density so heavy-tailed that no standard error of its own holds: v and
    x_raw stand for it.
    """
    assert draws.max_r_hat < 1.01, f"R̂ {draws.max_r_hat:.4f}"
    own = REFERENCE_DRAWS.get(name)
    for site, moments in posterior.reference().items():
        if "funnel" in name and site == "x":
            continue
        sd = moments.sd.double()
        reference_mean_error = 0 * sd
        reference_sd_error = 0 * sd
        if own:
            reference_mean_error = sd / own**0.5
            # A standard deviation of n draws is off by about sd √((κ − 1) / 4n), with κ the
            # kurtosis: 3 for a Gaussian, taken as 6.
            reference_sd_error = sd * (5 / (4 * own)) ** 0.5
        mean_error = torch.hypot(draws.mcse[site], reference_mean_error)
        sd_error = torch.hypot(draws.mcse_sd[site], reference_sd_error)
        _within(f"mean of {site}", draws.mean[site], moments.mean, mean_error)
        _within(f"standard deviation of {site}", draws.sd[site], moments.sd, sd_error)


def _within(what: str, got: Tensor, expected: Tensor, error: Tensor) -> None:
    z = (torch.as_tensor(got).double() - expected.double()) / error
    assert float(z.abs().max()) < 4, f"{what}: {got} instead of {expected}, {z} standard errors off"
