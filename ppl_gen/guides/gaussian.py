"""q(z | x) Gaussian."""

from __future__ import annotations

__all__ = ["DiagonalGaussian", "diagonal"]

from torch import Tensor, nn

from ppl_gen.distributions import LogScaleNormal
from ppl_gen.guides.family import Networks
from ppl_gen.protocols import Distribution


class DiagonalGaussian(nn.Module):
    """q(z | c) = N(z; μ(c), diag exp(η(c))²), with (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard
            deviations.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        loc, log_scale = self.net(*context).chunk(2, -1)
        return LogScaleNormal(loc, log_scale).to_event(1)


def diagonal(net: Networks, dim: int) -> DiagonalGaussian:
    """The family N(z; μ(x), diag σ(x)²), of 2D outputs.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.
    """
    return DiagonalGaussian(net(2 * dim))
