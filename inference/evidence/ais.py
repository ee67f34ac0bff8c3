"""Annealed importance sampling: log evidence datum by datum, where importance weights alone are
loose.
"""

from __future__ import annotations

__all__ = ["Settings", "ais", "annealed_log_weights"]

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor

from ppl_gen.contexts import evaluating, seeded, store_kept
from ppl_gen.guides import from_prior
from ppl_gen.inference.checks import check, needs_all_data
from ppl_gen.inference.engine.replay import Engine, Replay, expect_engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.path import Anneal, Path
from ppl_gen.inference.evidence.temperatures import Schedule
from ppl_gen.inference.evidence.weights import summarised
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.mcmc.by_datum import data_at_once
from ppl_gen.protocols import Guide, Program
from ppl_gen.pyro_patches import tracing


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
    """log p̂(x) = log (1/C) Σ_c w_c with log w = Σₜ (βₜ − βₜ₋₁) (log p(x, zₜ₋₁) − log π₀(zₜ₋₁)), z₀
    ~ π₀, for every datum.

    Between two temperatures z moves by HMC under π₀^(1 − β) p(x, z)^β, datum by datum, all chains
    and data in one tensor. Each w is an unbiased estimate of p(x) whatever the number of
    temperatures, so that its logarithm is a lower bound of log p(x) in expectation; more
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
        target_accept: The acceptance probability that step sizes are learned for.
        chunk: How many data are annealed at once; chosen by their size and the device if left out.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How the leapfrog steps are computed, see `ppl_gen.inference.engine.Replay`.

    Returns:
        An `Estimate` of values (N,) in nats per datum, with the standard error √((C/ESS − 1) / (C −
        1)) (NaN for one chain) and ESS over chains, and Pareto k̂ from 21 chains on.

    Raises:
        ValueError: If a count is below 1, the schedule does not rise from 0 to 1, a latent is
            shared by all data, the guide has auxiliary sites, or as
            `ppl_gen.inference.checks.check` says, before work starts.

    Reference:
        Neal (2001), Annealed importance sampling; Wu, Burda, Salakhutdinov and Grosse (2017), On
        the quantitative analysis of decoder-based generative models.
    """
    settings = Settings(
        chains, temperatures, leapfrogs, schedule, target_accept, chunk, seed, progress, engine
    )
    return summarised(annealed_log_weights(program, guide, (x, *context), settings))[0]


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

    def check(self) -> None:
        """Says when a number is out of range.

        Raises:
            ValueError: Then.
        """
        counts = {name: getattr(self, name) for name in ("chains", "temperatures", "leapfrogs")}
        expect_counts(**counts, chunk=1 if self.chunk is None else self.chunk)
        expect_engine(self.engine)
        if not 0 < self.target_accept < 1:
            raise ValueError(f"expected target_accept between 0 and 1, got {self.target_accept}")

    def replays(self, chunks: int) -> tuple[Replay, Replay]:
        """The engines of leapfrog steps and accept steps."""
        calls = chunks * self.temperatures
        return (
            Replay(self.engine, calls * self.leapfrogs, watch=False, what="leapfrog step"),
            Replay(self.engine, calls, watch=False, what="accept step"),
        )


def annealed_log_weights(
    program: Program,
    guide: Guide | None,
    data: Sequence[Tensor],
    settings: Settings,
    posterior: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """log w (C, N), in float64, of `ais`; backwards where exact draws of the posterior, each (N,
    *event), are given.

    Raises:
        ValueError: As `ais` does.
    """
    settings.check()
    x, chains = data[0], settings.chains
    with store_kept():
        nesting, _, auxiliary = check(
            program, from_prior(program) if guide is None else guide, *data
        )
    if guide is not None and auxiliary:
        raise ValueError(
            "expected a guide with a density at given latents, got the auxiliary sites "
            f"{list(auxiliary)}: leave guide out to begin from the prior, or take a guide that "
            "samples its latents from distributions"
        )
    whole = guide is not None and needs_all_data(guide)
    parts = _chunks(x, len(x) if whole else settings.chunk or data_at_once(x, chains))
    replays = settings.replays(len(parts))
    path_of = partial(
        Path,
        program,
        guide,
        nesting=nesting,
        chains=chains,
        leapfrogs=settings.leapfrogs,
        replays=replays,
    )
    bar = Progress(disable=not settings.progress, transient=True)
    with evaluating(program, guide), tracing(), store_kept(), seeded(x.device, settings.seed), bar:
        task = bar.add_task("annealing", total=None)
        tick = partial(bar.advance, task)
        anneal = Anneal(
            path_of, settings.temperatures, settings.schedule, settings.target_accept, tick
        )
        bar.update(
            task,
            total=len(parts)
            * (settings.temperatures + anneal.pilot * (1 if posterior is None else 2)),
        )
        found = []
        for rows in parts:
            ends = (
                None
                if posterior is None
                else {name: value[rows] for name, value in posterior.items()}
            )
            found.append(anneal.log_weights([t[rows] for t in data], ends))
    _warn_of_rejection(float(torch.stack(anneal.acceptance).mean()))
    return torch.cat(found, 1)[:, : x.shape[0]]


def _warn_of_rejection(accepted: float) -> None:
    if accepted < 0.2:
        warnings.warn(
            f"annealing steps were accepted with probability {accepted:.2f} on average: the "
            "bound holds, but is loose; begin from a guide, or take more temperatures",
            RuntimeWarning,
            stacklevel=4,
        )


def _chunks(x: Tensor, size: int) -> list[Tensor]:
    """Rows of equal numbers, the last filled up with the last datum, so that one graph serves all."""
    n = x.shape[0]
    size = -(-n // -(-n // size))
    return [torch.arange(i, i + size, device=x.device).clamp(max=n - 1) for i in range(0, n, size)]
