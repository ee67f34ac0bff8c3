"""What critic and generator descend.

Losses are pairs of functions of the critic's scores; penalties are of the critic's gradient.
"""

from __future__ import annotations

__all__ = [
    "AdversarialLoss",
    "gradient_penalty",
    "hinge",
    "least_squares",
    "minimax",
    "non_saturating",
    "r1",
    "wasserstein",
]

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class AdversarialLoss(NamedTuple):
    """The two sides of a game, as functions of the critic's scores s, of any shape (N, ...).

    Any pair of functions will do in its place: `(critic_loss, generator_loss)`.

    Attributes:
        critic: (s(data), s(draws)) ↦ the loss of the critic.
        generator: s(draws) ↦ the loss of the generator.
        perfect: The critic's loss where it tells all draws from data; None where there is no such
            value.
        middle: The score m about which data and draws change places: s(x) takes the place of s(x̃)
            as 2m − s(x).

    Examples:
        >>> loss = AdversarialLoss(lambda s, t: t.mean() - s.mean(), lambda t: -t.mean())
        >>> loss.critic(torch.tensor([2.0]), torch.tensor([0.5]))  # of scores of data and of draws
        tensor(-1.5000)
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    perfect: float | None = None
    middle: float = 0.0


def _cross_entropy(real: Tensor, drawn: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(drawn).mean()


def _squares(real: Tensor, drawn: Tensor) -> Tensor:
    return _half_square(real - 1) + _half_square(drawn)


def _half_square(scores: Tensor) -> Tensor:
    return scores.square().mean() / 2


def _margins(real: Tensor, drawn: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()


def _difference(real: Tensor, drawn: Tensor) -> Tensor:
    return drawn.mean() - real.mean()


# −E log σ(s(x)) − E log(1 − σ(s(x̃))) for the critic and E log(1 − σ(s(x̃))) for the generator:
# Goodfellow et al. (2014), eq. 1. The generator's gradient vanishes where the critic is sure.
minimax = AdversarialLoss(
    critic=_cross_entropy, generator=lambda drawn: -F.softplus(drawn).mean(), perfect=0.0
)

# The same critic; the generator descends −E log σ(s(x̃)): Goodfellow et al. (2014), section 3.
non_saturating = AdversarialLoss(
    critic=_cross_entropy, generator=lambda drawn: F.softplus(-drawn).mean(), perfect=0.0
)

# ½ E(s(x) − 1)² + ½ E s(x̃)² and ½ E(s(x̃) − 1)²: Mao et al. (2017), Least squares generative
# adversarial networks, eq. 9.
least_squares = AdversarialLoss(
    critic=_squares, generator=lambda drawn: _half_square(drawn - 1), perfect=0.0, middle=0.5
)

# E max(0, 1 − s(x)) + E max(0, 1 + s(x̃)) and −E s(x̃): Lim and Ye (2017), Geometric GAN.
hinge = AdversarialLoss(critic=_margins, generator=lambda drawn: -drawn.mean(), perfect=0.0)

# E s(x̃) − E s(x) and −E s(x̃), for a critic held to Lipschitz constant 1: Arjovsky, Chintala and
# Bottou (2017).
wasserstein = AdversarialLoss(critic=_difference, generator=lambda drawn: -drawn.mean())


def r1(scores: Tensor, x: Tensor) -> Tensor:
    """½ E‖∇ₓ s‖², a scalar that is differentiable in the critic's parameters.

    Args:
        scores: s(x), of shape (N, ...).
        x: The data that they were made from, (N, *shape), which require gradients.

    Reference:
        Mescheder, Geiger and Nowozin (2018), Which training methods for GANs do actually converge?,
        eq. 9.
    """
    squared_norm = _gradient(scores, x).square().sum(-1)
    return squared_norm.mean() / 2


def gradient_penalty(
    critic: Callable[..., Tensor], x: Tensor, drawn: Tensor, *context: Tensor
) -> Tensor:
    """E(‖∇ s(x̂, context)‖ − 1)² at x̂ = u x + (1 − u) x̃, u ~ U(0, 1), a scalar.

    Args:
        critic: s(x, *context), scores of shape (N, ...).
        x: Data (N, *shape).
        drawn: x̃, draws (N, *shape).
        *context: What both are conditioned on, each of length N.

    Reference:
        Gulrajani et al. (2017), Improved training of Wasserstein GANs, eq. 3.
    """
    u = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype)
    between = torch.lerp(drawn, x, u).detach().requires_grad_()
    gradient = _gradient(critic(between, *context), between)
    norm = torch.linalg.vector_norm(gradient, dim=-1)
    return (norm - 1).square().mean()


def _gradient(scores: Tensor, x: Tensor) -> Tensor:
    """∇ₓ s, of shape (N, D), itself differentiable in the critic's parameters."""
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.flatten(1)
