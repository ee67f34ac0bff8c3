"""Bidirectional Monte Carlo: the evidence of simulated data from below and from above."""

from __future__ import annotations

__all__ = ["Sandwich", "bdmc"]

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.contexts import device_of, expect_program, seeded, store_kept
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate, by_datum, summarised
from ppl_gen.inference.evidence.ais import Settings, annealed_log_weights, expect_settings
from ppl_gen.inference.evidence.temperatures import Schedule
from ppl_gen.inference.evidence.weights import evidence_of
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.program import simulate_sites
from ppl_gen.protocols import Guide, Program

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Sandwich(Result):
    """E[lower] ≤ log p(x) ≤ E[upper], in nats per datum, on simulated data.

    Attributes:
        lower: By forward AIS, (N,).
        upper: By reverse AIS from the latents that the data were drawn with, (N,). Its standard
            error is that of the chains and of the chance of these latents, the latter from how gaps
            spread over data; NaN for a single datum.
        x: The data, (N, *shape).

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> few = {"chains": 4, "temperatures": 10, "leapfrogs": 2, "engine": "eager"}
        >>> found = bdmc(ppca, 5, **few, seed=0)
        >>> found.lower.value.shape, 0 <= found.mean_gap.value.item() < 1
        (torch.Size([5]), True)
    """

    lower: Estimate
    upper: Estimate
    x: Tensor

    @property
    def gap(self) -> Estimate:
        """upper − lower: in expectation no less than what either bound is off."""
        return self.upper - self.lower

    @property
    def mean_gap(self) -> Estimate:
        """The average gap, whose standard error is the spread over data, sd / √N."""
        gap = self.gap.mean()
        assert gap.sampling_error is not None
        return replace(gap, standard_error=gap.sampling_error)

    @property
    def verdict(self) -> Verdict:
        """How far off AIS is on such data, at most.

        Its tag is "bounded", or "crossed", which does not pass, where the lower bound is above the
        upper one by more than four errors.
        """
        gap = self.mean_gap
        if float(gap.value) < -4 * float(gap.standard_error):
            sentence = (
                f"the bounds are crossed by {-gap} nats, more than chance explains: the program "
                "scores data otherwise than it draws them"
            )
            return Verdict((Finding("crossed", sentence),), passes=False)
        if len(self.x) > 1 and not self._is_open:
            most = float(gap.value) + 1.645 * float(gap.standard_error)
            sentence = (
                "the bounds meet within error: on data like these AIS is too low by less than "
                f"{most:.3f} nats on average (95 %)"
            )
            return Verdict((Finding("bounded", sentence),))
        sentence = f"on data like these AIS is too low by at most {gap} nats on average"
        return Verdict((Finding("bounded", sentence),))

    @property
    def _is_open(self) -> bool:
        """Whether the upper bound is above the lower one by more than two errors."""
        gap = self.mean_gap
        return float(gap.value) > 2 * float(gap.standard_error)

    def table(self) -> pandas.DataFrame:
        """A row for lower and upper bound and the gap: averages over data in nats, with errors."""
        return summarised({"lower": self.lower, "upper": self.upper, "gap": self.mean_gap})

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: both bounds and the gap in nats, each with its error."""
        return by_datum({"lower": self.lower, "upper": self.upper, "gap": self.gap})

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Both bounds of each datum and their distance, see `ppl_gen.plots.evidence.sandwich`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.evidence import sandwich

        return sandwich(self.lower.value, self.upper.value, title=title, ax=ax)

    def __str__(self) -> str:
        return self.headline

    @property
    def headline(self) -> str:
        """Both bounds, in expectation, and the gap; in no order where they meet within error."""
        gap = f"gap {self.mean_gap} nats per datum"
        if self._is_open:
            return f"{self.lower} ≤ log p(x) ≤ {self.upper} in expectation, {gap}"
        both = f"log p(x) from below {self.lower}, from above {self.upper}, {gap}"
        if "crossed" in self.verdict.tags:
            return f"the bounds are crossed: {both}"
        if len(self.x) > 1:
            return f"the bounds meet within error: {both}"
        return both


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
    """log (1/C) Σ w_c ≤ log p(x) ≤ −log (1/C) Σ 1/w′_c in expectation, w and w′ of two AIS runs.

    (z, x) are drawn from the program, so that z is an exact draw of p(z | x). Those of w are the
    runs of `ais`. Those of w′ go backwards: from z the chains first part under the posterior, and
    then follow the path back to its base. A small gap says that AIS may be trusted on data like
    these, with as many temperatures.

    Both are bounds of log p(x), not estimates: an error says how far a bound may be from its own
    expectation. The chains of one datum begin at one z, and do not show its chance; what gaps vary
    over data beyond the errors of chains is added to the upper bound's.

    Args:
        program: Any program with a density, hierarchical latents included; evaluated in evaluation
            mode.
        n: N, the number of data to draw; with a context, its length.
        *context: What the program is conditioned on, each of length N.
        guide: π₀ = q(z | x, c), from which the path begins, and which must leave no part of the
            posterior out; the prior p(z | c) if left out.
        chains: C, the number of chains of each datum.
        temperatures: T, the number of steps from π₀ to the posterior.
        leapfrogs: The number of leapfrog steps of a transition.
        schedule: From T to β₀ = 0, …, β_T = 1, as `linear` and `sigmoid` of
            `ppl_gen.inference.evidence.temperatures`; learned in a pilot run if left out.
        target_accept: The acceptance probability that step sizes are learned for, between 0 and 1.
        chunk: How many data are annealed at once, with all their chains; chosen by their size and
            the device if left out.
        seed: Seeds data and draws and leaves the global generator as it was; None draws from the
            global generator.
        progress: Whether to show a progress bar for each of the two runs.
        engine: How the leapfrog steps are computed: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps.

    Returns:
        A `Sandwich`: both bounds with their errors, and the data.

    Raises:
        ValueError: If n or a count is below 1, n is not the length of the context, the program
            observes anything but x, the schedule does not rise from 0 to 1, a latent is shared by
            all data, the guide has auxiliary sites, or program and guide do not fit together.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> few = {"chains": 4, "temperatures": 10, "leapfrogs": 2, "engine": "eager"}
        >>> found = bdmc(ppca, 5, **few, seed=0)
        >>> bool(found.lower.mean().value < found.upper.mean().value)
        True

    Reference:
        Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using bidirectional
        Monte Carlo; Wu et al. (2017), On the quantitative analysis of decoder-based generative
        models, for decoders of images.
    """
    settings = Settings(
        chains=chains,
        temperatures=temperatures,
        leapfrogs=leapfrogs,
        schedule=schedule,
        target_accept=target_accept,
        chunk=chunk,
        seed=seed,
        progress=progress,
        engine=engine,
    )
    expect_settings(settings)
    expect_program(program)
    with store_kept(), seeded(device_of(program.model, context), seed):
        sites = simulate_sites(program, n, *context)
    latents = {name: site["value"] for name, site in sites.items()}
    x = latents.pop("x")
    data = (x, *context)
    # Other seeds than that of the data, or the chains would begin at the latents that the data were
    # drawn with.
    forwards = annealed_log_weights(program, guide, data, _reseeded(settings, 1))
    backwards = annealed_log_weights(program, guide, data, _reseeded(settings, 2), latents)
    lower = evidence_of(forwards)
    above = evidence_of(-backwards)
    error = _error_of_upper(lower, above)
    upper = replace(above, value=-above.value, standard_error=error)
    return Sandwich(lower, upper, x)


def _error_of_upper(lower: Estimate, above: Estimate) -> Tensor:
    """√(s′² + τ²), (N,): of the chains, and of the latents that they begin at.

    τ² = Var(gaps) − mean(s² + s′²), or 0: the variance of gaps over data, less that of chains.

    Args:
        lower: The lower bounds, with errors s.
        above: Minus the upper bounds, with the errors s′ of their chains.
    """
    variance = above.standard_error.square()
    if len(variance) == 1:
        return variance * torch.nan
    gaps = above.value + lower.value
    of_chains = (variance + lower.standard_error.square()).mean()
    of_starts = (gaps.var() - of_chains).clamp(min=0)
    return (variance + of_starts).sqrt()


def _reseeded(settings: Settings, by: int) -> Settings:
    """The same settings with another seed, if there is one."""
    if settings.seed is None:
        return settings
    return settings._replace(seed=settings.seed + by)
