"""Implicit models: what they draw, the density that small noise gives them, and what the codes of
an InfoGAN tell.
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import conv_critic, mlp_critic, patch_critic
from ppl_gen.guides import from_prior
from ppl_gen.inference import (
    adversarial_step,
    ais,
    bdmc,
    code_information,
    information_loss,
    log_evidence,
    moving_average,
    nuts,
)
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import GAN, InfoGAN, cgan, dcgan, gan, gmmn, infogan, toy
from ppl_gen.priors import OneHot, StandardNormal, Uniform
from ppl_gen.program import Observed, simulate


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 13, 10), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_dcgan_and_its_critic_take_any_image(shape: tuple[int, ...]) -> None:
    program = dcgan(shape, 100, width=4, prior=Uniform(100))
    drawn = simulate(program, 3)
    assert drawn.shape == (3, *shape)
    assert bool(((drawn >= 0) & (drawn <= 1)).all())
    assert conv_critic(shape, width=4)(drawn).shape == (3,)
    assert program.decoder(torch.randn(2, 5, 100)).shape == (2, 5, *shape)


def test_patches_have_scores_of_their_own() -> None:
    critic = patch_critic(3, width=4).eval()
    x = torch.rand(2, 3, 64, 64)
    scores = critic(x)
    assert scores.shape == (2, 36)
    assert patch_critic(1, width=4, layers=1)(torch.rand(2, 1, 8, 8)).shape == (2, 4)


def test_vectors_are_not_squashed_and_images_are() -> None:
    assert any(isinstance(m, nn.Sigmoid) for m in gan((1, 8, 8), 2).modules())
    assert not any(isinstance(m, nn.Sigmoid) for m in gan((5,), 2).modules())
    assert isinstance(gmmn((5,), 2).prior, Uniform)


def _linear_gan() -> tuple[Any, Any, Tensor]:
    """A GAN whose generator is linear; under Gaussian noise it is principal component analysis,
    with exact answers.
    """
    torch.manual_seed(3)
    exact = toy.PPCA(torch.randn(6, 2), torch.randn(6), 0.5)
    decoder = nn.Linear(2, 6)
    with torch.no_grad():
        decoder.weight.copy_(exact.weight)
        decoder.bias.copy_(exact.loc)
    return Observed(GAN(StandardNormal(2), decoder), Gaussian(0.5)), exact, simulate(exact, 40)


@pytest.mark.long
def test_the_density_of_a_generator_is_exact() -> None:
    program, exact, x = _linear_gan()
    truth = exact.exact_log_evidence(x)
    for estimate in (
        log_evidence(program, from_prior(program), x, particles=20_000, seed=0),
        ais(program, x, temperatures=200, chains=32, seed=0),
    ):
        # The log of a mean is biased low by half its variance.
        off = estimate.value + estimate.standard_error.square() / 2 - truth
        assert bool((off.abs() <= 4 * estimate.standard_error + 1e-4).all())


@pytest.mark.long
def test_bdmc_holds_a_generator_s_density_between_bounds() -> None:
    program, _, _ = _linear_gan()
    sandwich = bdmc(program, 50, temperatures=300, chains=16, seed=0)
    gap = sandwich.mean_gap
    assert (
        -4 * float(gap.standard_error) <= float(gap.value) <= 0.05 + 4 * float(gap.standard_error)
    )


@pytest.mark.long
def test_inversion_finds_the_latents_of_an_image() -> None:
    program, exact, x = _linear_gan()
    draws = nuts(program.model, x[:1], draws=300, warmup=200, chains=1, seed=0)
    z = draws.samples["z"].flatten(0, 1)[:, 0]
    posterior = exact.exact_posterior(x[:1])
    mean, covariance = posterior.mean[0], posterior.covariance_matrix.reshape(2, 2)
    # Some 100 of 300 draws are effective.
    assert bool(
        ((z.mean(0) - mean).abs() <= 4 * covariance.diagonal().sqrt() / math.sqrt(100)).all()
    )


def test_a_gan_without_noise_has_no_density() -> None:
    program = gan((1, 8, 8), 2)
    with pytest.raises(
        ValueError, match=r"an implicit model has none; score .*Observed\(program, Gaussian\(ε\)\)"
    ):
        ais(program, digits().x[:3])
    with pytest.raises(ValueError, match=r"from_prior\(program\) is one"):
        log_evidence(program, None, digits().x[:3])


class _Shout(nn.Module):
    """x = the code itself, with a little of the noise."""

    def forward(self, z: Tensor, codes: Tensor) -> Tensor:
        return codes + 0.0 * z.sum(-1, keepdim=True)


class _Certain(nn.Module):
    """q(c | x), of logits `sharpness` times x."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, seen: Tensor) -> dist.OneHotCategorical:
        return dist.OneHotCategorical(logits=self.sharpness * seen)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 20.0])
