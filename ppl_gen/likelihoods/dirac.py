"""The likelihood of models without one."""

from __future__ import annotations

__all__ = ["Dirac"]

import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.protocols import Distribution


class Dirac(nn.Module):
    """p(x | μ) = δ(x − μ): the likelihood of an implicit model.

    It has draws and no density; `Observed` gives the model another likelihood, which has.

    Examples:
        >>> Dirac()(torch.ones(3)).sample()
        tensor([1., 1., 1.])
    """

    def forward(self, loc: Tensor) -> Distribution:
        return dist.Delta(loc)
