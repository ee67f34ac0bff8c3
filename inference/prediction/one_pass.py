"""What is missing, as one pass through encoder and decoder has it."""

from __future__ import annotations

__all__ = ["one_pass"]

from typing import Any

import torch
from torch import Tensor

from ppl_gen.arguments import described, expect_tensor
from ppl_gen.contexts import evaluating, forked
from ppl_gen.paths import is_autoencoder
from ppl_gen.program import reconstruct
from ppl_gen.protocols import Guide


def one_pass(
    program: Any, x: Tensor, mask: Tensor, *context: Tensor, guide: Guide | None = None
) -> Tensor:
    """E[x | z] where missing, x elsewhere, at one z ~ q(z | x with 0 where missing), (N, *shape).

    The encoder takes the zeros for data, as it was never told otherwise: `impute` draws from
    p(x missing | x observed) instead, of which this is no draw and no mean.

    Args:
        program: Any program with a guide, or an autoencoder; in evaluation mode.
        x: Data (N, *shape); what it is where the mask is true is not looked at.
        mask: True where an entry is missing, of the shape of x, or of one datum.
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If the mask is no Boolean tensor of that shape, there is no guide, or the
            program cannot be run on the data.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> x = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
        >>> filled = one_pass(vae, x, torch.tensor([[False, False, True, True]]))
        >>> filled[:, :2]  # what is known stays
        tensor([[1., 0.]])
    """
    expect_tensor("data", x)
    expect_tensor("mask", mask)
    if mask.dtype != torch.bool or mask.shape not in (x.shape, x.shape[1:]):
        raise ValueError(
            f"expected a mask of booleans of shape {tuple(x.shape)} or {tuple(x.shape[1:])}, True "
            f"where missing, got {described(mask)}"
        )
    blank = x.masked_fill(mask, 0)
    if guide is None and is_autoencoder(program):
        with evaluating(program):
            drawn: Tensor = program(blank)
    else:
        with forked(x.device, 0):
            drawn = reconstruct(program, blank, *context, guide=guide)
    return torch.where(mask, drawn, x)
