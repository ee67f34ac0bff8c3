"""p(z) with most of its mass near zero, and room for large values."""

from __future__ import annotations

__all__ = ["Horseshoe", "SpikeAndSlab"]

import math

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number, expect_positive
from ppl_gen.distributions import LogScaleNormal, MarginalHorseshoe, Mixture
from ppl_gen.memory import expect_weights
from ppl_gen.protocols import Distribution


class Horseshoe(nn.Module):
    """p(z) = ∏_d ∫ N(z_d; 0, τ²λ²) C⁺(λ; 0, 1) dλ: a horseshoe, its local scales integrated out.

    Each z_d has its own half-Cauchy scale λ, so that entries are either close to 0 or free. The
    integral is exact (`ppl_gen.distributions.MarginalHorseshoe`), so that z is the only latent and
    any guide of the whole line will do. The same under every context.

    Args:
        dim: D, the dimension of z.
        scale: τ, positive; None learns it, from 1.

    Examples:
        >>> z = Horseshoe(dim=100_000, scale=1.0)().sample()  # most entries small, a few far out
        >>> [round((z.abs() < bound).float().mean().item(), 2) for bound in (0.1, 10.0)]
        [0.17, 0.95]

    Reference:
        Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals.
    """

    def __init__(self, dim: int, scale: float | None = None) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_positive(scale=scale)
        expect_weights((2, dim))
        self.dim = dim
        if scale is None:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.tensor(math.log(scale)), persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        return MarginalHorseshoe(self.log_scale.exp().expand(self.dim)).to_event(1)


class SpikeAndSlab(nn.Module):
    """p(z) = ∏_d [π N(z_d; 0, 1) + (1 − π) N(z_d; 0, s²)]: entries in use, and entries near 0.

    The spike is a narrow Gaussian, which has a density, and not a point. The same under every
    context.

    Args:
        dim: D, the dimension of z.
        share: π, the share of entries in use, between 0 and 1.
        spike: s, the standard deviation of the others, below 1.

    Raises:
        ValueError: If a number is out of range.

    Examples:
        >>> SpikeAndSlab(2, share=0.2, spike=0.05)().variance  # π + (1 − π) s²
        tensor([0.2020, 0.2020])

    Reference:
        George and McCulloch (1993), Variable selection via Gibbs sampling.
    """

    log_scales: Tensor
    logits: Tensor

    def __init__(self, dim: int, *, share: float = 0.2, spike: float = 0.05) -> None:
        super().__init__()
        expect_at_least(1, **{"a latent dimension": dim})
        expect_number(share=share, spike=spike)
        for name, number in {"share": share, "spike": spike}.items():
            if not 0 < number < 1:
                raise ValueError(
                    f"expected a {name} between 0 and 1, got {number}; the slab has a standard "
                    "deviation of 1"
                )
        expect_weights((2, dim))
        scales = torch.tensor([[0.0], [math.log(spike)]]).expand(2, dim).clone()
        weights = torch.tensor([[math.log(share)], [math.log1p(-share)]])
        self.register_buffer("log_scales", scales, persistent=False)
        self.register_buffer("logits", weights, persistent=False)

    def forward(self, *context: Tensor) -> Distribution:
        components = LogScaleNormal(torch.zeros_like(self.log_scales), self.log_scales)
        return Mixture(self.logits, components, self._chosen).to_event(1)

    def _chosen(self, k: Tensor) -> Distribution:
        log_scale = torch.where(k == 0, self.log_scales[0], self.log_scales[1])
        return LogScaleNormal(torch.zeros_like(log_scale), log_scale)
