"""Bidirectional Monte Carlo: on data that the program itself has drawn, its evidence from below and
from above.
"""

from __future__ import annotations

__all__ = ["Sandwich", "bdmc"]

from dataclasses import dataclass, replace

from torch import Tensor

from ppl_gen.contexts import device_of, seeded, store_kept
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.ais import Settings, annealed_log_weights
from ppl_gen.inference.evidence.temperatures import Schedule
from ppl_gen.inference.evidence.weights import summarised
from ppl_gen.program import simulate_sites
from ppl_gen.protocols import Guide, Program


@dataclass(frozen=True)
class Sandwich:
    """Stochastic bounds of log p(x) on simulated data, in nats per datum: E[lower] ≤ log p(x) ≤
    E[upper].

    Attributes:
        lower: By forward AIS, (N,).
        upper: By reverse AIS from the latents that the data were drawn with, (N,).
        x: The data.
    """

    lower: Estimate
    upper: Estimate
    x: Tensor

    @property
    def gap(self) -> Estimate:
        """upper − lower: in expectation no less than what either bound is off.

        The standard errors are those of the chains, given the latents that they began at.
        """
        error = (self.lower.standard_error.square() + self.upper.standard_error.square()).sqrt()
        return Estimate(self.upper.value - self.lower.value, error)

    @property
    def mean_gap(self) -> Estimate:
        """The average gap. Its standard error is the spread over data, which has the chance of
        those latents in it.
        """
        gap = self.gap.mean()
        assert gap.sampling_error is not None
        return replace(gap, standard_error=gap.sampling_error)

    def __str__(self) -> str:
        return f"{self.lower} ≤ log p(x) ≤ {self.upper}, gap {self.mean_gap} nats per datum"


def bdmc(
    program: Program,
    n: int,
    *context: Tensor,
    guide: Guide | None = None,
    chains: int = 16,
    temperatures: int = 1000,
    leapfrogs: int = 5,
    schedule: Schedule | None = None,
    target_accept: float = 0.65,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Sandwich:
    """log (1/C) Σ w_c ≤ log p(x) ≤ −log (1/C) Σ 1/w′_c in expectation, with w of AIS and w′ of AIS
    run backwards.

    (z, x) are drawn from the program, so that z is an exact draw of p(z | x): from there the chains
    of w′ first part under the posterior, and then follow the path of `ais` back to its base. A
    small gap says that AIS may be trusted on data like these, with as many temperatures. Chains of
    one datum begin at one z, whose chance the upper bound's standard error leaves out; the spread
    of the gap over data (`mean_gap`) has it.

    Args:
        program: As in `ais`.
        n: N, the number of data to draw; with a context, its length.
        *context: As in `ais`.
        guide: As in `ais`.
        chains: As in `ais`.
        temperatures: As in `ais`.
        leapfrogs: As in `ais`.
        schedule: As in `ais`.
        target_accept: As in `ais`.
        chunk: As in `ais`.
        seed: As in `ais`.
        progress: As in `ais`.
        engine: As in `ais`.

    Raises:
        ValueError: If n is below 1 or not the length of the context, or as `ais` does.

    Reference:
        Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using bidirectional
        Monte Carlo; Wu et al. (2017), for decoders of images.
    """
    device = device_of(program.model, context)
    with store_kept(), seeded(device, seed):
        latents = {
            name: site["value"] for name, site in simulate_sites(program, n, *context).items()
        }
    x = latents.pop("x")
    settings = Settings(
        chains, temperatures, leapfrogs, schedule, target_accept, chunk, seed, progress, engine
    )
    # Other seeds than that of the data, or the chains would begin at the latents that the data were
    # drawn with.
    forth, back = (settings._replace(seed=None if seed is None else seed + i) for i in (1, 2))
    lower = annealed_log_weights(program, guide, (x, *context), forth)
    upper = annealed_log_weights(program, guide, (x, *context), back, latents)
    above = summarised(-upper)[0]
    return Sandwich(summarised(lower)[0], replace(above, value=-above.value), x)
