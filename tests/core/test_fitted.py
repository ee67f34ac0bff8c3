"""Densities fitted to codes: moments, likelihoods, and an autoencoder that they make a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor, nn

from ppl_gen import data
from ppl_gen.inference import log_evidence
from ppl_gen.models import pca, with_prior
from ppl_gen.priors import StandardNormal, fitted
from ppl_gen.program import simulate
from ppl_gen.testing import check_program

FITS: dict[str, Callable[[Tensor], nn.Module]] = {
    "factored": fitted.factored_gaussian,
    "full": fitted.full_gaussian,
    "mixture": lambda codes: fitted.mixture(codes, 3),
    "kernel": fitted.kernel,
    "flow": lambda codes: fitted.flow(codes, transforms=2, hidden=(16,), epochs=2, lr=0.01),
}
CLOSED = ("factored", "full", "mixture", "kernel")  # whose moments are those of the codes


@pytest.fixture
def codes() -> Tensor:
    """Two clusters in three dimensions."""
    torch.manual_seed(0)
    around = torch.tensor([[3.0, 0.0, 1.0], [-1.0, 2.0, 0.0]]).repeat(100, 1)
    return around + torch.randn(200, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 0.4, 0], [0, 0, 0.1]])


@pytest.mark.parametrize("name", CLOSED)
def test_draws_have_the_moments_of_the_codes(name: str, codes: Tensor) -> None:
    prior = FITS[name](codes)
    assert not list(prior.parameters())
    torch.manual_seed(1)
    drawn = prior().sample((20_000,))
    error = drawn.std(0) / 20_000**0.5
    assert bool(((drawn.mean(0) - codes.mean(0)).abs() < 4 * error + 1e-3).all())
    wider = 0.0
    if name == "kernel":
        wider = float(prior.bandwidth) ** 2
    expected = codes.var(0, correction=0) + wider
    error = 4 * expected * (2 / 20_000) ** 0.5
    assert bool(((drawn.var(0) - expected).abs() < 2 * error).all())


def test_densities_are_those_of_scipy_and_scikit_learn(codes: Tensor) -> None:
    covariance = torch.cov(codes.T, correction=0)
    expected = dist.MultivariateNormal(codes.mean(0), covariance).log_prob(codes)
    found = fitted.full_gaussian(codes)().log_prob(codes)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    mixture = GaussianMixture(3, reg_covar=1e-6, random_state=0, max_iter=500).fit(codes.numpy())
    found = fitted.mixture(codes, 3)().log_prob(codes).double()
    torch.testing.assert_close(
        found, torch.as_tensor(mixture.score_samples(codes.numpy())).double(), rtol=1e-2, atol=1e-2
    )
    prior = fitted.kernel(codes)
    kernel = KernelDensity(bandwidth=float(prior.bandwidth)).fit(codes.numpy())
    expected = torch.as_tensor(kernel.score_samples(codes.numpy())).float()
    torch.testing.assert_close(prior().log_prob(codes), expected, rtol=1e-4, atol=1e-4)


def test_the_bandwidth_is_the_best_of_those_tried(codes: Tensor) -> None:
    def left_out(h: float) -> float:
        total = 0.0
        for i in range(len(codes)):
            others = torch.cat([codes[:i], codes[i + 1 :]])
            total += float(fitted.kernel(others, h)().log_prob(codes[i]))
        return total

    best = float(fitted.kernel(codes).bandwidth)
    assert left_out(best) > max(left_out(best * 1.5), left_out(best / 1.5))


def test_a_flow_takes_the_form_of_the_codes() -> None:
    """Held out of its fit, codes on a ring have more nats than under their own Gaussian."""
    torch.manual_seed(0)
    angle = 2 * torch.pi * torch.rand(1200)
    ring = torch.stack([3 * angle.cos(), angle.sin() + 5], -1) + 0.1 * torch.randn(1200, 2)
    codes, others = ring[:1000], ring[1000:]
    prior = fitted.flow(codes, hidden=(32,), epochs=40, lr=5e-3)
    assert not any(p.requires_grad for p in prior.parameters())
    gain = prior().log_prob(others) - fitted.full_gaussian(codes)().log_prob(others)
    assert float(gain.mean()) > 0.3 + 4 * float(gain.std()) / 200**0.5
    torch.manual_seed(1)
    drawn = prior().sample((2000,))
    own = prior().log_prob(drawn)
    error = float(own.std()) / 2000**0.5
    other = prior().log_prob(others)
    error += float(other.std()) / 200**0.5
    assert abs(float(own.mean() - other.mean())) < 0.3 + 4 * error


def test_a_flow_is_a_density(codes: Tensor) -> None:
    """∫ p(z) dz = 1, on a lattice."""
    prior = FITS["flow"](codes[:, :2])
    axis = torch.linspace(-25, 25, 801)
    lattice = torch.cartesian_prod(axis, axis)
    mass = prior().log_prob(lattice).double().exp().sum() * (50 / 800) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_a_flow_keeps_its_best_epoch(codes: Tensor) -> None:
    """At a rate at which it runs away, the first epochs are the best; patience ends the fit."""
    wild = fitted.flow(codes, transforms=1, hidden=(4,), epochs=50, patience=1, lr=0.5)
    assert bool(wild().log_prob(codes).isfinite().all())


@pytest.mark.parametrize("name", ["factored", "full"])
def test_a_linear_autoencoder_with_a_gaussian_has_exact_evidence(name: str) -> None:
    """x ~ N(W μ̂ + x̄, W Σ̂ Wᵀ + σ²I); the guide's width is that of the posterior."""
    digits = data.load("digits")
    x = digits.train.x
    net = pca(x, 6)
    prior = FITS[name](net.encoder(x))
    program = with_prior(net, prior, x)
    test = digits.test.x[:30]
    found = log_evidence(program, None, test, particles=2000, seed=0)
    weight = net.decoder[0][0].weight.detach()
    codes = prior()
    covariance = weight @ codes.covariance_matrix @ weight.T
    covariance = covariance + program.likelihood.scale.detach() ** 2 * torch.eye(64)
    mean = net.decoder[0][0](codes.mean).detach()
    exact = dist.MultivariateNormal(mean, covariance).log_prob(test.flatten(1))
    error = found.standard_error
    assert bool(((found.value - exact).abs() < 4 * error + error**2 + 1e-3).all())
    assert float(error.max()) < 0.05
    assert simulate(program, 3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("name", FITS)
def test_what_an_autoencoder_becomes_obeys_the_laws(name: str) -> None:
    x = data.load("digits").train.x[:100]
    net = pca(x, 3)
    check_program(with_prior(net, FITS[name](net.encoder(x)), x), x[:20])


def test_codes_that_go_together_have_a_narrow_guide() -> None:
    """Two codes that are nearly one: s follows the prior's precision, not the codes' variances."""
    x = data.load("digits").train.x[:200]
    net = pca(x, 3)
    with torch.no_grad():
        net.encoder[1].weight[2] = net.encoder[1].weight[1] + 0.1 * net.encoder[1].weight[2]
        net.decoder[0][0].weight[:, 2] = 0
    prior = fitted.full_gaussian(net.encoder(x))
    program = with_prior(net, prior, x)
    precision = torch.linalg.inv(prior().covariance_matrix.double()).diagonal()
    found = (-2 * program.encoder.log_scale.detach()).exp().double()
    assert float(found[2]) == pytest.approx(float(precision[2]), rel=0.1)
    assert float(found[2]) > 10 / float(net.encoder(x).var(0)[2])


def test_a_code_that_nothing_moves_leaves_the_guide_finite() -> None:
    x = data.load("digits").train.x[:100]
    net = pca(x, 3)
    with torch.no_grad():
        net.encoder[1].weight[2] = 0
        net.decoder[0][0].weight[:, 2] = 0
    program = with_prior(net, fitted.full_gaussian(net.encoder(x)), x)
    assert bool(program.encoder.log_scale.isfinite().all())


class TestBadInput:
    @pytest.mark.parametrize(
        "codes",
        [torch.zeros(1, 3), torch.zeros(5), torch.full((5, 2), float("nan")), "codes"],
        ids=["one row", "no matrix", "nan", "no tensor"],
    )
    def test_what_are_no_codes(self, codes: Any) -> None:
        for fit in FITS.values():
            with pytest.raises(ValueError, match="codes"):
                fit(codes)

    def test_a_flow_out_of_range(self, codes: Tensor) -> None:
        for wrong in ({"epochs": 0}, {"patience": 0}, {"lr": 0.0}, {"hidden": (0,)}):
            with pytest.raises(ValueError, match="expected"):
                fitted.flow(codes, **wrong)

    def test_an_exact_autoencoder_has_no_noise(self) -> None:
        x = torch.zeros(5, 2)
        net = pca(x, 2)
        with pytest.raises(ValueError, match="expected an autoencoder with an error"):
            with_prior(net, StandardNormal(2), x)
