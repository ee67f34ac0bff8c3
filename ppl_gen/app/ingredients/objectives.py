"""Objectives of SVI by name, and the weight of the KL term."""

from __future__ import annotations

__all__ = ["OBJECTIVES", "objective", "weight_of_kl"]

from collections.abc import Callable

from pyro.infer import ELBO, Trace_ELBO

from ppl_gen.app.config import Config
from ppl_gen.inference import IWAE, AnalyticELBO, DReG, FreeBits, StickingTheLanding, annealed


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
