"""How precisely networks are computed: in float32, in TF32, or with products in bfloat16.

Log densities, and sums of them, are in float32 throughout: what is rounded is what goes into the
linear maps and convolutions of networks. What that costs in nats is for the user to see.
"""

from __future__ import annotations

__all__ = ["Precision", "expect_precision", "float32_alone", "in_precision", "networks_in", "tf32"]

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Precision = Literal["float32", "tf32", "bfloat16"]

_R = TypeVar("_R")

# What networks multiply weights by.
_PRODUCTS = frozenset(
    [
        functional.linear,
        functional.conv1d,
        functional.conv2d,
        functional.conv3d,
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    ]
)


def expect_precision(precision: str) -> None:
    """Raises ValueError unless a precision is one of those in `Precision`."""
    known = get_args(Precision)
    if precision not in known:
        raise ValueError(f"expected a precision of {', '.join(known)}, got {precision!r}")


def networks_in(precision: Precision) -> AbstractContextManager[Any]:
    """Has networks multiply in bfloat16 meanwhile, if that is the precision.

    y = float32(bfloat16(W) bfloat16(x) + bfloat16(b)) for each linear map and convolution; in
    gradients too. Weights, and all else, stay in float32. A trace takes note of it.

    Args:
        precision: "bfloat16"; others change nothing here.
    """
    if precision == "bfloat16":
        return _Products()
    return nullcontext()


def in_precision(function: Callable[..., _R], precision: Precision) -> Callable[..., _R]:
    """The function, with its networks in a precision.

    Args:
        function: What runs networks.
        precision: Of their products.
    """
    if precision != "bfloat16":
        return function

    @functools.wraps(function)
    def rounded(*args: Any, **options: Any) -> _R:
        with networks_in(precision):
            return function(*args, **options)

    return rounded


class _Products(TorchFunctionMode):
    """Rounds what products of networks take to bfloat16, and returns float32."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in _PRODUCTS or args[0].dtype != torch.float32:
            return function(*args, **kwargs)
        rounded = [_rounded(argument) for argument in args]
        named = {name: _rounded(argument) for name, argument in kwargs.items()}
        return function(*rounded, **named).to(torch.float32)


def _rounded(argument: Any) -> Any:
    """A tensor of float32 in bfloat16; anything else as it is."""
    if isinstance(argument, Tensor) and argument.dtype == torch.float32:
        return argument.to(torch.bfloat16)
    return argument


def tf32(precision: Precision) -> AbstractContextManager[None]:
    """Lets CUDA devices multiply float32 in TF32 meanwhile, if that is the precision.

    TF32 has 10 bits behind the point, of float32's 23. Processors know none of it.

    Args:
        precision: "tf32"; others leave torch's settings as they are, which round convolutions to
            TF32 and nothing else, unless a user has changed them.
    """
    if precision == "tf32":
        return _tf32(True)
    return nullcontext()


def float32_alone() -> AbstractContextManager[None]:
    """Keeps CUDA devices from TF32, of convolutions too."""
    return _tf32(False)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    products = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    wanted = "highest"
    if allowed:
        wanted = "high"
    try:
        torch.set_float32_matmul_precision(wanted)
        torch.backends.cudnn.allow_tf32 = allowed
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
