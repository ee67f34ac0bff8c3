"""Networks that take a context beside their input: labels, attributes, images or captions."""

from __future__ import annotations

__all__ = ["Condition", "check_labels", "context_width"]

from typing import Literal, overload

import torch
from pyro.distributions import is_validation_enabled
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.arguments import whole
from ppl_gen.counts import expect_at_least


class Condition(nn.Module):
    """net(features(v) ⊕ e(y)): gives a network of vectors a context, over any leading axes of both.

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

    Examples:
        >>> net = Condition(nn.Linear(2 + 3, 1), classes=3)
        >>> net(torch.zeros(7, 4, 2), torch.tensor([0, 2, -1, 1])).shape
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
        if features is None:
            features = nn.Identity()
        self.net = net
        self.classes = classes
        self.embed = embed
        self.features = features

    def forward(self, *inputs: Tensor) -> Tensor:
        *values, y = inputs
        if not values:
            dtype = next(self.net.parameters()).dtype
            return self.net(self.encode(y, dtype))
        v = self.features(values[0])
        code = self.encode(y, v.dtype)
        leading = torch.broadcast_shapes(v.shape[:-1], code.shape[:-1])
        if leading != v.shape[:-1]:
            return self._at_each(v, code, leading)
        code = code.expand(*v.shape[:-1], -1)
        return self.net(torch.cat([v, code], -1))

    def _at_each(self, v: Tensor, code: Tensor, leading: torch.Size) -> Tensor:
        """net(v ⊕ e(y)) where each v meets many y, as where labels are summed out.

        A first layer that is linear is linear in v and e(y) apart: v goes through it once.
        """
        net = self.net
        first, rest = net, nn.Sequential()
        if isinstance(net, nn.Sequential) and len(net) > 0:
            first, rest = net[0], net[1:]
        if not isinstance(first, nn.Linear):
            parts = [v.expand(*leading, -1), code.expand(*leading, -1)]
            return net(torch.cat(parts, -1))
        of_v, of_code = first.weight.split([v.shape[-1], code.shape[-1]], -1)
        return rest(F.linear(v, of_v, first.bias) + F.linear(code, of_code))

    def encode(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """e(y), of shape (*leading, N, classes) or (N, A).

        Args:
            y: Labels (N,) or (*leading, N), −1 where missing; attribute vectors (N, A); or what
                `embed` takes.
            dtype: The dtype of the code.
        """
        if self.embed is not None:
            return self.embed(y).to(dtype)
        if self.classes is None:
            return y.to(dtype)
        y = whole(y)
        if is_validation_enabled():
            check_labels(y, self.classes)
        return (y[..., None] == torch.arange(self.classes, device=y.device)).to(dtype)


def check_labels(y: Tensor, classes: int) -> None:
    """Raises ValueError unless every label is in −1, …, classes − 1.

    Args:
        y: Labels, −1 where missing.
        classes: How many there are.
    """
    known = (y >= -1) & (y < classes)
    if not bool(known.all()):
        raise ValueError(
            f"expected labels in 0, …, {classes - 1}, or −1 where missing, got "
            f"{int(y.min())} to {int(y.max())}"
        )


@overload
def context_width(
    classes: int | None = ...,
    attributes: int | None = ...,
    embed: nn.Module | None = ...,
    *,
    needed: Literal[True],
) -> int: ...
@overload
def context_width(
    classes: int | None = ...,
    attributes: int | None = ...,
    embed: nn.Module | None = ...,
    *,
    needed: bool = ...,
) -> int | None: ...
def context_width(
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    *,
    needed: bool = False,
) -> int | None:
    """The size of e(y) under `Condition`: the number of classes or attributes; None without y.

    Args:
        classes: The number of labels, if y is a label.
        attributes: A, the length of an attribute vector, or of embed(y).
        embed: Turns any other context into vectors (N, A).
        needed: Whether there has to be a context.

    Raises:
        ValueError: If both classes and attributes are given, either is no count, an embedding has
            no size, or nothing is given where it is needed.

    Examples:
        >>> context_width(classes=10), context_width(attributes=40), context_width()
        (10, 40, None)
    """
    expect_at_least(1, classes=classes, attributes=attributes)
    both = classes is not None and attributes is not None
    neither = classes is None and attributes is None
    if both or (needed and neither):
        raise ValueError(
            f"expected either classes or attributes, got classes={classes} and "
            f"attributes={attributes}"
        )
    if embed is not None and attributes is None:
        raise ValueError("expected attributes, the length of embed(y), beside embed; got none")
    if classes is None:
        return attributes
    return classes
