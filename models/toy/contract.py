"""What a toy posterior promises: a model, the data it is called with, and the moments that its
posterior must have.
"""

from __future__ import annotations

__all__ = ["Moments", "Posterior", "expect_finite", "expect_positive", "expect_shape"]

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor


class Moments(NamedTuple):
    """E[z | data] and sd[z | data] of one site, entry by entry, each of the site's shape."""

    mean: Tensor
    sd: Tensor


class Posterior(Protocol):
    """p(z | data) of a plain Pyro program, with its true means and standard deviations.

    `model(*data)` is all that an inference algorithm needs; `reference()` is what its answer is
    held against.
    """

    teaches: ClassVar[str]

    @property
    def data(self) -> tuple[Tensor, ...]:
        """What the model is called with: the observed data, never captured by it."""
        ...

    @property
    def model(self) -> Any:
        """The Pyro program, `model(*data)`."""
        ...

    def reference(self) -> dict[str, Moments]:
        """The true moments by site name, deterministic sites included."""
        ...


def expect_positive(name: str, value: Tensor | float) -> None:
    """Says when an entry is not positive.

    Raises:
        ValueError: Then.
    """
    if not bool((torch.as_tensor(value) > 0).all()):
        raise ValueError(f"expected positive {name}, got {value}")


def expect_finite(name: str, value: Tensor) -> None:
    """Says when a tensor is not of floating point, or an entry is NaN or infinite.

    Raises:
        ValueError: Then.
    """
    if not value.is_floating_point():
        raise ValueError(f"expected {name} of a floating dtype, got {value.dtype}; say .float()")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"expected finite {name}, got NaN or infinite values; remove or replace them"
        )


def expect_shape(name: str, value: Tensor, shape: str, fits: bool) -> None:
    """Says when a tensor is not of the shape that is wanted, written as in a formula.

    Raises:
        ValueError: Then.
    """
    if not fits:
        raise ValueError(f"expected {name} of shape {shape}, got {tuple(value.shape)}")
