"""Which values the draws of a program can take, and whether data lie among them."""

from __future__ import annotations

__all__ = ["reach", "warn_of_data_out_of_reach"]

import math
import warnings
from typing import Any

from torch import Tensor

# The last operation of a network by the name of its backward pass, and where its values lie.
_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Hardsigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
    "Exp": (0.0, math.inf),
}
# Operations that move values about and leave them as they are.
_MOVES = {
    "Alias",
    "Clone",
    "Expand",
    "Permute",
    "Select",
    "Slice",
    "Squeeze",
    "ToCopy",
    "Transpose",
    "UnsafeView",
    "Unsqueeze",
    "View",
    "_ReshapeAlias",
    "_UnsafeView",
}
_SLACK = 0.01  # of the width of a range, which rounding and normalisation may overstep
_SHARE = 0.01  # of the values of a batch


def reach(drawn: Tensor) -> tuple[float, float] | None:
    """The range of the last operation that draws came out of: (0, 1) after a sigmoid.

    Args:
        drawn: Draws with a gradient.

    Returns:
        The least and the largest value that can be, None where it cannot be told: after a linear
        layer, or an operation that is not known.
    """
    node: Any = drawn.grad_fn
    while node is not None:
        operation = node.name().rstrip("0123456789").removesuffix("Backward")
        if operation in _RANGES:
            return _RANGES[operation]
        if operation not in _MOVES:
            return None
        node = node.next_functions[0][0]
    return None


def warn_of_data_out_of_reach(drawn: Tensor, x: Tensor, what: str = "the program") -> None:
    """Warns if more than 1 % of the values of data are where no draw can ever be.

    A generator that ends in a sigmoid never draws the blacks of images in [−1, 1], however long it
    is trained, and a critic tells them apart at once.

    Args:
        drawn: Draws of the program, (n, *shape), with a gradient.
        x: Data, (N, *shape).
        what: What has drawn, for the message.

    Warns:
        RuntimeWarning: With the range of both and the share of values.
    """
    ends = reach(drawn)
    if ends is None:
        return
    lower, upper = ends
    slack = _SLACK * min(upper - lower, 1.0)
    is_outside = (x < lower - slack) | (x > upper + slack)
    share = float(is_outside.double().mean())
    if share <= _SHARE:
        return
    warnings.warn(
        f"expected data where {what} draws, from {lower:g} to {upper:g} by its last layer, got "
        f"{share:.0%} of their values outside, from {float(x.min()):.3g} to {float(x.max()):.3g}: "
        "no draw will ever be like them; bring the data to that range, or end the network in a "
        "layer that reaches them",
        RuntimeWarning,
        stacklevel=3,
    )
