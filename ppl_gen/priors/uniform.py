"""p(z) uniform on a cube."""

from __future__ import annotations

__all__ = ["Uniform"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class Uniform(nn.Module):
    """p(z) = 2⁻ᴰ on [−1, 1]ᴰ, the code of Radford et al. (2016), the same under every context.

    Args:
        dim: D, the dimension of z.

    Examples:
        >>> Uniform(3)().log_prob(torch.zeros(3)).exp()
        tensor(0.1250)
    """

    end: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_weights((2, dim))
        self.register_buffer("end", torch.ones(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.Uniform(-self.end, self.end).to_event(1)
