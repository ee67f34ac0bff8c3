"""Tables whose columns are of different kinds: the posterior of each row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ppl_gen import models
from ppl_gen.inference import correct, hmc, svi_step
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.likelihoods import Bernoulli, Gaussian, Label, Poisson, Table

ROWS = 5


def people(count: int) -> Tensor:
    """Two sizes, whether they smoke, children and eye colour of three, all of two factors."""
    g = torch.Generator().manual_seed(0)
    factors = torch.randn(count, 2, generator=g)
    sizes = factors @ torch.tensor([[1.0, 0.5], [0.3, 1.0]]) + 0.5 * torch.randn(
        count, 2, generator=g
    )
    smokes = torch.bernoulli((2.0 * factors[:, 0]).sigmoid(), generator=g)
    children = torch.poisson((0.5 + 0.7 * factors[:, 1]).exp(), generator=g)
    logits = factors @ torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    eyes = logits.softmax(1).multinomial(1, generator=g)[:, 0]
    return torch.cat([sizes, torch.stack([smokes, children, eyes.float()], 1)], 1)


@pytest.fixture(scope="module")
def fitted() -> tuple[models.VAE, Tensor, Draws]:
    """A VAE with a likelihood for each column, some rows, and their posteriors by long chains."""
    torch.manual_seed(0)
    size = Gaussian(0.5)
    table = Table([size, size, Bernoulli(), Poisson(), Label(3)])
    program = models.vae((5,), 2, hidden=(16,), likelihood=table)
    x = people(200)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-2), engine="fx")
    for _ in range(200):
        step(x)
    rows = x[:ROWS]
    long = hmc(
        program.model, rows, local=True, chains=64, warmup=80, draws=150, engine="fx", seed=1
    )
    return program, rows, long


@pytest.mark.long
def test_rows_of_a_table_are_corrected(fitted: tuple[models.VAE, Tensor, Draws]) -> None:
    """Those of fewer than 3000 effective weights by HMC, so that both ways are gone."""
    program, rows, long = fitted
    found = correct(program, rows, good=1.0, min_ess=3000, engine="fx", seed=0)
    assert set(found.how.tolist()) == {"weighted", "hmc"}
    error = (found.error["z"].square() + long.mcse["z"].square()).sqrt()
    off = (found.mean["z"] - long.mean["z"]) / error
    assert float(off.abs().max()) < 4


@pytest.mark.long
def test_the_bound_holds_for_rows_of_a_table(fitted: tuple[models.VAE, Tensor, Draws]) -> None:
    program, rows, long = fitted
    found = correct(program, rows, good=0.01, engine="fx", seed=0)
    assert set(found.how.tolist()) == {"guide"}
    error = (found.error["z"].square() + long.mcse["z"].square()).sqrt()
    off = (found.mean["z"] - long.mean["z"]).abs()
    assert bool((off <= found.bound[:, None] * found.sd["z"] + 4 * error).all())
