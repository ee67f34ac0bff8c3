"""q(y | x) of labels."""

from __future__ import annotations

__all__ = ["Classifier"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.protocols import Distribution


class Classifier(nn.Module):
    """q(y | x) = softmax(ℓ(x)) over K labels, with ℓ = net(x).

    Args:
        net: Maps x to (*batch, K), one logit for each label.

    Examples:
        >>> q = Classifier(nn.Linear(4, 10))
        >>> q(torch.zeros(5, 4)).probs.shape
        torch.Size([5, 10])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        return dist.Categorical(logits=self.net(*context))
