"""Networks of vectors, and the layers that let any network take data with more axes in front."""

from __future__ import annotations

__all__ = ["Activation", "Batched", "Shape", "mlp"]

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_number
from ppl_gen.memory import expect_weights

Activation = Callable[[], nn.Module]


def mlp(sizes: Sequence[int], activation: Activation = nn.ReLU) -> nn.Sequential:
    """R^sizes[0] → … → R^sizes[-1]: linear layers, an activation between each two of them.

    Any number of axes may come before that of the vector.

    Args:
        sizes: The width of every layer, input and output included.
        activation: Makes the module between two layers.

    Raises:
        ValueError: If there are fewer than two sizes, one is below 1, or the weights do not fit
            into memory.

    Examples:
        >>> import torch
        >>> mlp([784, 200, 10])(torch.zeros(3, 5, 784)).shape
        torch.Size([3, 5, 10])
    """
    for size in sizes:
        expect_number(**{"a layer's size": size})
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"expected at least an input and an output size, all positive, got {list(sizes)}"
        )
    expect_weights(*pairwise(sizes))
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        if layers:
            layers.append(activation())
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


class Shape(nn.Module):
    """(*batch, D) → (*batch, *shape, P + Q), without the last axis if P = 1 and Q = 0.

    A decoder's last layer. The first P numbers of a value are its own; the last Q are those of its
    datum, the same for all of its values.

    Args:
        shape: The shape of one datum.
        parameters: P, the numbers that the likelihood takes per value.
        per_datum: Q, the numbers that the likelihood takes per datum besides.

    Attributes:
        inputs: D, P times the number of values plus Q.

    Examples:
        >>> import torch
        >>> Shape((1, 8, 8), 1, 1).inputs, Shape((1, 8, 8), 1, 1)(torch.zeros(5, 65)).shape
        (65, torch.Size([5, 1, 8, 8, 2]))
    """

    def __init__(self, shape: Sequence[int], parameters: int = 1, per_datum: int = 0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.per_value = parameters
        self.per_datum = per_datum
        self.inputs = parameters * math.prod(shape) + per_datum

    def forward(self, flat: Tensor) -> Tensor:
        if (self.per_value, self.per_datum) == (1, 0):
            return flat.unflatten(-1, self.shape)
        # In memory the numbers come first: all of one kind, value by value, and then the next.
        numbers = []
        if self.per_value > 0:
            own = flat[..., : self.inputs - self.per_datum]
            numbers.append(own.unflatten(-1, (self.per_value, *self.shape)))
        if self.per_datum > 0:
            shared = flat[..., self.inputs - self.per_datum :]
            for _ in self.shape:
                shared = shared.unsqueeze(-1)
            numbers.append(shared.expand(*flat.shape[:-1], self.per_datum, *self.shape))
        joined = numbers[0]
        if len(numbers) > 1:
            joined = torch.cat(numbers, -1 - len(self.shape))
        return joined.movedim(-1 - len(self.shape), -1)


class Batched(nn.Module):
    """Lets a network of (N, *datum) take (*leading, *datum), as particles and chains need it.

    Args:
        net: Any network of a batch, (N, *datum) → (N, *output).
        axes: How many axes one datum of its input has: 3 for images (C, H, W), 1 for vectors, such
            as the latents that a decoder takes.

    Raises:
        ValueError: If axes is below 1.

    Examples:
        >>> import torch
        >>> decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
        >>> Batched(decoder, axes=1)(torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5, 1, 4, 4])
    """

    def __init__(self, net: nn.Module, axes: int = 3) -> None:
        super().__init__()
        if axes < 1:
            raise ValueError(
                f"expected axes of at least 1, got {axes}; 3 for images, 1 for vectors"
            )
        self.net = net
        self.axes = axes

    def forward(self, data: Tensor) -> Tensor:
        leading = data.shape[: -self.axes]
        out = self.net(data.reshape(-1, *data.shape[-self.axes :]))
        return out.reshape(*leading, *out.shape[1:])
