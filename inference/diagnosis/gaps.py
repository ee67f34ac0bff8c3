"""Where the nats between ELBO and evidence go: to the guide's family, or to its network."""

from __future__ import annotations

__all__ = ["Gaps", "gaps"]

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from ppl_gen.contexts import guide_of, seeded
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate, by_datum, summarised
from ppl_gen.inference.evidence.ais import ais
from ppl_gen.inference.evidence.importance import elbo
from ppl_gen.inference.expect import expect_counts, expect_rate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.fitting.guides import (
    Family,
    check_refittable,
    full_covariance,
    refit,
    same_family,
)
from ppl_gen.inference.left_out import left_out
from ppl_gen.inference.result import Result
from ppl_gen.progress import Bar
from ppl_gen.protocols import Guide, Program

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLEAR = 2.0  # standard errors, beyond which gaps differ
_NEGLIGIBLE = 0.01  # nats: what a refit leaves, which steps on chance


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
    """log p(x) − ELBO(q) = [log p(x) − ELBO(q*)] + [ELBO(q*) − ELBO(q)].

    The first part is the gap of approximation, the second that of amortisation. q* is the best of
    the guide's family for each datum by itself, found from where the guide is by SVI on parameters
    of its own. With a richer family the first gap is split once more, into what that family gains
    and what is left.

    Args:
        program: Any program with a density and reparameterised latents.
        guide: q(z | x), a function of the data; `program.guide` if None.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        evidence: log p̂(x) of these data, (N,) in nats, with a warning where it lies below the
            bound of q*, which shows that it is too low; by `ais` if left out, from the guide, or
            from the prior where the guide's support leaves out a part of it.
        family: The family of q*: from a distribution of the guide to its parameters and the
            constructor that takes them.
        richer: A richer family, likewise; None leaves it out.
        particles: K, the number of draws that each ELBO is measured with.
        steps: The number of SVI steps of each refit.
        rate: The first learning rate of a refit, in units of unconstrained parameters.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How programs are computed, with the same random numbers in all: "eager" runs them,
            "fx" replays graphs traced from them, "inductor" compiles these graphs, "cuda-graph"
            records them on a CUDA device, "auto" takes what pays for the number of calls.

    Returns:
        `Gaps`, in nats per datum with standard errors.

    Raises:
        ValueError: If a count is below 1, the evidence is of other data, the guide's sites depend
            on each other or have no parameters for each datum, or program, guide and data do not
            fit together (see `ppl_gen.inference.checks.check`).

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(2, 3)
        >>> evidence = log_evidence(ppca, ppca.guide, x, seed=0)
        >>> found = gaps(ppca, ppca.guide, x, evidence=evidence, steps=5, seed=0, engine="fx")
        >>> print(found.verdict)
        no gap to speak of: ELBO and evidence are -0.000 ± 0.000 nats apart

    Reference:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders.
    """
    guide = guide_of(program, guide)
    expect_counts(particles=particles, steps=steps)
    expect_rate(rate, usual=0.02)
    checked = check_by_datum(program, guide, x, *context)
    if evidence is not None and evidence.value.shape != x.shape[:1]:
        raise ValueError(
            f"expected the evidence of {len(x)} data, got values of shape "
            f"{tuple(evidence.value.shape)}"
        )
    families = [family]
    if richer is not None:
        families.append(richer)
    # All families are checked before the first is fitted.
    with seeded(x.device, seed):
        for each in families:
            check_refittable(guide, each, x, *context)
    with seeded(x.device, seed), Bar(shown=progress) as bar:
        task = bar.add_task("refitting", total=steps * len(families))
        guides = [guide]
        for each in families:
            refitted = refit(
                program,
                guides[-1],
                each,
                x,
                *context,
                steps=steps,
                rate=rate,
                engine=engine,
                tick=partial(bar.advance, task),
            )
            guides.append(refitted)
        bounds = [elbo(program, q, x, *context, particles=particles, engine=engine) for q in guides]
    if evidence is None:
        base: Guide | None = guide
        if left_out(program, guide, checked.nesting, x, *context):
            base = None  # the prior, which leaves nothing out
        evidence = ais(
            program, x, *context, guide=base, seed=seed, progress=progress, engine=engine
        )
    found = Gaps(evidence, *bounds)
    _warn_of_negative(found)
    return found


def _warn_of_negative(found: Gaps) -> None:
    """Warns of gaps that are negative beyond their errors, since none can be."""
    remedies = {
        "the refitted guide is worse than the amortised one": "raise steps, or lower rate",
        "the evidence lies below the bound of the refitted guide": "it is too low, as importance "
        "weighting by a poor guide is; raise its particles, or leave it out, for ais",
    }
    for (what, remedy), gap in zip(
        remedies.items(), (found.amortisation, found.approximation), strict=True
    ):
        mean = gap.mean()
        if float(mean.value) < -max(4 * float(mean.standard_error), _NEGLIGIBLE):
            warnings.warn(
                f"{what}, by {-float(mean.value):.3f} nats: {remedy}", RuntimeWarning, stacklevel=3
            )


