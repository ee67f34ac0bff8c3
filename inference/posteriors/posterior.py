"""The posterior of any Pyro program in one call: starts, a quick guide, its weights, HMC."""

from __future__ import annotations

__all__ = ["posterior"]

import math
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen.contexts import evaluating, reason, seeded, store_kept
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.evidence.weights import evidence_of, k_hat_limit, smoothed
from ppl_gen.inference.expect import expect_counts, expect_room_for_draws
from ppl_gen.inference.fitting.guides import fit_guide
from ppl_gen.inference.fitting.loop import NotFinite
from ppl_gen.inference.latents.pathfinder import Pathfinder, Paths
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.inference.mcmc.convergence import ConvergenceWarning
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.inference.posteriors.batch_and_match import gaussian_of, match_step
from ppl_gen.inference.posteriors.evaluations import Evaluations
from ppl_gen.inference.posteriors.gaussian import GaussianGuide
from ppl_gen.inference.posteriors.graded import (
    GradedPosterior,
    Stage,
    Standing,
    grade_of,
    standing_of,
    times_longer,
)
from ppl_gen.pyro_patches import tracing

_PATHS = 16
_MATCHES = 64  # steps of batch and match, of a fifth as many draws as there are latents
_LEAST_MATCHED = 10  # draws of such a step
_DENSE = 500  # latents, above which a guide has no full covariance
_SVI_STEPS = 1000
_FIRST = 2000  # weights by which a guide is judged
_LEAST, _MOST = 10_000, 40_000  # weights that are drawn if they suffice
_HIDDEN = 0.03  # the share of a variance that heavy tails of the weights may hide
_COLUMNS = 100  # whose k̂ are computed at once
_WEIGHTED_CHAINS = 4  # into which independent draws are laid
_MISSED = 0.1  # nats of evidence that other paths find beyond the guide's
_MIXED = 1.1  # R̂, below which a second run begins where the first one ended
_Tell = Callable[[Stage], Any]


class _Pace(NamedTuple):
    """How a run of HMC adapts itself.

    Attributes:
        warmup: Its steps.
        accept: The acceptance it aims at.
    """

    warmup: int
    accept: float


_QUICK = _Pace(300, 0.8)
_CAREFUL = _Pace(1000, 0.95)


def posterior(
    model: Callable[..., Any],
    *args: Any,
    ess: int = 2000,
    chains: int = 64,
    engine: Engine = "auto",
    seed: int | None = None,
    on_stage: Callable[[Stage], Any] | None = None,
) -> GradedPosterior:
    """p(z | data) of any Pyro program, by whatever it takes, with a grade that can be trusted.

    Pathfinder finds where the mass is. A Gaussian is fitted by batch and match (above 500 latents,
    or where that fails, a diagonal one by SVI), and judged by Pareto k̂ of its weights w = p/q.
    Where that is below min(1 − 1/log₁₀ K, 0.7), that of w (z − E z)² so low that all variances are
    known (K^(k̂ − 1) < 0.03), no path has found evidence beyond the guide's, and enough draws can
    be had, they are the draws of the guide by their smoothed weights; else those of HMC, which
    begins at draws of the paths, and once more, longer, where the first run is not good; in smaller
    steps if it diverged or did not mix.

    Args:
        model: Any Pyro program with continuous latents, shared or one for each datum. Discrete ones
            of finite support are summed out; plates that it subsamples are taken whole.
        *args: What it is called with, the data among it.
        ess: The effective sample size that is wanted of every coordinate, in bulk and tails.
        chains: The number of chains of HMC.
        engine: How log densities are computed: "eager" calls the program, "fx" replays its graph,
            "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto" chooses
            by the number of calls.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        on_stage: Called with each `Stage` when it is done.

    Returns:
        A `GradedPosterior`: draws by site, the grade and its numbers, how each part was had, and
        seconds and gradients of each stage. "good" says: R̂ ≤ 1.01, an effective size of 400 or
        more, no divergences, and Monte Carlo errors of all means and standard deviations of at most
        0.05 standard deviations. What no path and no chain has found, no grade knows of.

    Warns:
        ConvergenceWarning: If the last chains are no sample of the posterior.

    Raises:
        ValueError: Before work starts, if a number is out of range, an argument is not finite, or
            the program has no continuous latents, discrete ones that cannot be summed out or sites
            that come and go; after Pathfinder, if the density has no maximum, as under an improper
            prior.

    Examples:
        >>> from ppl_gen.inference import posterior
        >>> from ppl_gen.models import toy
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> found = posterior(line.model, *line.data, seed=0)
        >>> found.grade, found.how
        ('good', {'coefficients': 'weights'})

    Reference:
        Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work?: evaluating variational
        inference.
    """
    expect_counts(ess=ess, chains=chains)
    if chains < 2:
        raise ValueError(
            f"expected at least 2 chains, which R̂ compares, got {chains}; 64 are usual"
        )
    expect_engine(engine)
    potential = Potential(model, args)
    width = potential.shape[1]
    expect_room_for_draws(_draws_for(ess, chains), chains, width, potential.device)
    stages: list[Stage] = []

    def tell(stage: Stage) -> None:
        stages.append(stage)
        if on_stage is not None:
            on_stage(stage)

    with seeded(potential.device, seed):
        search = _Search(potential, args, ess, chains, engine, tell)
        paths = search.paths()
        guide = search.guide(paths)
        weighed = search.weighed(guide, paths)
        if weighed is not None and weighed.is_enough:
            draws = search.by_weights(weighed)
            numbers = standing_of(draws, weighed.k_hat, weighed.ess)
            if grade_of(numbers) == "good":
                return _graded(draws, numbers, "weights", stages, guide)
        draws, numbers = search.by_hmc(paths, weighed)
    return _graded(draws, numbers, "hmc", stages, guide)


