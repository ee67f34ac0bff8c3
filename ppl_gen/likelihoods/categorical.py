"""P(x) of one of K values."""

from __future__ import annotations

__all__ = ["Categorical", "Label"]

from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.counts import expect_at_least
from ppl_gen.protocols import Distribution


class Categorical(nn.Module):
    """P(x = k/(K−1) | η) = softmax(η)ₖ on the grid of K values in [0, 1].

    The decoder's output is of shape (*batch, *shape, K). For classes that are not a grid there is
    `Label`.

    Args:
        levels: K, the number of grid values.

    Examples:
        >>> levels = Categorical(4)
        >>> levels.parameters_per_value, levels(torch.zeros(2, 4)).mean
        (4, tensor([0.5000, 0.5000]))
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        expect_at_least(2, levels=levels)
        self.parameters_per_value = levels

    def forward(self, logits: Tensor) -> Distribution:
        return distributions.Grid(logits)


class Label(nn.Module):
    """P(x = k | η) = softmax(η)ₖ for k = 0, …, K − 1: one of K classes, which have no order.

    The decoder's output is of shape (*batch, *shape, K).

    Args:
        classes: K, the number of classes.

    Examples:
        >>> Label(3)(torch.zeros(5, 3)).log_prob(torch.tensor([0.0, 1, 2, 0, 1])).exp()
        tensor([0.3333, 0.3333, 0.3333, 0.3333, 0.3333])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        expect_at_least(2, classes=classes)
        self.parameters_per_value = classes

    def forward(self, logits: Tensor) -> Distribution:
        return distributions.Classes(logits=logits)
