"""KL(q ‖ p) in closed form, for pairs that torch does not know or knows less exactly.

They are registered with torch: its `kl_divergence` knows them once this is imported, as
`ppl_gen.inference` does.
"""

from __future__ import annotations

__all__ = ["closed_divergence"]

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from ppl_gen.distributions import LogScaleNormal


def closed_divergence(q: Any, p: Any) -> Tensor | None:
    """KL(q ‖ p) in nats, of the batch shape of both; None where no closed form is known.

    Args:
        q: A distribution.
        p: A distribution of the same events.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


@register_kl(LogScaleNormal, LogScaleNormal)
def _of_log_scale_normals(q: LogScaleNormal, p: LogScaleNormal) -> Tensor:
    """ηₚ − η + ½ (exp(2(η − ηₚ)) + ((μ − μₚ)/σₚ)² − 1)."""
    narrower = p.log_scale - q.log_scale
    distance = (q.loc - p.loc) / p.scale
    return narrower + 0.5 * ((-2 * narrower).exp() + distance.square() - 1)


@register_kl(torch.distributions.MultivariateNormal, torch.distributions.Independent)
@register_kl(torch.distributions.LowRankMultivariateNormal, torch.distributions.Independent)
def _to_independent_normals(q: Any, p: Any) -> Tensor:
    """KL(N(μ, Σ) ‖ N(μₚ, diag σₚ²)) = ½ Σᵢ ((Σᵢᵢ + (μᵢ − μₚᵢ)²)/σₚᵢ² + log 2πσₚᵢ²) − H[q].

    Raises:
        NotImplementedError: If p is no normal of independent coordinates.
    """
    normal = p.base_dist
    if not isinstance(normal, torch.distributions.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"KL to {p}")
    square = q.variance + (q.mean - normal.mean).square()
    cross = 0.5 * (square / normal.scale.square() + math.log(2 * math.pi)) + _log_scale(normal)
    return cross.sum(-1) - q.entropy()


def _log_scale(normal: Any) -> Tensor:
    """η of a normal, which some keep."""
    if isinstance(normal, LogScaleNormal):
        return normal.log_scale
    return normal.scale.log()
