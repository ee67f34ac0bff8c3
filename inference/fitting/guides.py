"""Guides fitted to a program that stays as it is: automatic ones, or datum by datum."""

from __future__ import annotations

__all__ = [
    "Family",
    "GuideFit",
    "Refitted",
    "check_refittable",
    "fit_guide",
    "full_covariance",
    "refit",
    "same_family",
    "still",
]

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn
from torch.distributions import constraints, transform_to

from ppl_gen.autoguides import automatic
from ppl_gen.contexts import (
    device_of,
    evaluating,
    guide_of,
    in_evaluation_mode,
    modules_of,
    seeded,
)
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_counts, expect_rate
from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.fitting.objectives import StickingTheLanding
from ppl_gen.inference.fitting.stopping.trend import gained, last_tenth, settled, tenths
from ppl_gen.inference.fitting.svi import svi_step
from ppl_gen.inference.result import Result
from ppl_gen.progress import track
from ppl_gen.protocols import Distribution, Guide, Program
from ppl_gen.sites import data_axis, data_plate, is_auxiliary, stochastic_sites, unwrapped

if TYPE_CHECKING:
    import pandas

# From a distribution of the guide to parameters, the data on their first axis, and the constructor
# that makes a distribution of them.
Family = Callable[[Distribution], "tuple[dict[str, Tensor], Callable[..., Distribution]]"]

# Scale and logits are moved, not what says the same in another way.
_SAID_TWICE = ("covariance_matrix", "precision_matrix", "probs")


