"""q(z | x, context): families of approximate posteriors.

Each is a Conditional, but for `from_prior` and `automatic` (defined in `ppl_gen.autoguides`), which
make whole guides.
"""

from __future__ import annotations

__all__ = ["DiagonalGaussian", "automatic", "from_prior"]

from typing import Any

from pyro import poutine
from torch import Tensor, nn

from ppl_gen.autoguides import automatic
from ppl_gen.contexts import simulates
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.protocols import Distribution, Guide, Program


class DiagonalGaussian(nn.Module):
    """q(z | c) = N(z; μ(c), diag exp(η(c))²), with (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard
            deviations.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        loc, log_scale = self.net(*context).chunk(2, -1)
        return LogScaleNormal(loc, log_scale).to_event(1)


def from_prior(program: Program) -> Guide:
    """q(z | x, context) = p(z | context), for a program that has no guide of its own.

    `log_evidence(gan, from_prior(gan), x)` is simple Monte Carlo, which is accurate for a few
    latents only; `ais` begins at this guide by itself.

    Args:
        program: Any program; one whose model takes no `n` is run on the data.
    """

    def guide(x: Tensor, *context: Tensor) -> Any:
        if not simulates(program.model):
            return poutine.block(program.model, hide_fn=_is_data)(x, *context)
        without_data = poutine.block(program.model, hide=["x"])
        return without_data(None, *context, n=x.shape[0])

    return guide


def _is_data(site: Any) -> bool:
    """Whether this is an observed sample statement."""
    return site["type"] == "sample" and site["is_observed"]
