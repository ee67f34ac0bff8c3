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
from ppl_gen.inference.diagnostics import stuck_chains
from ppl_gen.inference.expect import (
    expect_counts,
    expect_room_for_draws,
    expect_target_accept,
)
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.convergence import warn_unless_converged
from ppl_gen.inference.mcmc.draws import Draws, Progress, reporting
from ppl_gen.inference.mcmc.starts import Init, starts_from
from ppl_gen.pyro_patches import energy_at_draw, mean_acceptance


def nuts(
    model: Callable[..., Any],
    *args: Any,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    init: Init | None = None,
    seed: int | None = None,
    progress: bool = False,
    target_accept: float = 0.8,
    max_tree_depth: int = 10,
    on_draw: Callable[[Progress], Any] | None = None,
) -> Draws:
    """z ~ p(z | x) by the no-U-turn sampler of `pyro.infer.NUTS`, with a diagonal mass matrix.

    It moves on the unconstrained scale. Chains run one after the other in this process, each from a
    start of its own and warmed up by itself. Ctrl-C ends the run and returns
    the draws so far: of the chains that were begun as many, cut to one length, as leave the most
    draws.

    Args:
        model: Any Pyro program with continuous latents; discrete ones of finite support are summed
            out. Run in evaluation mode.
        *args: What it is called with.
        draws: S, the number of draws of each chain.
        warmup: The number of transitions that adapt step size and mass matrix beforehand.
        chains: C, the number of chains.
        init: Where the chains begin: a guide, called with the same arguments, one draw for each
            chain; a dict of values by site, each (C, *shape of the site); `Draws` of an earlier
            run, whose last ones are taken; or an object with a method `starts(potential, chains)`,
            which gives unconstrained coordinates. If left out, uniform on [−2, 2] (unconstrained).
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

    Warns:
        ConvergenceWarning: If R̂, divergences or chains that never moved say that the draws are no
            sample of the posterior.

    Raises:
        ValueError: If a number is out of range, an argument is not finite, or the program has no
            continuous latents, discrete ones that cannot be summed out, or sites that come and go;
            if a plate is subsampled and the model cannot be given all its data; if init gives no
            starts inside the posterior.
        KeyboardInterrupt: If there was no draw yet.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> draws = nuts(line.model, *line.data, draws=20, warmup=20, chains=1, seed=0)
        >>> draws.samples["coefficients"].shape
        torch.Size([1, 20, 2])

    Reference:
        Hoffman and Gelman (2014), The no-U-turn sampler; Betancourt (2017), A conceptual
        introduction to HMC, appendix A.
    """
    expect_counts(draws=draws, warmup=warmup, chains=chains, max_tree_depth=max_tree_depth)
    expect_target_accept(target_accept)
    device = device_of(None, args)
    begun: list[_Chain] = []
    remarks: list[str] = []
    with store_kept(), seeded(device, seed), evaluating(model):
        began = perf_counter()
        potential = Potential(model, args)
        width = math.prod(potential.shape)
        expect_room_for_draws(draws, chains, width, device, warmup=warmup)
        if init is None:
            starts = potential.starts(chains)
        else:
            starts = starts_from(init, potential, args, chains)
        prepared = perf_counter()
        try:
            with torch.enable_grad(), reporting(on_draw, progress) as tell:
                run = _Run(warmup, draws, chains, tell)
                for start in starts:
                    chain = _Chain(potential, start[0], warmup, target_accept, max_tree_depth)
                    begun.append(chain)
                    run.whole(chain)
        except KeyboardInterrupt:
            if not any(chain.draws for chain in begun):
                raise
            begun, remark = _cut(begun, draws, chains)
            remarks.append(remark)
            warnings.warn(remark, RuntimeWarning, stacklevel=2)
        sampled = perf_counter()
        result = _collected(
            potential,
            begun,
            asked={
                "warmup": warmup,
                "target_accept": target_accept,
                "max_tree_depth": max_tree_depth,
            },
            remarks=remarks,
            seconds=sampled - prepared,
            preparation_seconds=prepared - began,
        )
    warn_unless_converged(result, stacklevel=2)
    return result


class _Draw(NamedTuple):
    """One transition: where it led to, the potential there, and how it went."""

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
        self.divergences = 0
        self._warmup = warmup
        self._transitions = 0
        self._leapfrogs = 0
        tensors = potential.tensors

        def energy(at: dict[str, Tensor]) -> Tensor:
            self._leapfrogs += 1
            return potential.energy(at["q"][None], *tensors)[0]

        self.kernel = NUTS(
            potential_fn=energy, target_accept_prob=target_accept, max_tree_depth=max_tree_depth
        )
        self.kernel.initial_params = {"q": start}
        self.kernel.setup(warmup)
        self._at = self.kernel.initial_params

    def step(self) -> float:
        """One transition, its draw kept after warm-up; returns its acceptance probability."""
        leapfrogs_before = self._leapfrogs
        mean_before = mean_acceptance(self.kernel)
        self._at = self.kernel.sample(self._at)
        self._transitions += 1
        drawn = self._transitions - self._warmup
        if drawn <= 0:
            return self._newest_acceptance(mean_before, self._transitions)
        acceptance = self._newest_acceptance(mean_before, drawn)
        divergent = drawn - 1 in self.kernel.diagnostics()["divergences"][-1:]
        self.divergences += divergent
        draw = _Draw(
            q=self._at["q"].detach(),
            energy=energy_at_draw(self.kernel).detach(),
            divergent=divergent,
            acceptance=acceptance,
            leapfrogs=self._leapfrogs - leapfrogs_before,
        )
        self.draws.append(draw)
        return acceptance

    def _newest_acceptance(self, mean_before: float, count: int) -> float:
        """The newest term of the kernel's running mean, the only thing that it keeps of them.

        Args:
            mean_before: The running mean before the transition.
            count: How many terms the mean has now; it begins anew after warm-up.
        """
        if count == 1:
            mean_before = 0.0
        return mean_before + count * (mean_acceptance(self.kernel) - mean_before)


