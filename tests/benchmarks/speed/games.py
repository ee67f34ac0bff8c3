"""Steps of games: a generator against a critic, two translators against two."""

from __future__ import annotations

__all__ = ["GAMES", "cycle", "game"]

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.critics import conv_critic, mlp_critic, patch_critic
from ppl_gen.inference import adversarial_step, cycle_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.models import cycle_gan, dcgan, gan
from speed.contest import Contest, Job
from speed.scale import Scale
from speed.steps import LEAST_STEPS


class Game(NamedTuple):
    """A game.

    Attributes:
        what: Its sizes.
        generator: Makes the program.
        critic: Makes the critic.
        shape: Of a datum.
        batch: The number of data in a batch.
        steps: Of a turn.
    """

    what: str
    generator: Callable[[], Any]
    critic: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    steps: int


GAMES = {
    "ring": Game(
        "2-128-128-2, batch 256",
        partial(gan, (2,), 2, hidden=(128, 128)),
        partial(mlp_critic, (2,), hidden=(128, 128)),
        (2,),
        256,
        40,
    ),
    "digits": Game(
        "10-256-256-64, batch 50",
        partial(gan, (1, 8, 8), 10),
        partial(mlp_critic, (1, 8, 8)),
        (1, 8, 8),
        50,
        40,
    ),
    "DCGAN": Game(
        "28 × 28, width 16, batch 64",
        partial(dcgan, (1, 28, 28), 50, width=16),
        partial(conv_critic, (1, 28, 28), width=16),
        (1, 28, 28),
        64,
        20,
    ),
}


def adam(*modules: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a player."""
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.Adam(parameters, 5e-4, betas=(0.0, 0.9), fused=True)


def _repeated(step: Callable[..., Any], batch: tuple[Tensor, ...], steps: int) -> Job:
    def run() -> None:
        for _ in range(steps):
            step(*batch)

    return Job(run=run, units=lambda _: steps)


def game_by_hand(game: Game, r1: float, steps: int) -> Job:
    """What one writes without a library: draws shared by both sides, the penalty on data."""
    program, critic = game.generator(), game.critic()
    generator, inputs = program.decoder, program.prior.loc.shape[0]
    of_generator, of_critic = adam(generator), adam(critic)

    def step(x: Tensor) -> None:
        drawn = generator(torch.randn(len(x), inputs, device=x.device))
        real = x.detach().requires_grad_(bool(r1))
        scores = critic(real)
        loss = F.softplus(-scores).mean() + F.softplus(critic(drawn.detach())).mean()
        if r1:
            (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
            loss = loss + r1 / 2 * gradient.square().flatten(1).sum(-1).mean()
        of_critic.zero_grad(set_to_none=True)
        loss.backward()
        of_critic.step()
        of_generator.zero_grad(set_to_none=True)
        F.softplus(-critic(drawn)).mean().backward()
        of_generator.step()

    return _repeated(step, (torch.rand(game.batch, *game.shape),), steps)


def game_by_library(game: Game, r1: float, steps: int, engine: Engine) -> Job:
    """`adversarial_step`."""
    program, critic = game.generator(), game.critic()
    step = adversarial_step(program, critic, adam(program), adam(critic), r1=r1, engine=engine)
    return _repeated(step, (torch.rand(game.batch, *game.shape),), steps)


def game(name: str, scale: Scale, r1: float = 0.0) -> Contest:
    """A step of critic and generator."""
    chosen = GAMES[name]
    steps = scale.count(chosen.steps, least=LEAST_STEPS)
    ways = _engines(partial(game_by_library, chosen, r1, steps), scale)
    ways["PyTorch by hand"] = partial(game_by_hand, chosen, r1, steps)
    what = chosen.what
    if r1:
        what += f", R1 {r1}"
    return Contest(
        what=what, unit="step", ways=ways, rounds=scale.rounds, counted="PyTorch by hand"
    )


def _engines(library: Callable[[Engine], Job], scale: Scale) -> dict[str, Callable[[], Job]]:
    """The library on each engine."""
    ways: dict[str, Callable[[], Job]] = {}
    if scale.compiles:
        ways["ppl-gen"] = partial(library, "inductor")
    ways["ppl-gen, fx"] = partial(library, "fx")
    ways["ppl-gen, eager"] = partial(library, "eager")
    return ways


DIGITS = (1, 8, 8)


def _domains(batch: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, *shape), torch.rand(batch, *shape)


def _critics(shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    channels = shape[0]
    layers = 3
    if shape == DIGITS:
        layers = 1
    return patch_critic(channels, layers=layers), patch_critic(channels, layers=layers)


def cycle_by_hand(batch: int, steps: int, shape: tuple[int, ...] = DIGITS) -> Job:
    """Zhu et al. (2017) as one would write it: least squares, λ = 10, ι = 5, no pools of images."""
    a, b = _domains(batch, shape)
    program = cycle_gan(a, b)
    to_a, to_b = program.to_a, program.to_b
    of_a, of_b = _critics(shape)
    translators, first, second = adam(to_a, to_b), adam(of_a), adam(of_b)

    def fooled(scores: Tensor) -> Tensor:
        return (scores - 1).square().mean()

    def judge(critic: nn.Module, optimizer: Any, real: Tensor, drawn: Tensor) -> None:
        loss = fooled(critic(real)) + critic(drawn.detach()).square().mean()
        optimizer.zero_grad(set_to_none=True)
        (loss / 2).backward()
        optimizer.step()

    def step(a: Tensor, b: Tensor) -> None:
        in_b, in_a = to_b(a), to_a(b)
        adversarial = fooled(of_b(in_b)) + fooled(of_a(in_a))
        back = F.l1_loss(to_a(in_b), a) + F.l1_loss(to_b(in_a), b)
        same = F.l1_loss(to_b(b), b) + F.l1_loss(to_a(a), a)
        translators.zero_grad(set_to_none=True)
        (adversarial + 10 * back + 5 * same).backward()
        translators.step()
        judge(of_a, first, a, in_a)
        judge(of_b, second, b, in_b)

    return _repeated(step, (a, b), steps)


def cycle_by_library(
    batch: int, steps: int, engine: Engine, shape: tuple[int, ...] = DIGITS
) -> Job:
    """`cycle_step`."""
    a, b = _domains(batch, shape)
    program = cycle_gan(a, b)
    critics = _critics(shape)
    optimizers = (adam(critics[0]), adam(critics[1]))
    step = cycle_step(program, critics, adam(program), optimizers, engine=engine)
    return _repeated(step, (a, b), steps)


def cycle(scale: Scale) -> Contest:
    """A step of both translators and both critics."""
    batch = scale.count(16, least=2)
    steps = scale.count(LEAST_STEPS, least=5)
    ways = _engines(partial(cycle_by_library, batch, steps), scale)
    ways["PyTorch by hand"] = partial(cycle_by_hand, batch, steps)
    return Contest(
        what=f"8 × 8, batch {batch}",
        unit="step",
        ways=ways,
        rounds=min(scale.rounds, 5),
        counted="PyTorch by hand",
    )
