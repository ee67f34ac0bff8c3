"""Likelihoods, by torch's distributions where it has them and else by the usual formulas."""

from __future__ import annotations

__all__ = ["LIKELIHOODS"]

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from by_hand.rivals import BATCH, HALF_LOG, HIDDEN, LATENT, PIXELS, Rival, vae_rival
from ppl_gen import likelihoods
from ppl_gen.models import vae

td = torch.distributions
LEVELS = 256
COMPONENTS = 10


class Learned(nn.Module):
    """log p(x | outputs, η), with one number η for all."""

    def __init__(self, log_likelihood: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.log_likelihood = log_likelihood
        self.number = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor, x: Tensor) -> Tensor:
        return self.log_likelihood(outputs, x, self.number)


def _grey(count: int = BATCH) -> Tensor:
    return 0.01 + 0.98 * torch.rand(count, PIXELS)


def _counts() -> Tensor:
    return torch.poisson(torch.rand(BATCH, PIXELS))


def _levels(size: int = PIXELS) -> Tensor:
    return torch.randint(0, LEVELS, (BATCH, size)) / (LEVELS - 1)


def _holes() -> Tensor:
    x = torch.rand(BATCH, PIXELS).round()
    return x.masked_fill(torch.rand_like(x) < 0.3, torch.nan)


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def gaussian(loc: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    return td.Normal(loc, log_scale.exp(), validate_args=False).log_prob(x).sum()


def isotropic(outputs: Tensor, x: Tensor) -> Tensor:
    loc, log_scale = outputs[:, :-1], outputs[:, -1:]
    scale = 1e-3 + log_scale.exp()
    each = -0.5 * ((x - loc) / scale).square() - scale.log() - HALF_LOG
    return each.sum()


def student_t(loc: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    return td.StudentT(4.0, loc, log_scale.exp(), validate_args=False).log_prob(x).sum()


def log_normal(loc: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    return td.LogNormal(loc, log_scale.exp(), validate_args=False).log_prob(x).sum()


def beta(outputs: Tensor, x: Tensor) -> Tensor:
    logits, log_precision = outputs.chunk(2, -1)
    precision = log_precision.exp()
    a, b = precision * logits.sigmoid(), precision * (-logits).sigmoid()
    return td.Beta(a, b, validate_args=False).log_prob(x).sum()


def poisson(log_rate: Tensor, x: Tensor) -> Tensor:
    return td.Poisson(log_rate.exp(), validate_args=False).log_prob(x).sum()


def _log_negative_binomial(x: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    mean, r = log_mean.exp(), log_dispersion.exp()
    log_total = (r + mean).log()
    coefficient = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
    return coefficient + r * (log_dispersion - log_total) + x * (log_mean - log_total)


def negative_binomial(log_mean: Tensor, x: Tensor, log_dispersion: Tensor) -> Tensor:
    return _log_negative_binomial(x, log_mean, log_dispersion).sum()


def _inflated(counted: Tensor, logits: Tensor, x: Tensor) -> Tensor:
    counted = counted + F.logsigmoid(-logits)
    at_zero = torch.logaddexp(F.logsigmoid(logits), counted)
    return torch.where(x == 0, at_zero, counted).sum()


def zero_inflated_poisson(outputs: Tensor, x: Tensor) -> Tensor:
    log_rate, logits = outputs.chunk(2, -1)
    return _inflated(td.Poisson(log_rate.exp(), validate_args=False).log_prob(x), logits, x)


def zero_inflated_negative_binomial(outputs: Tensor, x: Tensor) -> Tensor:
    log_mean, log_dispersion, logits = outputs.chunk(3, -1)
    return _inflated(_log_negative_binomial(x, log_mean, log_dispersion), logits, x)


def categorical(outputs: Tensor, x: Tensor) -> Tensor:
    index = (x * (LEVELS - 1)).round().long()
    logits = outputs.unflatten(-1, (-1, LEVELS))
    return -F.cross_entropy(logits.flatten(0, 1), index.flatten(), reduction="sum")


def discretized_mixture(outputs: Tensor, x: Tensor) -> Tensor:
    """PixelCNN++'s loss of one channel, as its translations to PyTorch have it."""
    logits, loc, log_scale = outputs.unflatten(-1, (-1, 3 * COMPONENTS)).chunk(3, -1)
    log_scale = log_scale.clamp(min=-7.0)
    t = (2 * x - 1)[..., None]
    centred = t - loc
    inverse = torch.exp(-log_scale)
    plus = inverse * (centred + 1 / (LEVELS - 1))
    minus = inverse * (centred - 1 / (LEVELS - 1))
    log_first = plus - F.softplus(plus)
    log_last = -F.softplus(minus)
    mass = plus.sigmoid() - minus.sigmoid()
    middle = inverse * centred
    log_density = middle - log_scale - 2 * F.softplus(middle)
    inside = torch.where(
        mass > 1e-5, mass.clamp(min=1e-12).log(), log_density - torch.tensor(127.5).log()
    )
    log_mass = torch.where(t < -0.999, log_first, torch.where(t > 0.999, log_last, inside))
    return torch.logsumexp(log_mass + logits.log_softmax(-1), -1).sum()


def masked(logits: Tensor, x: Tensor) -> Tensor:
    is_missing = x.isnan()
    filled = torch.where(is_missing, 0.0, x)
    each = F.binary_cross_entropy_with_logits(logits, filled, reduction="none")
    return -each.masked_fill(is_missing, 0.0).sum()


def _beside_mask(x: Tensor) -> Tensor:
    is_missing = x.isnan()
    return torch.cat([torch.where(is_missing, 0.0, x), (~is_missing).to(x.dtype)], -1)


def gamma(outputs: Tensor, x: Tensor) -> Tensor:
    concentration, rate = F.softplus(outputs).chunk(2, -1)
    return td.Gamma(concentration, rate, validate_args=False).log_prob(x).sum()


def table(outputs: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    """Ten columns each: Gaussian of one scale, Bernoulli, Poisson, and one of five classes."""
    loc, logits, log_rate, of_classes = outputs.split([10, 10, 10, 50], -1)
    total = td.Normal(loc, log_scale.exp(), validate_args=False).log_prob(x[:, :10]).sum()
    total = total - F.binary_cross_entropy_with_logits(logits, x[:, 10:20], reduction="sum")
    total = total + poisson(log_rate, x[:, 20:30])
    classes = x[:, 30:].long().flatten()
    by_class = of_classes.unflatten(-1, (10, 5)).flatten(0, 1)
    return total - F.cross_entropy(by_class, classes, reduction="sum")


def _table() -> likelihoods.Table:
    kinds = [
        likelihoods.Gaussian(),
        likelihoods.Bernoulli(),
        likelihoods.Poisson(),
        likelihoods.Label(5),
    ]
    return likelihoods.Table([kind for kind in kinds for _ in range(10)])


def _row() -> Tensor:
    numbers = torch.randn(BATCH, 10)
    flags = torch.rand(BATCH, 10).round()
    counts = torch.poisson(torch.ones(BATCH, 10))
    classes = torch.randint(0, 5, (BATCH, 10)).float()
    return torch.cat([numbers, flags, counts, classes], -1)


def _rival(
    make: Callable[[], Any],
    by_hand: Callable[..., Tensor],
    data: Callable[[], Tensor],
    outputs: int = 1,
    *,
    shape: tuple[int, ...] | None = None,
    learned: bool = False,
    decoded: int | None = None,
    inputs: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[], Rival]:
    """A row.

    Args:
        make: The library's likelihood.
        by_hand: log p(x | outputs), or of (outputs, x, η) where a number is learned.
        data: The batch, (N, D).
        outputs: How many the decoder has for each value.
        shape: Of a datum, where it is no vector.
        learned: Whether a number is learned.
        decoded: How many outputs the decoder has, where it is no multiple of D.
        inputs: What the encoder sees of x.
    """

    def built() -> Rival:
        x = data()
        log_likelihood: Any = by_hand
        parts = []
        if learned:
            log_likelihood = Learned(by_hand)
            parts.append(log_likelihood)
        shaped = shape or (x.shape[1],)
        program = vae(shaped, LATENT, hidden=HIDDEN, likelihood=make())
        width = outputs * x.shape[1]
        if decoded is not None:
            width = decoded
        rival = vae_rival(
            program,
            x,
            inputs=inputs,
            log_likelihood=log_likelihood,
            decoded=width,
            parts=parts,
        )
        return rival._replace(batch=(x.reshape(-1, *shaped),))

    return built


def _binary() -> Tensor:
    return torch.rand(BATCH, PIXELS).round()


LIKELIHOODS = {
    "bernoulli": _rival(likelihoods.Bernoulli, bernoulli, _binary),
    "gaussian": _rival(likelihoods.Gaussian, gaussian, _grey, learned=True),
    "isotropic-gaussian": _rival(
        likelihoods.IsotropicGaussian, isotropic, _grey, decoded=PIXELS + 1
    ),
    "student-t": _rival(likelihoods.StudentT, student_t, _grey, learned=True),
    "log-normal": _rival(likelihoods.LogNormal, log_normal, _grey, learned=True),
    "beta": _rival(likelihoods.Beta, beta, _grey, 2),
    "poisson": _rival(likelihoods.Poisson, poisson, _counts),
    "negative-binomial": _rival(
        likelihoods.NegativeBinomial, negative_binomial, _counts, learned=True
    ),
    "zero-inflated-poisson": _rival(
        lambda: likelihoods.ZeroInflated(likelihoods.Poisson()), zero_inflated_poisson, _counts, 2
    ),
    "zero-inflated-negative-binomial": _rival(
        lambda: likelihoods.ZeroInflated(likelihoods.NegativeBinomial(decoded=True)),
        zero_inflated_negative_binomial,
        _counts,
        3,
    ),
    "categorical of 256": _rival(
        lambda: likelihoods.Categorical(LEVELS), categorical, partial(_levels, 64), LEVELS
    ),
    "discretized-mixture": _rival(
        lambda: likelihoods.DiscretizedMixture(1, COMPONENTS, LEVELS),
        discretized_mixture,
        partial(_levels, 196),
        3 * COMPONENTS,
        shape=(1, 14, 14),
    ),
    "masked": _rival(
        lambda: likelihoods.Masked(likelihoods.Bernoulli()), masked, _holes, inputs=_beside_mask
    ),
    "table": _rival(_table, table, _row, learned=True, decoded=80),
    "of(Gamma)": _rival(
        lambda: likelihoods.of(dist.Gamma, concentration=F.softplus, rate=F.softplus),
        gamma,
        _grey,
        2,
    ),
}
