"""Hamiltonian Monte Carlo: warm up, adapt, sample, collect.

All chains move in one tensor, on any Pyro program with continuous latents. Shapes: C chains, B
blocks (the data where latents are local, else 1), D coordinates of a block.
"""

from __future__ import annotations

__all__ = ["hmc"]

import math
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.contexts import evaluating, seeded, store_kept
from ppl_gen.counts import expect_number
from ppl_gen.inference.cuts import expect_same_when_cut
from ppl_gen.inference.diagnostics import split_r_hat, stuck_chains
from ppl_gen.inference.engine.replay import Engine, expect_engine
from ppl_gen.inference.expect import (
    expect_counts,
    expect_room_for_draws,
    expect_target_accept,
)
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.by_datum import data_at_once, in_chunks
from ppl_gen.inference.mcmc.convergence import warn_unless_converged
from ppl_gen.inference.mcmc.draws import Draws, Progress, reporting
from ppl_gen.inference.mcmc.leapfrog import Metric
from ppl_gen.inference.mcmc.moves import Moves, Transition, leapfrogs_for
from ppl_gen.inference.mcmc.starts import Init, starts_from
from ppl_gen.inference.mcmc.warmup.adaptation import (
    DualAveraging,
    Scales,
    TrajectoryLength,
    halton,
    windows,
)
from ppl_gen.inference.mcmc.warmup.metric import Scores, low_rank_metric
from ppl_gen.pyro_patches import tracing

# Fewer states than these say too little about scales.
_ENOUGH_STATES = 10
# The condition number, after diagonal scaling, above which the metric is more than diagonal.
_ILL_CONDITIONED = 20.0
# A chain is caught in warm-up if its own step size is this much below the median of all, ...
_SPIKE = 1e-3
# ... or this much, and −log p so many nats, and standard deviations √(D/2), above the median.
_NARROW = 0.2
_LESS_DENSE = (20.0, 3.0)
# Iterations alone, of fewer of which a chain's own step size says too little.
_ENOUGH_ALONE = 25


