"""Posteriors that ask more of a sampler: strong correlations, steep starts, heavy tails.

Each is a Pyro model and what it is called with, all data simulated from fixed seeds.
"""

from __future__ import annotations

__all__ = ["DEMANDING", "gaussian", "horseshoe", "logistic", "volatility", "walk_of"]

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from scenarios import counts, walk
from torch import Tensor


class Demanding(NamedTuple):
    """A model, and what it is called with."""

    model: Callable[..., Any]
    data: tuple[Tensor, ...]


def gaussian(size: int = 50, condition: float = 1e4) -> Demanding:
    """A Gaussian of this condition number, along directions at random."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    directions, _ = torch.linalg.qr(noise)
    half = 0.5 * torch.tensor(condition).log10().item()
    widths = torch.logspace(-half, half, size, dtype=torch.float64)
    root = torch.linalg.cholesky((directions * widths) @ directions.mT).float()

    def model(root: Tensor) -> None:
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(len(root)), scale_tril=root))

    return Demanding(model, (root,))


def logistic(size: int = 25, count: int = 500, correlation: float = 0.9) -> Demanding:
    """Logistic regression on predictors each two of which are correlated."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(count, size, generator=generator)
    shared = torch.randn(count, 1, generator=generator)
    x = (1 - correlation) ** 0.5 * own + correlation**0.5 * shared
    weights = torch.randn(size, generator=generator)
    y = torch.bernoulli(torch.sigmoid(x @ weights), generator=generator)

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Demanding(model, (x, y))


def grouped(groups: int = 60, each: int = 5) -> Demanding:
    """A regression whose lines differ between groups, not centred: 2 groups + 5 coordinates."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(groups).repeat_interleave(each)
    level = 1 + torch.randn(groups, generator=generator)
    slope = 0.5 + 0.5 * torch.randn(groups, generator=generator)
    x = torch.randn(len(group), generator=generator)
    y = level[group] + slope[group] * x + torch.randn(len(group), generator=generator)

    def model(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("groups", groups):
            e = pyro.sample("e", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        line = mean + spread * e
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(line[group, 0] + line[group, 1] * x, noise), obs=y)

    return Demanding(model, (x, y))


def walk_of(steps: int) -> Demanding:
    """Counts of a latent random walk."""
    return Demanding(walk, (counts(steps),))


def volatility(steps: int = 100) -> Demanding:
    """Returns whose log variance is a stationary autoregression, not centred.

    Kim, Shephard and Chib (1998), Stochastic volatility: likelihood inference and comparison with
    ARCH models.
    """
    generator = torch.Generator().manual_seed(0)
    h = torch.zeros(())
    returns = []
    for _ in range(steps):
        h = 0.95 * h + 0.25 * torch.randn((), generator=generator)
        returns.append((h / 2).exp() * torch.randn((), generator=generator))

    def model(y: Tensor) -> None:
        level = pyro.sample("level", dist.Normal(0.0, 1.0))
        persistence = pyro.sample("persistence", dist.Beta(20.0, 1.5))
        spread = pyro.sample("spread", dist.HalfNormal(0.5))
        e = pyro.sample("e", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1))
        lags = torch.arange(len(y))
        distance = lags[:, None] - lags
        weights = torch.where(distance >= 0, persistence ** distance.clamp(min=0), 0.0)
        first = (1 - persistence**2).rsqrt()
        shocks = torch.cat([first * e[:1], e[1:]])
        h = level + spread * (weights @ shocks)
        with pyro.plate("time", len(y)):
            pyro.sample("y", dist.Normal(0.0, (h / 2).exp()), obs=y)

    return Demanding(model, (torch.stack(returns),))


def horseshoe(size: int = 20, count: int = 60) -> Demanding:
    """Regression on many predictors of which three matter, under a horseshoe, not centred.

    Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, size, generator=generator)
    weights = torch.zeros(size)
    weights[:3] = torch.tensor([2.0, -1.5, 1.0])
    y = x @ weights + torch.randn(count, generator=generator)

    def model(x: Tensor, y: Tensor) -> None:
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        overall = pyro.sample("overall", dist.HalfCauchy(0.1))
        local = pyro.sample("local", dist.HalfCauchy(torch.ones(size)).to_event(1))
        e = pyro.sample("e", dist.Normal(torch.zeros(size), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ (overall * local * e), noise), obs=y)

    return Demanding(model, (x, y))


DEMANDING: dict[str, Callable[[], Demanding]] = {
    "correlated Gaussian, 50-d": gaussian,
    "correlated logistic, 25-d": logistic,
    "random walk, 30": lambda: walk_of(30),
    "random walk, 60": lambda: walk_of(60),
    "random walk, 100": lambda: walk_of(100),
    "random walk, 200": lambda: walk_of(200),
    "regression of 60 groups": grouped,
    "stochastic volatility": volatility,
    "horseshoe regression": horseshoe,
}
