"""P(x) of one of K values."""

from __future__ import annotations

__all__ = ["Categorical"]

from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.counts import expect_at_least
from ppl_gen.protocols import Distribution


class Categorical(nn.Module):
    """P(x = k/(K−1) | η) = softmax(η)ₖ on the grid of K values in [0, 1].

    The decoder's output is of shape (*batch, *shape, K). For classes that are not a grid, a
    function is enough: `lambda logits: dist.Categorical(logits=logits)`.

    Args:
        levels: K, the number of grid values.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        expect_at_least(2, levels=levels)
        self.parameters_per_value = levels

    def forward(self, logits: Tensor) -> Distribution:
        return distributions.Grid(logits)
