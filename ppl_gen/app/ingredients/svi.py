"""Fitting by stochastic variational inference: models with a likelihood and a guide."""

from __future__ import annotations

__all__ = ["by_svi"]

import math

from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_gen.app.ingredients.fitting import Fitting, Start
from ppl_gen.app.ingredients.objectives import objective, weight_of_kl
from ppl_gen.inference import elbo, svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.protocols import Step


def by_svi(start: Start, bound: ELBO | None = None) -> Fitting:
    """By SVI under the objective of the configuration, with its optimiser.

    Args:
        start: What every fitting begins with.
        bound: Another objective, of a model that has its own.

    Raises:
        ValueError: If the size of batches does not suit the data, or a number is out of range.
    """
    program = start.program
    optimizer = start.optimizer(program)
    batches = start.batches()
    _expect_room(start)
    probed = start.probed()
    if bound is None:
        bound = objective(start.config)
    beta = weight_of_kl(start.config, len(batches))

    def begin(first_step: int, engine: Engine) -> Step:
        return svi_step(program, optimizer, bound, beta=beta, first_step=first_step, engine=engine)

    def probe() -> Tensor:
        return elbo(program, None, *probed, particles=1, seed=0).value

    return Fitting(
        program=program,
        condition=start.condition,
        companions=nn.ModuleDict(),
        optimizers=(optimizer,),
        batches=batches,
        begin=begin,
        probe=probe,
        validation=start.validation(),
        stopping=start.stopping(),
    )


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
