"""p(z) uniform on a sphere."""

from __future__ import annotations

__all__ = ["Hypersphere"]

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import UniformOnSphere
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class Hypersphere(nn.Module):
    """p(z) = Γ(D/2)/(2 π^{D/2}) on the sphere |z| = 1 in D dimensions, under every context.

    A latent on a sphere has no centre that a guide could fall back to. The guide has to lie there
    as well: `vae(shape, D, prior=Hypersphere(D), guide=guides.on_sphere)`. A guide's class with a
    network of y is a conditional version: `guides.OnSphere(Condition(mlp([..., D + 1]), classes))`.

    Args:
        dim: D, at least 2: the sphere has one dimension less.

    Examples:
        >>> Hypersphere(3)().sample((2,)).norm(dim=-1).round(decimals=3)
        tensor([1., 1.])

    Reference:
        Davidson et al. (2018), Hyperspherical variational auto-encoders.
    """

    origin: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        expect_at_least(2, **{"a sphere's number of coordinates": dim})
        expect_weights((2, dim))
        self.register_buffer("origin", torch.zeros(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return UniformOnSphere(self.origin)
