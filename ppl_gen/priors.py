"""p(z | context): priors. Every one is a Conditional, takes any context and may ignore it."""

from __future__ import annotations

__all__ = ["ConditionalNormal", "StandardNormal"]

import torch
from torch import Tensor, nn

from ppl_gen.distributions import LogScaleNormal
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.protocols import Distribution


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I), the same under every context.

    Args:
        dim: D, the dimension of z.
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"expected a latent dimension of at least 1, got {dim}")
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("log_scale", torch.zeros(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return LogScaleNormal(self.loc, self.log_scale).to_event(1)


class ConditionalNormal(DiagonalGaussian):
    """p(z | y) = N(z; μ(y), diag exp(η(y))²), with (μ, η) = net(y): the diagonal Gaussian, in the place of a prior.

    Args:
        net: Maps y to (N, 2D); `Condition(mlp([classes, ..., 2 * D]), classes)` takes labels.
    """
