"""What a toy posterior promises: a model, its data, and the moments that its posterior has."""

from __future__ import annotations

__all__ = ["Moments", "Posterior", "expect_finite", "expect_positive", "expect_shape"]

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor


class Moments(NamedTuple):
    """E[z | data] and sd[z | data] of one site, entry by entry.

    Attributes:
        mean: The means, of the site's shape.
        sd: The standard deviations, of the site's shape.

    Examples:
        >>> moments = Funnel(dim=3).reference()["v"]
        >>> moments.mean, moments.sd
        (tensor(0.), tensor(3.))
    """

    mean: Tensor
    sd: Tensor


class Posterior(Protocol):
    """p(z | data) of a plain Pyro program, with its true means and standard deviations.

    `model(*data)` is all that an inference algorithm needs; `reference()` is what its answer is
    held against.

    Attributes:
        teaches: What is to be learned from this posterior, in a sentence.

    Examples:
        >>> schools: Posterior = EightSchools()
        >>> schools.model(*schools.data).shape, schools.reference()["mu"].mean
        (torch.Size([8]), tensor(4.4105))
    """

    teaches: ClassVar[str]

    @property
    def data(self) -> tuple[Tensor, ...]:
        """What the model is called with: the observed data, which it takes from nowhere else."""
        ...

    @property
    def model(self) -> Any:
        """The Pyro program, `model(*data)`."""
        ...

    def reference(self) -> dict[str, Moments]:
        """The true moments by site name, deterministic sites included."""
        ...


def expect_positive(name: str, value: Tensor | float) -> None:
    """Raises ValueError unless every entry is positive."""
    if not bool((torch.as_tensor(value) > 0).all()):
        raise ValueError(f"expected positive {name}, got {value}")


def expect_finite(name: str, value: Tensor) -> None:
    """Raises ValueError unless a tensor is of a floating dtype and every entry is finite."""
    if not value.is_floating_point():
        raise ValueError(f"expected {name} of a floating dtype, got {value.dtype}; say .float()")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"expected finite {name}, got NaN or infinite values; remove or replace them"
        )


def expect_shape(name: str, value: Tensor, shape: str, fits: bool) -> None:
    """Raises ValueError unless a tensor has the shape that is wanted.

    Args:
        name: What the tensor is, for the message.
        value: The tensor.
        shape: The shape that is wanted, written as in a formula: "(N, P)".
        fits: Whether the tensor has that shape.
    """
    if not fits:
        raise ValueError(f"expected {name} of shape {shape}, got {tuple(value.shape)}")