def hmc(
    model: Callable[..., Any],
    *args: Any,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 64,
    local: bool = False,
    chunk: int | None = None,
    init: Init | None = None,
    trajectory: float | None = None,
    target_accept: float = 0.8,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
    on_draw: Callable[[Progress], None] | None = None,
) -> Draws:
    """p ~ N(0, I), then L leapfrog steps of size ε, accepted with min(1, exp(H − H′)): p(z | x).

    Coordinates are scaled by their standard deviation, pooled over chains. Where that leaves the
    posterior with a condition number above 20, by what one half of the chains learns and the other
    confirms, the metric gets up to 64 directions of its own from draws and scores (not with
    `local`). The trajectory's length is jittered, and adapted by ChEES from 16 chains on (with
    `local`, from 4 chains and 64 chains × data on). With `local`, the latents of each datum in the
    plate "data" have a step size, scales and an accept step of their own: one call gives the
    posterior of every datum.

    Args:
        model: Any Pyro program. Discrete latents of finite support are summed out; plates that it
            subsamples are taken whole.
        *args: What it is called with, the data among it.
        draws: The number of draws of each chain.
        warmup: The number of iterations before, in which the sampler adapts.
        chains: C, the number of chains.
        local: Whether to sample the latents datum by datum.
        chunk: With `local`, how many data are sampled at once; chosen by their size and the device
            if left out.
        init: Where the chains begin: a guide, called with the same arguments, one draw for each
            chain; a dict of values by site, each (C, *shape of the site); `Draws` of an earlier
            run, whose last ones are taken; or an object with a method `starts(potential, chains)`,
            which gives unconstrained coordinates, as `Pathfinder()` has. If left out, uniform on
            [−2, 2] (unconstrained), and where that is so steep that no leapfrog step would be
            accepted, led down first.
        trajectory: The mean length of the trajectories, ε L, in units of the posterior's standard
            deviations; adapted if left out.
        target_accept: The acceptance probability that step sizes are adapted to (its harmonic mean
            over chains), between 0 and 1.
        engine: How the leapfrog steps are computed: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps. Programs that vmap cannot follow run chain by chain,
            with a warning.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        on_draw: Called with a `Progress` about every twentieth of the way.

    Returns:
        `Draws`, of the number that were made where an interrupt came first. Its settings are
        step_size (the mean), trajectory, leapfrogs (per draw), warmup_leapfrogs (per iteration of
        warm-up) and warmup; unless local, also condition (the condition number after diagonal
        scaling, NaN if it is not known: fewer than 4 chains, more than 1024 coordinates, fewer
        states in a window of warm-up than 2 for each coordinate) and directions (those of the
        metric; 0 where it is diagonal).

    Warns:
        ConvergenceWarning: If R̂, divergences or chains that never moved say that the draws are no
            sample of the posterior.
        RuntimeWarning: If a chain was caught in warm-up, in a spike of the density or where it has
            hardly any mass, and began anew where another was; if chains cannot be moved at once, or
            were interrupted.

    Raises:
        ValueError: Before work starts, if a number is out of range, an argument is not finite, the
            program has no continuous latents, discrete ones that cannot be summed out or sites that
            come and go, or, with `local`, if a latent lies outside the plate "data" or the density
            of a datum depends on how data are cut; if a plate is subsampled and the model cannot be
            given all its data; if init gives no starts inside the posterior.
        KeyboardInterrupt: If it comes before the first draw.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> draws = hmc(line.model, *line.data, draws=50, warmup=50, chains=8, engine="fx", seed=0)
        >>> error = draws.mean["coefficients"] - line.reference()["coefficients"].mean
        >>> bool((error.abs() < 0.03).all())
        True

    Reference:
        Neal (2011), MCMC using Hamiltonian dynamics; Hoffman, Radul and Sountsov (2021), An
        adaptive-MCMC scheme for setting trajectory lengths in HMC; Seyboldt, Carlson and Carpenter
        (2026), arXiv 2603.18845, for the metric.
    """
    expect_counts(draws=draws, warmup=warmup, chains=chains, chunk=chunk)
    expect_engine(engine)
    expect_target_accept(target_accept)
    _expect_trajectory(trajectory)
    options = _Options(
        draws=draws,
        warmup=warmup,
        chains=chains,
        trajectory=trajectory,
        target_accept=target_accept,
        engine=engine,
    )
    # Of all data, so that what is wrong with any of them shows before work starts.
    potential = Potential(model, args, local=local)
    width = math.prod(potential.shape)
    expect_room_for_draws(draws, chains, width, potential.device, warmup=warmup)

    def sample_some(some: list[Any], tell: Callable[[Progress], None]) -> Draws:
        starts = None
        if len(some) > len(args):
            starts = some.pop().transpose(0, 1)
        return _sample(Potential(model, some, local=True), options, starts, tell)

    with seeded(potential.device, seed), reporting(on_draw, progress) as tell:
        starts = None
        if init is not None:
            starts = starts_from(init, potential, args, chains)
        found = None
        if local:
            at_once = data_at_once(args[0], chains, chunk)
            if at_once < args[0].shape[0]:
                expect_same_when_cut(model, None, args)
                by_row = args
                if starts is not None:
                    by_row = (*args, starts.transpose(0, 1))
                found = in_chunks(sample_some, by_row, at_once, tell)
        if found is None:
            found = _sample(potential, options, starts, tell)
    warn_unless_converged(found, stacklevel=2)
    return found


def _expect_trajectory(trajectory: float | None) -> None:
    if trajectory is None:
        return
    expect_number(trajectory=trajectory)
    if not 0 < trajectory < math.inf:
        raise ValueError(
            f"expected a trajectory above 0, got {trajectory}; leave it out to adapt it"
        )


class _Options(NamedTuple):
    """What `hmc` was asked for."""

    draws: int
    warmup: int
    chains: int
    trajectory: float | None
    target_accept: float
    engine: Engine

    @property
    def total(self) -> int:
        """All iterations of a chain."""
        return self.warmup + self.draws


def _sample(
    potential: Potential,
    options: _Options,
    starts: Tensor | None,
    tell: Callable[[Progress], None],
) -> Draws:
    """Warm-up and draws of all chains at once, from `starts` (C, B, D) if given."""
    with evaluating(potential.model), tracing(), store_kept():
        began = perf_counter()
        calls = 2 * options.total
        moves = Moves(potential, options.chains, options.engine, calls, starts)
        prepared = perf_counter()
        chains = _Chains(moves, potential, options, tell)
        chains.run()
        sampled = perf_counter()
        late = moves.late_seconds
        return chains.collected(sampled - prepared - late, prepared - began + late)


