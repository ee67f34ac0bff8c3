"""ALI: a game over pairs whose end is known, what is drawn and reconstructed, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from command import call
from games import adam, sgd
from torch import Tensor, nn

from ppl_gen.critics import mlp_critic
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import bidirectional_step, losses, moving_average
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import ALI, ali, gan
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed, log_density, reconstruct, simulate


def _small() -> ALI:
    torch.manual_seed(0)
    return ali((1, 8, 8), 3, hidden=(16,))


def _critic(latents: int = 3) -> nn.Module:
    return mlp_critic((1, 8, 8), attributes=latents, hidden=(16,))


def test_it_draws_and_reconstructs(binary: Tensor) -> None:
    program = _small()
    assert simulate(program, 4).shape == (4, 1, 8, 8)
    x_hat = reconstruct(program, binary)
    assert x_hat.shape == binary.shape
    assert bool(((x_hat >= 0) & (x_hat <= 1)).all())


def test_under_noise_it_has_a_density(binary: Tensor) -> None:
    program = _small()
    z = torch.randn(len(binary), 3)
    density = log_density(Observed(program, Gaussian(0.5)).model, {"z": z}, binary)
    expected = dist.Normal(program.decoder(z), 0.5).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(density.likelihood, expected)


class _Pairs(nn.Module):
    """A critic that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        self.seen.append((x.detach(), z.detach()))
        return self.weight * (x.flatten(1).sum(1) + 2 * z.sum(1))


def test_the_critic_sees_data_with_the_guides_latents_and_draws_with_their_own() -> None:
    program = _small()
    critic = _Pairs()
    step = bidirectional_step(program, critic, sgd(program), sgd(critic))
    x = torch.rand(5, 1, 8, 8)
    step(x)
    (data, inferred), (drawn, own) = critic.seen[1:3]  # the first is the check
    assert torch.equal(data, x)
    torch.testing.assert_close(program.decoder(own), drawn)
    assert float((program.decoder(inferred) - x).detach().abs().max()) > 0.1


@pytest.mark.parametrize(
    "name", ["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"]
)
def test_both_sides_of_the_game_are_alike(name: str) -> None:
    """The loss of program and guide is the same where data and draws change places."""
    loss = getattr(losses, name)
    scores = torch.randn(50)
    mirrored = 2 * loss.middle - scores
    real, fake = scores[:25], scores[25:]
    torch.testing.assert_close(loss.critic(real, fake), loss.critic(mirrored[25:], mirrored[:25]))


def test_all_of_it_is_trained() -> None:
    program = _small()
    critic = _critic()
    average = moving_average(program, 0.9)
    before = {name: p.detach().clone() for name, p in program.named_parameters()}
    step = bidirectional_step(
        program, critic, adam(program), adam(critic), critic_steps=2, r1=0.1, average=average
    )
    metrics = step(torch.rand(6, 1, 8, 8))
    assert sorted(metrics) == ["critic", "generator", "penalty", "spread"]
    for name, p in program.named_parameters():
        assert not torch.equal(p, before[name]), name


@pytest.mark.slow
def test_the_guide_becomes_the_posterior_of_a_line() -> None:
    """x = (z, z) of z ~ N(0, 1): q(z | x) ends near the point x₁."""
    torch.manual_seed(0)
    program = ALI(
        StandardNormal(1),
        nn.Linear(1, 2, bias=False),
        DiagonalGaussian(nn.Linear(2, 2)),
    )
    critic = mlp_critic((2,), attributes=1, hidden=(64, 64))
    step = bidirectional_step(program, critic, adam(program, 2e-3), adam(critic, 2e-3), r1=0.1)
    for _ in range(3000):
        step(torch.randn(200, 1).expand(200, 2))
    x = torch.randn(200, 1).expand(200, 2)
    error = (reconstruct(program, x) - x).square().mean().sqrt()
    assert float(error) < 0.35  # 1.41 for a guide that tells nothing


def test_what_does_not_fit_is_said(binary: Tensor) -> None:
    program = _small()
    critic = _critic(latents=4)
    step = bidirectional_step(program, critic, sgd(program), sgd(critic))
    with pytest.raises(ValueError, match=r"expected a critic that scores pairs \(x, z\)"):
        step(binary)

    def other(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("u", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    step = bidirectional_step(program, _critic(), sgd(program), sgd(critic), guide=other)
    with pytest.raises(ValueError, match="expected the guide to sample the latents of the program"):
        step(binary)
    plain: Any = gan((1, 8, 8), 3, hidden=(16,))
    with pytest.raises(ValueError, match="guide"):
        bidirectional_step(plain, _critic(), sgd(plain), sgd(critic))
    with pytest.raises(ValueError, match="expected critic_steps of at least 1, got 0"):
        bidirectional_step(program, critic, sgd(program), sgd(critic), critic_steps=0)


@pytest.mark.long
def test_the_command_draws_reconstructions(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said = call(
        *("fit", "ali", "--epochs", 1, "--batch-size", 300, "--latent-dim", 2, "--hidden", 8),
        *("--device", "cpu", "--out", run),
    )
    assert code == 0, said
    assert (run / "reconstructions.png").exists()
    assert call("reconstruct", run)[0] == 0
    code, said = call("evaluate", run, "--collapse")
    assert (code, "no guide" in said or "guide" in said) == (2, True), said
