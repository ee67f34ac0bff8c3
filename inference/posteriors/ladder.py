"""Which family of guides a posterior needs: a ladder of them, climbed until one is good enough."""

from __future__ import annotations

__all__ = [
    "Amortised",
    "AsItIs",
    "ByDatum",
    "GapBelow",
    "GuideChoice",
    "KHatBelow",
    "Rung",
    "choose_guide",
]

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_gen.contexts import evaluating, forked, guide_of, seeded
from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.estimate import Estimate, Share
from ppl_gen.inference.evidence.importance import elbo, log_evidence
from ppl_gen.inference.evidence.weights import k_hat_limit
from ppl_gen.inference.expect import expect_counts, expect_rate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.fitting.bound import PerDatum
from ppl_gen.inference.fitting.guides import (
    Family,
    full_covariance,
    refit,
    same_family,
    still,
)
from ppl_gen.inference.fitting.loop import iterate
from ppl_gen.inference.fitting.svi import svi_step
from ppl_gen.inference.posteriors.families import GaussianMixtureByDatum, LowRankByDatum
from ppl_gen.inference.result import Result
from ppl_gen.program import register
from ppl_gen.progress import track
from ppl_gen.protocols import Conditional, Guide, Program
from ppl_gen.sites import latent_sites

if TYPE_CHECKING:
    import pandas

_FEWEST = 100  # particles, below which a tail of weights has no shape to rely on


class Rung(Protocol):
    """A kind of guide, and how one is made for a program and data.

    Attributes:
        name: What it is called in the table.
    """

    @property
    def name(self) -> str: ...

    def make(
        self, program: Program, guide: Guide, x: Tensor, *context: Tensor, engine: Engine
    ) -> Guide:
        """The guide of these data.

        Args:
            program: The program, which is left as it is.
            guide: The guide of the program, where fits begin.
            x: Data of shape (N, *shape).
            *context: What the program is conditioned on, each of length N.
            engine: How loss and gradient are computed.
        """
        ...


@dataclass(frozen=True)
class AsItIs:
    """The guide that the program has."""

    name: str = "as it is"

    def make(
        self, program: Program, guide: Guide, x: Tensor, *context: Tensor, engine: Engine
    ) -> Guide:
        """The guide itself; see `Rung.make`.

        Args:
            program: The program.
            guide: The guide of the program.
            x: Data of shape (N, *shape).
            *context: What the program is conditioned on, each of length N.
            engine: Not used.
        """
        return guide


@dataclass(frozen=True)
class ByDatum:
    """Parameters of its own for each datum, from where the guide is, without a network.

    Args:
        name: What it is called in the table.
        family: From the guide's distribution of a site to parameters and the constructor that takes
            them: `same_family`, `full_covariance`, `LowRankByDatum()`, `GaussianMixtureByDatum()`.
        steps: The number of steps of Adam.
        rate: The first learning rate, in units of unconstrained parameters.
        objective: What is ascended; `StickingTheLanding(8)` if left out. `DReG(8)` covers more.

    Raises:
        ValueError: If steps is below 1 or rate is not above 0.

    Examples:
        >>> rung = ByDatum("full covariance", full_covariance, steps=50)
        >>> rung.steps
        50
    """

    name: str
    family: Family
    steps: int = 500
    rate: float = 0.02
    objective: PerDatum | None = None

    def __post_init__(self) -> None:
        expect_counts(steps=self.steps)
        expect_rate(self.rate, usual=0.02)

    def make(
        self, program: Program, guide: Guide, x: Tensor, *context: Tensor, engine: Engine
    ) -> Guide:
        """Fits it; see `Rung.make`.

        Args:
            program: The program.
            guide: Where to begin.
            x: Data of shape (N, *shape).
            *context: What the program is conditioned on, each of length N.
            engine: How loss and gradient are computed.
        """
        return refit(
            program,
            guide,
            self.family,
            x,
            *context,
            steps=self.steps,
            rate=self.rate,
            objective=self.objective,
            engine=engine,
        )


