"""Annealed importance sampling: log evidence per datum where importance weights are loose."""

from __future__ import annotations

__all__ = [
    "Settings",
    "Walk",
    "ais",
    "annealed",
    "annealed_log_weights",
    "expect_room_for_annealing",
    "expect_settings",
]

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ppl_gen.contexts import evaluating, seeded, store_kept
from ppl_gen.guides import from_prior
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.engine.replay import Engine, Replay, expect_engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.path import Anneal, Path
from ppl_gen.inference.evidence.temperatures import Schedule
from ppl_gen.inference.evidence.weights import evidence_of
from ppl_gen.inference.expect import expect_counts, expect_target_accept
from ppl_gen.inference.left_out import expect_density, left_out
from ppl_gen.inference.mcmc.by_datum import data_at_once, equal_chunks
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.progress import Bar
from ppl_gen.protocols import Guide, Program
from ppl_gen.pyro_patches import tracing

Found = TypeVar("Found")
# From an `Anneal`, the data of a chunk and their indices to what is found along the path.
Walk = Callable[[Anneal, Sequence[Tensor], Tensor], Found]

# Below this mean acceptance probability a run is reported as loose.
_LOOSE = 0.2

_PER_TEMPERATURE = 32  # bytes of a temperature, and of the step size at it


