"""Pyro's own NUTS, chain after chain, as the reference that other samplers are held against."""

from __future__ import annotations

__all__ = ["nuts"]

import math
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch
from pyro.infer import NUTS
from torch import Tensor

from ppl_gen.contexts import device_of, evaluating, seeded, store_kept
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.draws import Draws, Progress, reporting


def nuts(
    model: Callable[..., Any],
    *args: Any,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: bool = False,
    target_accept: float = 0.8,
    max_tree_depth: int = 10,
    on_draw: Callable[[Progress], Any] | None = None,
) -> Draws:
    """z ~ p(z | x) by the no-U-turn sampler of `pyro.infer.NUTS`, on the unconstrained scale, with
    a diagonal mass matrix.

    Chains run one after the other in this process, each from a start of its own, uniform on [−2, 2]
    and warmed up by itself. Ctrl-C ends the run and returns the draws so far: of the chains that
    have been begun as many, cut to one length, as leave the most draws.

    Args:
        model: Any Pyro program with continuous latents; discrete ones of finite support are summed
            out. Run in evaluation mode.
        *args: What it is called with.
        draws: S, the number of draws of each chain.
        warmup: The number of transitions that adapt step size and mass matrix beforehand.
        chains: C, the number of chains.
        seed: Seeds the chains and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        target_accept: The mean acceptance probability that the step size is adapted to, between 0
            and 1.
        max_tree_depth: The most doublings of a trajectory.
        on_draw: Called with a `Progress` about every twentieth of the way.

    Returns:
        Draws whose settings are step_size (the chains' mean), leapfrogs (per draw, mean), warmup,
        target_accept and max_tree_depth. The global param store is left as it was found.

    Raises:
        ValueError: If a number is out of range, or as
            `ppl_gen.inference.latents.potential.Potential` says.
        KeyboardInterrupt: If there was no draw yet.

    Reference:
        Hoffman and Gelman (2014), The no-U-turn sampler; Betancourt (2017), A conceptual
        introduction to HMC, appendix A.
    """
    expect_counts(draws=draws, warmup=warmup, chains=chains, max_tree_depth=max_tree_depth)
    if not 0 < target_accept < 1:
        raise ValueError(
            f"expected target_accept between 0 and 1, got {target_accept}; 0.8 is usual"
        )
    device = device_of(None, args)
    with store_kept(), seeded(device, seed), evaluating(model):
        began = perf_counter()
        potential = Potential(model, args)
        starts = potential.starts(chains)
        prepared = perf_counter()
        begun: list[_Chain] = []
        remarks: list[str] = []
        try:
            with torch.enable_grad(), reporting(on_draw, progress) as report:
                schedule = _Schedule(warmup, draws, chains, report)
                for start in starts:
                    begun.append(_Chain(potential, start[0], warmup, target_accept, max_tree_depth))
                    schedule.run(begun)
        except KeyboardInterrupt:
            if not any(chain.draws for chain in begun):
                raise
            begun, remark = _cut(begun, draws, chains)
            remarks.append(remark)
        seconds = perf_counter() - prepared
        settings = {
            "warmup": warmup,
            "target_accept": target_accept,
            "max_tree_depth": max_tree_depth,
        }
        result = _collected(potential, begun, settings, remarks, seconds, prepared - began)
    for remark in result.remarks:
        warnings.warn(remark, RuntimeWarning, stacklevel=2)
    return result


class _Draw(NamedTuple):
    """One transition: where to, what the potential is there, and how it went."""

    q: Tensor
    energy: Tensor
    divergent: bool
    acceptance: float
    leapfrogs: int


