"""Stored data as a prior."""

from __future__ import annotations

__all__ = ["Empirical"]

import torch
from torch import Tensor, nn

from ppl_gen.arguments import expect_devices, expect_tensor
from ppl_gen.counts import expect_number
from ppl_gen.distributions import StoredPoints
from ppl_gen.protocols import Distribution


class Empirical(nn.Module):
    """p(z) = (1/N) Σᵢ δ(z − xᵢ): stored data as a prior, the same under every context.

    A translator between domains is a program with such a prior: z is drawn from the data of one
    domain, and x is made of it. The data move with the module and stay out of its `state_dict`.

    Args:
        x: Data (N, *shape), of a floating dtype; one datum is one event.
        jitter: ε, in the units of x: smooths each point to N(xᵢ, ε²I), which gives z a density.
            None draws stored rows as they are.

    Raises:
        ValueError: If there are no data, they are scalars or of no floating dtype, or ε is not
            positive.

    Examples:
        >>> prior = Empirical(torch.rand(50, 1, 8, 8))()
        >>> prior.batch_shape, prior.event_shape
        (torch.Size([]), torch.Size([1, 8, 8]))
    """

    x: Tensor

    def __init__(self, x: Tensor, *, jitter: float | None = None) -> None:
        super().__init__()
        expect_tensor("data", x)
        expect_devices((), (x,))
        if x.dim() < 2 or 0 in x.shape or not x.is_floating_point():
            raise ValueError(
                f"expected data (N, *shape) of a floating dtype, got {x.dtype} of shape "
                f"{tuple(x.shape)}"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("expected finite data, got NaN or infinite values; remove them")
        if jitter is not None:
            expect_number(jitter=jitter)
        if jitter is not None and not 0 < jitter < float("inf"):
            raise ValueError(
                f"expected a positive, finite jitter, got {jitter}; leave it out to draw stored "
                "rows"
            )
        self.register_buffer("x", x.detach(), persistent=False)
        self.jitter = jitter

    def forward(self, *context: Tensor) -> Distribution:
        return StoredPoints(self.x, self.jitter)
