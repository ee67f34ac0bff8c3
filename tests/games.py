"""Optimisers and the smallest of games, for the tests of adversarial steps."""

from __future__ import annotations

import torch
from torch import nn

from ppl_gen.models import GAN
from ppl_gen.priors import StandardNormal


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
