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