class _Kept(NamedTuple):
    """What is kept of a transition: q (C, B, D); U, α and whether it diverged, each (C, B)."""

    q: Tensor
    energy: Tensor
    acceptance: Tensor
    divergent: Tensor


class _Chains:
    """The chains of one run, what they adapt, and what is kept of them.

    Args:
        moves: How they move.
        potential: What is sampled.
        options: What `hmc` was asked for.
        tell: Called with the progress.

    Attributes:
        known_step: The median of the step sizes that come next, where it has been looked up.
    """

    def __init__(
        self,
        moves: Moves,
        potential: Potential,
        options: _Options,
        tell: Callable[[Progress], None],
    ) -> None:
        self.moves = moves
        self.potential = potential
        self.options = options
        self.tell = tell
        self.state = moves.start
        self.metric = Metric(torch.ones_like(self.state.q[0]))
        self.condition = math.nan
        self.jitter = [0.5 + u for u in halton(options.total)]
        blocks, size = potential.shape
        # At first each chain has a step size of its own: one that begins in a bad place must not
        # hold up the others.
        self.first_step = 0.1 * size**-0.25
        first = torch.full_like(self.state.energy, self.first_step)
        self.steps = DualAveraging(first, options.target_accept)
        self.trajectory = _trajectory(options, blocks)
        self.known_step: float | None = None
        self.leapfrogs = 0
        self.warmup_leapfrogs = 0
        self.kept: list[_Kept] = []
        self.remarks: list[str] = []

    def run(self) -> None:
        """Warm-up, then draws; an interrupt keeps the draws so far.

        Raises:
            KeyboardInterrupt: If it comes before the first draw.
        """
        try:
            self.warm_up()
            self.draw()
        except KeyboardInterrupt:
            if not self.kept:
                raise
            remark = f"interrupted after {len(self.kept)} of {self.options.draws} draws"
            self.remarks.append(remark)
            warnings.warn(f"hmc was {remark}, which are returned", RuntimeWarning, stacklevel=4)

    def warm_up(self) -> None:
        """First each chain alone looks for where the mass is; then all adapt together."""
        warmup = self.options.warmup
        alone, ends = windows(warmup)
        scales = Scales()
        scores = self._no_scores()
        for i in range(warmup):
            if i < alone:
                acceptance = self._search(self.jitter[i])
            else:
                if i == alone:
                    self._free_the_caught(alone)
                    self._share_step_sizes()
                    self._rescale(scales)
                    scales = Scales()
                acceptance = self._adapt(self.jitter[i])
                if not self.potential.local:
                    scores.see(self.state.q, self.state.gradient)
            if i >= alone // 2:
                scales.see(self.state.q)
            if i + 1 in ends:
                self._renew_metric(scales, scores)
                scales = Scales()
                scores = self._no_scores()
            self.trajectory.keep()
            self._tell_of_warm_up(i + 1, acceptance)
        if warmup == 0:
            self._share_step_sizes()

    def draw(self) -> None:
        """Draws, with everything left as warm-up has adapted it."""
        self.warmup_leapfrogs = self.leapfrogs
        self.leapfrogs = 0
        step = self._step(self._step_sizes())
        typical = float(step.median())  # no other number is waited for while drawing
        length = self.trajectory.average
        for i, jitter in enumerate(self.jitter[self.options.warmup :]):
            done = self._move(jitter * length, step, typical)
            self.kept.append(
                _Kept(self.state.q, self.state.energy, done.acceptance, done.divergent)
            )
            self._tell_of_draws(i + 1)

    def collected(self, seconds: float, preparation: float) -> Draws:
        """The draws of each site, in its support.

        Args:
            seconds: Wall time of warm-up and draws.
            preparation: Wall time of tracing and compilation.
        """
        potential = self.potential
        q, energy, acceptance, divergent = _stacked(self.kept)
        if not potential.local:  # a single block
            energy = energy.squeeze(-1)
            acceptance = acceptance.squeeze(-1)
            divergent = divergent.squeeze(-1)
        self.remarks.extend(potential.remarks)
        if stuck := stuck_chains(q):
            numbers = ", ".join(map(str, stuck))
            self.remarks.append(f"chains that never moved: {numbers}; their draws tell nothing")
        values = potential.constrain(q.flatten(0, 1))
        return Draws(
            samples={name: value.unflatten(0, q.shape[:2]) for name, value in values.items()},
            log_density=-energy,
            divergent=divergent,
            acceptance=acceptance,
            seconds=seconds,
            preparation_seconds=preparation,
            dims=potential.dims,
            sampler="hmc",
            settings=self._settings(),
            remarks=tuple(self.remarks),
        )

    def _settings(self) -> dict[str, float]:
        """What adaptation arrived at."""
        step = self._step(self._step_sizes())
        settings = {
            "step_size": float(step.mean()),
            "trajectory": self.trajectory.average,
            "leapfrogs": self.leapfrogs / len(self.kept),
            "warmup_leapfrogs": self.warmup_leapfrogs / max(self.options.warmup, 1),
            "warmup": float(self.options.warmup),
        }
        if not self.potential.local:
            settings["condition"] = self.condition
            settings["directions"] = float(self.metric.rank)
        return settings

    def _search(self, jitter: float) -> Tensor:
        """A transition of few steps, each chain learning a step size of its own; returns α.

        How far to go is learned afterwards.
        """
        step = self._step(self.steps.step)
        typical = self._typical(step)
        done = self._move(jitter * min(1.0, 6 * typical), step, typical)
        self.steps.learn(done.acceptance)
        return done.acceptance

    def _adapt(self, jitter: float) -> Tensor:
        """A transition that step sizes and the trajectory's length learn from; returns α."""
        step = self._step(self.steps.step)
        typical = self._typical(step)
        done = self._move(jitter * self.trajectory.length, step, typical)
        # The harmonic mean: a step that some chains cannot bear is too long. One stuck chain must
        # not decide alone.
        bounded = done.acceptance.double().clamp(min=0.02)
        self.steps.learn(1 / (1 / bounded).mean(0, keepdim=True))
        # Both in one look, since a look waits for the device.
        next_step = self._step(self.steps.step).median()
        gradient, self.known_step = torch.stack([done.chees_gradient, next_step]).tolist()
        self.trajectory.learn(gradient, done.leapfrogs * typical, least=typical)
        return done.acceptance

    def _typical(self, step: Tensor) -> float:
        """The median of ε, which the iteration before may have looked up already."""
        typical = self.known_step
        self.known_step = None
        if typical is None:
            typical = float(step.median())
        return typical

    def _move(self, time: float, step: Tensor, typical: float) -> Transition:
        """One transition of about this travelling time.

        Args:
            time: ε L, in units of the coordinates' scales.
            step: ε, (C, B, 1).
            typical: The median of ε, by which the number of leapfrog steps is chosen.
        """
        count = leapfrogs_for(time, typical)
        done = self.moves.transition(self.state, step, self.metric, count)
        self.state = done.state
        self.leapfrogs += count
        return done

    def _step(self, sizes: Tensor) -> Tensor:
        """Step sizes, (C, B) or (1, B), as ε of every chain, (C, B, 1)."""
        sizes = sizes.to(self.state.q.dtype).expand(self.state.energy.shape)
        return sizes[..., None].contiguous()

    def _step_sizes(self) -> Tensor:
        """The step sizes of the draws."""
        if self.options.warmup:
            return self.steps.average
        return self.steps.step

    def _share_step_sizes(self) -> None:
        """From step sizes of each chain to common ones."""
        self.steps.restart(self.steps.step.median(0, keepdim=True).values)
        self.known_step = None

    def _free_the_caught(self, alone: int) -> None:
        """Lets chains that are caught begin anew where others are, and says so.

        They hold up all others, whose common step would shrink until these few can move. What is
        narrow and less dense has hardly any mass; a spike is what no common step can enter.

        Args:
            alone: How many iterations each chain had to learn a step size of its own.
        """
        if alone < _ENOUGH_ALONE:
            return
        own = self.steps.average
        ratio = own / own.median(0).values
        above = self.state.energy - self.state.energy.median(0).values
        nats, deviations = _LESS_DENSE
        size = self.state.q.shape[-1]
        is_empty = above > nats + deviations * math.sqrt(size / 2)
        is_caught = (ratio < _SPIKE) | ((ratio < _NARROW) & is_empty)
        if not bool(is_caught.any()):
            return
        self.state = self.state.begun_anew(is_caught)
        chains = is_caught.any(1).nonzero().flatten().tolist()
        numbers = ", ".join(map(str, chains))
        remark = (
            "chains that were caught in warm-up, where the posterior is much narrower and less "
            f"dense than elsewhere or has a spike, and began anew where others are: {numbers}; a "
            "density has a spike where a scale may go to zero: keep it away by its prior "
            "(LogNormal, InverseGamma)"
        )
        self.remarks.append(remark)
        warnings.warn(f"hmc had {remark}", RuntimeWarning, stacklevel=6)

    def _no_scores(self) -> Scores:
        """What takes in the draws and scores of a window."""
        chains, _, size = self.state.q.shape
        return Scores(chains, size, self.state.q.device)

    def _renew_metric(self, scales: Scales, scores: Scores) -> None:
        """Takes the metric of a window: diagonal, or with directions of its own where these pay."""
        learned = None
        if not self.potential.local:
            learned, self.condition = low_rank_metric(scores, self.state.q)
        if learned is not None and self.condition > _ILL_CONDITIONED:
            self._take_metric(learned)
        else:
            self._rescale(scales)

    def _rescale(self, seen: Scales) -> None:
        """Takes a window's scales, if of enough states."""
        if seen.count < _ENOUGH_STATES:
            return
        self._take_metric(Metric(seen.deviation().to(self.metric.scale)))

    def _take_metric(self, metric: Metric) -> None:
        """Puts step sizes into the units of a metric, and forgets what was learned in others."""
        step = torch.full_like(self.steps.step, self.first_step)
        if metric.basis is None and self.metric.basis is None:
            log_ratio = (self.metric.scale.log() - metric.scale.log()).mean(-1)
            step = self.steps.step * log_ratio.exp()
        elif metric.basis is not None and self.metric.basis is not None:
            step = self.steps.step
        self.steps.restart(step)
        self.known_step = None
        self.metric = metric
        self.trajectory.restart()

    def _tell_of_warm_up(self, done: int, acceptance: Tensor) -> None:
        """Reports the progress, at every twentieth of the whole."""
        total = self.options.total
        if done % max(total // 20, 1) != 0:
            return
        now = Progress(
            phase="warmup",
            done=done,
            total=total,
            acceptance=float(acceptance.mean()),
            divergences=0,
        )
        self.tell(now)

    def _tell_of_draws(self, done: int) -> None:
        """Reports the progress, at every twentieth of the draws and at their end."""
        draws = self.options.draws
        if done % max(draws // 20, 1) != 0 and done != draws:
            return
        r_hat = None
        if done >= 4:
            energy = torch.stack([kept.energy for kept in self.kept], 1)
            r_hat = float(split_r_hat(energy).max())
        now = Progress(
            phase="draws",
            done=self.options.warmup + done,
            total=self.options.total,
            acceptance=float(torch.stack([kept.acceptance for kept in self.kept]).mean()),
            divergences=int(torch.stack([kept.divergent for kept in self.kept]).sum()),
            r_hat=r_hat,
        )
        self.tell(now)


def _trajectory(options: _Options, blocks: int) -> TrajectoryLength:
    """The length that was asked for; else one that adapts, where chains tell enough about it."""
    if options.trajectory is not None:
        return TrajectoryLength(options.trajectory, adapts=False)
    chains = options.chains
    enough = chains >= 16 or (chains >= 4 and chains * blocks >= 64)
    return TrajectoryLength(math.pi / 2, adapts=enough)


def _stacked(kept: list[_Kept]) -> _Kept:
    """All that was kept, the draws on the second axis: q (C, S, B, D), the others (C, S, B)."""
    return _Kept(*[torch.stack(part, 1) for part in zip(*kept, strict=True)])
