"""Fitting by moment matching: without a critic, by a discrepancy between draws and data."""

from __future__ import annotations

__all__ = ["DISCREPANCIES", "by_moments"]

from torch import Tensor, nn

from ppl_gen.app.ingredients.fitting import PROBED, Fitting, Start
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.moment_matching import Discrepancy, moment_step
from ppl_gen.inference.samples.discrepancies import squared_energy, squared_mmd
from ppl_gen.program import simulate
from ppl_gen.protocols import Step

DISCREPANCIES: dict[str, Discrepancy] = {"mmd": squared_mmd, "energy": squared_energy}


def by_moments(start: Start) -> Fitting:
    """By the discrepancy of draws and batch, and the optimiser, that the configuration names.

    Raises:
        ValueError: If a batch would have one datum, or its size does not suit the data.
    """
    program = start.program
    optimizer = start.optimizer(program)
    discrepancy = DISCREPANCIES[start.config.discrepancy]

    def begin(first_step: int, engine: Engine) -> Step:
        return moment_step(program, optimizer, discrepancy, first_step=first_step, engine=engine)

    def probe() -> Tensor:
        return simulate(program, PROBED)

    return Fitting(
        program=program,
        condition=start.condition,
        companions=nn.ModuleDict(),
        optimizers=(optimizer,),
        batches=start.batches(at_least=2),
        begin=begin,
        probe=probe,
    )
