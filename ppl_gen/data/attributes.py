"""What is measured on a picture of a stroke: its thickness, its slant, its edges."""

from __future__ import annotations

__all__ = ["edges", "slant", "thickness"]

import torch
from torch import Tensor
from torch.nn import functional as F


def thickness(x: Tensor) -> Tensor:
    """2 Σ x / Σ ‖∇x‖, the ink over half the length of its edge: the width of a stroke in pixels.

    A stroke of width w and length L has ink wL and an edge of 2L, apart from its ends. The length
    of a grey image's edge is its total variation, so that pale ink changes nothing and blurring
    little. A blank image has thickness 0.

    Args:
        x: Images (N, C, H, W), ink being bright; colours are averaged.

    Returns:
        The thickness of each image, (N,).

    Raises:
        ValueError: If x is not of that shape.

    Examples:
        >>> bar = torch.zeros(1, 1, 28, 28)
        >>> bar[..., 4:24, 10:13] = 1  # 20 × 3: its two ends make it less than 3
        >>> thickness(bar)
        tensor([2.6423])
    """
    ink = _ink(x)
    padded = F.pad(ink, (1, 1, 1, 1))
    down = padded[:, 1:, :-1] - padded[:, :-1, :-1]
    right = padded[:, :-1, 1:] - padded[:, :-1, :-1]
    edge = (down.square() + right.square()).sqrt().sum((1, 2))
    return _over(2 * ink.sum((1, 2)), edge)


def slant(x: Tensor) -> Tensor:
    """−μ₁₁ / μ₀₂: the columns that the ink moves to the right for each row up, tan of its angle.

    μ₁₁ and μ₀₂ are the ink's central moments, of column times row and of row squared, rows being
    counted downwards. Shearing an image by s adds s. A picture without height has slant 0.

    Args:
        x: Images (N, C, H, W), ink being bright; colours are averaged.

    Returns:
        The slant of each image, (N,).

    Raises:
        ValueError: If x is not of that shape.

    Examples:
        >>> diagonal = torch.eye(9).flip(-1)[None, None]  # from lower left to upper right
        >>> slant(diagonal)
        tensor([1.])
    """
    ink = _ink(x)
    rows, columns = (torch.arange(n, dtype=ink.dtype, device=ink.device) for n in ink.shape[1:])
    mass = ink.sum((1, 2))
    middle_row = _over((ink.sum(2) * rows).sum(1), mass)
    middle_column = _over((ink.sum(1) * columns).sum(1), mass)
    row = middle_row[:, None] - rows  # upwards, from the centre
    column = columns - middle_column[:, None]
    mixed = torch.einsum("nhw,nh,nw->n", ink, row, column)
    return _over(mixed, (ink.sum(2) * row.square()).sum(1))


def edges(x: Tensor) -> Tensor:
    """min(1, ‖Sobel gradient‖ / 4): an outline in [0, 1], which is 1 on both sides of a full step.

    Args:
        x: Images (N, C, H, W); colours are averaged. The outermost pixels are taken to go on beyond
            the border.

    Returns:
        The outlines, (N, 1, H, W).

    Raises:
        ValueError: If x is not of that shape.

    Examples:
        >>> square = torch.zeros(1, 1, 8, 8)
        >>> square[..., 2:6, 2:6] = 1.0
        >>> edges(square)[0, 0, 4]  # bright on both sides of the left and the right side
        tensor([0., 1., 1., 0., 0., 1., 1., 0.])
    """
    ink = F.pad(_ink(x)[:, None], (1, 1, 1, 1), mode="replicate")
    across = ink.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    gradient = F.conv2d(ink, torch.stack([across, across.T])[:, None])
    return gradient.norm(dim=1, keepdim=True).clamp(max=1)


def _ink(x: Tensor) -> Tensor:
    if x.dim() != 4 or 0 in x.shape[1:]:
        raise ValueError(f"expected images (N, C, H, W), got {tuple(x.shape)}")
    return x.mean(1)


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The ratio, and 0 where there is nothing to divide by."""
    some = denominator > 1e-6
    return torch.where(some, numerator / torch.where(some, denominator, 1), 0)