def test_code_information_is_its_closed_form(sharpness: float) -> None:
    program = InfoGAN(
        StandardNormal(2), {"c": OneHot(4)}, _Shout(), {"c": _Certain(sharpness)}, nn.Identity()
    )
    found = code_information(program, program.posterior, 400, seed=0)["c"]
    exact = math.log(4) + sharpness - math.log(math.exp(sharpness) + 3)
    assert float(found.value) == pytest.approx(exact, abs=4 * float(found.standard_error) + 1e-5)


def test_an_information_loss_weighs_each_code() -> None:
    program = infogan((1, 8, 8), 3, continuous=2, hidden=(8, 8))
    x = simulate(program, 5)
    drawn = {"z": torch.randn(5, 3), "c": torch.eye(10)[:5], "u": torch.rand(5, 2), "x": x}
    each = [
        information_loss(program.posterior, w)(drawn)
        for w in ({"c": 1.0, "u": 0.0}, {"c": 0.0, "u": 1.0})
    ]
    both = information_loss(program.posterior, {"c": 2.0, "u": 3.0})(drawn)
    torch.testing.assert_close(both, 2 * each[0] + 3 * each[1])
    torch.testing.assert_close(information_loss(program.posterior)(drawn), each[0] + each[1])


@pytest.mark.slow
def test_the_codes_of_an_infogan_are_read_off_its_digits() -> None:
    program, critic = infogan((1, 8, 8), 10), mlp_critic((1, 8, 8))
    optimizers = [
        torch.optim.Adam(m.parameters(), 5e-4, betas=(0.0, 0.9), fused=True)
        for m in (program, critic)
    ]
    average = moving_average(program)
    step = adversarial_step(
        program,
        critic,
        *optimizers,
        r1=0.1,
        average=average,
        auxiliary=information_loss(program.posterior),
    )
    for _ in range(75):
        for x, _ in digits().batches(50):
            step(x)
    trained: Any = average.module
    found = code_information(trained, trained.posterior, 2000, seed=0)["c"]
    assert float(found.value) - 4 * float(found.standard_error) > 2.0


def _bad_posterior(x: Tensor) -> None:
    InfoGAN.posterior(infogan((1, 8, 8), 3, categories=3), x)


BAD = {
    "a posterior of other codes": (
        lambda: code_information(gan((1, 8, 8), 3), _bad_posterior, 10),
        r"expected a posterior of codes that the program samples, \['z'\], got one of \['c'\]",
    ),
    "one draw": (
        lambda: code_information(gan((1, 8, 8), 3), _bad_posterior, 1),
        "expected n of at least 2, got 1",
    ),
    "a code without a head": (
        lambda: InfoGAN(StandardNormal(2), {"c": OneHot(3)}, nn.Identity(), {}, nn.Identity()),
        r"expected a head for each code \['c'\], got \[\]",
    ),
    "one category": (lambda: OneHot(1), "expected at least 2 categories, got 1"),
    "no dimension": (lambda: Uniform(0), "expected a latent dimension of at least 1, got 0"),
    "an image too small": (lambda: dcgan((1, 4, 4)), "8 to 64 pixels a side"),
    "a critic of vectors": (lambda: conv_critic((5,)), "8 to 64 pixels a side"),
    "classes and attributes": (
        lambda: cgan((2,), 2, classes=3, attributes=4),
        "expected either classes or attributes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    run, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run()
