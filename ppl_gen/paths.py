"""From one datum to another: what a program draws along the line between their latents."""

from __future__ import annotations

__all__ = ["path"]

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.arguments import expect_data, expect_devices, traced
from ppl_gen.contexts import evaluating, guide_of
from ppl_gen.counts import expect_at_least
from ppl_gen.program import Observed
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import is_auxiliary, latent_sites


def path(
    program: Program, x: Tensor, *context: Tensor, steps: int = 11, guide: Guide | None = None
) -> Tensor:
    """E[x | z] at z = (1 − t) E[z | x₀] + t E[z | x₁], t = 0, …, 1, of shape (steps, *shape).

    What has no mean, as lines of text, is the likeliest instead, token by token.

    Args:
        program: Any program with continuous latents; in evaluation mode meanwhile.
        x: Two data, (2, *shape).
        *context: What the program is conditioned on, each of length 2; its row of the nearer end is
            taken.
        steps: The number of points, both ends included.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If x is not two data, there are fewer than two steps, or the program cannot be
            run on them.
    """
    expect_at_least(2, steps=steps)
    guide = guide_of(program, guide)
    expect_data(program, (x, *context))
    if x.shape[0] != 2:
        raise ValueError(f"expected two data, the ends of a path, got {x.shape[0]}; give both")
    expect_devices((guide,), (x, *context))
    share = torch.linspace(0, 1, steps, device=x.device)
    nearer = (share > 0.5).long()
    with evaluating(program, guide):
        drawn = traced(guide, (x, *context), "guide")
        latents = {}
        for name, site in latent_sites(drawn).items():
            if is_auxiliary(site):
                continue
            start, end = _middle(site)
            along = share.to(start.dtype).reshape(-1, *[1] * start.dim())
            latents[name] = torch.lerp(start, end, along)
        given = [c[nearer] for c in context]
        centred = Observed(program, dist.Delta)
        return poutine.condition(centred.model, data=latents)(None, *given, n=steps)


def _middle(site: Any) -> tuple[Tensor, Tensor]:
    """The means of a latent at both data; its draws where its distribution has no mean."""
    try:
        middle = site["fn"].mean
    except NotImplementedError:
        middle = site["value"]
    return middle[0], middle[1]
