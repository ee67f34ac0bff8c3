"""HMC transitions of all chains at once: a trajectory of leapfrog steps, and the accept step.

Where the latents are local to data, each datum is a block with a step size and an accept step of
its own; else all latents are one block. Shapes: C chains, B blocks, D coordinates of a block.
"""

from __future__ import annotations

__all__ = ["LONGEST", "Moves", "State", "Transition", "leapfrogs_for"]

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ppl_gen.contexts import owner, reason
from ppl_gen.inference.engine.graphs import shapes
from ppl_gen.inference.engine.replay import Engine, Replay, plan
from ppl_gen.inference.latents.descent import descended
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.leapfrog import Metric, accept_step, leapfrog, log_uniform

# The most leapfrog steps of a trajectory.
LONGEST = 512


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        q: Unconstrained coordinates, (C, B, D).
        energy: U(q), (C, B), in nats.
        gradient: ∂U/∂q, (C, B, D).
    """

    q: Tensor
    energy: Tensor
    gradient: Tensor

    def begun_anew(self, which: Tensor) -> State:
        """The same, some chains standing where the others stand, one each as far as they go.

        Args:
            which: Those chains of each block, (C, B); at least one of a block stays.
        """
        rows = torch.arange(len(which), device=which.device)
        sources = rows[:, None].repeat(1, which.shape[1])
        for block in which.any(0).nonzero().flatten():
            others = rows[~which[:, block]]
            moved = rows[which[:, block]]
            turns = rows[: len(moved)] % len(others)
            sources[moved, block] = others[turns]
        blocks = torch.arange(which.shape[1], device=which.device)
        return State(*[part[sources, blocks] for part in self])


class Transition(NamedTuple):
    """What came of one transition.

    Attributes:
        state: Where it led to.
        acceptance: α, the acceptance probability, (C, B).
        divergent: Whether the trajectory diverged, (C, B).
        chees_gradient: What the length of trajectories is learned from, a scalar.
        leapfrogs: The number of leapfrog steps.
    """

    state: State
    acceptance: Tensor
    divergent: Tensor
    chees_gradient: Tensor
    leapfrogs: int


def leapfrogs_for(time: float, step: float) -> int:
    """How many leapfrog steps of a size make up a travelling time: at least 1, at most LONGEST."""
    return min(max(round(time / step + 0.5), 1), LONGEST)


class Moves:
    """The transitions of one program's chains.

    Args:
        potential: The program's energy.
        chains: C.
        engine: How steps are computed; chain by chain, without a graph, where vmap cannot follow
            the program.
        calls: About how often each graph will be called, by which "auto" chooses.
        starts: Where the chains begin, (C, B, D); if None, at dispersed starts, led down where the
            density is too steep for leapfrog steps.

    Attributes:
        start: Where the chains begin.
        late_seconds: Wall time of tracing and compiling for a metric with directions of its own,
            which is learned on the way.

    Raises:
        ValueError: If no start has a finite density, or if the density itself is random.
    """

    def __init__(
        self,
        potential: Potential,
        chains: int,
        engine: Engine,
        calls: int,
        starts: Tensor | None = None,
    ) -> None:
        self._tensors = potential.tensors
        q = starts
        if q is None:
            q = potential.starts(chains)
        energies, obstacle = potential.fastest
        if obstacle is not None:
            _warn_of_turns(obstacle)
            potential.expect_no_noise(q)
            engine = "eager"
        energy, gradient = energies(q, *self._tensors)
        if starts is None:
            led = descended(energies, q, self._tensors)
            if led is not q:
                q = led
                energy, gradient = energies(q, *self._tensors)
        self.start = State(q, energy, gradient)
        self._energies = energies
        self._graphs_of = partial(_graphs_of, potential, chains, engine, calls)
        self._by_parts: dict[int, _Prepared] = {}
        self.late_seconds = 0.0
        self._prepare(Metric(torch.ones_like(q[0])))

    def transition(self, state: State, step: Tensor, metric: Metric, leapfrogs: int) -> Transition:
        """One transition of all chains, with fresh momenta p ~ N(0, I).

        Args:
            state: Where the chains are.
            step: Step sizes ε, (C, B, 1).
            metric: That of the coordinates in which momenta are N(0, I).
            leapfrogs: The number of leapfrog steps.
        """
        prepared = self._by_parts.get(len(metric.tensors))
        if prepared is None:
            began = perf_counter()
            prepared = self._prepare(metric)
            self.late_seconds += perf_counter() - began
        p = torch.randn_like(state.q)
        moved = self._travel(prepared, state, p, step, metric, leapfrogs)
        q, energy, gradient, acceptance, divergent, chees_gradient = prepared.accept(
            state, p, moved, metric
        )
        return Transition(
            state=State(q, energy, gradient),
            acceptance=acceptance,
            divergent=divergent,
            chees_gradient=chees_gradient,
            leapfrogs=leapfrogs,
        )

    def _travel(
        self,
        prepared: _Prepared,
        state: State,
        p: Tensor,
        step: Tensor,
        metric: Metric,
        leapfrogs: int,
    ) -> tuple[Tensor, ...]:
        """(q, p, U, g) at the end of a trajectory, four steps to a graph while four are left."""
        q, energy, gradient = state
        given = (*metric.tensors, *self._tensors)
        for _ in range(leapfrogs // 4):
            q, p, energy, gradient = prepared.graphs.four_steps(
                prepared.four_steps, q, p, gradient, step, *given
            )
        for _ in range(leapfrogs % 4):
            q, p, energy, gradient = prepared.graphs.one_step(
                prepared.one_step, q, p, gradient, step, *given
            )
        return q, p, energy, gradient

    def _prepare(self, metric: Metric) -> _Prepared:
        """The steps for metrics of this kind, each graph compared with its function.

        They are made by a small step from the start.

        Args:
            metric: Of that kind, and of the shapes to come.
        """
        parts = len(metric.tensors)
        made = _Prepared(
            graphs=self._graphs_of(parts),
            one_step=partial(leapfrog, self._energies, 1, parts),
            four_steps=partial(leapfrog, self._energies, 4, parts),
        )
        q, _, gradient = self.start
        p = torch.randn_like(q)
        step = torch.full_like(q[..., :1], 1e-3)
        inputs = (q, p, gradient, step, *metric.tensors, *self._tensors)
        made.graphs.one_step(made.one_step, *inputs, verify=True)
        moved = made.graphs.four_steps(made.four_steps, *inputs, verify=True)
        made.accept(self.start, p, moved, metric, verify=True)
        self._by_parts[parts] = made
        return made


class _Graphs(NamedTuple):
    """The engines of one program's transitions."""

    one_step: Replay
    four_steps: Replay
    accept: Replay


