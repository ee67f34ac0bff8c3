"""q(z | x, context): families of approximate posteriors. Every one is a Conditional."""

from __future__ import annotations

__all__ = ["DiagonalGaussian"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.protocols import Distribution


class DiagonalGaussian(nn.Module):
    """q(z | c) = N(z; μ(c), diag exp(η(c))²), with (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard deviations.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        loc, log_scale = self.net(*context).chunk(2, -1)
        return dist.Normal(loc, log_scale.exp()).to_event(1)
