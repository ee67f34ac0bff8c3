"""Convolutional encoders and decoders of images of 8 to 64 pixels a side."""

from __future__ import annotations

__all__ = ["conv_decoder", "conv_features", "pyramid"]

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.nn.layers import Activation, Batched, Shape


def conv_features(
    shape: Sequence[int], outputs: int, activation: Activation = nn.ReLU
) -> nn.Sequential:
    """(*leading, C, H, W) → (*leading, outputs): strided 3 × 3 convolutions, then a linear layer.

    The convolutions halve the image until it has at most 7 × 7 pixels.

    Args:
        shape: (C, H, W), each side from 8 to 64.
        outputs: The size of the feature vector, which has passed the activation.
        activation: Makes the module after each layer.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side, or the weights do
            not fit into memory.

    Examples:
        >>> conv_features((3, 32, 32), 16)(torch.zeros(7, 5, 3, 32, 32)).shape
        torch.Size([7, 5, 16])
    """
    sides, channels = pyramid(shape)
    size = channels[-1] * math.prod(sides[-1])
    expect_weights((size, outputs))
    layers: list[nn.Module] = []
    for inputs, doubled in pairwise(channels):
        layers += [nn.Conv2d(inputs, doubled, 3, stride=2, padding=1), activation()]
    return nn.Sequential(
        Batched(nn.Sequential(*layers)), nn.Flatten(-3), nn.Linear(size, outputs), activation()
    )


def conv_decoder(
    inputs: int,
    shape: Sequence[int],
    *,
    hidden: int = 256,
    parameters: int = 1,
    per_datum: int = 0,
    activation: Activation = nn.ReLU,
) -> nn.Sequential:
    """(*leading, inputs) → (*leading, C, H, W, P + Q), without the last axis if P = 1 and Q = 0.

    The mirror image of `conv_features`. The Q numbers of a datum are averages of Q channels more.

    Args:
        inputs: The size of the latent (plus that of its context).
        shape: (C, H, W), each side from 8 to 64.
        hidden: The width of the layer before the convolutions.
        parameters: P, the numbers that the likelihood takes per value.
        per_datum: Q, the numbers that the likelihood takes per datum besides.
        activation: Makes the module between two layers.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side, or the weights do
            not fit into memory.

    Examples:
        >>> conv_decoder(2, (3, 32, 32), hidden=16, parameters=2)(torch.zeros(5, 2)).shape
        torch.Size([5, 3, 32, 32, 2])
    """
    expect_at_least(1, inputs=inputs, hidden=hidden, parameters=parameters)
    expect_at_least(0, per_datum=per_datum)
    sides, channels = pyramid(shape)
    outputs = [channels[0] * parameters + per_datum, *channels[1:]]
    size = channels[-1] * math.prod(sides[-1])
    expect_weights((inputs, hidden), (hidden, size), (channels[1], outputs[0], 3, 3))
    layers: list[nn.Module] = []
    for level in range(len(sides) - 1, 0, -1):
        if layers:
            layers.append(activation())
        doubling = _doubling(channels[level], outputs[level - 1], sides[level], sides[level - 1])
        layers.append(doubling)
    flatten: nn.Module = nn.Flatten(-3)
    if per_datum:
        flatten = _Averaged(per_datum)
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        activation(),
        nn.Linear(hidden, size),
        activation(),
        nn.Unflatten(-1, (channels[-1], *sides[-1])),
        Batched(nn.Sequential(*layers)),
        flatten,
        Shape(shape, parameters, per_datum),
    )


class _Averaged(nn.Module):
    """(*leading, C + Q, H, W) → (*leading, CHW + Q): the averages of the last Q channels, last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        own = image[..., : -self.channels, :, :].flatten(-3)
        shared = image[..., -self.channels :, :, :].mean((-2, -1))
        return torch.cat([own, shared], -1)


def _doubling(
    inputs: int, outputs: int, coarse: tuple[int, int], fine: tuple[int, int]
) -> nn.ConvTranspose2d:
    """A transposed convolution to sides twice as long, or one pixel less, as `fine` has it."""
    rows = fine[0] - 2 * coarse[0] + 1
    columns = fine[1] - 2 * coarse[1] + 1
    return nn.ConvTranspose2d(
        inputs, outputs, 3, stride=2, padding=1, output_padding=(rows, columns)
    )


def pyramid(
    shape: Sequence[int], *, smallest: int = 7, least: int = 1
) -> tuple[list[tuple[int, int]], list[int]]:
    """Sides and channels level by level, from the image down to the smallest picture of it.

    Each level halves the sides, rounding up. Below the image the levels have 32, 64, … channels.

    Args:
        shape: (C, H, W), each side from 8 to 64.
        smallest: The most pixels that a side may have at the last level.
        least: The least number of halvings.

    Returns:
        (H, W) of each level, and the channels of each level, the image's own first.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side.

    Examples:
        >>> pyramid((1, 28, 28))
        ([(28, 28), (14, 14), (7, 7)], [1, 32, 64])
    """
    if len(shape) != 3 or not all(8 <= side <= 64 for side in shape[1:]) or shape[0] < 1:
        raise ValueError(
            f"expected an image shape (C, H, W) with 8 to 64 pixels a side, got {tuple(shape)}; "
            "use an mlp"
        )
    channels, height, width = shape
    sides = [(height, width)]
    widths = [channels]
    while max(height, width) > smallest or len(sides) <= least:
        height = (height + 1) // 2
        width = (width + 1) // 2
        sides.append((height, width))
        widths.append(32 * 2 ** (len(widths) - 1))
    return sides, widths
