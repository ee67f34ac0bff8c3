"""The prior in the place of a guide."""

from __future__ import annotations

__all__ = ["from_prior"]

from typing import Any

from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import simulates
from ppl_gen.protocols import Guide, Program


def from_prior(program: Program) -> Guide:
    """q(z | x, context) = p(z | context), for a program that has no guide of its own.

    `log_evidence(gan, from_prior(gan), x)` is simple Monte Carlo, which is accurate for a few
    latents only; `ais` begins at this guide by itself.

    Args:
        program: Any program; one whose model takes no `n` is run on the data.

    Examples:
        >>> from ppl_gen.inference import log_evidence
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(1, 3)
        >>> found = log_evidence(ppca, from_prior(ppca), x, particles=10_000, seed=0)
        >>> round(found.value.item(), 1), round(ppca.exact_log_evidence(x).item(), 1)
        (-3.4, -3.4)
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
