"""Networks that are given data with missing entries, which are NaN."""

from __future__ import annotations

__all__ = ["ZeroFilled", "mlp_of_data", "network_of_data"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.nn.layers import Activation, mlp


class ZeroFilled(nn.Module):
    """net(x with 0 where it is NaN, *context): lets an encoder take data with missing entries.

    Any network or encoder of complete data may be wrapped after it was fitted. With `axes`, the
    network is also told what is missing, which one that is fitted to such data can learn from.

    Args:
        net: A network, or a whole encoder.
        axes: How many axes one datum has; then `net` takes data (2C, ...) for data (C, ...): below
            the entries, 1 where they are observed and 0 where they are missing. None leaves the
            shape as it is.

    Examples:
        >>> x = torch.tensor([[1.0, torch.nan]])
        >>> ZeroFilled(nn.Identity())(x)
        tensor([[1., 0.]])
        >>> ZeroFilled(nn.Identity(), axes=1)(x)
        tensor([[1., 0., 1., 0.]])
    """

    def __init__(self, net: Any, axes: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.axes = axes

    def forward(self, x: Tensor, *context: Tensor) -> Any:
        is_missing = x.isnan()
        filled = torch.where(is_missing, 0.0, x)
        if self.axes is not None:
            filled = torch.cat([filled, (~is_missing).to(x.dtype)], -self.axes)
        return self.net(filled, *context)


def network_of_data(
    make: Callable[[tuple[int, ...]], nn.Module], shape: Sequence[int], *, missing: bool
) -> nn.Module:
    """make(shape), or, where entries may be missing, a network that sees which they are.

    Args:
        make: From the shape of what a network takes, (C, ...), to the network.
        shape: The shape of one datum.
        missing: Whether entries may be NaN; then `make` is given (2C, ...) (see `ZeroFilled`).

    Examples:
        >>> def linear(shape):
        ...     return nn.Linear(shape[0], 5)
        >>> network_of_data(linear, (3,), missing=False)
        Linear(in_features=3, out_features=5, bias=True)
        >>> net = network_of_data(linear, (3,), missing=True)
        >>> net(torch.tensor([[1.0, torch.nan, 2.0]])).shape
        torch.Size([1, 5])
    """
    shape = tuple(shape)
    if not missing:
        return make(shape)
    return ZeroFilled(make((2 * shape[0], *shape[1:])), axes=len(shape))


def mlp_of_data(
    shape: Sequence[int],
    widths: Sequence[int],
    activation: Activation = nn.ReLU,
    *,
    missing: bool = False,
) -> nn.Module:
    """A perceptron of data (*batch, *shape): all their values – widths; sees what is missing.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        widths: The widths of its layers, that of the output included.
        activation: Makes the module between two layers.
        missing: Whether entries may be NaN.

    Raises:
        ValueError: If there are no widths, a size is below 1, or the weights do not fit into
            memory.

    Examples:
        >>> net = mlp_of_data((2, 3), [4, 5], missing=True)
        >>> net(torch.full((7, 2, 3), torch.nan)).shape
        torch.Size([7, 5])
    """

    def perceptron(seen: Sequence[int]) -> nn.Module:
        layers = mlp([math.prod(seen), *widths], activation)
        return nn.Sequential(nn.Flatten(-len(seen)), layers)

    return network_of_data(perceptron, shape, missing=missing)