def _graded(
    draws: Draws,
    numbers: Standing,
    how: str,
    stages: list[Stage],
    guide: GaussianGuide | None,
) -> GradedPosterior:
    return GradedPosterior(
        draws=draws,
        grade=grade_of(numbers),
        numbers=numbers,
        how=dict.fromkeys(draws.samples, how),
        stages=tuple(stages),
        guide=guide,
    )


def _draws_for(ess: int, chains: int) -> int:
    """Draws of a chain that suffice where neighbours are half alike."""
    return max(50, math.ceil(4 * ess / chains))


class _Weighed(NamedTuple):
    """A guide's draws and their weights.

    Attributes:
        points: (K, 1, D).
        log_weights: log p(x, z) − log q(z), smoothed, (K,).
        log_joint: log p(x, z) + log |∂z/∂q|, (K,).
        k_hat: Pareto k̂ before smoothing.
        ess: The effective size.
        is_enough: Whether the weights can be trusted, and are enough.
    """

    points: Tensor
    log_weights: Tensor
    log_joint: Tensor
    k_hat: float
    ess: float
    is_enough: bool


class _At(NamedTuple):
    """Chains begin at points that are known."""

    points: Tensor

    def starts(self, potential: Potential, chains: int) -> Tensor:
        """The points, (C, 1, D)."""
        return self.points[:chains]


