"""What is done to data before a network sees them: noise that a denoising autoencoder takes out."""

from __future__ import annotations

__all__ = ["Corruption", "gaussian_noise", "masking", "salt_and_pepper"]

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_gen.counts import expect_number, expect_weight

# From data (N, *shape) to the same, drawn anew at each call.
Corruption = Callable[[Tensor], Tensor]


def gaussian_noise(scale: float) -> Corruption:
    """x + s ε, ε ~ N(0, I).

    Args:
        scale: s, in the unit of x.

    Raises:
        ValueError: If s is negative or not finite.
    """
    expect_weight(scale=scale)
    return lambda x: x + scale * torch.randn_like(x)


def masking(share: float) -> Corruption:
    """x · m, each mᵢ = 0 with probability `share` and 1 otherwise: values are destroyed to 0.

    Args:
        share: The share of values that are destroyed, from 0 to 1.

    Raises:
        ValueError: If it is out of range.

    Reference:
        Vincent, Larochelle, Bengio and Manzagol (2008), Extracting and composing robust features
        with denoising autoencoders, section 2.3.
    """
    _expect_share(share)
    return lambda x: x * (torch.rand_like(x) >= share)


def salt_and_pepper(share: float) -> Corruption:
    """Each value is with probability `share` replaced by 0 or 1, either as often.

    Args:
        share: The share of values that are replaced, from 0 to 1.

    Raises:
        ValueError: If it is out of range.
    """
    _expect_share(share)

    def corrupted(x: Tensor) -> Tensor:
        u = torch.rand_like(x)
        return torch.where(u < share, (u < share / 2).to(x.dtype), x)

    return corrupted


def _expect_share(share: float) -> None:
    expect_number(share=share)
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {share}")