@dataclass(frozen=True)
class Amortised:
    """A network trained on other data of the program, for programs of one latent vector.

    Args:
        name: What it is called in the table.
        encoder: q(z | x, c), a module such as `guides.flow(net, dim)`, `guides.mixture(net, dim)`
            or `guides.SemiAmortised(...)`; it is trained in place, but for the parameters that are
            the program's: one that has no others is taken as it is.
        batches: What it is trained on, tuples (x, *context): `split.batches(100)`.
        epochs: The number of passes.
        rate: Adam's learning rate.

    Raises:
        ValueError: If epochs is below 1 or rate is not above 0.

    Examples:
        >>> x = torch.rand(200, 4).round()
        >>> encoder = guides.diagonal(lambda outputs: nn.Linear(4, outputs), 2)
        >>> rung = Amortised("another network", encoder, data.Split(x).batches(100), epochs=2)
        >>> rung.name, rung.epochs
        ('another network', 2)
    """

    name: str
    encoder: Conditional
    batches: Iterable[tuple[Tensor, ...]]
    epochs: int = 5
    rate: float = 1e-3

    def __post_init__(self) -> None:
        expect_counts(epochs=self.epochs)
        expect_rate(self.rate, usual=1e-3)

    def make(
        self, program: Program, guide: Guide, x: Tensor, *context: Tensor, engine: Engine
    ) -> Guide:
        """Trains it; see `Rung.make`.

        Args:
            program: The program.
            guide: The guide of the program, which says what the latent is called.
            x: Data of shape (N, *shape).
            *context: What the program is conditioned on, each of length N.
            engine: How loss and gradient are computed.

        Raises:
            ValueError: If there are several latents.
        """
        with forked(x.device, 0), evaluating(program, guide):
            few = [t[:2] for t in (x, *context)]
            names = list(latent_sites(poutine.trace(guide).get_trace(*few)))
        if len(names) != 1:
            raise ValueError(
                f"expected a program of one latent for a network in its place, got {names}; take "
                "ByDatum, or fit a guide and give it as a rung of its own"
            )
        made = _Encoded(self.encoder, names[0])
        with torch.enable_grad(), still(program):
            free = [p for p in made.parameters() if p.requires_grad]
            if not free:
                return made
            optimizer = torch.optim.Adam(free, self.rate)
            step = svi_step(program, optimizer, guide=made, engine=engine)
            for _ in iterate(step, self.batches, self.epochs):
                pass
        return made


