"""Families of guides: what makes q(z | x) of any network and any latent dimension."""

from __future__ import annotations

__all__ = ["Family", "Networks", "guide_of_family"]

from typing import Protocol

from torch import nn

from ppl_gen.protocols import Conditional


class Networks(Protocol):
    """`net(outputs)` makes a network of (x, *context) with so many outputs, (*batch, outputs)."""

    def __call__(self, outputs: int, /) -> nn.Module: ...


class Family(Protocol):
    """`guide(net, dim)` makes the guide q(z | x) of a program whose latent has `dim` coordinates.

    It takes from `net` a network with the number of outputs that it needs, so that a perceptron
    and a convolutional encoder serve any family. Settings are bound by `functools.partial`.

    Example:
        >>> from functools import partial
        >>> from ppl_gen.guides import DiagonalGaussian
        >>> from ppl_gen.models import vae
        >>> def diagonal(net, dim):
        ...     return DiagonalGaussian(net(2 * dim))
        >>> program = vae((4,), 2, guide=diagonal)
    """

    def __call__(self, net: Networks, dim: int, /) -> Conditional: ...


def guide_of_family(family: Family, net: Networks, dim: int) -> Conditional:
    """The guide that a family makes of a builder's networks.

    Args:
        family: The family.
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: The latent dimension.

    Raises:
        ValueError: If the family is a network or guide that is made already, cannot be called, or
            makes nothing that can be called.
    """
    if isinstance(family, nn.Module) or not callable(family):
        raise ValueError(
            "expected a family of guides, a function of (net, dim) such as "
            f"ppl_gen.guides.diagonal, got {type(family).__name__}; a guide that is made already "
            "goes into its slot: program.encoder = ..."
        )
    guide = family(net, dim)
    if not callable(guide):
        raise ValueError(
            f"expected the family of guides to return a guide, got {type(guide).__name__}; return "
            "a module or function from x to a distribution, as DiagonalGaussian(net(2 * dim)) is"
        )
    return guide
