"""q(z | x) from an encoder's answer, made better datum by datum."""

from __future__ import annotations

__all__ = ["SemiAmortised"]

from collections.abc import Sequence
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.divergences import closed_divergence
from ppl_gen.guides.family import NetworkGuide
from ppl_gen.program import per_datum
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.supports import unwrapped


class SemiAmortised(nn.Module):
    """q(z | x) = N(z; λ_T), λ₀ = net(x), λₜ₊₁ = λₜ + r F⁻¹ ∇ELBO(x; λₜ).

    A few steps of natural gradient begin at what the encoder's network says, λ₀, the parameters of
    a Gaussian, and close part of the gap of amortisation. The ELBO is taken at the same few draws ε
    of N(0, I) in every call (in pairs ±ε, of second moment 1), so that λ_T is a function of x alone
    and q one Gaussian for draws and densities. Where gradients are taken, they go through the
    steps, to encoder and decoder. A call costs T passes through the decoder and back.

    Args:
        encoder: A guide of `ppl_gen.guides` whose family is `DiagonalGaussian` or
            `FullCovarianceGaussian`.
        prior: p(z | context), that of the program.
        decoder: That of the program.
        likelihood: That of the program.
        steps: T, the number of steps.
        rate: r; 1 would reach the optimum of a Gaussian posterior's mean at once, if q had its
            covariance.
        particles: How many draws ε the ELBO is taken at, an even number.

    Raises:
        ValueError: If the encoder is no such guide, a count is below 1, the particles are odd, or
            the rate is not above 0.

    Example:
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
        if not isinstance(encoder, NetworkGuide):
            raise ValueError(
                "expected an encoder that is a network and a family, as "
                f"guides.DiagonalGaussian(net) is, got {type(encoder).__name__}; wrap its network "
                "in one, or let a builder make it: vae(..., guide=guides.diagonal)"
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
                outputs = outputs + self.rate * _natural(q, slope)
        if not is_trained:
            outputs = outputs.detach()
        return self.encoder.distribution(outputs)

    def _bound(self, q: Any, prior: Any, x: Tensor, context: Sequence[Tensor]) -> Tensor:
        """The ELBO at the fixed draws, (*batch)."""
        batch = len(q.batch_shape)
        noise = _noise(self.particles, q.event_shape[-1]).to(q.mean)
        noise = noise.reshape(self.particles, *[1] * batch, -1)
        z = q.mean + _scaled(q, noise)
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


def _scaled(q: Any, noise: Tensor) -> Tensor:
    """Lε, with L the factor of the covariance of q."""
    if isinstance(q, dist.MultivariateNormal):
        return (q.scale_tril @ noise[..., None]).squeeze(-1)
    return _diagonal(q).scale * noise


def _natural(q: Any, slope: Tensor) -> Tensor:
    """F⁻¹ ∇, F the Fisher information of (μ, η, Λ) where Λ is small.

    That of μ is Σ⁻¹, that of a log scale 2, and that of an entry of Λ 1.
    """
    dim = q.event_shape[-1]
    of_loc, of_log_scale, rest = slope.split([dim, dim, slope.shape[-1] - 2 * dim], -1)
    if isinstance(q, dist.MultivariateNormal):
        of_loc = (q.scale_tril @ (q.scale_tril.mT @ of_loc[..., None])).squeeze(-1)
    else:
        of_loc = _diagonal(q).scale.square() * of_loc
    return torch.cat([of_loc, of_log_scale / 2, rest], -1)


def _diagonal(q: Any) -> LogScaleNormal:
    """The normals that a diagonal Gaussian is made of.

    Raises:
        ValueError: If it is none.
    """
    normal = unwrapped(q)
    if isinstance(normal, LogScaleNormal):
        return normal
    raise ValueError(
        "expected an encoder whose family is a diagonal or a full-covariance Gaussian, got "
        f"{type(normal).__name__}; take guides.diagonal or guides.full_covariance"
    )
