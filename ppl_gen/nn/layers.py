"""Networks: multilayer perceptrons, convolutional encoders and decoders of any image size, and
conditioning.
"""

from __future__ import annotations

__all__ = [
    "Activation",
    "Batched",
    "Condition",
    "Shape",
    "context_width",
    "conv_decoder",
    "conv_features",
    "mlp",
    "pyramid",
]

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from pyro.distributions import is_validation_enabled
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def mlp(sizes: Sequence[int], activation: Activation = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between each two: R^sizes[0] → … → R^sizes[-1], over any
    leading axes.

    Args:
        sizes: The width of every layer, input and output included.
        activation: Makes the module between two layers.

    Raises:
        ValueError: If there are fewer than two sizes, or one below 1.

    Example:
        >>> mlp([784, 200, 10])(torch.zeros(3, 5, 784)).shape
        torch.Size([3, 5, 10])
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"expected at least an input and an output size, all positive, got {list(sizes)}"
        )
    layers = [layer for a, b in pairwise(sizes) for layer in (activation(), nn.Linear(a, b))]
    return nn.Sequential(*layers[1:])


class Shape(nn.Module):
    """The last layer of a decoder: (*batch, C·P·…) → (*batch, *shape), or (*batch, *shape, P) for P
    > 1.

    Args:
        shape: The shape of one datum.
        parameters: P, the numbers that the likelihood takes per value.
    """

    def __init__(self, shape: Sequence[int], parameters: int = 1) -> None:
        super().__init__()
        self.shape, self.per_value = tuple(shape), parameters

    def forward(self, flat: Tensor) -> Tensor:
        if self.per_value == 1:
            return flat.unflatten(-1, self.shape)
        return flat.unflatten(-1, (self.per_value, *self.shape)).movedim(-1 - len(self.shape), -1)


class Batched(nn.Module):
    """Lets a network of (N, C, H, W) take (*leading, C, H, W), as particles and chains need it.

    Args:
        net: Any network of images, with images or vectors as its output.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        leading = images.shape[:-3]
        out = self.net(images.reshape(-1, *images.shape[-3:]))
        return out.reshape(*leading, *out.shape[1:])


class Condition(nn.Module):
    """net(features(v) ⊕ e(y)): gives a network of vectors a context, over any leading axes of v.

    e(y) is the one-hot code of labels (zeros where a label is missing, −1), embed(y) for an image
    or a caption, or y itself for an attribute vector. Called with y alone, as a conditional prior
    is, it is net(e(y)).

    Args:
        net: Takes vectors of the size of features(v) plus that of e(y).
        classes: The number of labels; None for an attribute vector (N, A).
        features: Turns v into a vector first; flattens images, or is the trunk of a convolutional
            encoder.
        embed: Turns y of any other kind into vectors: `conv_features` of an image, an encoder of a
            caption's tokens.

    Raises:
        ValueError: If both classes and embed are given; while validation is on, if a label is not
            in −1, …, classes − 1.

    Example:
        >>> Condition(nn.Linear(2 + 3, 1), classes=3)(torch.zeros(7, 4, 2), torch.tensor([0, 2, -1, 1])).shape
        torch.Size([7, 4, 1])
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int | None = None,
        features: nn.Module | None = None,
        embed: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if classes is not None and embed is not None:
            raise ValueError(
                "expected classes or embed, got both: an embedding of labels is an embed of its own"
            )
        self.net, self.classes, self.embed = net, classes, embed
        self.features = nn.Identity() if features is None else features

    def forward(self, *inputs: Tensor) -> Tensor:
        *values, y = inputs
        if not values:
            return self.net(self.encode(y, next(self.net.parameters()).dtype))
        v = self.features(values[0])
        code = self.encode(y, v.dtype)
        return self.net(torch.cat([v, code.expand(*v.shape[:-1], -1)], -1))

    def encode(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """e(y), of shape (N, classes) or (N, A)."""
        if self.embed is not None:
            return self.embed(y).to(dtype)
        if self.classes is None:
            return y.to(dtype)
        if is_validation_enabled() and not bool(((y >= -1) & (y < self.classes)).all()):
            raise ValueError(
                f"expected labels in 0, …, {self.classes - 1}, or −1 where missing, got "
                f"{int(y.min())} to {int(y.max())}"
            )
        return (y[..., None] == torch.arange(self.classes, device=y.device)).to(dtype)


def context_width(
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    *,
    needed: bool = False,
) -> int | None:
    """The size of e(y) under `Condition`: the number of classes, or of attributes; None without a
    context.

    Args:
        classes: The number of labels.
        attributes: The length of an attribute vector, or of embed(y).
        embed: Turns any other context into (N, attributes).
        needed: Whether there has to be a context.

    Raises:
        ValueError: If both classes and attributes are given, an embedding without its size, or
            nothing where it is needed.
    """
    if (classes is not None and attributes is not None) or (
        needed and classes is None and attributes is None
    ):
        raise ValueError(
            f"expected either classes or attributes, got classes={classes} and "
            f"attributes={attributes}"
        )
    if embed is not None and attributes is None:
        raise ValueError("expected attributes, the length of embed(y), beside embed; got none")
    return attributes if classes is None else classes


def conv_features(
    shape: Sequence[int], outputs: int, activation: Activation = nn.ReLU
) -> nn.Sequential:
    """Strided 3 × 3 convolutions down to at most 7 × 7, then a linear layer: (*leading, C, H, W) →
    (*leading, outputs).

    Args:
        shape: (C, H, W), each side from 8 to 64.
        outputs: The size of the feature vector, which has passed the activation.
        activation: Makes the module after each layer.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side.
    """
    sides, channels = pyramid(shape)
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), activation()]
    size = channels[-1] * math.prod(sides[-1])
    return nn.Sequential(
        Batched(nn.Sequential(*layers)), nn.Flatten(-3), nn.Linear(size, outputs), activation()
    )


