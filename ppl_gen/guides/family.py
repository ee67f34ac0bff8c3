"""Families of guides: what makes q(z | x) of any network and any latent dimension."""

from __future__ import annotations

__all__ = ["Family", "NetworkGuide", "Networks", "as_module", "expect_outputs", "guide_of_family"]

from abc import abstractmethod
from typing import Protocol

from torch import Tensor, nn

from ppl_gen.protocols import Conditional, Distribution


class Networks(Protocol):
    """`net(outputs)` makes a network of (x, *context) with so many outputs, (*batch, outputs).

    Examples:
        >>> def net(outputs):
        ...     return nn.Linear(4, outputs)
        >>> low_rank(net, dim=3, rank=1).net
        Linear(in_features=4, out_features=9, bias=True)
    """

    def __call__(self, outputs: int, /) -> nn.Module: ...


class Family(Protocol):
    """`guide(net, dim)` makes the guide q(z | x) of a program whose latent has `dim` coordinates.

    It takes from `net` a network with the number of outputs that it needs, so that a perceptron
    and a convolutional encoder serve any family. Settings are bound by `functools.partial`.

    Examples:
        >>> from functools import partial
        >>> from ppl_gen.guides import low_rank
        >>> from ppl_gen.models import conv_vae, vae
        >>> program = vae((4,), 3, guide=partial(low_rank, rank=1))
        >>> images = conv_vae((1, 8, 8), 3, guide=partial(low_rank, rank=1))
    """

    def __call__(self, net: Networks, dim: int, /) -> Conditional: ...


class NetworkGuide(nn.Module):
    """q(z | c) = family(net(c)): a network, and what its outputs mean.

    Args:
        net: Maps the context to (*batch, outputs).

    Examples:
        >>> class Laplace(NetworkGuide):
        ...     def distribution(self, outputs):
        ...         loc, log_scale = outputs.chunk(2, -1)
        ...         return dist.Laplace(loc, log_scale.exp()).to_event(1)
        >>> Laplace(nn.Linear(4, 2 * 3))(torch.zeros(5, 4)).shape()
        torch.Size([5, 3])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @abstractmethod
    def distribution(self, outputs: Tensor) -> Distribution:
        """q(z | c) of the outputs of the network.

        Args:
            outputs: net(c), of shape (*batch, outputs).
        """

    def forward(self, *context: Tensor) -> Distribution:
        return self.distribution(self.net(*context))


class _Function(nn.Module):
    """A function in the place of a module."""

    def __init__(self, function: Conditional) -> None:
        super().__init__()
        self.function = function

    def forward(self, *context: Tensor) -> Distribution:
        return self.function(*context)


def guide_of_family(family: Family, net: Networks, dim: int) -> nn.Module:
    """The guide that a family makes of a builder's networks.

    Args:
        family: The family.
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: The latent dimension.

    Raises:
        ValueError: If the family is a network or guide that is made already, cannot be called, or
            makes nothing that can be called.

    Examples:
        >>> q = guide_of_family(diagonal, lambda outputs: nn.Linear(4, outputs), 3)
        >>> type(q).__name__
        'DiagonalGaussian'
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
    return as_module(guide)


def as_module(guide: Conditional) -> nn.Module:
    """A guide as a module: itself, or a module that calls the function that it is."""
    if isinstance(guide, nn.Module):
        return guide
    return _Function(guide)


def expect_outputs(fits: bool, expected: str, outputs: Tensor) -> None:
    """Raises ValueError unless a network has the number of outputs that a family needs.

    Args:
        fits: Whether it has.
        expected: The number, in terms of D, the latent dimension.
        outputs: What it put out.
    """
    if not fits:
        raise ValueError(
            f"expected a network of the guide with {expected} outputs, got {outputs.shape[-1]}; "
            "give its last layer that size, or let a builder make it: vae(..., guide=...)"
        )
