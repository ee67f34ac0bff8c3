"""Likelihoods are densities or masses, have the mean they claim, and draw what they score."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen import likelihoods
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.likelihoods import parameters_per_value
from ppl_gen.nn import conv_decoder, conv_features

LOC = torch.tensor([-2.0, -0.3, 0.0, 0.4, 1.0, 3.0])


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 2.0])
def test_the_discretised_logistic_is_a_mass_on_its_grid(levels: int, scale: float) -> None:
    grid = torch.linspace(0, 1, levels, dtype=torch.float64)
    logistic = likelihoods.DiscretizedLogistic(scale, levels)(LOC.double())
    mass = logistic.log_prob(grid[:, None]).exp().sum(0)
    torch.testing.assert_close(mass, torch.ones_like(mass))


def test_the_discretised_logistic_is_finite_far_out_in_float32() -> None:
    grid = torch.linspace(0, 1, 256)
    logistic = likelihoods.DiscretizedLogistic(1e-3)(torch.tensor([-20.0, 0.5, 20.0]))
    assert torch.isfinite(logistic.log_prob(grid[:, None])).all()


def test_the_categorical_is_a_mass_on_its_grid_with_a_mean() -> None:
    d = likelihoods.Categorical(5)(torch.randn(3, 5))
    grid = torch.linspace(0, 1, 5)
    mass = d.log_prob(grid[:, None]).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(3))
    torch.testing.assert_close(d.mean, (mass * grid[:, None]).sum(0))


@pytest.mark.parametrize(
    ("likelihood", "low", "high"),
    [
        (likelihoods.ContinuousBernoulli(), 0, 1),
        (likelihoods.Gaussian(0.3), -12, 12),
        (likelihoods.Laplace(0.3), -12, 12),
        (likelihoods.HeteroscedasticGaussian(), -12, 12),
    ],
)
def test_densities_integrate_to_one(likelihood: torch.nn.Module, low: float, high: float) -> None:
    grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
    parameters = LOC.double() / 3
    if parameters_per_value(likelihood) == 2:
        parameters = torch.stack([parameters, parameters - 1], -1)
    mass = torch.trapezoid(likelihood(parameters).log_prob(grid[:, None]).exp(), grid, dim=0)
    torch.testing.assert_close(mass.detach(), torch.ones_like(mass), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "d",
    [
        likelihoods.Categorical(17)(torch.arange(102.0).sin().reshape(6, 17)),
        likelihoods.DiscretizedLogistic(0.05, 17)(torch.tensor([0.3, 0.4, 0.5, 0.55, 0.6, 0.7])),
        likelihoods.DiscretizedLogistic(0.5, 17)(torch.tensor([-1.0, 0.1, 0.5, 0.55, 0.9, 1.5])),
    ],
    ids=["categorical", "discretised logistic", "a wide one"],
)
def test_draws_have_the_frequencies_of_the_mass(d: dist.TorchDistribution) -> None:
    n = 20_000
    grid = torch.linspace(0, 1, 17)
    drawn = d.sample((n,))
    frequency = (drawn == grid[:, None, None]).double().mean(1)
    mass = d.log_prob(grid[:, None]).double().exp()
    error = (mass * (1 - mass) / n).sqrt() + 1 / n
    assert ((frequency - mass).abs() < 4.5 * error).all()  # 102 frequencies at once
    exact = (mass * grid[:, None]).sum(0)
    mean_error = drawn.std(0) / n**0.5
    assert ((drawn.mean(0) - exact).abs() < 4.5 * mean_error).all()
    torch.testing.assert_close(d.mean, exact.to(d.mean), rtol=1e-4, atol=1e-5)


def test_scales_are_learned_or_fixed() -> None:
    assert len(list(likelihoods.Gaussian().parameters())) == 1
    assert not list(likelihoods.Gaussian(0.1).parameters())
    assert float(likelihoods.Laplace(0.1).scale) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="expected a positive scale, got -1"):
        likelihoods.Gaussian(-1.0)


def test_the_normal_by_log_scale_is_pyro_s() -> None:
    loc, log_scale, x = torch.randn(4, 3), torch.randn(4, 3), torch.randn(5, 4, 3)
    ours, theirs = LogScaleNormal(loc, log_scale), dist.Normal(loc, log_scale.exp())
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(torch.distributions.kl_divergence(ours, theirs), torch.zeros(4, 3))
    assert ours.expand((2, 4, 3)).log_scale.shape == (2, 4, 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (2, 9, 31), (4, 33, 8)])
@pytest.mark.parametrize("parameters", [1, 3])
def test_convolutions_fit_any_image(shape: tuple[int, ...], parameters: int) -> None:
    decoded: Tensor = conv_decoder(5, shape, parameters=parameters)(torch.randn(2, 3, 5))
    per_value = (parameters,) if parameters > 1 else ()
    assert decoded.shape == (2, 3, *shape, *per_value)
    assert conv_features(shape, 7)(torch.rand(2, 3, *shape)).shape == (2, 3, 7)


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 65, 64), (28, 28), (0, 8, 8)])
def test_convolutions_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="with 8 to 64 pixels a side"):
        conv_features(shape, 7)