def conv_decoder(
    inputs: int,
    shape: Sequence[int],
    *,
    hidden: int = 256,
    parameters: int = 1,
    activation: Activation = nn.ReLU,
) -> nn.Sequential:
    """The mirror image of `conv_features`: (*leading, inputs) → (*leading, C, H, W), or (*leading,
    C, H, W, P).

    Args:
        inputs: The size of the latent (plus that of its context).
        shape: (C, H, W), each side from 8 to 64.
        hidden: The width of the layer before the convolutions.
        parameters: P, the numbers that the likelihood takes per value.
        activation: Makes the module between two layers.
    """
    sides, channels = pyramid(shape)
    layers: list[nn.Module] = []
    for i in range(len(sides) - 1, 0, -1):
        last = i == 1
        (rows, columns), (coarse_rows, coarse_columns) = sides[i - 1], sides[i]
        extra = (rows - 2 * coarse_rows + 1, columns - 2 * coarse_columns + 1)
        out = channels[0] * parameters if last else channels[i - 1]
        layers += [
            nn.ConvTranspose2d(channels[i], out, 3, stride=2, padding=1, output_padding=extra),
            activation(),
        ]
    size = channels[-1] * math.prod(sides[-1])
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        activation(),
        nn.Linear(hidden, size),
        activation(),
        nn.Unflatten(-1, (channels[-1], *sides[-1])),
        Batched(nn.Sequential(*layers[:-1])),
        nn.Flatten(-3),
        Shape(shape, parameters),
    )


def pyramid(
    shape: Sequence[int], *, smallest: int = 7, least: int = 1
) -> tuple[list[tuple[int, int]], list[int]]:
    """Sides and channels from the image down: halved, rounding up, to at most `smallest` pixels;
    32, 64, … channels.

    Args:
        shape: (C, H, W), each side from 8 to 64.
        smallest: The largest side at the end.
        least: The smallest number of halvings.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side.
    """
    if len(shape) != 3 or not all(8 <= side <= 64 for side in shape[1:]) or shape[0] < 1:
        raise ValueError(
            f"expected an image shape (C, H, W) with 8 to 64 pixels a side, got {tuple(shape)}; "
            "use an mlp"
        )
    channels, height, width = shape
    sides, widths = [(height, width)], [channels]
    while max(sides[-1]) > smallest or len(sides) <= least:
        sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
        widths.append(32 * 2 ** (len(widths) - 1))
    return sides, widths
