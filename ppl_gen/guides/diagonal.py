"""q(z | x) Gaussian, its coordinates independent."""

from __future__ import annotations

__all__ = ["DiagonalGaussian"]

from torch import Tensor, nn

from ppl_gen.distributions import LogScaleNormal
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
