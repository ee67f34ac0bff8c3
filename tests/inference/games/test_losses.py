"""Losses of adversarial games, penalties and critics: by their formulas, and where they end."""

from __future__ import annotations

import math

import pytest
import torch
from games import sgd, still
from programs import digits
from torch import Tensor, nn

from ppl_gen.critics import Critic, conv_critic, mlp_critic, spectral
from ppl_gen.inference import adversarial_step, losses

S, T = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([-0.7, 0.1, 1.5])
SIGMOID_S, SIGMOID_T = torch.sigmoid(S), torch.sigmoid(T)
PAIRS = {
    "minimax": (
        -SIGMOID_S.log().mean() - (1 - SIGMOID_T).log().mean(),
        (1 - SIGMOID_T).log().mean(),
    ),
    "non_saturating": (
        -SIGMOID_S.log().mean() - (1 - SIGMOID_T).log().mean(),
        -SIGMOID_T.log().mean(),
    ),
    "least_squares": (((S - 1) ** 2).mean() / 2 + (T**2).mean() / 2, ((T - 1) ** 2).mean() / 2),
    "hinge": ((1 - S).clamp(min=0).mean() + (1 + T).clamp(min=0).mean(), -T.mean()),
    "wasserstein": (T.mean() - S.mean(), -T.mean()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_loss_is_its_formula(name: str) -> None:
    pair, (critic, generator) = getattr(losses, name), PAIRS[name]
    assert float(pair.critic(S, T)) == pytest.approx(float(critic), rel=1e-6)
    assert float(pair.generator(T)) == pytest.approx(float(generator), rel=1e-6)


def test_penalties_of_a_linear_and_a_quadratic_critic() -> None:
    x, drawn = torch.randn(50, 3), torch.randn(50, 3)
    w = torch.tensor([3.0, 0.0, 4.0])
    x.requires_grad_()
    assert losses.r1(x @ w, x).item() == pytest.approx(25 / 2)
    assert losses.gradient_penalty(lambda v: v @ w, x, drawn).item() == pytest.approx((5 - 1) ** 2)
    quadratic = losses.r1(x.square().sum(-1) / 2, x).item()
    assert quadratic == pytest.approx(x.square().sum(-1).mean().item() / 2, rel=1e-6)


class _Line(nn.Module):
    """s(x) = w x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[..., 0]


@pytest.mark.long
def test_the_critic_of_the_minimax_game_finds_the_log_density_ratio() -> None:
    # log N(x; 1, 1) / N(x; 0, 1) = x − 1/2. The averages of w and b over 1000 steps after 1000 have
    # standard errors below √(4/(512 · 1000)) · √τ with τ the some 20 steps in which SGD of this
    # rate forgets.
    program, critic = still(), _Line()
    step = adversarial_step(program, critic, sgd(program), sgd(critic, 0.2), losses.minimax)
    seen = []
    for _ in range(2000):
        step(1 + torch.randn(512, 1))
        seen.append(torch.cat([critic.net.weight[0], critic.net.bias]).detach())
    w, b = torch.stack(seen[1000:]).mean(0).tolist()
    error = 4 * math.sqrt(4 / (512 * 1000) * 20)
    assert w == pytest.approx(1.0, abs=error)
    assert b == pytest.approx(-0.5, abs=error)


@pytest.mark.long
def test_the_penalised_critic_of_wasserstein_finds_the_distance() -> None:
    # W₁ of N(1, 1) from N(0, 1) is 1; λ(‖∇s‖ − 1)² leaves a linear critic the slope 1 + 1/2λ, from
    # any that is positive.
    program, critic = still(), _Line()
    nn.init.constant_(critic.net.weight, 0.1)
    step = adversarial_step(
        program, critic, sgd(program), sgd(critic, 0.02), losses.wasserstein, penalty=10.0
    )
    found = torch.stack([step(1 + torch.randn(512, 1))["critic"] for _ in range(1500)])[500:]
    assert float(-found.mean()) == pytest.approx(
        1 + 1 / 20, abs=4 * 1.05 * math.sqrt(2 / 512 / 1000)
    )


def test_spectral_normalisation_bounds_the_slope() -> None:
    critic = spectral(mlp_critic((5,), hidden=(32, 32), slope=1.0))
    for _ in range(50):  # a power iteration each
        critic(torch.randn(4, 5))
    critic.eval()
    x, y = 10 * torch.randn(500, 5), 10 * torch.randn(500, 5)
    slope = (critic(x) - critic(y)).abs() / torch.linalg.vector_norm(x - y, dim=-1)
    assert slope.max().item() <= 1.001


def test_features_of_a_critic_are_vectors() -> None:
    for critic in (mlp_critic((1, 8, 8)), conv_critic((1, 8, 8), width=4)):
        assert isinstance(critic, Critic)
        assert critic.features(digits().x[:3]).dim() == 2
