"""The mixture of discretised logistics is a mass on whole pixels, and that of its formula."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from ppl_gen.inference import svi_step
from ppl_gen.likelihoods import DiscretizedLogistic, DiscretizedMixture, Masked
from ppl_gen.models import vae

LEVELS = 4


def every_pixel(channels: int) -> Tensor:
    """All values of one pixel, (LEVELS^C, C, 1, 1)."""
    grid = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    return torch.tensor(list(product(grid.tolist(), repeat=channels)))[..., None, None].double()


def parameters(channels: int, size: float, *batch: int) -> Tensor:
    width = DiscretizedMixture(channels, 2).parameters_per_value
    generator = torch.Generator().manual_seed(0)
    shape = (*batch, channels, 1, 1, width)
    return size * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [0.5, 5.0, 50.0])
def test_it_is_a_mass(channels: int, size: float) -> None:
    given = parameters(channels, size, 5)
    pixels = every_pixel(channels)[:, None]
    for dtype in (torch.float32, torch.float64):
        d = DiscretizedMixture(channels, 2, LEVELS)(given.to(dtype))
        log_mass = d.log_prob(pixels.to(dtype).expand(-1, 5, -1, -1, -1))
        assert log_mass.isfinite().all()
        torch.testing.assert_close(
            log_mass.double().exp().sum(0), torch.ones(5).double(), rtol=1e-4, atol=1e-4
        )


def test_it_is_the_formula_of_the_paper() -> None:
    """Equations 1 to 3, with means and scales in [−1, 1], one component and one pixel at a time."""
    given = parameters(3, 0.7)
    numbers = given[:, 0, 0].reshape(3, 4, 2)
    logits = numbers[:, 0].sum(0)
    x = torch.tensor([1 / 3, 1.0, 2 / 3], dtype=torch.float64)
    t = 2 * x - 1
    half = 1 / (LEVELS - 1)
    terms = []
    for k in range(2):
        alpha, beta, gamma = numbers[:, 3, k].tanh()
        red, green, blue = numbers[:, 1, k]
        means = (red, green + alpha * t[0], blue + beta * t[0] + gamma * t[1])
        mass = logits.softmax(0)[k]
        for c, mean in enumerate(means):
            scale = numbers[c, 2, k].exp()
            upper = torch.sigmoid((t[c] + half - mean) / scale)
            if c == 1:
                upper = torch.ones(()).double()
            mass = mass * (upper - torch.sigmoid((t[c] - half - mean) / scale))
        terms.append(mass)
    got = DiscretizedMixture(3, 2, LEVELS)(given).log_prob(x[:, None, None])
    torch.testing.assert_close(got, torch.stack(terms).sum().log())


def test_one_component_of_one_channel_is_the_discretised_logistic() -> None:
    given = torch.tensor([0.0, 0.3, -1.0]).reshape(1, 1, 1, 3)
    x = torch.linspace(0, 1, LEVELS)[:, None, None, None]
    mixture = DiscretizedMixture(1, 1, LEVELS)(given)
    scale = float(torch.tensor(-1.0).exp()) / 2
    logistic = DiscretizedLogistic(scale, LEVELS)(torch.tensor(1.3 / 2))
    torch.testing.assert_close(mixture.log_prob(x), logistic.log_prob(x).flatten())


@pytest.mark.parametrize("channels", [1, 3])
def test_masses_channel_by_channel_are_those_of_the_pixel(channels: int) -> None:
    d = DiscretizedMixture(channels, 2, LEVELS)(parameters(channels, 1.0))
    pixels = every_pixel(channels)
    total = torch.zeros(len(pixels)).double()
    for c in range(channels):
        masses = d.expand((len(pixels),)).log_masses(pixels[:, :c])
        torch.testing.assert_close(masses.exp().sum(0), torch.ones(len(pixels), 1, 1).double())
        value = (pixels[:, c] * (LEVELS - 1)).round().long()
        total += masses.gather(0, value[None]).flatten()
    torch.testing.assert_close(total, d.log_prob(pixels))


def test_draws_have_the_frequencies_of_the_mass() -> None:
    n = 20_000
    torch.manual_seed(0)
    d = DiscretizedMixture(3, 2, LEVELS)(parameters(3, 1.0))
    pixels = every_pixel(3)
    drawn = d.sample((n,))
    assert d.support.check(drawn).all()
    index = ((drawn * (LEVELS - 1)).round().flatten(1) @ torch.tensor([16.0, 4, 1]).double()).long()
    frequency = torch.bincount(index, minlength=LEVELS**3) / n
    mass = d.log_prob(pixels).exp()
    error = (mass * (1 - mass) / n).sqrt() + 1 / n
    assert float(((frequency - mass).abs() / error).max()) < 4.5  # 64 frequencies at once


def test_its_mean_is_near_that_of_draws_where_scales_are_small() -> None:
    torch.manual_seed(0)
    given = parameters(3, 0.3)
    given[..., 4:6] = -4.0
    d = DiscretizedMixture(3, 2, 256)(given)
    torch.testing.assert_close(d.mean, d.sample((20_000,)).mean(0), rtol=0.0, atol=0.02)


@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_it_is_trained(engine: Any) -> None:
    torch.manual_seed(0)
    program = vae((3, 4, 4), 2, hidden=(4,), likelihood=DiscretizedMixture(3, 2, 5))
    x = (4 * torch.rand(8, 1, 1, 1)).round().expand(8, 3, 4, 4) / 4
    step = svi_step(program, torch.optim.Adam(program.parameters(), 3e-2), engine=engine)
    bounds = [float(step(x)["elbo"]) for _ in range(6)]
    assert bounds[-1] > bounds[0] + 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="3 channels, or 1 of grey images, got 2"):
        DiscretizedMixture(2)
    with pytest.raises(ValueError, match=r"\(\*batch, 3, H, W, 8\), got \(5, 1, 4, 4, 8\)"):
        DiscretizedMixture(3, 2)(torch.zeros(5, 1, 4, 4, 8))
    with pytest.raises(ValueError, match="independent given the latents, got DiscretizedMixture"):
        Masked(DiscretizedMixture(3, 2))(torch.zeros(5, 3, 4, 4, 8))