def same_family(q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
    """The parameters of q, datum by datum, and the constructor that they belong to.

    A distribution may name them itself, by a method `by_datum()` that returns both: that of a
    `FlowGuide` has shift, scale and context, its flow staying as it is.

    Args:
        q: The guide's distribution of a site.

    Raises:
        ValueError: If q is no distribution with parameters of its own, as that of a flow is not.

    Examples:
        >>> q = dist.Normal(torch.zeros(5, 2), 1.0).to_event(1)
        >>> parameters, make = same_family(q)
        >>> {name: value.shape for name, value in parameters.items()}
        {'loc': torch.Size([5, 2]), 'scale': torch.Size([5, 2])}
    """
    base = unwrapped(q)
    if hasattr(base, "by_datum"):
        own: tuple[dict[str, Tensor], Callable[..., Distribution]] = base.by_datum()
        return own
    event_axes_added = len(q.event_shape) - len(base.event_shape)
    parameters = {}
    for name in base.arg_constraints:
        if name not in _SAID_TWICE:
            parameters[name] = getattr(base, name)
    if isinstance(base, dist.Delta | dist.Uniform) or not parameters:
        raise ValueError(
            "expected a guide whose distribution has parameters for each datum, such as a "
            f"Gaussian, got a {type(base).__name__}, which has none that can be moved; give "
            "another family=..."
        )
    kind = _known_kind(base)

    def make(**parameters: Tensor) -> Distribution:
        return kind(**parameters, validate_args=False).to_event(event_axes_added)

    return parameters, make


def _known_kind(base: Distribution) -> Any:
    """The class of Pyro or torch behind a user's own: LogScaleNormal and its like are normals."""
    for kind in type(base).__mro__:
        if kind.__module__.startswith(("pyro.", "torch.")):
            return kind
    return type(base)


def full_covariance(q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
    """N(μ, LLᵀ) over all entries of an event, or N(μ, σ²) for a scalar.

    To begin with, mean and standard deviations are those of q.

    Args:
        q: The guide's distribution of a site.

    Raises:
        ValueError: If q has no moments or is no distribution of vectors.

    Examples:
        >>> q = dist.Normal(torch.zeros(5, 2), 1.0).to_event(1)
        >>> parameters, make = full_covariance(q)
        >>> make(**parameters).covariance_matrix.shape
        torch.Size([5, 2, 2])
    """
    if len(q.event_shape) > 1:
        raise ValueError(
            f"expected latents that are vectors, got events of shape {tuple(q.event_shape)}; "
            "leave the richer family out (richer=None), or give one of your own"
        )
    try:
        q.stddev  # noqa: B018, of a flow it is not known
    except NotImplementedError:
        raise ValueError(
            f"expected a guide whose moments are known, got a {type(unwrapped(q)).__name__}; leave "
            "the richer family out (richer=None)"
        ) from None
    if not q.event_shape:
        return {"loc": q.mean, "scale": q.stddev}, _normal
    if isinstance(q, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        return {"loc": q.mean, "scale_tril": q.scale_tril}, _multivariate_normal
    scale_tril = q.stddev.diag_embed()
    return {"loc": q.mean, "scale_tril": scale_tril}, _multivariate_normal


def _normal(**parameters: Tensor) -> Distribution:
    return dist.Normal(**parameters, validate_args=False)


def _multivariate_normal(**parameters: Tensor) -> Distribution:
    return dist.MultivariateNormal(**parameters, validate_args=False)


# The families of distributions, as against automatic guides.
_BY_DATUM = (same_family, full_covariance)


class Refitted(nn.Module):
    """q(z | xᵢ) with parameters λᵢ of its own for each of N data, in place of a network's output.

    Args:
        guide: What is refitted: a guide whose sites depend on the data alone, each of one
            distribution.
        family: From the guide's distribution of a site to parameters and constructor:
            `same_family`, `full_covariance`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.

    Raises:
        ValueError: If the guide has auxiliary sites, sites that depend on each other, or no
            distributions that the family can take up.
    """

    needs_all_data = True

    def __init__(self, guide: Guide, family: Family, x: Tensor, *context: Tensor) -> None:
        super().__init__()
        self._sites = _free_sites(guide, family, x, *context)
        self.free = nn.ParameterDict()
        for name, site in self._sites.items():
            for parameter, value in site.start.items():
                unconstrained = site.transforms[parameter].inv(value.detach()).clone()
                self.free[f"{name}/{parameter}"] = nn.Parameter(unconstrained)

    def forward(self, x: Tensor, *context: Tensor) -> None:
        """The guide of these N data, in their order."""
        for name, site in self._sites.items():
            parameters = {}
            for parameter, transform in site.transforms.items():
                parameters[parameter] = transform(self.free[f"{name}/{parameter}"])
            with pyro.plate("data", x.shape[0], dim=site.plate_dim):
                pyro.sample(name, site.make(**parameters))


class _FreeSite(NamedTuple):
    """A site of a guide whose distribution has parameters for each datum.

    Attributes:
        start: The parameters that the guide gives, by name, with the data on the first axis.
        make: From parameters to the distribution.
        transforms: By name, from unconstrained numbers to a parameter.
        plate_dim: The axis of the plate "data", counted from the right.
    """

    start: dict[str, Tensor]
    make: Callable[..., Distribution]
    transforms: dict[str, Any]
    plate_dim: int


def check_refittable(guide: Guide, family: Family, x: Tensor, *context: Tensor) -> None:
    """Raises ValueError unless `Refitted` can be made of a guide, before any work is done.

    Args:
        guide: What is to be refitted.
        family: From the guide's distribution of a site to parameters and constructor:
            `same_family`, `full_covariance`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
    """
    _free_sites(guide, family, x, *context)


def _free_sites(guide: Guide, family: Family, x: Tensor, *context: Tensor) -> dict[str, _FreeSite]:
    """The sites of a guide by name, as a family sees them."""
    with evaluating(guide):
        first = stochastic_sites(poutine.trace(guide).get_trace(x, *context))
        second = stochastic_sites(poutine.trace(guide).get_trace(x, *context))
    auxiliary = sorted(name for name, site in first.items() if is_auxiliary(site))
    if auxiliary:
        raise ValueError(
            f"expected a guide without auxiliary sites, got {auxiliary}; take one that samples its "
            "latents"
        )
    plate = data_plate(first)
    sites = {}
    for name, site in first.items():
        fn = site["fn"]
        start, make = family(fn)
        again, _ = family(second[name]["fn"])
        _check_same(name, start, again)
        known = unwrapped(make(**start)).arg_constraints
        sites[name] = _FreeSite(
            start=start,
            make=make,
            transforms={
                parameter: transform_to(known.get(parameter, constraints.real))
                for parameter in start
            },
            plate_dim=data_axis(site, plate) + len(fn.event_shape),
        )
    return sites


def _check_same(name: str, first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Raises ValueError if the parameters of a site differ between two draws of the others."""
    for parameter, value in first.items():
        if not torch.equal(value, second[parameter]):
            raise ValueError(
                f"expected sites that depend on the data alone, got {name!r}, whose "
                "distribution depends on another latent: its parameters are a function, "
                "which cannot be refitted datum by datum"
            )


def refit(
    program: Program,
    guide: Guide,
    family: Family,
    x: Tensor,
    *context: Tensor,
    steps: int = 500,
    rate: float = 0.02,
    particles: int = 8,
    objective: ELBO | None = None,
    engine: Engine = "auto",
    tick: Callable[[], Any] = lambda: None,
) -> Refitted:
    """max over λ₁, …, λ_N of Σᵢ ELBO(xᵢ; λᵢ), all data at once, with the program left as it is.

    Adam on the gradient of `StickingTheLanding`, which has no variance where q is the posterior;
    its rate falls to zero.

    Args:
        program: Any program with a density and reparameterised latents.
        guide: Where to begin.
        family: From the guide's distribution of a site to parameters and constructor:
            `same_family`, `full_covariance`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        steps: The number of steps.
        rate: The first learning rate, in units of unconstrained parameters.
        particles: Draws per datum and step.
        objective: What is ascended; `StickingTheLanding(particles)` if left out.
        engine: How loss and gradient are computed, with the same random numbers in all: "eager"
            runs the program, "fx" replays a graph traced from it, "inductor" compiles that graph,
            "cuda-graph" records it on a CUDA device, "auto" takes what pays for the number of
            steps.
        tick: Called after each step.

    Raises:
        ValueError: If a count is below 1, program, guide and data do not fit together, or the guide
            has auxiliary sites, sites that depend on each other, or no distributions that the
            family can take up.
    """
    expect_counts(steps=steps, particles=particles)
    check(program, guide, x, *context)
    refitted = Refitted(guide, family, x, *context)
    # A gradient of 10⁻³ nats is taken for none: Adam would otherwise step away from an optimum on
    # rounding alone.
    optimizer = torch.optim.Adam(refitted.parameters(), rate, eps=1e-3 / len(x))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if objective is None:
        objective = StickingTheLanding(particles)
    with evaluating(program, guide):
        ascent = _ascent(
            program,
            refitted,
            objective,
            optimizer,
            schedule,
            (x, *context),
            steps=steps,
            engine=engine,
        )
        for _ in ascent:
            tick()
    return refitted


def fit_guide(
    program: Program,
    family: Callable[..., Any],
    *data: Any,
    guide: Guide | None = None,
    elbo: ELBO | None = None,
    steps: int = 3000,
    rate: float = 0.05,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
) -> GuideFit:
    """max over λ of E_q[log p(x, z) − log q(z; λ)], the program being left as it is.

    Adam on all data at once, its learning rate falling by the hundredfold over the steps. Latents
    may be global, or local to each datum.

    Args:
        program: Any program with a density, or a plain Pyro model.
        family: One of Pyro's automatic guides (`AutoNormal`, `AutoMultivariateNormal`, ...), or a
            function from a model to one; each holds the posterior of all data together. Or
            `full_covariance` or `same_family`, for latents of each datum: a distribution of its own
            for each, which begins at that of a guide.
        *data: What the model is called with: x (N, *shape) and its context, or the arguments of a
            plain Pyro model.
        guide: Where `full_covariance` and `same_family` begin; `program.guide` if left out. Other
            families begin where they do by themselves.
        elbo: The objective, as `svi_step` takes it; Trace_ELBO() if left out. Where discrete
            latents are to be summed out, a TraceEnum_ELBO.
        steps: The number of steps.
        rate: The first learning rate, in units of unconstrained parameters.
        engine: How loss and gradient are computed: "eager" runs the program, "fx" replays a graph
            traced from it, "inductor" compiles that graph, "cuda-graph" records it on a CUDA
            device, "auto" takes what pays for the number of steps.
        seed: Seed of all that is drawn; torch's generators are then left as found. None draws from
            the global generator.
        progress: Whether to show a bar; lines, where there is neither a terminal nor a notebook.

    Returns:
        The guide, with the objective at each step and whether it has settled.

    Raises:
        ValueError: If steps is below 1 or rate not above 0, if the family makes no guide, or if
            program, guide and data do not fit together.

    Examples:
        >>> from pyro.infer.autoguide import AutoDiagonalNormal
        >>> def model(x):
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     return pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> fitted = fit_guide(
        ...     model, AutoDiagonalNormal, torch.tensor(2.0), steps=400, engine="eager", seed=0
        ... )
        >>> round(fitted.guide.median()["z"].item(), 1)
        1.0

    Reference:
        Kucukelbir et al. (2017), Automatic differentiation variational inference.
    """
    expect_counts(steps=steps)
    expect_rate(rate, usual=0.05)
    if elbo is None:
        elbo = Trace_ELBO()
    start = guide
    if family in _BY_DATUM:
        start = guide_of(program, guide)
        check(program, start, *data)
    began = time.perf_counter()
    with seeded(device_of(program, data), seed):
        q: Any
        if family in _BY_DATUM:
            assert start is not None
            q = Refitted(start, family, *data)
        else:
            model: Any = getattr(program, "model", program)
            q = automatic(family, model, *data)
        optimizer = torch.optim.Adam(q.parameters(), rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.01 ** (i / steps))
        ascent = _ascent(program, q, elbo, optimizer, schedule, data, steps=steps, engine=engine)
        seen = []
        with in_evaluation_mode(program, start):
            for value in track(ascent, "fitting the guide", total=steps, shown=progress):
                seen.append(value)
    objective = torch.stack(seen).double().cpu()
    return GuideFit(guide=q, objective=objective, seconds=time.perf_counter() - began)


def _ascent(
    program: Program,
    guide: Any,
    elbo: ELBO,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    data: Sequence[Any],
    *,
    steps: int,
    engine: Engine,
) -> Iterator[Tensor]:
    """The objective at each step, the program being held still meanwhile."""
    with torch.enable_grad(), still(program):
        step = svi_step(program, optimizer, elbo, guide=guide, engine=engine, steps=steps)
        for _ in range(steps):
            metrics = dict(step(*data))
            del metrics["gradient_norm"]
            schedule.step()
            yield from metrics.values()


@dataclass(frozen=True, eq=False, repr=False)
class GuideFit(Result):
    """A guide fitted to a program, and how it went.

    Attributes:
        guide: q: one of Pyro's automatic guides with its `.median()`, `.quantiles()` and
            `.get_posterior()`, or `Refitted`.
        objective: The objective at each step, (steps,), in nats per datum for a program and in nats
            for all data for a plain Pyro model; each an estimate by one draw, or a few.
        seconds: Wall time of the fit, tracing and compilation included; NaN if nobody looked.

    Examples:
        >>> from pyro.infer.autoguide import AutoDiagonalNormal
        >>> schools = toy.EightSchools()
        >>> fitted = fit_guide(
        ...     schools.model, AutoDiagonalNormal, *schools.data, steps=20, engine="eager", seed=0
        ... )
        >>> fitted.objective.shape, fitted.guide.median()["mu"].shape
        (torch.Size([20]), torch.Size([]))
    """

    guide: Any
    objective: Tensor
    seconds: float = math.nan

    @property
    def final(self) -> Estimate:
        """The objective over the last tenth of the steps, with the error of their average."""
        return last_tenth(self.objective)

    @property
    def gained(self) -> Estimate | None:
        """What the last tenth of the steps is above the tenth before; None below 20 steps."""
        return gained(self.objective)

    @property
    def headline(self) -> str:
        return f"{self.final} nats after {len(self.objective)} steps"

    @property
    def verdict(self) -> Verdict:
        """Whether the objective has settled: "rising" or "settled"; nothing below 20 steps.

        It is taken to rise where the last tenth of the steps has gained more than four standard
        errors, and more than a hundredth of a nat.
        """
        return settled(self.objective, "steps")

    def table(self) -> pandas.DataFrame:
        """The average of each tenth of the steps with its error, in nats."""
        return tenths(self.objective)

    def to_pandas(self) -> pandas.DataFrame:
        """The objective by step, in nats."""
        import pandas

        return pandas.DataFrame({"objective": self.objective.numpy()})


@contextmanager
def still(program: Program) -> Iterator[None]:
    """Leaves the program's parameters without gradients.

    Args:
        program: Any program or plain model; those of all modules in it are held.
    """
    parameters: list[nn.Parameter] = []
    for module in modules_of(program):
        parameters += [p for p in module.parameters() if p.requires_grad]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