def ais(
    program: Program,
    x: Tensor,
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
) -> Estimate:
    """log p̂(x) = log (1/C) Σ_c w_c, with log w = Σₜ (βₜ − βₜ₋₁) (log p(x, zₜ₋₁) − log π₀(zₜ₋₁)).

    From z₀ ~ π₀ on, z moves between two temperatures by HMC under π₀^(1 − β) p(x, z)^β, datum by
    datum, all chains and data in one tensor. Each w is an unbiased estimate of p(x) whatever the
    number of temperatures, so that its logarithm is a lower bound of log p(x) in expectation; more
    temperatures make it tighter. Step sizes are learned on a pilot run, one for each datum and
    temperature, and then fixed; so is the schedule where none is given. From the guide, some ten
    times fewer temperatures do than from the prior. Discrete latents are moved by Metropolis steps
    with proposals from π₀.

    Args:
        program: Any program with a density, hierarchical latents included; evaluated in evaluation
            mode.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: π₀ = q(z | x, c), which must leave no part of the posterior out; the prior p(z | c)
            if left out.
        chains: C, the number of chains of each datum.
        temperatures: T, the number of steps from π₀ to the posterior.
        leapfrogs: The number of leapfrog steps of a transition.
        schedule: From T to β₀ = 0, …, β_T = 1, as `linear` and `sigmoid` of
            `ppl_gen.inference.evidence.temperatures`; if left out, half of the temperatures are
            spread by `sigmoid`, half so that log w varied as much from each to the next in the
            pilot.
        target_accept: The acceptance probability that step sizes are learned for, between 0 and 1.
        chunk: How many data are annealed at once, with all their chains; chosen by their size and
            the device if left out.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How the leapfrog steps are computed: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with ESS over chains, the standard error
        √((C/ESS − 1) / (C − 1)) (NaN for one chain), and Pareto k̂ from 21 chains on.

    Raises:
        ValueError: Before work starts, if a count is below 1, the schedule does not rise from 0 to
            1, a latent is shared by all data, the guide has auxiliary sites or point masses, or it
            leaves a part of the posterior out, or program, guide and data do not fit together.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> x = torch.zeros(1, 3)
        >>> found = ais(ppca, x, temperatures=20, leapfrogs=2, seed=0, engine="eager")
        >>> round(found.value.item(), 1), round(ppca.exact_log_evidence(x).item(), 1)
        (-3.5, -3.4)

    Reference:
        Neal (2001), Annealed importance sampling; Wu, Burda, Salakhutdinov and Grosse (2017), On
        the quantitative analysis of decoder-based generative models.
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
    return evidence_of(annealed_log_weights(program, guide, (x, *context), settings))


class Settings(NamedTuple):
    """The options of `ais`, which `bdmc` has as well."""

    chains: int
    temperatures: int
    leapfrogs: int
    schedule: Schedule | None
    target_accept: float
    chunk: int | None
    seed: int | None
    progress: bool
    engine: Engine


def expect_settings(settings: Settings) -> None:
    """Raises ValueError unless all counts are at least 1 and the other options what they can be."""
    expect_counts(
        chains=settings.chains,
        temperatures=settings.temperatures,
        leapfrogs=settings.leapfrogs,
        chunk=settings.chunk,
    )
    expect_engine(settings.engine)
    expect_target_accept(settings.target_accept, usual=0.65)


def expect_room_for_annealing(
    chains: int, temperatures: int, values: int, device: torch.device
) -> None:
    """Raises ValueError if chains or temperatures do not fit into memory.

    Args:
        chains: C, the number of chains of each datum.
        temperatures: T, the number of steps of each chain.
        values: How many numbers the data hold that are annealed at once.
        device: Where they are held.
    """
    needed = SINGLE * chains * values
    expect_memory(f"{chains} chains for a datum", needed, "take fewer chains", device)
    steps = _PER_TEMPERATURE * temperatures
    expect_memory(f"{temperatures} temperatures", steps, "take fewer temperatures", device)


def annealed_log_weights(
    program: Program,
    guide: Guide | None,
    data: Sequence[Tensor],
    settings: Settings,
    posterior: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """log w (C, N), in float64, of `ais`.

    Args:
        program: Any program with a density.
        guide: π₀ = q(z | x, c); the prior if None.
        data: (x, *context), each of length N.
        settings: Options that `expect_settings` has seen.
        posterior: Exact draws of p(z | x), each (N, *event), from which to go backwards; forwards
            from π₀ if None.

    Raises:
        ValueError: If program, guide and data do not fit together, a latent is shared by all data,
            or the schedule does not rise from 0 to 1.
    """

    def walk(anneal: Anneal, some: Sequence[Tensor], rows: Tensor) -> Tensor:
        ends = None
        if posterior is not None:
            ends = {name: value[rows] for name, value in posterior.items()}
        return anneal.log_weights(some, ends)

    found = annealed(program, guide, data, settings, walk, backwards=posterior is not None)
    return torch.cat(found, 1)[:, : len(data[0])]


def annealed(
    program: Program,
    guide: Guide | None,
    data: Sequence[Tensor],
    settings: Settings,
    walk: Walk[Found],
    *,
    backwards: bool = False,
) -> list[Found]:
    """What walks along the path from π₀ to p(x, z) find, one for each chunk of the data.

    Args:
        program: Any program with a density.
        guide: π₀ = q(z | x, c); the prior if None.
        data: (x, *context), each of length N.
        settings: Options that `expect_settings` has seen.
        walk: From an `Anneal`, the data of a chunk and their indices to what is found. The last
            chunk is filled up with the last datum.
        backwards: Whether it walks from the posterior back.

    Raises:
        ValueError: If program, guide and data do not fit together, a latent is shared by all data,
            or the schedule does not rise from 0 to 1.
    """
    x = data[0]
    nesting = _check_base(program, guide, data)
    at_once = _data_at_once(guide, x, settings)
    values = min(at_once, len(x)) * math.prod(x.shape[1:])
    expect_room_for_annealing(settings.chains, settings.temperatures, values, x.device)
    chunks = equal_chunks(len(x), at_once, x.device)
    path_of = partial(
        Path,
        program,
        guide,
        nesting=nesting,
        chains=settings.chains,
        leapfrogs=settings.leapfrogs,
        replays=_replays(settings, len(chunks)),
    )
    bar = Bar(shown=settings.progress)
    found = []
    with evaluating(program, guide), tracing(), store_kept(), seeded(x.device, settings.seed), bar:
        task = bar.add_task("annealing", total=None)
        anneal = Anneal(
            path_of=path_of,
            temperatures=settings.temperatures,
            schedule=settings.schedule,
            target_accept=settings.target_accept,
            tick=partial(bar.advance, task),
        )
        transitions = settings.temperatures + anneal.pilot
        if backwards:
            transitions += anneal.pilot
        bar.update(task, total=len(chunks) * transitions)
        for rows in chunks:
            found.append(walk(anneal, [t[rows] for t in data], rows))
    _warn_of_rejection(float(torch.stack(anneal.acceptance).mean()))
    return found


def _check_base(program: Program, guide: Guide | None, data: Sequence[Tensor]) -> int:
    """Checks program, base and data together; returns the number of axes that the plates take."""
    with store_kept():
        if guide is None:
            return check_by_datum(program, from_prior(program), *data).nesting
        nesting, _, auxiliary = check_by_datum(program, guide, *data)
        expect_density(guide, *data)
        missing = left_out(program, guide, nesting, *data)
    if missing:
        name, kind = next(iter(missing.items()))
        raise ValueError(
            "expected a guide that leaves no part of the posterior out, to begin from, got one "
            f"that draws {name!r} from {kind}, outside of whose support p(x, z) > 0: leave guide "
            "out to begin from the prior, or take a distribution on all of the prior's support"
        )
    if auxiliary:
        raise ValueError(
            "expected a guide with a density at given latents, got the auxiliary sites "
            f"{list(auxiliary)}: leave guide out to begin from the prior, or take a guide that "
            "samples its latents from distributions"
        )
    return nesting


def _data_at_once(guide: Guide | None, x: Tensor, settings: Settings) -> int:
    """How many data are annealed at once; all where the guide can only see all."""
    if guide is not None and needs_all_data(guide):
        return len(x)
    return data_at_once(x, settings.chains, settings.chunk)


def _replays(settings: Settings, chunks: int) -> tuple[Replay, Replay]:
    """The engines of leapfrog steps and of accept steps."""
    transitions = chunks * settings.temperatures
    steps = transitions * settings.leapfrogs
    return (
        Replay(settings.engine, steps, watch=False, what="leapfrog step"),
        Replay(settings.engine, transitions, watch=False, what="accept step"),
    )


def _warn_of_rejection(accepted: float) -> None:
    if accepted < _LOOSE:
        warnings.warn(
            f"annealing steps were accepted with probability {accepted:.2f} on average: the "
            "bound holds, but is loose; begin from a guide, or take more temperatures",
            RuntimeWarning,
            stacklevel=5,
        )
