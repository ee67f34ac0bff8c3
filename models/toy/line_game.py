"""Two lines and a game: the adversarial method in a plane, with expectations that are exact."""

from __future__ import annotations

__all__ = ["LineCritic", "Turn", "game_value", "line", "line_game"]

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.models.gan import GAN
from ppl_gen.models.toy.contract import expect_finite, expect_shape
from ppl_gen.priors import StandardNormal

NODES, FAR = 100, 12.0  # quadrature of the half-normal: what lies beyond 12 weighs 10⁻³²


def line(direction: Tensor) -> GAN:
    """z ~ N(0, 1), x = z v: an implicit program whose draws lie on a line through the origin.

    Args:
        direction: v, of shape (2,).

    Raises:
        ValueError: If v is not of shape (2,), or not finite.
    """
    _expect_direction("direction", direction)
    decoder = nn.Linear(1, 2, bias=False).to(direction)
    with torch.no_grad():
        decoder.weight.copy_(direction[:, None])
    return GAN(StandardNormal(1).to(direction), decoder)


class LineCritic(nn.Module):
    """D(x) = σ(|x₁| w₁ + |x₂| w₂), as a logit. It cannot tell a point from its mirror images in the
    axes.

    Args:
        weight: w, of shape (2,).

    Raises:
        ValueError: If w is not of shape (2,), or not finite.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        _expect_direction("weight", weight)
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """From points (*batch, 2) to logits (*batch,)."""
        return x.abs() @ self.weight


class Turn(NamedTuple):
    """Where the players stand after a turn: the generator's v and the critic's w, each of shape
    (2,).
    """

    generator: Tensor
    critic: Tensor


def game_value(generator: Tensor, critic: Tensor, data: Tensor) -> Tensor:
    """V(v, w) = E log D(hu) + E log(1 − D(hv)), h ~ N(0, 1), in nats: exact to rounding, by
    Gauss-Legendre quadrature.

    Args:
        generator: v, of shape (2,), in float64.
        critic: w, of shape (2,).
        data: u, of shape (2,).
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    h = torch.as_tensor(FAR / 2 * (nodes + 1)).to(generator)
    density = (
        torch.as_tensor(FAR * weights).to(generator)
        * (-h.square() / 2).exp()
        / math.sqrt(2 * math.pi)
    )
    real, fake = ((h[:, None] * direction).abs() @ critic for direction in (data, generator))
    return density @ (F.logsigmoid(real) + F.logsigmoid(-fake))


def line_game(
    generator: Tensor | None = None,
    critic: Tensor | None = None,
    data: Tensor | None = None,
    *,
    turns: int = 60,
    generator_step: Callable[[int], float] = lambda turn: 0.8 / math.sqrt(turn),
    critic_step: Callable[[int], float] = lambda turn: 1.0 * math.sqrt(turn),
) -> list[Turn]:
    """v ← v − η ∂V/∂v, v ← v/‖v‖; then, at the new v, w ← w + κ ∂V/∂w, w ← w/‖w‖; turn after turn.

    Left out, the arguments are those of the lecture's picture: v = (0.2, 0.98), w = (0.71, −0.71),
    u = (0.98, 0.2), with first steps of η = 0.8 and κ = 1. After one turn v = (0.393, 0.920) and w
    = (0.672, −0.740).

    With η and κ kept at these, v does not end on the data: it is pulled along w, passes u, and
    jumps to and fro across the axis x₁, where |x₂| has its kink, between 6° and 29° off. For at v =
    u the critic should be undecided, w = 0, but it is rescaled to unit length: it then stands
    across the data and goes on pushing v with full force. Once v has passed, the critic ought to
    turn round, and is pushed to, but by only 0.4 times the angle between v and u: unless κ is above
    the inverse of that, it stays. Shorter steps of v do not help: with η = 0.1 it stays at the
    axis, 10° off. A critic's step that grows does: with κ = √t and η = 0.8/√t, v comes back from
    the axis and is within 1° of u from turn 37 on. In the end the critic flips between u and −u,
    all real or all fake, and pushes along v, where rescaling undoes it. From other beginnings v may
    end on a mirror image of u in an axis, which this critic cannot tell from u.

    Args:
        generator: v at the beginning, of shape (2,).
        critic: w at the beginning, of shape (2,).
        data: u, of shape (2,): the data are hu, h ~ N(0, 1).
        turns: The number of turns of both players.
        generator_step: η at a turn, counted from 1.
        critic_step: κ at a turn.

    Returns:
        The beginning, and the state after each turn, in float64.

    Raises:
        ValueError: If a direction is not of shape (2,), finite and other than zero, or there are no
            turns.
    """
    beginning = {
        "generator": (generator, (0.2, 0.98)),
        "critic": (critic, (0.71, -0.71)),
        "data": (data, (0.98, 0.2)),
    }
    v, w, u = (
        torch.tensor(default, dtype=torch.float64) if given is None else given.detach().double()
        for given, default in beginning.values()
    )
    for name, direction in zip(beginning, (v, w, u), strict=True):
        _expect_direction(name, direction)
    if turns < 1:
        raise ValueError(f"expected at least 1 turn, got {turns}")
    history = [Turn(v, w)]
    for turn in range(1, turns + 1):
        v = _moved(v, partial(game_value, critic=w, data=u), -generator_step(turn))
        w = _moved(w, partial(game_value, v, data=u), critic_step(turn))
        history.append(Turn(v, w))
    return history


def _moved(direction: Tensor, value: Callable[[Tensor], Tensor], step: float) -> Tensor:
    """A step along the gradient, and back to unit length."""
    with torch.enable_grad():
        at = direction.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(at), at)
    return F.normalize(direction + step * gradient, dim=0)


def _expect_direction(name: str, direction: Tensor) -> None:
    expect_shape(name, direction, "(2,)", direction.shape == (2,))
    expect_finite(name, direction)
    if not bool(direction.any()):
        raise ValueError(f"expected a {name} other than (0, 0), which points nowhere")
