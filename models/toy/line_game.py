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

# The half-normal is integrated with so many nodes up to here; what lies beyond weighs 10⁻³².
NODES = 100
FAR = 12.0


def line(direction: Tensor) -> GAN:
    """z ~ N(0, 1), x = z v: an implicit program whose draws lie on a line through the origin.

    Args:
        direction: v, of shape (2,).

    Raises:
        ValueError: If v is not of shape (2,), or not finite.

    Examples:
        >>> x = line(torch.tensor([1.0, 2.0])).model(None, n=5).detach()
        >>> (x[:, 1] / x[:, 0]).round(decimals=4)
        tensor([2., 2., 2., 2., 2.])
    """
    _check_direction("direction", direction)
    decoder = nn.Linear(1, 2, bias=False).to(direction)
    with torch.no_grad():
        decoder.weight.copy_(direction[:, None])
    return GAN(StandardNormal(1).to(direction), decoder)


class LineCritic(nn.Module):
    """D(x) = σ(|x₁| w₁ + |x₂| w₂), as a logit.

    It cannot tell a point from its mirror images in the axes.

    Args:
        weight: w, of shape (2,).

    Raises:
        ValueError: If w is not of shape (2,), or not finite.

    Examples:
        >>> critic = LineCritic(torch.tensor([1.0, 0.0]))
        >>> critic(torch.tensor([[2.0, 3.0], [-2.0, 3.0]])).tolist()  # it sees no signs
        [2.0, 2.0]
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        _check_direction("weight", weight)
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """From points (*batch, 2) to logits (*batch,)."""
        return x.abs() @ self.weight


class Turn(NamedTuple):
    """Where the players stand after a turn.

    Attributes:
        generator: v, of shape (2,).
        critic: w, of shape (2,).
    """

    generator: Tensor
    critic: Tensor


def game_value(generator: Tensor, critic: Tensor, data: Tensor) -> Tensor:
    """V(v, w) = E log D(hu) + E log(1 − D(hv)), h ~ N(0, 1), in nats.

    Exact to rounding, by Gauss-Legendre quadrature.

    Args:
        generator: v, of shape (2,), in float64.
        critic: w, of shape (2,).
        data: u, of shape (2,).
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    h = torch.as_tensor(FAR / 2 * (nodes + 1)).to(generator)
    width = torch.as_tensor(FAR * weights).to(generator)
    bell = (-h.square() / 2).exp()
    mass = width * bell / math.sqrt(2 * math.pi)
    real = (h[:, None] * data).abs() @ critic
    fake = (h[:, None] * generator).abs() @ critic
    return mass @ (F.logsigmoid(real) + F.logsigmoid(-fake))


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

    The defaults are those of the lecture's picture: v = (0.2, 0.98), w = (0.71, −0.71) and
    u = (0.98, 0.2), with first steps of η = 0.8 and κ = 1. After one turn v = (0.393, 0.920) and
    w = (0.672, −0.740).

    If η and κ stay at 0.8 and 1, v does not end on the data. It is pulled along w, passes u, and
    jumps to and fro across the axis x₁, where |x₂| has its kink, between 6° and 29° off. At v = u
    the critic should be undecided, w = 0, but it is rescaled to unit length: it stands across the
    data and goes on pushing v with full force. Once v has passed u, the gradient turns the critic
    round, but by only 0.4 times the angle between v and u: unless κ is above the inverse of that,
    the critic stays. Shorter steps of v do not help: with η = 0.1 it stays at the axis, 10° off.

    Growing steps of the critic do help: with κ = √t and η = 0.8/√t, v comes back from the axis and
    is within 1° of u from turn 37 on. In the end the critic flips between u and −u, all real or all
    fake, and pushes along v, which rescaling undoes. From other beginnings v may end on a mirror
    image of u in an axis, which this critic cannot tell from u.

    Args:
        generator: v at the beginning, of shape (2,); (0.2, 0.98) if left out.
        critic: w at the beginning, of shape (2,); (0.71, −0.71) if left out.
        data: u, of shape (2,): the data are hu, h ~ N(0, 1); (0.98, 0.2) if left out.
        turns: The number of turns of both players.
        generator_step: η, from a turn, counted from 1; 0.8/√turn if left out.
        critic_step: κ, from a turn, counted from 1; √turn if left out.

    Returns:
        The beginning, and the state after each turn, in float64.

    Raises:
        ValueError: If a direction is not of shape (2,), finite and other than zero, or there are no
            turns.

    Examples:
        >>> turns = line_game(turns=5)
        >>> len(turns), turns[-1].generator.norm()
        (6, tensor(1.0000, dtype=torch.float64))
    """
    v = _direction("generator", generator, (0.2, 0.98))
    w = _direction("critic", critic, (0.71, -0.71))
    u = _direction("data", data, (0.98, 0.2))
    if turns < 1:
        raise ValueError(f"expected at least 1 turn, got {turns}")
    history = [Turn(v, w)]
    for turn in range(1, turns + 1):
        v = _stepped(v, partial(game_value, critic=w, data=u), -generator_step(turn))
        w = _stepped(w, partial(game_value, v, data=u), critic_step(turn))
        history.append(Turn(v, w))
    return history


def _stepped(direction: Tensor, value: Callable[[Tensor], Tensor], step: float) -> Tensor:
    """The direction after a step along the gradient of its value, rescaled to unit length."""
    with torch.enable_grad():
        at = direction.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(at), at)
    return F.normalize(direction + step * gradient, dim=0)


def _direction(name: str, given: Tensor | None, default: tuple[float, float]) -> Tensor:
    """A direction in float64, checked if it was given."""
    if given is None:
        return torch.tensor(default, dtype=torch.float64)
    direction = given.detach().double()
    _check_direction(name, direction)
    return direction


def _check_direction(name: str, direction: Tensor) -> None:
    """Raises ValueError unless a direction is of shape (2,), finite and other than zero."""
    expect_shape(name, direction, "(2,)", direction.shape == (2,))
    expect_finite(name, direction)
    if not bool(direction.any()):
        raise ValueError(f"expected a {name} other than (0, 0), which points nowhere")
