"""Priors. Horseshoe and uniform prior are timed against the standard normal: what they
cost beyond it.
"""

from __future__ import annotations

__all__ = ["PRIORS"]

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from by_hand.rivals import (
    BATCH,
    HALF_LOG,
    HIDDEN,
    LATENT,
    PIXELS,
    Rival,
    log_normal,
    log_standard,
    vae_rival,
)
from ppl_gen import priors
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import Family, bounded, diagonal, on_sphere
from ppl_gen.models import vae

COMPONENTS, PSEUDO_INPUTS = 10, 500


class Standard(nn.Module):
    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        return log_standard(z)


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(0.5 * torch.randn(COMPONENTS, LATENT))
        self.log_scale = nn.Parameter(torch.zeros(COMPONENTS, LATENT))
        self.logits = nn.Parameter(torch.zeros(COMPONENTS))

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        each = log_normal(z[:, None], self.loc, self.log_scale)
        return torch.logsumexp(each + self.logits.log_softmax(-1), -1)


class Vamp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.rand(PSEUDO_INPUTS, PIXELS))

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        loc, log_scale = encoder(self.u.clamp(0, 1)).chunk(2, -1)
        each = log_normal(z[:, None], loc, log_scale)
        return torch.logsumexp(each, -1) - math.log(PSEUDO_INPUTS)


class Flow(nn.Module):
    """The same flow, called as zuko's own users would."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = coupling_flow(LATENT)

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        return self.flow().log_prob(z)


class Slab(nn.Module):
    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        wide = -0.5 * z.square() + math.log(0.2)
        narrow = -0.5 * (z / 0.05).square() + math.log(0.8 / 0.05)
        return (torch.logaddexp(wide, narrow) - HALF_LOG).sum(-1)


class OnSphere(nn.Module):
    """Uniform; its guide is the power spherical distribution."""

    def forward(self, z: Tensor, encoder: nn.Module) -> Tensor:
        half = LATENT / 2
        log_area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        return z.new_full((len(z),), -log_area)


def power_spherical(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """z by De Cao and Aziz (2020), algorithm 1, and log q(z | x)."""
    loc = F.normalize(outputs[:, :-1], dim=-1)
    concentration = LATENT * outputs[:, -1].exp()
    beta = torch.full_like(concentration, 0.5 * (LATENT - 1))
    alpha = beta + concentration
    along = 2 * torch.distributions.Beta(alpha, beta, validate_args=False).rsample() - 1
    tangent = F.normalize(torch.randn(len(outputs), LATENT - 1), dim=-1)
    across = (1 - along.square()).clamp(min=1e-12).sqrt()
    around_first = torch.cat([along[:, None], across[:, None] * tangent], -1)
    first = torch.eye(LATENT)[0]
    u = F.normalize(first - loc, dim=-1)
    z = around_first - 2 * u * (u * around_first).sum(-1, keepdim=True)
    total = alpha + beta
    log_normaliser = total * math.log(2) + beta * math.log(math.pi) + alpha.lgamma()
    cosine = (z * loc).sum(-1).clamp(min=1e-6 - 1)
    return z, concentration * cosine.log1p() - log_normaliser + total.lgamma()


def _hypersphere() -> Rival:
    program = vae(
        (PIXELS,), LATENT, hidden=HIDDEN, prior=priors.Hypersphere(LATENT), guide=on_sphere
    )
    x = torch.rand(BATCH, PIXELS).round()
    return vae_rival(program, x, outputs=LATENT + 1, drawn=power_spherical, log_prior=OnSphere())


def _rival(
    make: Callable[[Any], Any], by_hand: Callable[[], nn.Module], family: Family = diagonal
) -> Callable[[], Rival]:
    def built() -> Rival:
        program = vae((PIXELS,), LATENT, hidden=HIDDEN, guide=family)
        program.prior = make(program)
        log_prior = by_hand()
        x = torch.rand(BATCH, PIXELS).round()
        return vae_rival(program, x, log_prior=log_prior, parts=[log_prior])

    return built


PRIORS = {
    "standard-normal": _rival(lambda p: priors.StandardNormal(LATENT), Standard),
    "mixture": _rival(lambda p: priors.MixtureOfGaussians(LATENT, COMPONENTS), Mixture),
    "vamp": _rival(lambda p: priors.VampPrior(p.encoder, torch.rand(PSEUDO_INPUTS, PIXELS)), Vamp),
    "flow": _rival(lambda p: priors.FlowPrior(coupling_flow(LATENT)), Flow),
    "spike-and-slab": _rival(lambda p: priors.SpikeAndSlab(LATENT), Slab),
    "horseshoe": _rival(lambda p: priors.Horseshoe(LATENT), Standard),
    "uniform": _rival(lambda p: priors.Uniform(LATENT), Standard, bounded),
    "hypersphere": _hypersphere,
}
