"""q(z | x) on a cube, for a uniform prior there."""

from __future__ import annotations

__all__ = ["BoundedGaussian", "bounded"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import TanhTransform

from ppl_gen.distributions import LogScaleNormal
from ppl_gen.guides.family import Networks
from ppl_gen.protocols import Distribution


class BoundedGaussian(nn.Module):
    """z = tanh(u) with u ~ N(μ(c), diag exp(η(c))²), in [−1, 1]ᴰ, (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard deviations
            of u.

    Examples:
        >>> q = BoundedGaussian(nn.Linear(4, 2 * 3))
        >>> z = q(torch.zeros(5, 4)).rsample()
        >>> z.shape, bool((z.abs() <= 1).all())
        (torch.Size([5, 3]), True)
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        loc, log_scale = self.net(*context).chunk(2, -1)
        inner = LogScaleNormal(loc, log_scale)
        return dist.TransformedDistribution(inner, [_Tanh(cache_size=1)]).to_event(1)


def bounded(net: Networks, dim: int) -> BoundedGaussian:
    """The family of `BoundedGaussian`, for the prior `Uniform(dim)`.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the number of coordinates of z.

    Examples:
        >>> program = models.vae((4,), latent_dim=2, prior=priors.Uniform(2), guide=bounded)
        >>> program.encoder(torch.zeros(5, 4)).rsample().abs().max() <= 1
        tensor(True)
    """
    return BoundedGaussian(net(2 * dim))


class _Tanh(TanhTransform):
    """tanh, whose inverse at the ends, which rounding reaches, is that of the number before them.

    A draw's own u is kept beside it; at other values of z it is computed.
    """

    def _inverse(self, y: Tensor) -> Tensor:
        largest = 1 - torch.finfo(y.dtype).eps / 2
        return y.clamp(-largest, largest).atanh()
