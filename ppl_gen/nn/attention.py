"""Where a network looks and draws: a window of N × N Gaussian filters over an image."""

from __future__ import annotations

__all__ = ["Window"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights


class Window(nn.Module):
    """N × N Gaussian filters on an image of H × W pixels, placed by a vector h.

    (g̃_X, g̃_Y, log σ², log δ̃, log γ) = W h gives the centre g = (A + 1)(g̃ + 1)/2 for A = W or H
    pixels, the stride δ = δ̃ (max(H, W) − 1)/(N − 1), the filters' variance σ² and the intensity γ;
    filter i lies at μᵢ = g + (i − (N + 1)/2) δ and weighs pixel a by F_ia ∝ exp(−(a − μᵢ)²/2σ²),
    Σₐ F_ia = 1. A window that covers the image is where W h = 0.

    Args:
        side: N, the filters along each side.
        hidden: The size of h.
        shape: (C, H, W).

    Raises:
        ValueError: If the shape is not that of an image, or the window is larger than the image.

    Examples:
        >>> window = Window(side=3, hidden=16, shape=(1, 8, 8))
        >>> window.read(torch.zeros(5, 1, 8, 8), torch.zeros(5, 16)).shape
        torch.Size([5, 1, 3, 3])
        >>> window.write(torch.zeros(5, 1, 3, 3), torch.zeros(5, 16)).shape
        torch.Size([5, 1, 8, 8])

    Reference:
        Gregor et al. (2015), DRAW: a recurrent neural network for image generation, eq. 19 to 29;
        the sums over pixels are normalised as a softmax, which holds outside of the image as well.
    """

    def __init__(self, side: int, hidden: int, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"expected images (C, H, W) to attend to, got data of shape {tuple(shape)}; leave "
                "attention out"
            )
        expect_at_least(1, **{"an attention window": side})
        if side > min(shape[1:]):
            raise ValueError(
                f"expected an attention window of at most {min(shape[1:])} pixels a side, as the "
                f"image of {shape[1]} × {shape[2]}, got {side}; take a smaller one"
            )
        expect_weights((hidden, 5))
        self.side = side
        self.pixels = tuple(shape[1:])
        self.net = nn.Linear(hidden, 5)

    def filters(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F_Y (*batch, N, H), F_X (*batch, N, W) and the intensity γ (*batch, 1, 1, 1).

        Args:
            hidden: h, (*batch, hidden).
        """
        across, down, log_variance, log_stride, log_intensity = self.net(hidden).unbind(-1)
        height, width = self.pixels
        stride = log_stride.exp() * (max(height, width) - 1) / max(self.side - 1, 1)
        precision = (-log_variance).exp()
        rows = self._filters(down, stride, precision, height)
        columns = self._filters(across, stride, precision, width)
        return rows, columns, log_intensity.exp()[..., None, None, None]

    def _filters(self, centre: Tensor, stride: Tensor, precision: Tensor, pixels: int) -> Tensor:
        """The filters along one side, (*batch, N, pixels)."""
        numbers = torch.arange(self.side, dtype=centre.dtype, device=centre.device)
        offsets = numbers - (self.side - 1) / 2
        middle = (pixels + 1) * (centre + 1) / 2
        places = middle[..., None] + offsets * stride[..., None]
        positions = torch.arange(1, pixels + 1, dtype=centre.dtype, device=centre.device)
        distances = (positions - places[..., None]).square()
        return (-0.5 * precision[..., None, None] * distances).softmax(-1)

    def read(self, images: Tensor, hidden: Tensor) -> Tensor:
        """γ F_Y x F_Xᵀ, (*batch, C, N, N).

        Args:
            images: x, (*batch, C, H, W).
            hidden: h, (*batch, hidden).
        """
        rows, columns, intensity = self.filters(hidden)
        return intensity * (rows.unsqueeze(-3) @ images @ columns.unsqueeze(-3).mT)

    def write(self, patch: Tensor, hidden: Tensor) -> Tensor:
        """F_Yᵀ w F_X / γ, (*batch, C, H, W).

        Args:
            patch: w, (*batch, C, N, N).
            hidden: h, (*batch, hidden).
        """
        rows, columns, intensity = self.filters(hidden)
        return (rows.unsqueeze(-3).mT @ patch @ columns.unsqueeze(-3)) / intensity