class _Prepared(NamedTuple):
    """What moves the chains under one kind of metric.

    Attributes:
        graphs: The engines of its functions.
        one_step: One leapfrog step.
        four_steps: Four.
    """

    graphs: _Graphs
    one_step: Callable[..., tuple[Tensor, ...]]
    four_steps: Callable[..., tuple[Tensor, ...]]

    def accept(
        self,
        state: State,
        p: Tensor,
        moved: tuple[Tensor, ...],
        metric: Metric,
        verify: bool = False,
    ) -> tuple[Tensor, ...]:
        """What `accept_step` gives, with a fresh u."""
        q1, p1, energy1, gradient1 = moved
        before = (*state, p)
        after = (q1, energy1, gradient1, p1)
        log_u = log_uniform(state.energy)
        return self.graphs.accept(
            accept_step, *before, *after, log_u, *metric.tensors, verify=verify
        )


# By the object that a model belongs to, and for as long as it lives: its graphs by what they take
# for granted.
_known_graphs: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _graphs_of(
    potential: Potential, chains: int, engine: Engine, calls: int, parts: int
) -> _Graphs:
    """The graphs of an earlier run of the same program, if they serve; else new ones.

    Args:
        potential: The program's energy.
        chains: C.
        engine: How steps are computed.
        calls: About how often each graph will be called.
        parts: How many tensors make up the metric.
    """
    known = _graphs_of_owner(potential.model)
    key = (
        getattr(potential.model, "__name__", ""),
        potential.words,
        potential.local,
        engine,
        plan(calls, engine),
        chains,
        parts,
        shapes(potential.tensors),
    )
    graphs = known.get(key)
    if graphs is None or any(replay.highest == "eager" for replay in graphs):
        graphs = _Graphs(
            one_step=Replay(engine, calls, watch=False, what="leapfrog step"),
            four_steps=Replay(engine, calls, watch=False, what="leapfrog"),
            accept=Replay(engine, calls, watch=False, what="accept step"),
        )
        known[key] = graphs
    return graphs


def _graphs_of_owner(model: object) -> dict[Hashable, _Graphs]:
    try:
        return _known_graphs.setdefault(owner(model), {})
    except TypeError:  # an object that cannot be referred to weakly
        return {}


def _warn_of_turns(error: Exception) -> None:
    warnings.warn(
        f"the chains cannot be moved at once and take turns: {reason(error)}",
        RuntimeWarning,
        stacklevel=5,
    )
