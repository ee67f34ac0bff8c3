"""p(x | η) of values that are 0 or 1, or between."""

from __future__ import annotations

__all__ = ["Bernoulli", "ContinuousBernoulli"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.protocols import Distribution


class Bernoulli(nn.Module):
    """p(x | η) = σ(η)ˣ (1 − σ(η))¹⁻ˣ for x in {0, 1}, with logits η of shape (*batch, *shape).

    Grey pixels are outside its support: on them the expression is not a density.
    """

    def forward(self, logits: Tensor) -> Distribution:
        return dist.Bernoulli(logits=logits)


class ContinuousBernoulli(nn.Module):
    """p(x | η) = C(η) σ(η)ˣ (1 − σ(η))¹⁻ˣ for x in [0, 1], with logits η (*batch, *shape).

    C is the constant that makes it a density, also where σ(η) is 0 or 1 in floating point.

    Reference:
        Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders.
    """

    def forward(self, logits: Tensor) -> Distribution:
        return distributions.ContinuousBernoulli(logits)
