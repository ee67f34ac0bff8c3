"""p(z) Gaussian: standard, or with moments that depend on a context."""

from __future__ import annotations

__all__ = ["ConditionalNormal", "StandardNormal"]

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I), the same under every context.

    Args:
        dim: D, the dimension of z.

    Examples:
        >>> StandardNormal(3)().log_prob(torch.zeros(3))  # −3/2 log 2π
        tensor(-2.7568)
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_weights((2, dim))
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("log_scale", torch.zeros(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return LogScaleNormal(self.loc, self.log_scale).to_event(1)


class ConditionalNormal(DiagonalGaussian):
    """p(z | y) = N(z; μ(y), diag exp(η(y))²), with (μ, η) = net(y).

    The same family as the guide `DiagonalGaussian`, in the place of a prior.

    Args:
        net: Maps y to (N, 2D), the D means followed by the D log standard deviations;
            `Condition(mlp([classes, ..., 2 * D]), classes)` takes labels.

    Examples:
        >>> prior = ConditionalNormal(nn.Linear(10, 2 * 4))
        >>> prior(torch.zeros(5, 10)).shape()  # of z in 4 dimensions, for each of five contexts
        torch.Size([5, 4])
    """
