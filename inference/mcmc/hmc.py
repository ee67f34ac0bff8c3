"""Hamiltonian Monte Carlo with all chains in one tensor, on any Pyro program with continuous
latents.
"""

from __future__ import annotations

__all__ = ["hmc"]

import math
import time
import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ppl_gen.contexts import evaluating, owner, seeded, store_kept
from ppl_gen.inference.engine.graphs import shapes
from ppl_gen.inference.engine.replay import Engine, Replay, expect_engine, plan
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.adaptation import (
    DualAveraging,
    Scales,
    TrajectoryLength,
    halton,
    windows,
)
from ppl_gen.inference.mcmc.by_datum import in_chunks, rows_at_once
from ppl_gen.inference.mcmc.draws import Draws, Progress, reporting
from ppl_gen.inference.mcmc.leapfrog import finish, leapfrog, log_uniform
from ppl_gen.pyro_patches import tracing

LONGEST = 512
_graphs: WeakIdKeyDictionary = WeakIdKeyDictionary()


def hmc(
    model: Callable[..., Any],
    *args: Any,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 64,
    local: bool = False,
    chunk: int | None = None,
    trajectory: float | None = None,
    target_accept: float = 0.8,
    engine: Engine = "auto",
    seed: int | None = None,
    progress: bool = False,
    on_draw: Callable[[Progress], None] | None = None,
) -> Draws:
    """Draws from p(z | x) by HMC: p ~ N(0, I), L leapfrog steps of size ε in q and p, accepted with
    min(1, exp(H − H′)).

    Coordinates are scaled by their standard deviation, pooled over chains. The trajectory's length
    is jittered, and adapted by ChEES from 16 chains on (with `local`, from 4 chains and 64 chains ×
    data on). With `local`, the latents of each datum in the plate "data" have a step size, scales
    and an accept step of their own: one call gives the posterior of every datum.

    Args:
        model: Any Pyro program. Discrete latents of finite support are summed out (not where
            `local`).
        *args: What it is called with, the data among it.
        draws: The number of draws of each chain.
        warmup: The number of iterations before, in which the sampler adapts.
        chains: The number of chains, which begin at dispersed starts.
        local: Whether to sample the latents datum by datum.
        chunk: With `local`, how many data are sampled at once; chosen by their size and the device
            if left out.
        trajectory: The mean length of the trajectories, in units of the posterior's standard
            deviations; adapted if left out.
        target_accept: The acceptance probability that step sizes are adapted to (its harmonic mean
            over chains).
        engine: How the leapfrog steps are computed, see `ppl_gen.inference.engine.Replay`. Programs
            that vmap cannot follow run chain by chain, and say so.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        on_draw: Called now and then with the state of things.

    Returns:
        `Draws`, of the number that were made where an interrupt came first.

    Raises:
        ValueError: If a count is too small, or as `ppl_gen.inference.latents.potential.Potential`
            says, before work starts.

    Reference:
        Neal (2011), MCMC using Hamiltonian dynamics; Hoffman, Radul and Sountsov (2021), for the
        trajectory.
    """
    expect_counts(draws=draws, warmup=warmup, chains=chains, chunk=1 if chunk is None else chunk)
    expect_engine(engine)
    if not 0 < target_accept < 1:
        raise ValueError(f"expected target_accept between 0 and 1, got {target_accept}")
    if trajectory is not None and not trajectory > 0:
        raise ValueError(
            f"expected a trajectory above 0, got {trajectory}; leave it out to adapt it"
        )
    options: dict[str, Any] = {
        "draws": draws,
        "warmup": warmup,
        "chains": chains,
        "trajectory": trajectory,
        "target_accept": target_accept,
    }
    rows = rows_at_once(args[0], chains) if chunk is None and local and _has_rows(args) else chunk
    if local and rows is not None and _has_rows(args) and args[0].shape[0] > rows:
        Potential(model, args, local=True)  # says what is wrong with any of the data
        part = partial(hmc, model, local=True, chunk=args[0].shape[0], engine=engine, **options)
        with (
            seeded(args[0].device, seed),
            reporting(on_draw, progress) as tell,
        ):
            return in_chunks(part, args, rows, tell)
    potential = Potential(model, args, local=local)
    with (
        evaluating(model),
        tracing(),
        store_kept(),
        seeded(potential.device, seed),
        reporting(on_draw, progress) as tell,
    ):
        start = time.perf_counter()
        moves = _Moves(potential, chains, engine, 2 * (draws + warmup))
        ready = time.perf_counter()
        chain = _Chains(moves, chains, trajectory, target_accept, warmup, draws)
        chain.run(tell)
        seconds = time.perf_counter() - ready
        return chain.collected(seconds, ready - start)


def _has_rows(args: tuple[Any, ...]) -> bool:
    return bool(args) and torch.is_tensor(args[0]) and args[0].dim() > 0


class _State(NamedTuple):
    """Where the chains are: q (C, B, D), the energy U (C, B) and its gradient g (C, B, D)."""

    q: Tensor
    energy: Tensor
    gradient: Tensor


