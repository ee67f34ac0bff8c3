"""p(c) of discrete codes, and p(y) of labels."""

from __future__ import annotations

__all__ = ["Labels", "OneHot"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class OneHot(nn.Module):
    """p(c) = 1/K for each of the K unit vectors, a discrete code; the same under every context.

    Args:
        categories: K, at least 2.

    Examples:
        >>> code = OneHot(4)().sample()
        >>> code.shape, code.sum()
        (torch.Size([4]), tensor(1.))
    """

    probs: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        expect_at_least(1, categories=categories)
        if categories < 2:
            raise ValueError(f"expected at least 2 categories, got {categories}")
        expect_weights((categories,))
        self.register_buffer("probs", torch.full((categories,), 1 / categories), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.OneHotCategorical(self.probs)


class Labels(nn.Module):
    """p(y) = softmax(ℓ) over K labels 0, …, K − 1: uniform, or learned with the rest.

    Args:
        classes: K, at least 2.
        learned: Whether ℓ, zero at first, is a parameter. What teaches it are the data without a
            label: those with one are as frequent as somebody chose.

    Raises:
        ValueError: If there are fewer than 2 classes.

    Examples:
        >>> Labels(4)().log_prob(torch.tensor(3.0)).exp()
        tensor(0.2500)
    """

    def __init__(self, classes: int, *, learned: bool = False) -> None:
        super().__init__()
        expect_at_least(1, classes=classes)
        if classes < 2:
            raise ValueError(f"expected at least 2 classes, got {classes}")
        expect_weights((classes,))
        self.logits = nn.Parameter(torch.zeros(classes), requires_grad=learned)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.Categorical(logits=self.logits)
