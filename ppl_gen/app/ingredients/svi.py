"""Fitting by stochastic variational inference: objectives by name, the weight of the KL, and when a
prior begins."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "by_svi", "objective", "weight_of_kl"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyro
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.fitting import Fitting, Start
from ppl_gen.app.ingredients.stopping import Stopping
from ppl_gen.contexts import copied
from ppl_gen.inference import (
    IWAE,
    AnalyticELBO,
    DReG,
    FreeBits,
    Plateau,
    StickingTheLanding,
    annealed,
    svi_step,
)
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.svi import expect_average
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.priors import Delayed
from ppl_gen.protocols import Step


def _elbo(particles: int) -> ELBO:
    if particles == 1:
        return Trace_ELBO()
    return Trace_ELBO(particles, vectorize_particles=True, max_plate_nesting=1)


# By name, from the number of particles.
OBJECTIVES: dict[str, Callable[[int], ELBO]] = {
    "elbo": _elbo,
    "analytic-elbo": AnalyticELBO,
    "iwae": IWAE,
    "dreg": DReG,
    "sticking-the-landing": StickingTheLanding,
}


def objective(config: Config) -> ELBO:
    """The objective of a configuration.

    Raises:
        ValueError: If a number is out of range.
    """
    if config.free_bits == 0:
        return OBJECTIVES[config.objective](config.particles)
    return FreeBits(config.free_bits, config.particles)


def weight_of_kl(config: Config, batches: int) -> float | Callable[[int], float]:
    """β, the weight of the KL term: a number, or a function of the step while it rises.

    It is 1 where the model has no such option.

    Args:
        config: What was asked for.
        batches: The number of steps in an epoch.
    """
    if "beta" not in config:
        return 1.0
    beta: float = config.beta
    if not config.anneal:
        return beta
    return annealed(config.anneal * batches, 0.0, beta)


def by_svi(start: Start, bound: ELBO | None = None) -> Fitting:
    """By SVI under the objective of the configuration, with its optimiser.

    Args:
        start: What every fitting begins with.
        bound: Another objective, of a model that has its own.

    Raises:
        ValueError: If the size of batches does not suit the data, a number is out of range, or a
            prior that begins later does not go with guide and data.
    """
    program = start.program
    optimizer = start.optimizer(program)
    batches = start.batches()
    _expect_room(start)
    probed = start.probed()
    stopping = start.stopping()
    pace: Callable[[int], None] = _as_it_is
    after = getattr(start.config, "prior_after", None)
    if after is not None:
        _check_begun(program, probed)
        pace = _by_epoch(program, after)
        if stopping is not None:
            stopping = Stopping(stopping.rule, after)
    if start.config.values.get("until") is not None:
        stopping = Stopping(Plateau(optimizer), _unsettled(start.config))
    if bound is None:
        bound = objective(start.config)
    if start.across is not None:
        expect_average(bound, program.model)
    beta = weight_of_kl(start.config, len(batches))

    def begin(first_step: int, engine: Engine) -> Step:
        return svi_step(
            program,
            optimizer,
            bound,
            beta=beta,
            first_step=first_step,
            engine=engine,
            across=start.across,
            precision=start.config.values.get("precision", "float32"),
        )

    def probe() -> Tensor:
        with pyro.validation_enabled(False):
            drawn = poutine.trace(program.guide).get_trace(*probed)
            replayed = poutine.replay(program.model, trace=drawn)
            scored = poutine.trace(replayed).get_trace(*probed)
            return scored.log_prob_sum() - drawn.log_prob_sum()

    return Fitting(
        program=program,
        condition=start.condition,
        companions=nn.ModuleDict(),
        optimizers=(optimizer,),
        batches=batches,
        begin=begin,
        probe=probe,
        pace=pace,
        validation=start.validation(),
        stopping=stopping,
        is_shared=True,
    )


def _unsettled(config: Config) -> int:
    """The number of epochs in which what is ascended changes, or not everything moves.

    Args:
        config: What was asked for.
    """
    epochs: int = config.values.get("anneal", 0)
    after = config.values.get("prior_after")
    if after is not None:
        epochs = max(epochs, after + 1)
    return epochs


def _as_it_is(epoch: int) -> None:
    """Leaves the prior as it is."""


def _by_epoch(program: Any, after: int) -> Callable[[int], None]:
    """What has a delayed prior begin, and stands still what is not to move in an epoch.

    Up to epoch `after` all but the prior moves, in the next epoch the prior alone, then everything.

    Args:
        program: With a `Delayed` prior.
        after: The number of epochs under N(0, I).
    """
    prior: Delayed = program.prior
    own = set(prior.own(program))
    learned = [parameter for parameter in program.parameters() if parameter.requires_grad]

    def pace(epoch: int) -> None:
        if epoch > after:
            prior.begin()
        for parameter in learned:
            moves = (parameter in own) == prior.has_begun
            parameter.requires_grad_(moves or epoch > after + 1)

    return pace


def _check_begun(program: Any, data: Sequence[Tensor]) -> None:
    """Raises ValueError if a delayed prior, once it has begun, does not go with guide and data.

    Args:
        program: With a `Delayed` prior, which is left as it is.
        data: (x, *context).
    """
    begun = copied(program)
    begun.prior.begin()
    check(begun, begun.guide, *data, weighed=False)


def _expect_room(start: Start) -> None:
    """Raises ValueError if draws of all particles and their gradients do not fit into memory."""
    config = start.config
    pairs = config.particles * config.batch_size
    expect_memory(
        f"{config.particles} particles for each of {config.batch_size} data",
        2 * SINGLE * pairs * (math.prod(start.data.shape) + config.latent_dim),
        "lower --particles or --batch-size",
        start.device,
    )
