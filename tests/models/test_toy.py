"""The exact answers of the toys, against each other and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.models import toy
from ppl_gen.program import log_density, simulate

# Mean log p(x) per datum on the digits (train, test) by maximum likelihood, in nats: known exactly.
PPCA_DIGITS = {
    1: (-3.7275, -3.8931),
    2: (0.0021, -0.0330),
    5: (8.9723, 8.4667),
    10: (17.5648, 16.6285),
    20: (27.4401, 25.9615),
}


def _curve() -> toy.Curve:
    return toy.Curve(lambda z: torch.cat([z, z.square() / 2], -1), 0.2).double()


def _mixture() -> toy.GaussianMixture:
    return toy.GaussianMixture(
        torch.tensor([1.0, 2.0, 3.0]), torch.randn(3, 2), torch.tensor([0.5, 1.0, 0.2])
    )


@pytest.mark.parametrize("latent_dim", PPCA_DIGITS)
def test_ppca_reaches_the_known_likelihood_of_the_digits(latent_dim: int) -> None:
    digits = data.load("digits")
    program = toy.PPCA.maximum_likelihood(digits.train.x.flatten(1), latent_dim)
    got = []
    for split in (digits.train, digits.test):
        evidence = program.exact_log_evidence(split.x.flatten(1))
        got.append(float(evidence.mean()))
    np.testing.assert_allclose(got, PPCA_DIGITS[latent_dim], atol=1e-4)


def test_bayes_rule_holds_at_any_latent() -> None:
    """log p(x) = log p(x, z) − log p(z | x) for every z."""
    for program in (toy.PPCA(torch.randn(5, 2), torch.randn(5), 0.5), _mixture()):
        x = simulate(program, 20)
        posterior = program.exact_posterior(x)
        z = posterior.sample((7,))
        evidence = log_density(program.model, {"z": z}, x).joint - posterior.log_prob(z)
        torch.testing.assert_close(
            evidence, program.exact_log_evidence(x).expand(7, -1), rtol=1e-4, atol=1e-4
        )


def test_the_quadrature_is_exact_on_a_line() -> None:
    """f(z) = az + b makes the curve a PPCA, whose evidence and posterior are closed."""
    a = torch.tensor([1.0, -2.0], dtype=torch.float64)
    b = torch.tensor([0.3, 0.1], dtype=torch.float64)
    curve = toy.Curve(lambda z: z * a + b, 0.1).double()
    line = toy.PPCA(a[:, None], b, curve.scale)
    x = simulate(line, 50)
    torch.testing.assert_close(curve.exact_log_evidence(x), line.exact_log_evidence(x))
    torch.testing.assert_close(curve.exact_posterior(x).mean, line.exact_posterior(x).mean)
    variance = torch.diagonal(line.exact_posterior(x).covariance_matrix, dim1=-2, dim2=-1)
    torch.testing.assert_close(curve.exact_posterior(x).variance, variance, rtol=1e-5, atol=1e-8)


def test_the_quadrature_has_converged() -> None:
    coarse = _curve()
    fine = toy.Curve(coarse.feature_map, 0.2, points=16_001).double()
    x = simulate(coarse, 50)
    torch.testing.assert_close(
        coarse.exact_log_evidence(x), fine.exact_log_evidence(x), rtol=1e-9, atol=1e-9
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_curve, id="curve", marks=pytest.mark.slow),
        pytest.param(_mixture, id="mixture"),
    ],
)
def test_the_evidence_is_a_density(make: object) -> None:
    program = make()
    side = torch.linspace(-9, 9, 161, dtype=next(program.buffers()).dtype)
    grid = torch.cartesian_prod(side, side)
    area = float(side[1] - side[0]) ** 2
    mass = program.exact_log_evidence(grid).double().exp().sum() * area
    assert float(mass) == pytest.approx(1, abs=2e-3)


def test_the_mean_of_simulated_data_is_that_of_the_program() -> None:
    program = _mixture()
    x: Tensor = simulate(program, 40_000)
    mean = program.weights @ program.locs
    error = x.std(0) / math.sqrt(len(x))
    assert ((x.mean(0) - mean).abs() < 4 * error).all()


@pytest.mark.parametrize("kind", [toy.PPCA, toy.Curve, toy.GaussianMixture])
def test_it_says_what_it_teaches(kind: type) -> None:
    assert kind.teaches.endswith(".")


def test_one_dimensional_conjugate_pair() -> None:
    """z ~ N(0, 1), x | z ~ N(z, 1) gives x ~ N(0, 2) and z | x ~ N(x/2, 1/2)."""
    program = toy.PPCA(torch.ones(1, 1), torch.zeros(1), 1.0)
    x = torch.linspace(-3, 3, 7)[:, None]
    evidence = dist.Normal(0.0, 2**0.5).log_prob(x[:, 0])
    posterior = program.exact_posterior(x)
    torch.testing.assert_close(program.exact_log_evidence(x), evidence)
    torch.testing.assert_close(posterior.mean, x / 2)
    assert posterior.covariance_matrix.flatten().tolist() == pytest.approx([0.5] * 7)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: toy.PPCA(torch.ones(3, 2), torch.ones(2), 1.0),
            r"expected weight \(D, q\) and loc \(D,\)",
        ),
        (lambda: toy.PPCA(torch.ones(3, 2), torch.ones(3), 0.0), "expected positive scale, got 0"),
        (
            lambda: toy.PPCA.maximum_likelihood(torch.randn(9, 3), 3),
            "latent dimension from 1 to 2, got 3",
        ),
        (
            lambda: toy.GaussianMixture(torch.ones(2), torch.ones(3, 2), 1.0),
            r"expected weights \(K,\), locs \(K, D\)",
        ),
        (
            lambda: toy.GaussianMixture(-torch.ones(2), torch.ones(2, 2), 1.0),
            "expected positive weights",
        ),
        (lambda: toy.Curve(lambda z: z, 1.0, points=2), "at least 3 quadrature points, got 2"),
        (
            lambda: toy.Curve(lambda z: z, 1e-4).exact_log_evidence(torch.ones(1, 1) / 3),
            "nats off; raise points",
        ),
    ],
)
def test_bad_parameters(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
