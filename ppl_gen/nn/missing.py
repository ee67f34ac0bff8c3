"""Networks that are given data with missing entries, which are NaN."""

from __future__ import annotations

__all__ = ["ZeroFilled", "network_of_data"]

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ZeroFilled(nn.Module):
    """net(x with 0 where it is NaN, *context): lets an encoder take data with missing entries.

    Any network or encoder of complete data may be wrapped after it was fitted. With `axes`, the
    network is also told what is missing, which one that is fitted to such data can learn from.

    Args:
        net: A network, or a whole encoder.
        axes: How many axes one datum has; then `net` takes data (2C, ...) for data (C, ...): below
            the entries, 1 where they are observed and 0 where they are missing. None leaves the
            shape as it is.

    Example:
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
    """
    shape = tuple(shape)
    if not missing:
        return make(shape)
    return ZeroFilled(make((2 * shape[0], *shape[1:])), axes=len(shape))
