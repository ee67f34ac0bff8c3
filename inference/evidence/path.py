"""The path from a base to the posterior, and chains that are moved along it: what AIS and BDMC have
in common.
"""

from __future__ import annotations

__all__ = ["Anneal", "Path"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions.transforms import biject_to
from torch import Tensor

from ppl_gen.guides import from_prior
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Replay
from ppl_gen.inference.evidence.temperatures import (
    Schedule,
    evened,
    joined,
    rising,
    sigmoid,
    smoothed,
)
from ppl_gen.inference.latents.layout import Layout
from ppl_gen.inference.latents.prototype import continuous_sites, prototype_of
from ppl_gen.inference.mcmc.leapfrog import log_uniform
from ppl_gen.program import log_density, propose, stochastic_sites
from ppl_gen.protocols import Guide, Program

_SCALE_DRAWS = 64  # of the base, for the scales of the coordinates


class _State(NamedTuple):
    """Chains at q (C, N, D) and discrete values, with log π₀ and log p(x, z) (C, N) there, and
    their gradients in q.
    """

    q: Tensor
    base: Tensor
    target: Tensor
    base_gradient: Tensor
    target_gradient: Tensor
    discrete: tuple[Tensor, ...]

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) − log π₀(z), in float64."""
        return self.target.double() - self.base.double()


class Path:
    """f_β(z) = π₀(z)^(1 − β) p(x, z)^β for each datum, with transitions that leave it invariant.

    A transition is `leapfrogs` steps of HMC in unconstrained coordinates, scaled by the standard
    deviation of the base, with an accept step. Where there are discrete latents, a fresh draw of
    all latents from the base is offered first, and taken with probability min(1, (w′/w)^β), w =
    p(x, z) / π₀(z).

    Args:
        program: Any program with a density.
        guide: π₀ = q(z | x); the prior p(z) if None.
        data: (x, *context), all of them in one tensor.
        nesting: The number of axes that the plates take.
        chains: C.
        leapfrogs: The number of leapfrog steps of a transition.
        replays: The engine of steps and accept steps.

    Raises:
        ValueError: If there are no latents, or one is outside of the plate "data" or has a support
            that hangs on others.
    """

    def __init__(
        self,
        program: Program,
        guide: Guide | None,
        data: Sequence[Tensor],
        nesting: int,
        chains: int,
        leapfrogs: int,
        replays: tuple[Replay, Replay],
    ) -> None:
        self.program, self.guide, self.data = program, guide, tuple(data)
        self.nesting, self.chains, self.leapfrogs = nesting, chains, leapfrogs
        self._base = from_prior(program) if guide is None else guide
        prototype = prototype_of(program.model, data)
        hidden = {
            name: site
            for name, site in stochastic_sites(prototype).items()
            if not site["is_observed"]
        }
        if not hidden:
            raise ValueError(
                "expected a program with latents to anneal, got none; its evidence is its log "
                "density"
            )
        self._discrete = [name for name, site in hidden.items() if site["fn"].support.is_discrete]
        continuous: Mapping[str, Any] = {}
        if len(self._discrete) < len(hidden):
            continuous = continuous_sites(program.model, data, prototype, local=False)
        transforms = {name: biject_to(site["fn"].support).inv for name, site in continuous.items()}
        remedy = "only what each datum has by itself can be annealed: keep it as a parameter, or sample it by MCMC"
        self.layout = Layout(continuous, transforms, data[0].shape[0], remedy)
        self._step, self._accept = replays
        self._pure = Functional(self._evaluate, program, guide)
        self._fresh = (
            True  # at the first transition the engine compares its graphs with these functions
        )
        self.scale = self._scale()

    def draw(self) -> _State:
        """z ~ π₀."""
        return self._at(propose(self._base, self.chains, self.nesting, *self.data).latents)

    def posterior(self, latents: Mapping[str, Tensor]) -> _State:
        """All chains of a datum at its latents, each of shape (N, *event)."""
        return self._at(
            {name: value.expand(self.chains, *value.shape) for name, value in latents.items()}
        )

    def transition(self, state: _State, beta: Tensor, step: Tensor) -> tuple[_State, Tensor]:
        """The state after a transition under f_β, and the acceptance probability of its HMC (C, N).

        Args:
            state: Where the chains are.
            beta: β, a scalar.
            step: Step sizes ε, (N,).
        """
        if self._discrete:
            state = self._independent(state, beta)
        if not self.layout.shape[1]:
            return state, torch.ones_like(state.base)
        q, *rest = state[:5]
        # A random step for each chain, so that no trajectory has the length of a period.
        size = step.to(q)[:, None] * torch.empty_like(q[..., :1]).uniform_(0.6, 1.2)
        weight, momentum = beta.to(q), torch.randn_like(q)
        moved = (q, momentum, *rest)
        given = (*state.discrete, *self._pure.tensors, *self.data)
        key = (len(state.discrete), self.leapfrogs, shapes((q, *given)))
        for _ in range(self.leapfrogs):
            moved = self._step(
                self._leapfrog,
                *moved,
                size,
                self.scale,
                weight,
                *given,
                key=key,
                verify=self._fresh,
            )
            self._fresh = False
        log_u = log_uniform(state.base)
        *new, acceptance = self._accept(_accepted, *state[:5], momentum, *moved, log_u, weight)
        return _State._make((*new, state.discrete)), acceptance

    def _at(self, latents: Mapping[str, Tensor]) -> _State:
        n, size = self.layout.shape
        some = next(iter(latents.values()))
        q = (
            self.layout.flatten(latents)
            if size
            else torch.zeros(some.shape[0], n, 0, device=some.device)
        )
        discrete = tuple([latents[name] for name in self._discrete])
        return _State._make((q, *self._evaluate(q, discrete, self.data), discrete))

    def _scale(self) -> Tensor:
        """The standard deviation of each coordinate under the base, (N, D)."""
        if not self.layout.shape[1]:
            return torch.ones(self.layout.shape)
        q = self.layout.flatten(propose(self._base, _SCALE_DRAWS, self.nesting, *self.data).latents)
        scale = q.std(0)
        return torch.where((scale > 0) & scale.isfinite(), scale, 1.0)

    def _independent(self, state: _State, beta: Tensor) -> _State:
        new = self.draw()
        change = beta * (new.log_weight - state.log_weight)
        accepted = log_uniform(change) < change

        def chosen(now: Tensor, old: Tensor) -> Tensor:
            return torch.where(accepted.reshape(accepted.shape + (1,) * (now.dim() - 2)), now, old)

        kept = [chosen(a, b) for a, b in zip(new[:5], state[:5], strict=True)]
        discrete = tuple([chosen(a, b) for a, b in zip(new.discrete, state.discrete, strict=True)])
        return _State._make((*kept, discrete))

    def _evaluate(
        self, q: Tensor, discrete: Sequence[Tensor], data: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """log π₀ and log p(x, z) at q, both with log |∂z/∂q|, and their gradients."""
        with torch.enable_grad():
            point = q.detach().requires_grad_()
            latents = {
                **self.layout.sites(point),
                **dict(zip(self._discrete, discrete, strict=True)),
            }
            density = log_density(self.program.model, latents, *data)
            base = (
                density.prior
                if self.guide is None
                else log_density(self.guide, latents, *data).prior
            )
            jacobian = self.layout.log_jacobian(point)
            # A guide with more plates than the model leaves axes of size one between chains and
            # data.
            parts = [part.reshape(q.shape[:2]) + jacobian for part in (base, density.joint)]
            if not q.shape[-1]:
                return (*[part.detach() for part in parts], q, q)
            gradients = [
                torch.autograd.grad(part.sum(), point, retain_graph=True)[0] for part in parts
            ]
        return (*[part.detach() for part in parts], *gradients)

    def _leapfrog(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step: (q, p, log π₀, log p, their gradients, ε, s, β, *discrete, *tensors, *data) →
        the first six, moved.
        """
        q, p, _, _, base_gradient, target_gradient, step, scale, beta, *given = inputs
        discrete, given = given[: len(self._discrete)], given[len(self._discrete) :]
        count = len(self._pure.tensors)
        p = p + 0.5 * step * scale * torch.lerp(base_gradient, target_gradient, beta)
        q = q + step * scale * p
        base, target, base_gradient, target_gradient = self._pure(
            given[:count], q, discrete, given[count:]
        )
        p = p + 0.5 * step * scale * torch.lerp(base_gradient, target_gradient, beta)
        return q, p, base, target, base_gradient, target_gradient