class _Chain:
    """A chain of Pyro's NUTS on the flat vector, with what it has drawn."""

    def __init__(
        self,
        potential: Potential,
        start: Tensor,
        warmup: int,
        target_accept: float,
        max_tree_depth: int,
    ) -> None:
        self.draws: list[_Draw] = []
        self.steps, self.warmup, self.leapfrogs = 0, warmup, 0
        tensors = potential.tensors

        def energy(at: dict[str, Tensor]) -> Tensor:
            self.leapfrogs += 1
            return potential.energy(at["q"][None], *tensors)[0]

        self.kernel = NUTS(
            potential_fn=energy, target_accept_prob=target_accept, max_tree_depth=max_tree_depth
        )
        self.kernel.initial_params = {"q": start}
        self.kernel.setup(warmup)
        self.at = self.kernel.initial_params

    def step(self) -> float:
        """One transition, its draw kept after warm-up; returns its acceptance probability."""
        kernel, before, mean = self.kernel, self.leapfrogs, self.kernel._mean_accept_prob
        self.at = kernel.sample(self.at)
        self.steps += 1
        count = self.steps - self.warmup if self.steps > self.warmup else self.steps
        # The kernel only keeps a running mean, begun anew after warm-up; the newest term of it is
        # what it changed by.
        previous = 0.0 if count == 1 else mean
        acceptance = previous + count * (kernel._mean_accept_prob - previous)
        if self.steps > self.warmup:
            divergent = self.steps - self.warmup - 1 in kernel.diagnostics()["divergences"][-1:]
            _, energy, _ = kernel._fetch_from_cache()
            self.draws.append(
                _Draw(
                    self.at["q"].detach(),
                    energy.detach(),
                    divergent,
                    acceptance,
                    self.leapfrogs - before,
                )
            )
        return acceptance


class _Schedule:
    """The order of warm-up and draws, and the reports about every twentieth of the whole."""

    def __init__(
        self, warmup: int, draws: int, chains: int, report: Callable[[Progress], None]
    ) -> None:
        self.warmup, self.each, self.report = warmup, warmup + draws, report
        self.total = chains * self.each
        self.done = 0

    def run(self, chains: list[_Chain]) -> None:
        """The whole of the last chain."""
        sums = {"warmup": 0.0, "draws": 0.0}
        for i in range(self.each):
            phase: Literal["warmup", "draws"] = "warmup" if i < self.warmup else "draws"
            first = 0 if i < self.warmup else self.warmup
            sums[phase] += chains[-1].step()
            self.done += 1
            if self.done % max(1, self.total // 20) == 0 or self.done == self.total:
                divergences = sum(d.divergent for chain in chains for d in chain.draws)
                self.report(
                    Progress(
                        phase, self.done, self.total, sums[phase] / (i + 1 - first), divergences
                    )
                )


def _cut(begun: list[_Chain], draws: int, chains: int) -> tuple[list[_Chain], str]:
    """As many of the longest chains, all cut to the shortest of them, as leave the most draws; and
    what to say of it.
    """
    longest = sorted(begun, key=lambda chain: -len(chain.draws))
    count = max(range(1, len(begun) + 1), key=lambda n: (n * len(longest[n - 1].draws), n))
    length = len(longest[count - 1].draws)
    kept = [chain for chain in begun if len(chain.draws) >= length][:count]
    lost = sum(len(chain.draws) for chain in begun) - count * length
    for chain in kept:
        del chain.draws[length:]
    return kept, f"interrupted: {count} × {length} draws of {chains} × {draws}" + (
        f", {lost} cut off" if lost else ""
    )


def _collected(
    potential: Potential,
    chains: list[_Chain],
    settings: dict[str, float],
    remarks: list[str],
    seconds: float,
    preparation_seconds: float,
) -> Draws:
    def gather(read: Callable[[_Draw], Any]) -> Tensor:
        return torch.stack(
            [torch.stack([torch.as_tensor(read(d)) for d in chain.draws]) for chain in chains]
        )

    q = gather(lambda d: d.q)
    values = potential.constrain(q.reshape(-1, 1, q.shape[-1]))
    still = [i for i, chain in enumerate(q) if len(chain) > 1 and bool((chain == chain[0]).all())]
    if still:
        remarks.append(
            f"chain{'s' * (len(still) > 1)} {', '.join(map(str, still))} never moved: every "
            "proposal was refused; warm up longer, or rescale the model"
        )
    steps = [float(chain.kernel.step_size) for chain in chains]
    found = {
        "step_size": math.fsum(steps) / len(steps),
        "leapfrogs": float(gather(lambda d: float(d.leapfrogs)).mean()),
    }
    return Draws(
        samples={
            name: value.reshape(*q.shape[:2], *value.shape[1:]) for name, value in values.items()
        },
        log_density=-gather(lambda d: d.energy),
        divergent=gather(lambda d: d.divergent).to(q.device),
        acceptance=gather(lambda d: d.acceptance).to(q.device),
        seconds=seconds,
        preparation_seconds=preparation_seconds,
        dims=potential.dims,
        sampler="nuts",
        settings=found | settings,
        remarks=tuple(remarks),
    )