class _Encoded(nn.Module):
    """The guide of one latent that an encoder is."""

    def __init__(self, encoder: Any, name: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.name = name

    def forward(self, x: Tensor, *context: Tensor) -> Any:
        """Samples the latent in the plate of the data."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(self.name, self.encoder(x, *context))


LADDER: tuple[Rung, ...] = (
    AsItIs(),
    ByDatum("diagonal", same_family),
    ByDatum("low rank", LowRankByDatum()),
    ByDatum("full covariance", full_covariance),
    ByDatum("mixture", GaussianMixtureByDatum()),
)


@dataclass(frozen=True, eq=False)
class Climbed:
    """A rung that was climbed.

    Attributes:
        name: What it is called.
        guide: The guide.
        elbo: Its ELBO, (N,) in nats.
        evidence: log p̂(x) by its weights, (N,) in nats, with ESS and k̂.
        gap: log p̂(x) − ELBO, averaged over data, in nats.
        bad: The share of data whose k̂ is above its limit.
        seconds: How long it took to make, in seconds.
    """

    name: str
    guide: Guide
    elbo: Estimate
    evidence: Estimate
    gap: Estimate
    bad: Share
    seconds: float


@dataclass(frozen=True)
class KHatBelow:
    """Enough where k̂ is above its limit for no more than a share of the data.

    Args:
        share: Of the data, from 0 to 1.

    Raises:
        ValueError: If it is not.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(2, 3)
        >>> choose_guide(ppca, x, until=KHatBelow(0.5), particles=100, seed=0).reached
        True
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        expect_number(share=self.share)
        if not 0 <= self.share <= 1:
            raise ValueError(f"expected a share from 0 to 1, got {self.share}; 0.1 is one in ten")

    def __call__(self, rung: Climbed) -> bool:
        """Whether a rung is good enough.

        Args:
            rung: What was climbed.
        """
        return float(rung.bad.value) <= self.share

    def __str__(self) -> str:
        return f"k̂ above its limit for at most {self.share:.0%} of the data"


@dataclass(frozen=True)
class GapBelow:
    """Enough where log p(x) − ELBO is below a tolerance, averaged over data.

    The evidence is the one that `choose_guide` was given. Without one it is that of the rung's own
    weights, which a poor guide makes too small, and the gap with it: k̂ says where.

    Args:
        nats: The tolerance.

    Raises:
        ValueError: If it is not above 0.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(2, 3)
        >>> choose_guide(ppca, x, until=GapBelow(0.1), particles=100, seed=0).reached
        True
    """

    nats: float = 0.1

    def __post_init__(self) -> None:
        expect_number(nats=self.nats)
        if not self.nats > 0:
            raise ValueError(f"expected a tolerance above 0 nats, got {self.nats}; 0.1 is usual")

    def __call__(self, rung: Climbed) -> bool:
        """Whether a rung is good enough.

        Args:
            rung: What was climbed.
        """
        return float(rung.gap.value) <= self.nats

    def __str__(self) -> str:
        return f"a gap of at most {self.nats} nats"


def choose_guide(
    program: Program,
    x: Tensor,
    *context: Tensor,
    until: Callable[[Climbed], bool] | None = None,
    ladder: Sequence[Rung] = LADDER,
    guide: Guide | None = None,
    evidence: Estimate | None = None,
    particles: int = 1000,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> GuideChoice:
    """Makes one guide after another, until a rule says that it is near enough to the posterior.

    Each is measured on the data by its ELBO, and by importance weights: log p̂(x) and the share of
    data whose k̂ is above its limit. The program is left as it is.

    Args:
        program: Any program with a density and reparameterised latents.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        until: When to stop: `KHatBelow(share)` or `GapBelow(nats)`, or any function of what was
            climbed, with its `elbo`, `evidence`, `gap` and `bad`; `KHatBelow(0.1)` if left out.
        ladder: What is tried, in this order: the program's own guide, then for each datum by itself
            its family, low rank, full covariance and a mixture. Networks are added by
            `(*ladder, Amortised("flow", guides.flow(net, dim), split.batches(100)))`.
        guide: Where fits begin; `program.guide` if left out.
        evidence: log p(x) of these data as far as it is known, (N,) in nats, such as `ais` gives;
            by the weights of each rung if left out.
        particles: K, the number of draws for each datum that a rung is measured with, at least 100.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How programs are computed: "eager" runs them, "fx" replays graphs traced from them,
            "inductor" compiles these graphs, "cuda-graph" records them on a CUDA device, "auto"
            takes what pays for the number of calls.

    Returns:
        `GuideChoice`: the ladder as a table, and `.guide`, the first that is good enough, or else
        the one with the fewest data above k̂'s limit.

    Raises:
        ValueError: If the ladder is empty, a rung or the rule is none, a number is out of range,
            the evidence is of other data, or program, guide and data do not fit together.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> choice = choose_guide(ppca, torch.zeros(2, 3), particles=100, seed=0)
        >>> [rung.name for rung in choice.rungs]  # its own guide is exact: no need to climb
        ['as it is']

    Reference:
        Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders; Yao,
        Vehtari, Simpson and Gelman (2018), Yes, but did it work?: Evaluating variational inference.
    """
    guide = guide_of(program, guide)
    if until is None:
        until = KHatBelow()
    expect_at_least(_FEWEST, particles=particles)
    expect_engine(engine)
    _expect_ladder(ladder, until)
    check_by_datum(program, guide, x, *context)
    if evidence is not None and evidence.value.shape != x.shape[:1]:
        raise ValueError(
            f"expected the evidence of {len(x)} data, got values of shape "
            f"{tuple(evidence.value.shape)}"
        )
    climbed: list[Climbed] = []
    reached = False
    with seeded(x.device, seed):
        for rung in track(ladder, "climbing", shown=progress):
            began = time.perf_counter()
            made = rung.make(program, guide, x, *context, engine=engine)
            seconds = time.perf_counter() - began
            found = _measured(program, made, (x, *context), evidence, particles, engine)
            climbed.append(
                Climbed(
                    name=rung.name,
                    guide=made,
                    elbo=found[0],
                    evidence=found[1],
                    gap=found[2],
                    bad=found[3],
                    seconds=seconds,
                )
            )
            reached = bool(until(climbed[-1]))
            if reached:
                break
    chosen = len(climbed) - 1
    if not reached:
        bad = [float(rung.bad.value) for rung in climbed]
        chosen = bad.index(min(bad))
    return GuideChoice(
        rungs=tuple(climbed), chosen=chosen, reached=reached, until=until, particles=particles
    )


def _expect_ladder(ladder: Sequence[Rung], until: Any) -> None:
    """Raises ValueError unless there are rungs, and a rule to stop by."""
    if not callable(until):
        raise ValueError(
            f"expected until to be a rule such as KHatBelow(0.1) or GapBelow(0.1), got {until!r}"
        )
    if not len(ladder):
        raise ValueError("expected a ladder of guides, got none; leave it out for the usual one")
    for rung in ladder:
        if not hasattr(rung, "make") or not hasattr(rung, "name"):
            raise ValueError(
                f"expected rungs with a name and a method make, got {rung!r}; families go into "
                'one as ByDatum("full", full_covariance)'
            )


def _measured(
    program: Program,
    guide: Guide,
    data: tuple[Tensor, ...],
    known: Estimate | None,
    particles: int,
    engine: Engine,
) -> tuple[Estimate, Estimate, Estimate, Share]:
    """ELBO and evidence by datum, the gap between, and the share of data above k̂'s limit."""
    bound = elbo(program, guide, *data, particles=particles, engine=engine)
    weighed = log_evidence(program, guide, *data, particles=particles, engine=engine)
    gap = ((known or weighed) - bound).mean()
    assert weighed.k_hat is not None
    bad = ~(weighed.k_hat <= k_hat_limit(particles))
    return bound, weighed, gap, Share.of(bad)


@dataclass(frozen=True, eq=False, repr=False)
class GuideChoice(Result):
    """The rungs of a ladder that were climbed, and which is chosen.

    Attributes:
        rungs: What was climbed, in order.
        chosen: The index of the one that is chosen.
        reached: Whether it is good enough for the rule.
        until: The rule.
        particles: K, by which each was measured.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> choice = choose_guide(ppca, torch.zeros(2, 3), particles=100, seed=0)
        >>> choice.rungs[choice.chosen].name, choice.reached  # its own guide is exact
        ('as it is', True)
    """

    rungs: tuple[Climbed, ...]
    chosen: int
    reached: bool
    until: Any
    particles: int

    @property
    def guide(self) -> Guide:
        """The guide that is chosen."""
        return self.rungs[self.chosen].guide

    @property
    def headline(self) -> str:
        """What is chosen, with its ELBO and the share of data above k̂'s limit."""
        rung = self.rungs[self.chosen]
        limit = k_hat_limit(self.particles)
        return (
            f"{rung.name}: ELBO {rung.elbo} nats, gap {rung.gap}, k̂ above {limit:.2f} for "
            f"{float(rung.bad.value):.1%} of {len(rung.elbo)} data"
        )

    @property
    def verdict(self) -> Verdict:
        """Whether a guide is good enough: "reached", or "not-reached" with what stands in the way.

        Tags of the latter: "not-reached", and "not-gaussian" where the share of data above k̂'s
        limit is not a tenth smaller on the best rung than on the first.
        """
        best = self.rungs[self.chosen]
        if self.reached:
            sentence = f"{best.name} is enough: {self.until}"
            return Verdict((Finding("reached", sentence),), passes=True)
        sentence = (
            f"no rung is enough ({self.until}); the best, {best.name}, has k̂ above its limit for "
            f"{float(best.bad.value):.1%}: correct(program, x) puts right what is left, by HMC"
        )
        found = [Finding("not-reached", sentence)]
        first = float(self.rungs[0].bad.value)
        if float(best.bad.value) > 0.9 * first:
            sentence = (
                "families hardly matter: the weights' tails are those of a posterior of another "
                "shape in many dimensions; fewer latents, or more steps and particles, would help"
            )
            found.append(Finding("not-gaussian", sentence))
        return Verdict(tuple(found), passes=False)

    def table(self) -> pandas.DataFrame:
        """A row for each rung: nats with errors, the share of data above k̂'s limit, seconds."""
        import pandas

        rows = {}
        for i, rung in enumerate(self.rungs):
            bound = rung.elbo.mean()
            evidence = rung.evidence.mean()
            rows[rung.name] = {
                "elbo": float(bound.value),
                "elbo error": float(bound.standard_error),
                "log evidence": float(evidence.value),
                "log evidence error": float(evidence.standard_error),
                "gap": float(rung.gap.value),
                "gap error": float(rung.gap.standard_error),
                "k_hat above": float(rung.bad.value),
                "k_hat above error": float(rung.bad.standard_error),
                "seconds": rung.seconds,
                "chosen": i == self.chosen,
            }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: ELBO, log evidence and k̂ of each rung."""
        import pandas

        columns = {}
        for rung in self.rungs:
            assert rung.evidence.k_hat is not None
            columns[f"{rung.name} elbo"] = rung.elbo.value.cpu().numpy()
            columns[f"{rung.name} log evidence"] = rung.evidence.value.cpu().numpy()
            columns[f"{rung.name} k_hat"] = rung.evidence.k_hat.cpu().numpy()
        return pandas.DataFrame(columns)