class _Moves:
    """The graphs of one program: one leapfrog step, four, and the accept step; kept as long as the
    program lives.
    """

    def __init__(self, potential: Potential, chains: int, engine: Engine, calls: int) -> None:
        self.potential, self.tensors = potential, potential.tensors
        q = potential.starts(chains)
        energies = potential.energies
        try:
            energy, gradient = energies(q, *self.tensors)
        except Exception as error:  # whatever keeps vmap from following
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(
                f"the chains cannot be moved at once and take turns: {reason}",
                RuntimeWarning,
                stacklevel=4,
            )
            potential.expect_no_noise(q)
            energies, engine = potential.energies_in_turn, "eager"
            energy, gradient = energies(q, *self.tensors)
        self.start = _State(q, energy, gradient)
        replays = self._replays(engine, calls, (chains, shapes(self.tensors)))
        self._one, self._four, self._finish = replays
        self._by_one, self._by_four = (partial(leapfrog, energies, n) for n in (1, 4))
        p, step = torch.randn_like(q), torch.full_like(q[..., :1], 1e-3)
        scale = torch.ones_like(q[0])
        inputs = (q, p, gradient, step, scale, *self.tensors)
        self._one(self._by_one, *inputs, verify=True)
        moved = self._four(self._by_four, *inputs, verify=True)
        self.accept(self.start, p, moved, scale, verify=True)

    def _replays(self, engine: Engine, calls: int, kind: Hashable) -> list[Replay]:
        model, local = self.potential.model, self.potential.local
        try:
            known = _graphs.setdefault(owner(model), {})
        except TypeError:  # what no weak reference can be made to
            known = {}
        key = (
            getattr(model, "__name__", ""),
            self.potential.words,
            local,
            engine,
            plan(calls, engine),
            kind,
        )
        if key not in known or any(replay.highest == "eager" for replay in known[key]):
            known[key] = [
                Replay(engine, calls, watch=False, what=what)
                for what in ("leapfrog step", "leapfrog", "accept step")
            ]
        return known[key]

    def travel(
        self, state: _State, p: Tensor, step: Tensor, scale: Tensor, count: int
    ) -> tuple[Tensor, ...]:
        """(q, p, U, g) after `count` leapfrog steps."""
        q, energy, gradient = state
        for _ in range(count // 4):
            q, p, energy, gradient = self._four(
                self._by_four, q, p, gradient, step, scale, *self.tensors
            )
        for _ in range(count % 4):
            q, p, energy, gradient = self._one(
                self._by_one, q, p, gradient, step, scale, *self.tensors
            )
        return q, p, energy, gradient

    def accept(
        self,
        state: _State,
        p: Tensor,
        moved: tuple[Tensor, ...],
        scale: Tensor,
        verify: bool = False,
    ) -> tuple[Tensor, ...]:
        """What `finish` gives, with a fresh u."""
        q1, p1, energy1, gradient1 = moved
        log_u = log_uniform(state.energy)
        inputs = (
            state.q,
            state.energy,
            state.gradient,
            p,
            q1,
            energy1,
            gradient1,
            p1,
            log_u,
            scale,
        )
        return self._finish(finish, *inputs, verify=verify)


class _Chains:
    """Chains on their way: warm-up, draws, and what is kept of them."""

    def __init__(
        self,
        moves: _Moves,
        chains: int,
        trajectory: float | None,
        target: float,
        warmup: int,
        draws: int,
    ) -> None:
        self.moves, self.state, self.warmup, self.chains = moves, moves.start, warmup, chains
        blocks, size = moves.potential.shape
        self.scale = torch.ones_like(self.state.q[0])
        # At first each chain has a step size of its own: one that begins in a bad place must not
        # hold up the others.
        self.steps = DualAveraging(torch.full_like(self.state.energy, 0.1 * size**-0.25), target)
        adapts = trajectory is None and (chains >= 16 or (chains >= 4 and chains * blocks >= 64))
        self.trajectory = TrajectoryLength(
            math.pi / 2 if trajectory is None else trajectory, adapts
        )
        self.kept: list[tuple[Tensor, ...]] = []
        self.leapfrogs = 0
        self.draws = draws
        self.remarks: list[str] = []

    def run(self, tell: Callable[[Progress], None]) -> None:
        """Warm-up, then draws; an interrupt keeps what there is.

        Raises:
            KeyboardInterrupt: If it comes before the first draw.
        """
        jitter = [0.5 + u for u in halton(self.warmup + self.draws)]
        try:
            self._warm_up(jitter, tell)
            self._draw(jitter[self.warmup :], tell)
        except KeyboardInterrupt:
            if not self.kept:
                raise
            self.remarks.append(f"interrupted after {len(self.kept)} of {self.draws} draws")
            warnings.warn(
                f"hmc was {self.remarks[-1]}, which are returned", RuntimeWarning, stacklevel=3
            )

    def _iterate(self, time: float, step: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """One transition of about this travelling time, and the time that was really travelled."""
        common = float(step.median())
        count = min(max(round(time / common + 0.5), 1), LONGEST)
        p = torch.randn_like(self.state.q)
        moved = self.moves.travel(self.state, p, step, self.scale, count)
        q, energy, gradient, *rest = self.moves.accept(self.state, p, moved, self.scale)
        self.state = _State(q, energy, gradient)
        self.leapfrogs += count
        return tuple(rest), count * common

    def _warm_up(self, jitter: list[float], tell: Callable[[Progress], None]) -> None:
        alone, ends = windows(self.warmup)
        scales = Scales()
        for i in range(self.warmup):
            if i == alone:
                self._join()
                scales = self._rescaled(scales)
            step = (
                self.steps.step.to(self.state.q.dtype)
                .expand(self.state.energy.shape)[..., None]
                .contiguous()
            )
            # On its own a chain looks for where the mass is, in few steps; how far to go is learnt
            # afterwards.
            length = self.trajectory.length if i >= alone else min(1.0, 6 * float(step.median()))
            (acceptance, _, chees), travelled = self._iterate(jitter[i] * length, step)
            if i < alone:
                self.steps.learn(acceptance)
            else:
                # The harmonic mean: a step that some chains cannot bear is too long. One stuck
                # chain must not decide alone.
                self.steps.learn(
                    1 / (1 / acceptance.double().clamp(min=0.02)).mean(0, keepdim=True)
                )
                self.trajectory.learn(float(chees), travelled, float(step.median()))
            if i >= alone // 2:
                scales.see(self.state.q)
            if i + 1 in ends:
                scales = self._rescaled(scales)
            self.trajectory.keep()
            if (i + 1) % max((self.warmup + self.draws) // 20, 1) == 0:
                tell(
                    Progress("warmup", i + 1, self.warmup + self.draws, float(acceptance.mean()), 0)
                )
        if self.warmup <= alone:
            self._join()

    def _join(self) -> None:
        """From step sizes of each chain to common ones."""
        self.steps.restart(self.steps.step.median(0, keepdim=True).values)

    def _rescaled(self, seen: Scales) -> Scales:
        """Takes the scales that were seen, if enough was, and puts step sizes into the new units."""
        if seen.count >= 10:
            new = seen.deviation().to(self.scale)
            self.steps.restart(self.steps.step * (self.scale.log() - new.log()).mean(-1).exp())
            self.scale = new
            self.trajectory.restart()
        return Scales()

    def _draw(self, jitter: list[float], tell: Callable[[Progress], None]) -> None:
        step = self.steps.average if self.warmup else self.steps.step
        step = step.to(self.state.q.dtype).expand(self.state.energy.shape)[..., None].contiguous()
        length = self.trajectory.average
        self.step, self.leapfrogs = step, 0
        for i in range(self.draws):
            (acceptance, divergent, _), _ = self._iterate(jitter[i] * length, step)
            self.kept.append((*self.state[:2], acceptance, divergent))
            if (i + 1) % max(self.draws // 20, 1) == 0 or i + 1 == self.draws:
                self._tell(tell, i + 1)

    def _tell(self, tell: Callable[[Progress], None], done: int) -> None:
        acceptance, divergent = (torch.stack([kept[i] for kept in self.kept]) for i in (2, 3))
        total = self.warmup + self.draws
        now = Progress(
            "draws",
            self.warmup + done,
            total,
            float(acceptance.mean()),
            int(divergent.sum()),
            self._r_hat(),
        )
        tell(now)

    def _r_hat(self) -> float | None:
        """Split R̂ of the energy so far: a quick look, not the diagnosis."""
        half = len(self.kept) // 2
        if half < 2:
            return None
        energy = torch.stack([k[1] for k in self.kept[-2 * half :]]).double()
        parts = torch.cat([energy[:half], energy[half:]], 1)
        within, between = parts.var(0).mean(0), parts.mean(0).var(0)
        return float(((half - 1) / half + between / within).sqrt().max())

    def collected(self, seconds: float, preparation: float) -> Draws:
        """The draws, constrained."""
        q, energy, acceptance, divergent = (
            torch.stack(part, 1) for part in zip(*self.kept, strict=True)
        )
        if not self.moves.potential.local:
            energy, acceptance, divergent = energy[..., 0], acceptance[..., 0], divergent[..., 0]
        stuck = (q == q[:, :1]).all(1).all(-1)
        if bool(stuck.any()) and q.shape[1] > 1:
            where = sorted(set(stuck.nonzero()[:, 0].tolist()))
            self.remarks.append(
                f"chains that never moved: {', '.join(map(str, where))}; their draws tell nothing"
            )
        flat = self.moves.potential.constrain(q.flatten(0, 1))
        return Draws(
            {name: value.unflatten(0, q.shape[:2]) for name, value in flat.items()},
            -energy,
            divergent,
            acceptance,
            seconds,
            preparation,
            dims=self.moves.potential.dims,
            sampler="hmc",
            settings={
                "step_size": float(self.step.mean()),
                "trajectory": self.trajectory.average,
                "leapfrogs": self.leapfrogs / len(self.kept),
                "warmup": float(self.warmup),
            },
            remarks=tuple(self.remarks),
        )
