"""Families of guides."""

from __future__ import annotations

__all__ = ["FAMILIES", "GUIDES"]

from collections.abc import Callable

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from by_hand.rivals import (
    BATCH,
    HIDDEN,
    LATENT,
    PIXELS,
    Drawn,
    Rival,
    log_standard,
    perceptron,
    vae_rival,
)
from ppl_gen import guides
from ppl_gen.flows import inverse_autoregressive_flow
from ppl_gen.models import vae

D = LATENT


def diagonal() -> tuple[int, Drawn, list[nn.Module]]:
    def drawn(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = outputs.chunk(2, -1)
        noise = torch.randn_like(loc)
        return loc + log_scale.exp() * noise, log_standard(noise) - log_scale.sum(-1)

    return 2 * D, drawn, []


def full_covariance() -> tuple[int, Drawn, list[nn.Module]]:
    row, column = torch.tril_indices(D, D, -1)

    def drawn(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, below = outputs.split([D, D, D * (D - 1) // 2], -1)
        factor = torch.zeros(len(outputs), D, D)
        factor[:, row, column] = below
        factor = factor + torch.diag_embed(log_scale.exp())
        q = torch.distributions.MultivariateNormal(loc, scale_tril=factor, validate_args=False)
        z = q.rsample()
        return z, q.log_prob(z)

    return D * (D + 3) // 2, drawn, []


def low_rank() -> tuple[int, Drawn, list[nn.Module]]:
    def drawn(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, factor = outputs.split([D, D, 2 * D], -1)
        q = torch.distributions.LowRankMultivariateNormal(
            loc, factor.unflatten(-1, (D, 2)), (2 * log_scale).exp(), validate_args=False
        )
        z = q.rsample()
        return z, q.log_prob(z)

    return 4 * D, drawn, []


def flow() -> tuple[int, Drawn, list[nn.Module]]:
    layers = inverse_autoregressive_flow(D, 32)

    def drawn(outputs: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale, context = outputs.split([D, D, 32], -1)
        u, log_u = layers(context).rsample_and_log_prob()
        return loc + log_scale.exp() * u, log_u - log_scale.sum(-1)

    return 2 * D + 32, drawn, [layers]


def mixture() -> tuple[int, Drawn, list[nn.Module]]:
    """By Pyro's mixture of diagonal normals, whose draws have gradients of another estimator."""

    def drawn(outputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, loc, log_scale = outputs.split([3, 3 * D, 3 * D], -1)
        q = pyro.distributions.MixtureOfDiagNormals(
            loc.unflatten(-1, (3, D)), log_scale.unflatten(-1, (3, D)).exp(), logits
        )
        z = q.rsample()
        return z, q.log_prob(z)

    return 3 * (2 * D + 1), drawn, []


def semi_amortised() -> Rival:
    """Four steps of natural gradient at two pairs of draws, the gradient going through them."""
    program = vae((PIXELS,), D, hidden=HIDDEN)
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    program.encoder = guides.SemiAmortised(*slots)
    x = torch.rand(BATCH, PIXELS).round()
    encoder = perceptron(PIXELS, *HIDDEN, 2 * D)
    decoder = perceptron(D, *reversed(HIDDEN), PIXELS)
    half = torch.randn(2, 1, D)
    pairs = torch.cat([half, -half])

    def bound(outputs: Tensor, noise: Tensor) -> Tensor:
        loc, log_scale = outputs.chunk(2, -1)
        scale = log_scale.exp()
        logits = decoder(loc + scale * noise)
        fit = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * log_scale).sum(-1)
        return (fit.sum(-1).mean(0) - divergence).sum()

    def loss() -> Tensor:
        outputs = encoder(x)
        for _ in range(4):
            (slope,) = torch.autograd.grad(bound(outputs, pairs), outputs, create_graph=True)
            scale = outputs.chunk(2, -1)[1].exp()
            of_loc, of_log_scale = slope.chunk(2, -1)
            of_loc = scale * (0.5 * scale * of_loc).clamp(-1, 1)
            of_log_scale = (0.25 * of_log_scale).clamp(-1, 1)
            outputs = outputs + torch.cat([of_loc, of_log_scale], -1)
        return -bound(outputs, torch.randn(1, len(x), D)) / len(x)

    return Rival(loss, [encoder, decoder], program, (x,))


FAMILIES = {
    "diagonal": (guides.diagonal, diagonal),
    "full-covariance": (guides.full_covariance, full_covariance),
    "low-rank": (guides.low_rank, low_rank),
    "flow": (guides.flow, flow),
    "mixture": (guides.mixture, mixture),
}


def _rival(name: str) -> Callable[[], Rival]:
    family, by_hand = FAMILIES[name]

    def built() -> Rival:
        program = vae((PIXELS,), D, hidden=HIDDEN, guide=family)
        outputs, drawn, parts = by_hand()
        x = torch.rand(BATCH, PIXELS).round()
        return vae_rival(program, x, outputs=outputs, drawn=drawn, parts=parts)

    return built


GUIDES = {name: _rival(name) for name in FAMILIES}
GUIDES["semi-amortised"] = semi_amortised
