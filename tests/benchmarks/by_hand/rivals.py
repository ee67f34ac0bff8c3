"""A program of the library and its loss written by hand, on one batch; and the VAE of most."""

from __future__ import annotations

__all__ = [
    "BATCH",
    "HIDDEN",
    "LATENT",
    "PIXELS",
    "Rival",
    "divergence",
    "log_normal",
    "log_standard",
    "perceptron",
    "vae_rival",
]

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIXELS, HIDDEN, LATENT, BATCH = 784, (200, 200), 20, 100
HALF_LOG = 0.5 * math.log(2 * math.pi)

# From outputs of an encoder to z and log q(z | x), (N,); from z and the encoder's network to
# log p(z), (N,); from outputs of a decoder and x to the sum of log p(x | z) over all.
Drawn = Callable[[Tensor], tuple[Tensor, Tensor]]
LogPrior = Callable[[Tensor, nn.Module], Tensor]
LogLikelihood = Callable[[Tensor, Tensor], Tensor]


class Rival(NamedTuple):
    """What takes turns.

    Attributes:
        loss: Of the batch, by hand.
        parts: The modules whose parameters it has.
        program: The library's.
        batch: What its step is called with.
        elbo: Its objective; Trace_ELBO() if None.
    """

    loss: Callable[[], Tensor]
    parts: Sequence[nn.Module]
    program: Any
    batch: tuple[Tensor, ...]
    elbo: Any = None


def perceptron(*sizes: int, activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """Linear layers, an activation between each two."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def log_standard(z: Tensor) -> Tensor:
    """log N(z; 0, I), summed over the last axis."""
    return -(0.5 * z.square() + HALF_LOG).sum(-1)


def log_normal(z: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """log N(z; μ, diag exp(η)²), summed over the last axis."""
    return log_standard((z - loc) * torch.exp(-log_scale)) - log_scale.sum(-1)


def divergence(loc: Tensor, log_scale: Tensor) -> Tensor:
    """KL(N(loc, exp(log_scale)²) ‖ N(0, I)), summed over all, in nats."""
    variance = (2 * log_scale).exp()
    return 0.5 * (variance + loc.square() - 1 - 2 * log_scale).sum()


def _diagonal(outputs: Tensor) -> tuple[Tensor, Tensor]:
    loc, log_scale = outputs.chunk(2, -1)
    noise = torch.randn_like(loc)
    return loc + log_scale.exp() * noise, log_standard(noise) - log_scale.sum(-1)


def _standard(z: Tensor, encoder: nn.Module) -> Tensor:
    return log_standard(z)


def _bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def vae_rival(
    program: Any,
    x: Tensor,
    *,
    inputs: Callable[[Tensor], Tensor] | None = None,
    outputs: int = 2 * LATENT,
    drawn: Drawn = _diagonal,
    log_prior: LogPrior = _standard,
    log_likelihood: LogLikelihood = _bernoulli,
    decoded: int | None = None,
    parts: Sequence[nn.Module] = (),
) -> Rival:
    """The library's VAE beside one as it would be written in plain PyTorch, from one draw of z.

    Args:
        program: The library's.
        x: The batch, (N, D).
        inputs: What the encoder sees of x; x itself if left out.
        outputs: The number of the encoder's outputs.
        drawn: From the encoder's outputs to z and log q(z | x).
        log_prior: log p(z).
        log_likelihood: log p(x | z) from the decoder's outputs, summed over all.
        decoded: The number of the decoder's outputs; D if left out.
        parts: What else has parameters.
    """
    seen = x
    if inputs is not None:
        seen = inputs(x)
    if decoded is None:
        decoded = x.shape[1]
    encoder = perceptron(seen.shape[1], *HIDDEN, outputs)
    decoder = perceptron(LATENT, *reversed(HIDDEN), decoded)

    def loss() -> Tensor:
        given = x
        if inputs is not None:
            given = inputs(x)
        z, log_q = drawn(encoder(given))
        rate = log_q - log_prior(z, encoder)
        return (rate.sum() - log_likelihood(decoder(z), x)) / len(x)

    return Rival(loss, [encoder, decoder, *parts], program, (x,))
