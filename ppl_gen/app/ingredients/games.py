"""Fitting against a critic: GANs."""

from __future__ import annotations

__all__ = ["BETAS", "LOSSES", "against_critic", "given_an_image", "with_bounded_layers"]

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ppl_gen import critics
from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.fitting import Fitting, Start
from ppl_gen.app.parts.conditions import OF_IMAGES
from ppl_gen.inference import adversarial_step, bidirectional_step, losses, moving_average
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.engine.turns import plan as plan_of_turns
from ppl_gen.inference.games.adversarial import expect_adversaries, expect_pairs
from ppl_gen.program import simulate
from ppl_gen.protocols import Step

LOSSES: dict[str, losses.AdversarialLoss] = {
    "auto": losses.non_saturating,
    "non-saturating": losses.non_saturating,
    "minimax": losses.minimax,
    "least-squares": losses.least_squares,
    "hinge": losses.hinge,
    "wasserstein": losses.wasserstein,
}
BETAS = (0.0, 0.9)  # of Adam, for both players: without momentum, which makes them circle


def against_critic(
    start: Start,
    critic: nn.Module,
    auxiliary: Callable[..., Tensor] | None = None,
    remark: str = "",
    *,
    pairs: bool = False,
) -> Fitting:
    """Against one critic, with a moving average of the generator if one is asked for.

    Args:
        start: What every fitting begins with.
        critic: From data x (N, *shape), and the context if there is one, to scores (N,).
        auxiliary: What the generator descends besides its loss; see `adversarial_step`.
        remark: What the user is to know before it begins.
        pairs: Whether the critic scores pairs (x, z) of data and latents, under a guide.

    Raises:
        ValueError: If a batch would have one datum, whose spread is not defined, if a number is out
            of range, or if program and critic do not go together.
    """
    config = start.config
    program = start.program
    batches = start.batches(at_least=2)
    critic = with_bounded_layers(critic, config).to(start.device)
    companions = nn.ModuleDict({"critic": critic})
    shown = program
    average = None
    if config.average:
        average = moving_average(program, config.average)
        companions["average"] = average
        shown = average.module
    of_program = start.optimizer(program, BETAS)
    of_critic = start.optimizer(critic, BETAS)
    make: Callable[..., Step] = adversarial_step
    more: dict[str, Any] = {"auxiliary": auxiliary}
    expect: Callable[..., Tensor] = partial(expect_adversaries, program, critic)
    if pairs:
        make = bidirectional_step
        more = {}
        expect = partial(expect_pairs, program, program.guide, critic)

    def begin(first_step: int, engine: Engine) -> Step:
        return make(
            program,
            critic,
            of_program,
            of_critic,
            LOSSES[config.loss],
            config.critic_steps,
            r1=config.r1,
            penalty=config.penalty,
            average=average,
            first_step=first_step,
            engine=engine,
            across=start.across,
            **more,
        )

    begin(0, "eager")  # says what is out of range before a run has a folder
    x, *context = start.probed()
    expect(x, *context)

    def probe() -> Tensor:
        return simulate(shown, len(x), *context)

    return Fitting(
        program=program,
        condition=start.condition,
        companions=companions,
        optimizers=(of_program, of_critic),
        batches=batches,
        begin=begin,
        probe=probe,
        remark=remark,
        is_shared=True,
        plan=plan_of_turns,
    )


def given_an_image(start: Start, critic: nn.Module) -> Fitting:
    """Against a critic that sees the context too; given an image, near that which it is taken of.

    Args:
        start: What every fitting begins with.
        critic: From data x (N, *shape) and the context to scores (N,).

    Reference:
        Isola et al. (2017), Image-to-image translation with conditional adversarial networks, eq. 3
        and 4.
    """
    weight = start.config.paired
    if start.config.condition not in OF_IMAGES or not weight:
        return against_critic(start, critic)

    def distance(drawn: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        difference: Tensor = drawn["x"] - x
        return weight * difference.abs().mean()

    remark = f"auxiliary: {weight:g} times the mean absolute difference to the image"
    return against_critic(start, critic, distance, remark)


def with_bounded_layers(critic: nn.Module, config: Config) -> nn.Module:
    """The critic, each layer divided by its largest singular value if --spectral asks for it."""
    if not config.spectral:
        return critic
    return critics.spectral(critic)
