"""p(x | η) of values that are 0 or 1, or between."""

from __future__ import annotations

__all__ = ["Bernoulli", "Beta", "ContinuousBernoulli"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen import distributions
from ppl_gen.likelihoods.parameters import columns_of
from ppl_gen.protocols import Distribution


class Bernoulli(nn.Module):
    """p(x | η) = σ(η)ˣ (1 − σ(η))¹⁻ˣ for x in {0, 1}, with logits η of shape (*batch, *shape).

    Grey pixels are outside its support: on them the expression is not a density.

    Examples:
        >>> pixels = Bernoulli()(torch.zeros(5, 1, 8, 8))  # what a decoder returns
        >>> pixels.batch_shape, pixels.mean.unique()
        (torch.Size([5, 1, 8, 8]), tensor([0.5000]))
    """

    def forward(self, logits: Tensor) -> Distribution:
        return dist.Bernoulli(logits=logits)


class ContinuousBernoulli(nn.Module):
    """p(x | η) = C(η) σ(η)ˣ (1 − σ(η))¹⁻ˣ for x in [0, 1], with logits η (*batch, *shape).

    C is the constant that makes it a density, also where σ(η) is 0 or 1 in floating point.

    Examples:
        >>> grey = ContinuousBernoulli()(torch.tensor([0.0, 2.0]))
        >>> grey.mean, grey.log_prob(torch.tensor([0.9, 0.9])).exp()
        (tensor([0.5000, 0.6565]), tensor([1.0000, 1.8938]))

    Reference:
        Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders.
    """

    def forward(self, logits: Tensor) -> Distribution:
        return distributions.ContinuousBernoulli(logits)


class Beta(nn.Module):
    """p(x | η, ρ) = Beta(x; φσ(η), φσ(−η)) for 0 < x < 1, with the precision φ = exp ρ.

    Its mean is σ(η) and its variance σ(η) σ(−η)/(1 + φ). The decoder's output (η, ρ) is of shape
    (*batch, *shape, 2). The ends 0 and 1 are outside its support: there it has a density of 0 or a
    pole. Data that have them are moved inside, by (x (N − 1) + ½)/N, or are the matter of
    `ContinuousBernoulli`.

    Examples:
        >>> shares = Beta()(torch.zeros(5, 3, 2))  # a logit and a log precision for each value
        >>> shares.batch_shape, shares.mean.unique()
        (torch.Size([5, 3]), tensor([0.5000]))
    """

    parameters_per_value = 2

    def forward(self, parameters: Tensor) -> Distribution:
        logits, log_precision = columns_of(parameters)
        return distributions.Beta(logits, log_precision)
