"""Optimisers and games, the smallest among them, for the tests of adversarial steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.critics import conv_critic, mlp_critic, spectral
from ppl_gen.inference import losses
from ppl_gen.likelihoods import Dirac
from ppl_gen.models import GAN, cgan, cvae, dcgan, gan, vae
from ppl_gen.priors import StandardNormal
from ppl_gen.program import Observed


def adam(module: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr, betas=(0.0, 0.9), fused=True)


def sgd(module: nn.Module, lr: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr)


def still() -> GAN:
    """x = z ~ N(0, 1)."""
    made = GAN(StandardNormal(1), nn.Linear(1, 1))
    nn.init.ones_(made.decoder.weight)
    nn.init.zeros_(made.decoder.bias)
    return made


def _paired(drawn: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return (drawn["x"] - x).abs().mean()


GAMES: dict[str, Callable[[], tuple[Any, nn.Module, list[Tensor], dict[str, Any]]]] = {
    "gan": lambda: (gan((1, 8, 8), 3, hidden=(8,)), mlp_critic((1, 8, 8), hidden=(8,)), [], {}),
    "gan of vectors": lambda: (
        gan((2,), 3, hidden=(8,)),
        mlp_critic((2,), hidden=(8,)),
        [],
        {"r1": 1.0},
    ),
    "dcgan": lambda: (
        dcgan((1, 8, 8), 3, width=4),
        conv_critic((1, 8, 8), width=4),
        [],
        {"loss": losses.hinge},
    ),
    "spectral": lambda: (
        dcgan((1, 8, 8), 3, width=4),
        spectral(conv_critic((1, 8, 8), width=4)),
        [],
        {},
    ),
    "wasserstein": lambda: (
        gan((1, 8, 8), 3, hidden=(8,)),
        mlp_critic((1, 8, 8), hidden=(8,)),
        [],
        {"loss": losses.wasserstein, "penalty": 10.0, "critic_steps": 5},
    ),
    "cgan, labels": lambda: (
        cgan((1, 8, 8), 3, classes=10, hidden=(8,)),
        mlp_critic((1, 8, 8), classes=10, hidden=(8,)),
        [torch.arange(6)],
        {"r1": 0.1},
    ),
    "cgan, paired images": lambda: (
        cgan((1, 8, 8), 3, attributes=64, embed=nn.Flatten(), hidden=(8,)),
        mlp_critic((1, 8, 8), attributes=64, embed=nn.Flatten(), hidden=(8,)),
        [torch.rand(6, 1, 8, 8)],
        {"auxiliary": _paired},
    ),
    "a vae's mean": lambda: (
        Observed(vae((1, 8, 8), 3, hidden=(8,)), Dirac()),
        mlp_critic((1, 8, 8)),
        [],
        {},
    ),
    "a vae's mean, with labels that it does not take": lambda: (
        Observed(vae((1, 8, 8), 3, hidden=(8,)), Dirac()),
        mlp_critic((1, 8, 8)),
        [torch.arange(6)],
        {},
    ),
    "a cvae's mean": lambda: (
        Observed(cvae((1, 8, 8), 3, classes=10, hidden=(8,), prior=StandardNormal(3)), Dirac()),
        mlp_critic((1, 8, 8), classes=10),
        [torch.arange(6)],
        {"critic_steps": 2},
    ),
    "a pair of functions": lambda: (
        gan((1, 8, 8), 3, hidden=(8,)),
        mlp_critic((1, 8, 8), hidden=(8,)),
        [],
        {
            "loss": (
                lambda real, drawn: drawn.mean() - real.mean() + real.square().mean(),
                lambda drawn: -drawn.mean(),
            )
        },
    ),
}
