"""p(c) of discrete codes."""

from __future__ import annotations

__all__ = ["OneHot"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class OneHot(nn.Module):
    """p(c) = 1/K for each of the K unit vectors, a discrete code; the same under every context.

    Args:
        categories: K, at least 2.
    """

    probs: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        expect_at_least(1, categories=categories)
        if categories < 2:
            raise ValueError(f"expected at least 2 categories, got {categories}")
        expect_weights((categories,))
        self.register_buffer("probs", torch.full((categories,), 1 / categories), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.OneHotCategorical(self.probs)