class _Search:
    """The stages of one posterior.

    Args:
        potential: U(q).
        args: What the model is called with.
        ess: The effective size that is wanted.
        chains: Of HMC.
        engine: How log densities are computed.
        tell: Called with each stage when it is done.
    """

    def __init__(
        self,
        potential: Potential,
        args: tuple[Any, ...],
        ess: int,
        chains: int,
        engine: Engine,
        tell: _Tell,
    ) -> None:
        self._potential = potential
        self._args = args
        self._ess = ess
        self._chains = chains
        self._engine = engine
        self._tell = tell
        self._evaluations = Evaluations(potential, engine)

    def paths(self) -> Paths:
        """Where the mass is.

        Raises:
            ValueError: If the density has no maximum.
        """
        began = perf_counter()
        with evaluating(self._potential.model), tracing(), store_kept():
            found = Pathfinder(paths=_PATHS).walked(
                self._potential, self._chains, self._evaluations
            )
        said = f"{_PATHS} paths, the best of ELBO {float(found.elbo.max()):.2f}"
        self._say("pathfinder", said, began, self._evaluations.count)
        return found

    def guide(self, paths: Paths) -> GaussianGuide | None:
        """A Gaussian by batch and match, or by SVI; None where neither works."""
        width = self._potential.shape[1]
        if width <= _DENSE:
            try:
                return self._matched(paths)
            except NotFinite:
                pass
        try:
            return self._by_svi()
        except (ValueError, RuntimeError, NotFinite) as error:
            self._say("svi", f"no guide: {reason(error)}", perf_counter(), 0)
            return None

    def weighed(self, guide: GaussianGuide | None, paths: Paths) -> _Weighed | None:
        """Draws of the guide with their weights, as many as are wanted where they are good."""
        if guide is None:
            return None
        began = perf_counter()
        found = self._weights(guide, _FIRST)
        evaluated = _FIRST
        missed = self._missed(found, paths)
        is_trusted = found.k_hat < k_hat_limit(_FIRST) and missed < _MISSED
        # Errors of standard deviations are larger than those of means.
        needed = math.ceil(1.5 * self._ess * _FIRST / max(found.ess, 1.0))
        of_spreads = ""
        if is_trusted and needed <= _MOST:
            found = self._weights(guide, max(needed, _LEAST))
            count = len(found.points)
            evaluated += count
            shape = self._shape_of_spreads(found)
            of_spreads = f" ({shape:.2f} of variances)"
            is_trusted = found.k_hat < k_hat_limit(count) and count ** (shape - 1) < _HIDDEN
            found = found._replace(is_enough=is_trusted and found.ess >= self._ess)
        said = f"k̂ {found.k_hat:.2f}{of_spreads}, {found.ess / len(found.points):.0%} effective"
        if missed >= _MISSED:
            said += f", {missed:.1f} nats of evidence beyond the guide"
        self._say("weights", said, began, 0, evaluated)
        return found

    def by_weights(self, weighed: _Weighed) -> Draws:
        """Draws of equal weight: those of the guide, drawn again by their weights, in any order."""
        count = len(weighed.points) // _WEIGHTED_CHAINS * _WEIGHTED_CHAINS
        shares = (weighed.log_weights - weighed.log_weights.logsumexp(0)).exp()
        steps = torch.arange(count, dtype=torch.double, device=shares.device)
        at = (steps + torch.rand((), dtype=torch.double, device=shares.device)) / count
        places = torch.searchsorted(shares.cumsum(0), at).clamp(max=len(shares) - 1)
        places = places[torch.randperm(count, device=places.device)]
        values = self._potential.constrain(weighed.points[places])
        lead = (_WEIGHTED_CHAINS, count // _WEIGHTED_CHAINS)
        log_density = weighed.log_joint[places].unflatten(0, lead)
        return Draws(
            samples={name: value.unflatten(0, lead) for name, value in values.items()},
            log_density=log_density,
            divergent=torch.zeros_like(log_density, dtype=torch.bool),
            acceptance=torch.ones_like(log_density),
            seconds=0.0,
            dims=self._potential.dims,
            sampler="weights",
            settings={"k_hat": weighed.k_hat, "ess": weighed.ess},
            remarks=tuple(self._potential.remarks),
        )

    def by_hmc(self, paths: Paths, weighed: _Weighed | None) -> tuple[Draws, Standing]:
        """Draws of HMC, of a second, longer run where the first is not good."""
        k_hat = math.nan
        if weighed is not None:
            k_hat = weighed.k_hat
        count = _draws_for(self._ess, self._chains)
        init: Any = _At(paths.starts(self._chains))
        # A second run may follow.
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            draws, numbers = self._sampled(init, _QUICK, count, k_hat)
        if grade_of(numbers) == "good" and numbers.ess >= self._ess:
            return draws, numbers
        count *= times_longer(numbers, self._ess)
        if not draws.max_r_hat < _MIXED:
            return self._sampled(init, _CAREFUL, count, k_hat)
        # More draws are all that draws lack which have not diverged.
        pace = _CAREFUL if draws.divergences else _QUICK
        return self._sampled(draws, pace, count, k_hat)

    def _sampled(self, init: Any, pace: _Pace, count: int, k_hat: float) -> tuple[Draws, Standing]:
        """One run of HMC."""
        began = perf_counter()
        draws = hmc(
            self._potential.model,
            *self._args,
            init=init,
            chains=self._chains,
            draws=count,
            warmup=pace.warmup,
            target_accept=pace.accept,
            engine=self._engine,
        )
        numbers = standing_of(draws, k_hat)
        leapfrogs = count * draws.settings["leapfrogs"]
        leapfrogs += pace.warmup * draws.settings["warmup_leapfrogs"]
        said = (
            f"{self._chains} × {count} draws after {pace.warmup}, R̂ up to {numbers.r_hat:.4g}, "
            f"ESS at least {numbers.ess:.0f}, {draws.divergences} divergences"
        )
        self._say("hmc", said, began, round(self._chains * leapfrogs))
        return draws, numbers

    def _matched(self, paths: Paths) -> GaussianGuide:
        """The Gaussian of batch and match, from the best path."""
        began = perf_counter()
        before = self._evaluations.count
        width = self._potential.shape[1]
        best = int(paths.elbo[:, 0].argmax())
        start = gaussian_of(self._potential, paths.gaussians, best)
        step = match_step(self._potential.model, draws=max(_LEAST_MATCHED, width // 5))
        step.begin(self._potential, self._evaluations, start)
        elbo = torch.zeros(())
        for _ in range(_MATCHES):
            elbo = step(*self._args)["elbo"]
        said = f"{_MATCHES} steps, ELBO {float(elbo):.2f}"
        self._say("batch and match", said, began, self._evaluations.count - before)
        return step.guide

    def _by_svi(self) -> GaussianGuide:
        """A diagonal Gaussian by SVI."""
        began = perf_counter()
        potential = self._potential
        program: Any = potential.whole  # a plain model, which is taken too
        fitted = fit_guide(program, AutoNormal, *self._args, steps=_SVI_STEPS, engine=self._engine)
        medians = fitted.guide.median(*self._args)
        low, high = _quantiles(fitted.guide, self._args)
        mean = potential.flatten({name: value[None] for name, value in medians.items()})
        spread = potential.flatten(high) - potential.flatten(low)
        guide = GaussianGuide(potential, mean[0, 0].detach(), torch.diag(spread[0, 0].detach() / 2))
        self._say("svi", f"{_SVI_STEPS} steps, a diagonal guide", began, _SVI_STEPS)
        return guide

    def _weights(self, guide: GaussianGuide, count: int) -> _Weighed:
        """Draws of the guide and their weights."""
        with evaluating(self._potential.model), torch.no_grad():
            points, log_q = guide.draw(count)
            joint = log_joint(self._potential, points).double()[:, 0]
        log_weights = (joint - log_q[:, 0]).nan_to_num(nan=-math.inf)
        found = evidence_of(log_weights[:, None])
        k_hat = math.inf
        if found.k_hat is not None:
            k_hat = float(found.k_hat)
        smooth = smoothed(log_weights[:, None])[:, 0]
        shares = smooth.softmax(0)
        return _Weighed(
            points=points,
            log_weights=smooth,
            log_joint=joint,
            k_hat=k_hat,
            ess=float(1 / shares.square().sum()),
            is_enough=False,
        )

    def _shape_of_spreads(self, found: _Weighed) -> float:
        """The largest k̂ of w (z − m)², of all coordinates z, m being their means.

        Variances are sums of these, whose tails are heavier than those of the weights alone. A sum
        of K terms is off by the order of K^(k̂ − 1), and by K^(−½) at the least.
        """
        log_shares = found.log_weights.log_softmax(0)[:, None]
        largest = -math.inf
        for value in self._potential.constrain(found.points).values():
            for z in value.reshape(len(log_shares), -1).split(_COLUMNS, 1):
                mean = (log_shares.exp() * z).sum(0)
                log_squares = 2 * (z - mean).abs().log()
                k_hat = evidence_of(log_squares + log_shares).k_hat
                assert k_hat is not None
                # Of a coordinate that does not vary, NaN.
                known = k_hat.nan_to_num(nan=-math.inf)
                largest = max(largest, float(known.max()))
        return largest

    def _missed(self, found: _Weighed, paths: Paths) -> float:
        """Nats of evidence that the paths find beyond the guide's: other modes, wider tails."""
        by_guide = found.log_weights.logsumexp(0) - math.log(len(found.log_weights))
        by_paths = evidence_of(paths.log_weights.nan_to_num(nan=-math.inf).double())
        surplus = by_paths.value[0] - 3 * by_paths.standard_error[0] - by_guide
        return float(surplus)

    def _say(self, name: str, said: str, began: float, gradients: int, densities: int = 0) -> None:
        stage = Stage(
            name=name,
            said=said,
            seconds=perf_counter() - began,
            gradients=gradients,
            densities=densities,
        )
        self._tell(stage)


def _quantiles(guide: Any, args: tuple[Any, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The values one standard deviation below and above the median, by site, (1, *shape)."""
    level = torch.distributions.Normal(0.0, 1.0).cdf
    tails = [float(level(torch.tensor(-1.0))), float(level(torch.tensor(1.0)))]
    found = guide.quantiles(tails, *args)
    low = {}
    high = {}
    for name, value in found.items():
        both = torch.as_tensor(value)
        low[name] = both[0][None]
        high[name] = both[1][None]
    return low, high
