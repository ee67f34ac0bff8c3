"""Where the nats between ELBO and evidence go: to the family of q, or to the network that amortises
it.
"""

from __future__ import annotations

__all__ = ["Gaps", "gaps"]

import warnings
from dataclasses import dataclass
from functools import partial

from rich.progress import Progress
from torch import Tensor

from ppl_gen.contexts import guide_of, seeded
from ppl_gen.inference.checks import check
from ppl_gen.inference.diagnosis.refitting import (
    Family,
    Refitted,
    full_covariance,
    refit,
    same_family,
)
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.ais import ais
from ppl_gen.inference.evidence.importance import elbo
from ppl_gen.inference.expect import expect_counts
from ppl_gen.protocols import Guide, Program


def gaps(
    program: Program,
    guide: Guide | None,
    x: Tensor,
    *context: Tensor,
    evidence: Estimate | None = None,
    family: Family = same_family,
    richer: Family | None = full_covariance,
    particles: int = 1000,
    steps: int = 500,
    rate: float = 0.02,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> Gaps:
    """log p(x) − ELBO(q) = [log p(x) − ELBO(q*)] + [ELBO(q*) − ELBO(q)], the gaps of approximation
    and of amortisation.

    q* is the best of the guide's family for each datum by itself, found from where the guide is by
    SVI on parameters of its own. With a richer family the first gap is split once more, into what
    that family gains and what is left.

    Args:
        program: Any program with a density and reparameterised latents.
        guide: q(z | x), a function of the data; `program.guide` if None.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        evidence: log p̂(x) of these data; by `ais` from the guide if left out.
        family: From a distribution of the guide to parameters and constructor, the family of q*.
        richer: The same of a richer family; None leaves it out.
        particles: K, the number of draws that each ELBO is measured with.
        steps: The number of SVI steps of each refit.
        rate: The first learning rate of a refit, in units of unconstrained parameters.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: See `ppl_gen.inference.engine.Replay`.

    Returns:
        `Gaps`, in nats per datum with standard errors.

    Raises:
        ValueError: If a count is below 1, the evidence is of other data, the guide's sites depend
            on each other or have no parameters for each datum, or as
            `ppl_gen.inference.checks.check` says.

    Reference:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders.
    """
    guide = guide_of(program, guide)
    expect_counts(particles=particles, steps=steps)
    check(program, guide, x, *context)
    if evidence is not None and evidence.value.shape != x.shape[:1]:
        raise ValueError(
            f"expected the evidence of {len(x)} data, got values of shape "
            f"{tuple(evidence.value.shape)}"
        )
    families = [family] if richer is None else [family, richer]
    for kind in families:
        Refitted(guide, kind, x, *context)  # says what is wrong before work starts
    with (
        seeded(x.device, seed),
        Progress(disable=not progress, transient=True) as bar,
    ):
        task = bar.add_task("refitting", total=steps * len(families))
        guides: list[Guide] = [guide]
        for kind in families:
            advance = partial(bar.advance, task)
            guides.append(
                refit(
                    program,
                    guides[-1],
                    kind,
                    x,
                    *context,
                    steps=steps,
                    rate=rate,
                    engine=engine,
                    tick=advance,
                )
            )
        bounds = [elbo(program, q, x, *context, particles=particles, engine=engine) for q in guides]
    if evidence is None:
        evidence = ais(
            program, x, *context, guide=guide, seed=seed, progress=progress, engine=engine
        )
    found = Gaps(evidence, *bounds)
    worst = found.amortisation.mean()
    if float(worst.value) < -4 * float(worst.standard_error):
        warnings.warn(
            f"the refitted guide is worse than the amortised one by {-float(worst.value):.3f} "
            "nats: raise steps, or lower rate",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


@dataclass(frozen=True)
class Gaps:
    """Evidence and bounds in nats per datum, each (N,), and the gaps between them.

    Attributes:
        evidence: log p̂(x).
        elbo: ELBO of the guide.
        refitted: ELBO of the best of its family, datum by datum.
        richer: ELBO of the best of a richer family; None where there was none.
    """

    evidence: Estimate
    elbo: Estimate
    refitted: Estimate
    richer: Estimate | None = None

    @property
    def inference(self) -> Estimate:
        """log p̂(x) − ELBO(q), the sum of `approximation` and `amortisation`; KL(q(z | x) ‖ p(z |
        x)).
        """
        return _difference(self.evidence, self.elbo)

    @property
    def approximation(self) -> Estimate:
        """log p̂(x) − ELBO(q*), what the family cannot express."""
        return _difference(self.evidence, self.refitted)

    @property
    def amortisation(self) -> Estimate:
        """ELBO(q*) − ELBO(q), what the network loses of its family."""
        return _difference(self.refitted, self.elbo)

    @property
    def family(self) -> Estimate | None:
        """What a richer family gains; a part of `approximation`."""
        return None if self.richer is None else _difference(self.richer, self.refitted)

    @property
    def left(self) -> Estimate | None:
        """log p̂(x) less the ELBO of the richer family: the rest of `approximation`."""
        return None if self.richer is None else _difference(self.evidence, self.richer)

    @property
    def parts(self) -> dict[str, Estimate]:
        """All gaps by name, (N,) each."""
        found = {
            "inference": self.inference,
            "approximation": self.approximation,
            "of it, a richer family gains": self.family,
            "of it, left": self.left,
            "amortisation": self.amortisation,
        }
        return {name: part for name, part in found.items() if part is not None}

    @property
    def verdict(self) -> str:
        """Which gap is the larger, and what to do about it."""
        approximation, amortisation = (
            float(part.mean().value) for part in (self.approximation, self.amortisation)
        )
        if amortisation > approximation:
            return (
                f"the network loses more ({amortisation:.2f} nats) than its family "
                f"({approximation:.2f}): train longer, or take a larger encoder"
            )
        return (
            f"the family loses more ({approximation:.2f} nats) than the network "
            f"({amortisation:.2f}): take a richer guide, or train with IWAE"
        )

    def __str__(self) -> str:
        return "\n".join(
            [*(f"{name}: {part} nats" for name, part in self.parts.items()), self.verdict]
        )


def _difference(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(
        a.value - b.value, (a.standard_error.square() + b.standard_error.square()).sqrt()
    )
