"""Differences of log Γ that stay exact where each term is large."""

from __future__ import annotations

__all__ = ["log_gamma_ratio"]

import torch
from torch import Tensor

_FAR = 20.0  # from here on three terms of Stirling's series are exact to 1e-12


def log_gamma_ratio(r: Tensor, x: Tensor) -> Tensor:
    """log Γ(r + x) − log Γ(r), which single precision loses from r = 1000 on where each is taken.

    Args:
        r: Positive, of any shape.
        x: At least 0, of a shape that r can be broadcast with.
    """
    is_far = r > _FAR
    near = torch.where(is_far, 1.0, r)
    far = torch.where(is_far, r, _FAR)
    by_terms = torch.lgamma(near + x) - torch.lgamma(near)
    # (t − ½) log t − t + c(t) at t = r + x, less the same at t = r.
    main = (far - 0.5) * torch.log1p(x / far) + x * (far + x).log() - x
    by_series = main + _correction(far + x) - _correction(far)
    return torch.where(is_far, by_series, by_terms)


def _correction(t: Tensor) -> Tensor:
    """1/12t − 1/360t³ + 1/1260t⁵."""
    inverse = 1 / t
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square / 1260))