@dataclass(frozen=True, eq=False, repr=False)
class Gaps(Result):
    """Evidence and bounds in nats per datum, each (N,), and the gaps between them.

    Attributes:
        evidence: log p̂(x).
        elbo: ELBO of the guide.
        refitted: ELBO of the best of its family, datum by datum.
        richer: ELBO of the best of a richer family; None where there was none.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(2, 3)
        >>> evidence = log_evidence(ppca, ppca.guide, x, seed=0)
        >>> found = gaps(ppca, ppca.guide, x, evidence=evidence, steps=5, seed=0, engine="fx")
        >>> abs(found.inference.mean().value.item()) < 1e-4  # its guide is the posterior
        True
    """

    evidence: Estimate
    elbo: Estimate
    refitted: Estimate
    richer: Estimate | None = None

    @property
    def inference(self) -> Estimate:
        """log p̂(x) − ELBO(q) = KL(q(z | x) ‖ p(z | x)): `approximation` and `amortisation`."""
        return self.evidence - self.elbo

    @property
    def approximation(self) -> Estimate:
        """log p̂(x) − ELBO(q*), what the family cannot express."""
        return self.evidence - self.refitted

    @property
    def amortisation(self) -> Estimate:
        """ELBO(q*) − ELBO(q), what the network loses of its family."""
        return self.refitted - self.elbo

    @property
    def family(self) -> Estimate | None:
        """What a richer family gains; a part of `approximation`."""
        if self.richer is None:
            return None
        return self.richer - self.refitted

    @property
    def left(self) -> Estimate | None:
        """log p̂(x) less the ELBO of the richer family: the rest of `approximation`."""
        if self.richer is None:
            return None
        return self.evidence - self.richer

    @property
    def parts(self) -> dict[str, Estimate]:
        """All gaps by name, (N,) each."""
        parts = {"inference": self.inference, "approximation": self.approximation}
        if self.family is not None and self.left is not None:
            parts["of it, a richer family gains"] = self.family
            parts["of it, left"] = self.left
        parts["amortisation"] = self.amortisation
        return parts

    @property
    def verdict(self) -> Verdict:
        """Which gap is the larger, and what to do about it.

        Tags: "amortisation" or "approximation", the larger; "alike" where they differ by no more
        than two standard errors; "none" where the whole gap is no larger than that. Differences
        below 0.01 nats count for nothing. Nothing is tested that could pass.
        """
        return Verdict((self._larger(),))

    def _larger(self) -> Finding:
        whole = self.inference.mean()
        if not _is_clear(whole):
            return Finding(
                "none", f"no gap to speak of: ELBO and evidence are {whole:.3f} nats apart"
            )
        approximation = self.approximation.mean()
        amortisation = self.amortisation.mean()
        # The refitted guide is in both gaps, so that their errors are not independent.
        more = (2 * self.refitted - self.evidence - self.elbo).mean()
        if not _is_clear(more):
            return Finding(
                "alike",
                f"family and network lose alike, within errors: {approximation:.2f} and "
                f"{amortisation:.2f} nats; raise particles, or give an evidence with a smaller "
                "error, to tell which loses more",
            )
        if float(more.value) > 0:
            return Finding(
                "amortisation",
                f"the network loses more ({amortisation:.2f} nats) than its family "
                f"({approximation:.2f}): train longer, or take a larger encoder",
            )
        return Finding(
            "approximation",
            f"the family loses more ({approximation:.2f} nats) than the network "
            f"({amortisation:.2f}): take a richer guide, or train with IWAE",
        )

    def table(self) -> pandas.DataFrame:
        """A row for each gap: its average over data in nats, with its errors."""
        return summarised(self.parts)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: evidence, bounds and gaps in nats, each with its error."""
        bounds = {"evidence": self.evidence, "elbo": self.elbo, "refitted": self.refitted}
        if self.richer is not None:
            bounds["richer"] = self.richer
        return by_datum(bounds | self.parts)

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """A bar for each gap, see `ppl_gen.plots.evidence.gap_bars`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.evidence import gap_bars

        bars = {}
        for name, part in self.parts.items():
            mean = part.mean()
            bars[name] = (float(mean.value), float(mean.standard_error))
        return gap_bars(bars, title, ax=ax)

    @property
    def headline(self) -> str:
        """A line for each gap."""
        return "\n".join([f"{name}: {part} nats" for name, part in self.parts.items()])


def _is_clear(difference: Estimate) -> bool:
    """Whether a difference is more than chance and rounding explain."""
    reach = max(_CLEAR * float(difference.standard_error), _NEGLIGIBLE)
    return abs(float(difference.value)) > reach