def _accepted(*inputs: Tensor) -> tuple[Tensor, ...]:
    """min(1, exp(H − H′)) of H = −log f_β + ½ |p|²: from both states, momenta, log u and β to the
    state after.
    """
    (q0, *rest0), p0 = inputs[:5], inputs[5]
    (q1, p1, *rest1), (log_u, beta) = inputs[6:12], inputs[12:]
    before, after = (torch.lerp(rest[0], rest[1], beta) for rest in (rest0, rest1))
    change = after - before + 0.5 * (p0.square().sum(-1) - p1.square().sum(-1))
    change = torch.where(change.isnan(), -torch.inf, change)
    accepted = log_u < change
    new = [
        torch.where(accepted.reshape(accepted.shape + (1,) * (b.dim() - 2)), b, a)
        for a, b in zip((q0, *rest0), (q1, *rest1), strict=True)
    ]
    return (*new, change.clamp(max=0).exp())


class Anneal:
    """Annealed log weights of chains, forwards from the base or backwards from the posterior.

    Step sizes, one for each datum and temperature, are learned on a pilot run of a tenth of the
    temperatures, and then left as they are: the weights of a sampler that still learns would not be
    unbiased. So is the schedule, unless one is given: half of the temperatures are spread by
    `sigmoid`, half so that log w varies as much from each to the next.

    Args:
        path_of: From a chunk of data to its `Path`.
        temperatures: T.
        schedule: From T to β₀ = 0, …, β_T = 1; learned if None.
        target_accept: The acceptance probability that step sizes are learned for.
        tick: Called after every transition.

    Raises:
        ValueError: If the schedule does not rise from 0 to 1.
    """

    def __init__(
        self,
        path_of: Callable[[Sequence[Tensor]], Path],
        temperatures: int,
        schedule: Schedule | None,
        target_accept: float,
        tick: Callable[[], None],
    ) -> None:
        self.path_of, self.target_accept, self.tick = path_of, target_accept, tick
        self.learns = schedule is None
        self.betas = rising(sigmoid if schedule is None else schedule, temperatures)
        self.pilot = min(max(temperatures // 10, 50), 200)
        self.acceptance: list[Tensor] = []

    def log_weights(
        self, data: Sequence[Tensor], posterior: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """log w (C, N) in float64: E[w] = p(x); backwards, from latents of p(z | x), E[1/w] =
        1/p(x).
        """
        path = self.path_of(data)
        betas, steps = self._learned(path)
        gaps = betas.diff()
        if posterior is None:
            state = path.draw()
            total = torch.zeros_like(state.log_weight)
            for gap, beta, step in zip(gaps, betas[1:], steps[1:], strict=True):
                total = total + gap * state.log_weight
                state = self._moved(path, state, beta, step)
            return total
        state = path.posterior(posterior)
        for _ in range(
            self.pilot
        ):  # so that the chains, which begin at one point, are draws of their own
            state = self._moved(path, state, betas[-1], steps[-1])
        total = torch.zeros_like(state.log_weight)
        for gap, beta, step in zip(gaps.flip(0), betas[1:].flip(0), steps[1:].flip(0), strict=True):
            state = self._moved(path, state, beta, step)
            total = total + gap * state.log_weight
        return total

    def _moved(self, path: Path, state: _State, beta: Tensor, step: Tensor) -> _State:
        state, acceptance = path.transition(state, beta, step)
        self.acceptance.append(acceptance.mean())
        self.tick()
        return state

    def _learned(self, path: Path) -> tuple[Tensor, Tensor]:
        """βₜ (T + 1,), and εₜ for each datum (T + 1, N), in units of the base's standard
        deviations.
        """
        n, size = path.layout.shape
        last = len(self.betas) - 1
        at = torch.linspace(0, last, self.pilot, dtype=torch.float64)
        betas = joined(at.clamp(min=0.5), self.betas)
        state = path.draw()
        log_step = torch.full(
            (n,), math.log(0.5 * max(size, 1) ** -0.25), dtype=torch.float64, device=state.q.device
        )
        known, spread = [], []
        for beta in betas:
            state, acceptance = path.transition(state, beta, log_step.exp())
            error = acceptance.double().mean(0) - self.target_accept
            # What all data have in common, the narrowing of the path, is followed closely; what
            # differs is averaged over time.
            log_step = log_step + 0.5 * error + (1 - 1 / n) * error.mean()
            known.append(log_step)
            spread.append(
                state.log_weight.std(0).nan_to_num(0.0, 0.0, 0.0).mean()
                if path.chains > 1
                else beta * 0
            )
            self.tick()
        time = torch.linspace(0, last, last + 1, dtype=torch.float64)
        if self.learns:
            time = evened(torch.stack(spread).cpu(), betas, last)
        share = time / last * (self.pilot - 1)
        return joined(time, self.betas), joined(share, smoothed(torch.stack(known))).exp()
