"""The normal distribution by its scale, and by its log scale."""

from __future__ import annotations

__all__ = ["LogScaleNormal", "Normal"]

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class Normal(dist.Normal):
    """N(x; μ, s²), its density in fewer operations than Pyro's: nothing is squared but (x − μ)/s.

    Args:
        loc: μ, of shape (*batch,).
        scale: s, positive, of the same shape.

    Examples:
        >>> Normal(0.0, 2.0).log_prob(torch.tensor(1.0))
        tensor(-1.7371)
        >>> dist.Normal(0.0, 2.0).log_prob(torch.tensor(1.0))
        tensor(-1.7371)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        standardised = (value - self.loc) / self.scale
        return -0.5 * standardised.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)


class LogScaleNormal(dist.Normal):
    """N(x; μ, exp(η)²): a normal that keeps η, so that its density never takes the log of an exp.

    Args:
        loc: μ, of shape (*batch,).
        log_scale: η, of the same shape.

    Examples:
        >>> z = LogScaleNormal(torch.tensor(0.0), log_scale=torch.tensor(-1.0))
        >>> z.scale, z.log_prob(torch.tensor(0.0))
        (tensor(0.3679), tensor(0.0811))
    """

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        self.log_scale = log_scale
        super().__init__(loc, log_scale.exp(), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogScaleNormal:
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return LogScaleNormal(self.loc.expand(batch_shape), self.log_scale.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        standardised = (value - self.loc) / self.scale
        return -0.5 * standardised.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