class _Run:
    """One chain after the other, with reports about every twentieth of the whole."""

    def __init__(
        self, warmup: int, draws: int, chains: int, tell: Callable[[Progress], None]
    ) -> None:
        self._warmup = warmup
        self._draws = draws
        self._total = chains * (warmup + draws)
        self._tell = tell
        self._done = 0
        self._earlier_divergences = 0

    def whole(self, chain: _Chain) -> None:
        """Warm-up and draws of a chain."""
        total = 0.0
        for count in range(1, self._warmup + 1):
            total += chain.step()
            self._report("warmup", total / count, chain)
        total = 0.0
        for count in range(1, self._draws + 1):
            total += chain.step()
            self._report("draws", total / count, chain)
        self._earlier_divergences += chain.divergences

    def _report(self, phase: Literal["warmup", "draws"], acceptance: float, chain: _Chain) -> None:
        self._done += 1
        if self._done % max(1, self._total // 20) != 0 and self._done != self._total:
            return
        now = Progress(
            phase=phase,
            done=self._done,
            total=self._total,
            acceptance=acceptance,
            divergences=self._earlier_divergences + chain.divergences,
        )
        self._tell(now)


def _cut(begun: list[_Chain], draws: int, chains: int) -> tuple[list[_Chain], str]:
    """Cuts chains to one length: as many of the longest as leave the most draws.

    Args:
        begun: The chains that were begun before an interrupt.
        draws: The number of draws of each chain that were asked for.
        chains: The number of chains that was asked for.

    Returns:
        The chains that are kept, in their order, and what to say of it.
    """
    lengths = sorted([len(chain.draws) for chain in begun], reverse=True)
    count = max(range(1, len(begun) + 1), key=lambda n: (n * lengths[n - 1], n))
    length = lengths[count - 1]
    kept = [chain for chain in begun if len(chain.draws) >= length][:count]
    remark = f"interrupted: {count} × {length} draws of {chains} × {draws}"
    lost = sum(lengths) - count * length
    if lost:
        remark += f", {lost} cut off"
    for chain in kept:
        del chain.draws[length:]
    return kept, remark


def _collected(
    potential: Potential,
    chains: list[_Chain],
    *,
    asked: dict[str, float],
    remarks: list[str],
    seconds: float,
    preparation_seconds: float,
) -> Draws:
    """The draws of each site, in its support.

    Args:
        potential: What was sampled.
        chains: The chains, all of one length.
        asked: Settings that were asked for.
        remarks: What went wrong so far.
        seconds: Wall time of warm-up and draws.
        preparation_seconds: Wall time of tracing.
    """
    q = _gathered(chains, lambda draw: draw.q)
    values = potential.constrain(q.reshape(-1, 1, q.shape[-1]))
    remarks.extend(potential.remarks)
    if stuck := stuck_chains(q[:, :, None]):
        plural = "s" * (len(stuck) > 1)
        remarks.append(
            f"chain{plural} {', '.join(map(str, stuck))} never moved: every proposal was refused; "
            "warm up longer, or rescale the model"
        )
    steps = [float(chain.kernel.step_size) for chain in chains]
    leapfrogs = _gathered(chains, lambda draw: float(draw.leapfrogs))
    found = {"step_size": math.fsum(steps) / len(steps), "leapfrogs": float(leapfrogs.mean())}
    return Draws(
        samples={
            name: value.reshape(*q.shape[:2], *value.shape[1:]) for name, value in values.items()
        },
        log_density=-_gathered(chains, lambda draw: draw.energy),
        divergent=_gathered(chains, lambda draw: draw.divergent).to(q.device),
        acceptance=_gathered(chains, lambda draw: draw.acceptance).to(q.device),
        seconds=seconds,
        preparation_seconds=preparation_seconds,
        dims=potential.dims,
        sampler="nuts",
        settings=found | asked,
        remarks=tuple(remarks),
    )


def _gathered(chains: list[_Chain], read: Callable[[_Draw], Any]) -> Tensor:
    """What is read off each draw, a tensor or a number: (chains, draws, *shape)."""
    rows = []
    for chain in chains:
        rows.append(torch.stack([torch.as_tensor(read(draw)) for draw in chain.draws]))
    return torch.stack(rows)
