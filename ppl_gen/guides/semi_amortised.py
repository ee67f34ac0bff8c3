"""q(z | x) from an encoder's answer, made better datum by datum."""

from __future__ import annotations

__all__ = ["SemiAmortised"]

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.divergences import closed_divergence
from ppl_gen.guides.gaussian import DiagonalGaussian
from ppl_gen.program import per_datum
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.supports import unwrapped

_FURTHEST = 1.0  # that one step goes, in standard deviations of q and in log scales


class SemiAmortised(nn.Module):
    """q(z | x) = N(z; μ_T, diag exp(η_T)²), λ₀ = net(x), λₜ₊₁ = λₜ + r F⁻¹ ∇ELBO(x; λₜ).

    A few steps of natural gradient, F being the Fisher information of λ = (μ, η), begin at what the
    encoder's network says, and close part of the gap of amortisation. The ELBO is taken at the same
    few draws ε of N(0, I) in every call (in pairs ±ε, of second moment 1), so that λ_T is a
    function of x alone and q one Gaussian for draws and densities. Where gradients are taken, they
    go through the steps, to encoder and decoder. A call costs T passes through the decoder and
    back.

    Args:
        encoder: A `DiagonalGaussian`, of any network.
        prior: p(z | context), that of the program.
        decoder: That of the program.
        likelihood: That of the program.
        steps: T, the number of steps.
        rate: r; 1 would reach the mean of a Gaussian posterior at once, if q had its covariance.
        particles: How many draws ε the ELBO is taken at, an even number.

    Raises:
        ValueError: If the encoder is of another family, a count is below 1, the particles are odd,
            or the rate is not above 0.

    Examples:
        >>> from ppl_gen.models import vae
        >>> program = vae((4,), 2)
        >>> program.encoder = SemiAmortised(
        ...     program.encoder, program.prior, program.decoder, program.likelihood, steps=2
        ... )

    Reference:
        Kim, Wiseman, Miller, Sontag and Rush (2018), Semi-amortized variational autoencoders.
    """

    def __init__(
        self,
        encoder: Conditional,
        prior: Conditional,
        decoder: nn.Module,
        likelihood: Conditional,
        *,
        steps: int = 4,
        rate: float = 0.5,
        particles: int = 4,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, DiagonalGaussian):
            raise ValueError(
                "expected an encoder that is a guides.DiagonalGaussian, whose parameters the steps "
                f"know, got {type(encoder).__name__}; wrap its network in one, or let a builder "
                "make it: vae(..., guide=guides.diagonal)"
            )
        expect_at_least(1, steps=steps, particles=particles)
        expect_number(rate=rate)
        if particles % 2:
            raise ValueError(
                f"expected an even number of particles, which come in pairs ±ε, got {particles}"
            )
        if not 0 < rate < float("inf"):
            raise ValueError(f"expected a rate above 0, got {rate}; 0.5 is usual")
        self.encoder = encoder
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.steps = steps
        self.rate = rate
        self.particles = particles

    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        is_trained = torch.is_grad_enabled()
        outputs = self.encoder.net(x, *context)
        with torch.enable_grad():
            prior = self.prior(*context)
            for _ in range(self.steps):
                if not is_trained or not outputs.requires_grad:
                    outputs = outputs.detach().requires_grad_()
                q = self.encoder.distribution(outputs)
                bound = self._bound(q, prior, x, context)
                (slope,) = torch.autograd.grad(bound.sum(), outputs, create_graph=is_trained)
                outputs = outputs + _natural_step(unwrapped(q), slope, self.rate)
        if not is_trained:
            outputs = outputs.detach()
        return self.encoder.distribution(outputs)

    def _bound(self, q: Any, prior: Any, x: Tensor, context: Sequence[Tensor]) -> Tensor:
        """The ELBO at the fixed draws, (*batch)."""
        batch = len(q.batch_shape)
        noise = _noise(self.particles, q.event_shape[-1]).to(q.mean)
        noise = noise.reshape(self.particles, *[1] * batch, -1)
        z = q.mean + q.stddev * noise
        likelihood = per_datum(self.likelihood(self.decoder(z, *context)), 1 + batch)
        divergence = closed_divergence(q, prior)
        if divergence is None:
            divergence = (q.log_prob(z) - prior.log_prob(z)).mean(0)
        return likelihood.log_prob(x).mean(0) - divergence


@cache
def _noise(particles: int, dim: int) -> Tensor:
    """ε of shape (particles, D), the same in every process: pairs ±ε, of second moment 1."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(particles // 2, dim, generator=generator, dtype=torch.float64)
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def _natural_step(q: LogScaleNormal, slope: Tensor, rate: float) -> Tensor:
    """r F⁻¹ ∇, with the Fisher information F = diag(σ⁻², 2) of (μ, η).

    No entry of Δμ/σ or Δη is above 1, lest the steps run away where q is much wider than the
    posterior.
    """
    of_loc, of_log_scale = slope.chunk(2, -1)
    step_of_loc = (rate * q.scale * of_loc).clamp(-_FURTHEST, _FURTHEST)
    step_of_log_scale = (rate / 2 * of_log_scale).clamp(-_FURTHEST, _FURTHEST)
    return torch.cat([q.scale * step_of_loc, step_of_log_scale], -1)
