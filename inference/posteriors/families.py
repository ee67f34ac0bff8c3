"""Families of distributions for each datum by itself, which begin at what a guide says of it."""

from __future__ import annotations

__all__ = ["GaussianMixtureByDatum", "LowRankByDatum"]

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import GaussianMixture
from ppl_gen.inference.fitting.guides import full_covariance
from ppl_gen.protocols import Distribution

_APART = 0.3  # standard deviations, by which columns and components begin apart


def _waves(count: int, like: Tensor) -> Tensor:
    """`count` different directions, (count, D), the same in every call."""
    steps = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
    numbers = torch.arange(1, count + 1, dtype=like.dtype, device=like.device)
    return torch.cos(numbers[:, None] * (steps + 0.5))


@dataclass(frozen=True)
class LowRankByDatum:
    """N(μ, diag(d) + UUᵀ) with U of R columns, for each datum.

    To begin with, mean and standard deviations are those of q, or nearly.

    Args:
        rank: R, the number of columns.

    Raises:
        ValueError: If the rank is below 1; when it is called, if q is no distribution of vectors or
            its moments are not known.

    Examples:
        >>> q = dist.Normal(torch.zeros(5, 3), 1.0).to_event(1)
        >>> parameters, make = LowRankByDatum(rank=1)(q)
        >>> make(**parameters).covariance_matrix.shape
        torch.Size([5, 3, 3])
    """

    rank: int = 5

    def __post_init__(self) -> None:
        expect_at_least(1, rank=self.rank)

    def __call__(self, q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
        """Parameters, and the constructor that they belong to.

        Args:
            q: The guide's distribution of a site.
        """
        if not q.event_shape:
            return full_covariance(q)
        full_covariance(q)  # raises where it has no moments
        columns = _APART * _waves(self.rank, q.mean).T / self.rank**0.5
        start = {
            "loc": q.mean,
            "cov_factor": q.stddev[..., None] * columns,
            "cov_diag": q.variance * (1 - _APART**2),
        }
        return start, _low_rank_normal


def _low_rank_normal(**parameters: Tensor) -> Distribution:
    return dist.LowRankMultivariateNormal(**parameters, validate_args=False)


@dataclass(frozen=True)
class GaussianMixtureByDatum:
    """Σₖ πₖ N(μₖ, diag σₖ²), for each datum.

    To begin with, the components stand a little apart about the mean of q.

    Args:
        components: The number of components.

    Raises:
        ValueError: If it is below 1; when it is called, if q is no distribution of vectors or its
            moments are not known.

    Examples:
        >>> q = dist.Normal(torch.zeros(5, 2), 1.0).to_event(1)
        >>> parameters, make = GaussianMixtureByDatum(components=3)(q)
        >>> make(**parameters).sample().shape
        torch.Size([5, 2])
    """

    components: int = 4

    def __post_init__(self) -> None:
        expect_at_least(1, components=self.components)

    def __call__(self, q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
        """Parameters, and the constructor that they belong to.

        Args:
            q: The guide's distribution of a site.
        """
        if not q.event_shape:
            return full_covariance(q)
        full_covariance(q)  # raises where it has no moments
        apart = _APART * _waves(self.components, q.mean)
        loc = q.mean[:, None] + q.stddev[:, None] * apart
        start = {
            "loc": loc,
            "log_scale": q.stddev.log()[:, None].expand_as(loc),
            "logits": torch.zeros_like(loc[..., 0]),
        }
        return start, _mixture


def _mixture(loc: Tensor, log_scale: Tensor, logits: Tensor) -> Distribution:
    return GaussianMixture(loc.movedim(1, 0), log_scale.movedim(1, 0), logits.movedim(1, 0))
