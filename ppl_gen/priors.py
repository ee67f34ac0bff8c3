"""p(z | context): priors. Every one is a Conditional, takes any context and may ignore it."""

from __future__ import annotations

__all__ = ["ConditionalNormal", "Empirical", "OneHot", "StandardNormal", "Uniform"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.arguments import expect_devices, expect_tensor
from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.distributions import LogScaleNormal, StoredPoints
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I), the same under every context.

    Args:
        dim: D, the dimension of z.
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_weights((2, dim))
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("log_scale", torch.zeros(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return LogScaleNormal(self.loc, self.log_scale).to_event(1)


class Uniform(nn.Module):
    """p(z) = 2⁻ᴰ on [−1, 1]ᴰ, the code of Radford et al. (2016), the same under every context.

    Args:
        dim: D, the dimension of z.
    """

    end: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_weights((2, dim))
        self.register_buffer("end", torch.ones(dim), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.Uniform(-self.end, self.end).to_event(1)


class OneHot(nn.Module):
    """p(c) = 1/K for each of the K unit vectors, a discrete code; the same under every context.

    Args:
        categories: K, at least 2.
    """

    probs: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        expect_at_least(1, categories=categories)
        if categories < 2:
            raise ValueError(f"expected at least 2 categories, got {categories}")
        expect_weights((categories,))
        self.register_buffer("probs", torch.full((categories,), 1 / categories), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return dist.OneHotCategorical(self.probs)


class ConditionalNormal(DiagonalGaussian):
    """p(z | y) = N(z; μ(y), diag exp(η(y))²), with (μ, η) = net(y).

    The same family as the guide `DiagonalGaussian`, in the place of a prior.

    Args:
        net: Maps y to (N, 2D), the D means followed by the D log standard deviations;
            `Condition(mlp([classes, ..., 2 * D]), classes)` takes labels.
    """


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

    Example:
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
