"""q(z | x) on the sphere, for a prior there."""

from __future__ import annotations

__all__ = ["OnSphere", "on_sphere"]

from torch import Tensor, nn

from ppl_gen.distributions import PowerSpherical
from ppl_gen.guides.family import Networks
from ppl_gen.protocols import Distribution


class OnSphere(nn.Module):
    """q(z | c) ∝ (1 + μ(c)ᵀz)^κ(c) on |z| = 1, with (v, η) = net(c), μ = v/|v|, κ = D exp(η).

    Args:
        net: Maps the context to (*batch, D + 1): a vector along the mean direction, and the log of
            the concentration per dimension.

    Examples:
        >>> q = OnSphere(nn.Linear(4, 3 + 1))
        >>> q(torch.zeros(5, 4)).sample().norm(dim=-1).round(decimals=3)
        tensor([1., 1., 1., 1., 1.])

    Reference:
        De Cao and Aziz (2020), The power spherical distribution.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        outputs = self.net(*context)
        direction = outputs[..., :-1]
        concentration = direction.shape[-1] * outputs[..., -1].exp()
        return PowerSpherical(direction, concentration)


def on_sphere(net: Networks, dim: int) -> OnSphere:
    """The family of `OnSphere`, for the prior `Hypersphere(dim)`.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the number of coordinates of z.

    Examples:
        >>> program = models.vae((4,), latent_dim=3, prior=priors.Hypersphere(3), guide=on_sphere)
        >>> program.encoder(torch.zeros(5, 4)).sample().norm(dim=-1).round(decimals=3)
        tensor([1., 1., 1., 1., 1.])
    """
    return OnSphere(net(dim + 1))
