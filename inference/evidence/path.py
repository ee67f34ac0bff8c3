"""The path from a base to the posterior, and chains that move along it: shared by AIS and BDMC.

Shapes: C chains of each of N data, D unconstrained coordinates of a datum's latents.
"""

from __future__ import annotations

__all__ = ["Anneal", "Path"]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.contexts import forked
from ppl_gen.guides import from_prior
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import Replay
from ppl_gen.inference.evidence.temperatures import (
    Schedule,
    betas_of,
    equalised_times,
    interpolated,
    moving_average,
    sigmoid,
)
from ppl_gen.inference.latents.layout import Layout
from ppl_gen.inference.latents.prototype import continuous_sites, prototype_of
from ppl_gen.inference.mcmc.leapfrog import log_uniform
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import data_plate, latent_sites, stochastic_sites
from ppl_gen.supports import is_discrete, to_support

# Draws of the base that the scales of the coordinates are taken from.
_SCALE_DRAWS = 64
_REMEDY = (
    "only what each datum has by itself can be annealed: keep it as a parameter, or sample it by "
    "MCMC"
)


class _State(NamedTuple):
    """Where the chains are.

    Attributes:
        q: Unconstrained coordinates, (C, N, D).
        base: log π₀ there, (C, N).
        target: log p(x, z) there, (C, N).
        base_gradient: ∂ log π₀ / ∂q, (C, N, D).
        target_gradient: ∂ log p(x, z) / ∂q, (C, N, D).
        discrete: The values of the discrete latents, each (C, N, *event).
    """

    q: Tensor
    base: Tensor
    target: Tensor
    base_gradient: Tensor
    target_gradient: Tensor
    discrete: tuple[Tensor, ...]

    @property
    def continuous(self) -> tuple[Tensor, ...]:
        """q, the densities there, and their gradients: what an HMC transition changes."""
        return self[:5]

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
        replays: The engines of leapfrog steps and of accept steps.

    Raises:
        ValueError: If there are no latents, or one is outside of the plate "data" or has a support
            that depends on others.
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
        self.program = program
        self.guide = guide
        self.data = tuple(data)
        self.nesting = nesting
        self.chains = chains
        self.leapfrogs = leapfrogs
        if guide is None:
            self._base = from_prior(program)
        else:
            self._base = guide
        prototype = prototype_of(program.model, data)
        hidden = latent_sites(prototype)
        if not hidden:
            raise ValueError(
                "expected a program with latents to anneal, got none; its evidence is its log "
                "density"
            )
        discrete = [name for name, site in hidden.items() if is_discrete(site["fn"])]
        # Those that the base leaves out are summed out.
        with forked(data[0].device, None):
            proposed = self._propose(1)
        self._discrete = [name for name in discrete if name in proposed]
        continuous: Mapping[str, Any] = {}
        if len(discrete) < len(hidden):
            continuous = continuous_sites(program.model, data, prototype)
        transforms = {name: to_support(name, site["fn"]).inv for name, site in continuous.items()}
        plate = data_plate(stochastic_sites(prototype))
        self.layout = Layout(continuous, transforms, data[0].shape[0], _REMEDY, plate)
        self._step, self._accept = replays
        self._pure = Functional(self._evaluate, program, guide)
        # At its first step the engine compares its graphs with the functions.
        self._verify = True
        self.scale = self._base_scale()

    def draw(self) -> _State:
        """z ~ π₀."""
        return self._at(self._propose(self.chains))

    def posterior(self, latents: Mapping[str, Tensor]) -> _State:
        """All chains of a datum at its latents, each of shape (N, *event)."""
        return self._at({n: z.expand(self.chains, *z.shape) for n, z in latents.items()})

    def transition(self, state: _State, beta: Tensor, step: Tensor) -> tuple[_State, Tensor]:
        """The state after a transition under f_β, and the acceptance probability of its HMC (C, N).

        Args:
            state: Where the chains are.
            beta: β, a scalar.
            step: Step sizes ε, (N,).
        """
        if self._discrete:
            state = self._offer_draw(state, beta)
        if not self.layout.shape[1]:
            return state, torch.ones_like(state.base)
        q = state.q
        # A random step for each chain, so that no trajectory has the length of a period.
        size = step.to(q)[:, None] * torch.empty_like(q[..., :1]).uniform_(0.6, 1.2)
        weight = beta.to(q)
        momentum = torch.randn_like(q)
        moved = (q, momentum, *state.continuous[1:])
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
                verify=self._verify,
            )
            self._verify = False
        log_u = log_uniform(state.base)
        *new, acceptance = self._accept(
            _accept_step, *state.continuous, momentum, *moved, log_u, weight
        )
        return _State._make((*new, state.discrete)), acceptance

    def _propose(self, particles: int) -> dict[str, Tensor]:
        """Draws of all latents from the base, each (particles, N, *event)."""
        return propose(self._base, particles, self.nesting, *self.data).latents

    def _at(self, latents: Mapping[str, Tensor]) -> _State:
        """The state with the latents at these values, each (C, N, *event)."""
        if self.layout.shape[1]:
            q = self.layout.flatten(latents)
        else:
            value = next(iter(latents.values()))
            q = torch.zeros(value.shape[0], self.layout.shape[0], 0, device=value.device)
        discrete = tuple([latents[name] for name in self._discrete])
        return _State._make((q, *self._evaluate(q, discrete, self.data), discrete))

    def _base_scale(self) -> Tensor:
        """The standard deviation of each coordinate under the base, (N, D); 1 where it has none."""
        if not self.layout.shape[1]:
            return torch.ones(self.layout.shape)
        scale = self.layout.flatten(self._propose(_SCALE_DRAWS)).std(0)
        return torch.where((scale > 0) & scale.isfinite(), scale, 1.0)

    def _offer_draw(self, state: _State, beta: Tensor) -> _State:
        """Offers a fresh draw from the base, taken with probability min(1, (w′/w)^β)."""
        new = self.draw()
        change = beta * (new.log_weight - state.log_weight)
        accepted = log_uniform(change) < change
        continuous = _taken_where(accepted, new.continuous, state.continuous)
        discrete = _taken_where(accepted, new.discrete, state.discrete)
        return _State._make((*continuous, discrete))

    def _evaluate(
        self, q: Tensor, discrete: Sequence[Tensor], data: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """log π₀ and log p(x, z) at q, both with log |∂z/∂q|, and their gradients."""
        with torch.enable_grad():
            point = q.detach().requires_grad_()
            latents = self.layout.sites(point)
            latents.update(zip(self._discrete, discrete, strict=True))
            density = log_density(self.program.model, latents, *data)
            base = density.prior
            if self.guide is not None:
                base = log_density(self.guide, latents, *data).prior
            jacobian = self.layout.log_jacobian(point)
            # A guide with more plates than the model leaves axes of size one between chains and
            # data.
            base = base.reshape(q.shape[:2]) + jacobian
            target = density.joint.reshape(q.shape[:2]) + jacobian
            if not q.shape[-1]:
                return base.detach(), target.detach(), q, q
            (base_gradient,) = torch.autograd.grad(base.sum(), point, retain_graph=True)
            (target_gradient,) = torch.autograd.grad(target.sum(), point)
        return base.detach(), target.detach(), base_gradient, target_gradient

    def _leapfrog(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """p ← p + ε s g / 2, q ← q + ε s p, p ← p + ε s g / 2, with g = ∂ log f_β / ∂q.

        Args:
            *inputs: q, the momentum p, log π₀, log p(x, z), their gradients; ε (C, N, 1), the
                scales s (N, D), β; the discrete latents, the modules' tensors, and the data.

        Returns:
            The first six, after one step.
        """
        q, p, _, _, base_gradient, target_gradient, step, scale, beta, *given = inputs
        parameters_at = len(self._discrete)
        data_at = parameters_at + len(self._pure.tensors)
        discrete = given[:parameters_at]
        parameters = given[parameters_at:data_at]
        data = given[data_at:]
        p = p + 0.5 * step * scale * torch.lerp(base_gradient, target_gradient, beta)
        q = q + step * scale * p
        base, target, base_gradient, target_gradient = self._pure(parameters, q, discrete, data)
        p = p + 0.5 * step * scale * torch.lerp(base_gradient, target_gradient, beta)
        return q, p, base, target, base_gradient, target_gradient


def _accept_step(*inputs: Tensor) -> tuple[Tensor, ...]:
    """α = min(1, exp(H − H′)) with H = −log f_β + ½ |p|²: accepts where u < α, else stays.

    Args:
        *inputs: q, log π₀, log p(x, z), their gradients, and the momentum, before the trajectory;
            q, the momentum, log π₀, log p(x, z) and their gradients after it; log u (C, N) and β.

    Returns:
        q, log π₀, log p(x, z) and their gradients in the new state, and α (C, N).
    """
    *before, p0, q1, p1, base1, target1, base_gradient1, target_gradient1, log_u, beta = inputs
    _, base0, target0, *_ = before
    after = (q1, base1, target1, base_gradient1, target_gradient1)
    change = torch.lerp(base1, target1, beta) - torch.lerp(base0, target0, beta)
    change = change + 0.5 * (p0.square().sum(-1) - p1.square().sum(-1))
    change = torch.where(change.isnan(), -torch.inf, change)
    return (*_taken_where(log_u < change, after, before), change.clamp(max=0).exp())


def _taken_where(
    accepted: Tensor, new: Sequence[Tensor], old: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The new tensors (C, N, *) where a chain accepted (C, N), else the old ones."""
    taken = []
    for now, before in zip(new, old, strict=True):
        wide = accepted.reshape(accepted.shape + (1,) * (now.dim() - 2))
        taken.append(torch.where(wide, now, before))
    return tuple(taken)


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

    Attributes:
        pilot: The number of transitions of the pilot run.
        acceptance: The mean acceptance probability of every transition so far but the pilot's.

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
        self.pilot = min(max(temperatures // 10, 50), 200)
        self.acceptance: list[Tensor] = []
        self._path_of = path_of
        self._target_accept = target_accept
        self._tick = tick
        self._learns_schedule = schedule is None
        self._betas = betas_of(schedule or sigmoid, temperatures)

    def log_weights(
        self, data: Sequence[Tensor], posterior: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """log w (C, N) in float64: E[w] = p(x) forwards, E[1/w] = 1/p(x) backwards.

        Args:
            data: (x, *context), N of them.
            posterior: Exact draws of p(z | x), each (N, *event), to go backwards from; forwards
                from the base if None.
        """
        path = self._path_of(data)
        betas, steps = self._learn(path)
        betas = betas.to(data[0].device)  # once, not at every temperature
        if posterior is None:
            return self._forwards(path, betas, steps)
        return self._backwards(path, betas, steps, posterior)

    def course(self, data: Sequence[Tensor], at: Sequence[int]) -> tuple[Tensor, Tensor]:
        """log w and log p(x, z) − log π₀(z) where chains from the base come by, each (K, C, N).

        Weighted by w, the chains of a temperature stand for its f_β, each after its transition
        there; E[w] = ∫ f_β(z) dz.

        Args:
            data: (x, *context), N of them.
            at: The numbers t of K temperatures β_t, from 1 to T, rising.
        """
        path = self._path_of(data)
        betas, steps = self._learn(path)
        totals = []
        changes = []
        wanted = set(at)
        walk = self._walk(path, betas.to(data[0].device), steps)
        for t, (state, total) in enumerate(walk, start=1):
            if t in wanted:
                totals.append(total)
                changes.append(state.log_weight)
        return torch.stack(totals), torch.stack(changes)

    def _forwards(self, path: Path, betas: Tensor, steps: Tensor) -> Tensor:
        """Σₜ (βₜ − βₜ₋₁) (log p(x, zₜ₋₁) − log π₀(zₜ₋₁)), from a draw of the base."""
        for _, total in self._walk(path, betas, steps):
            found = total
        return found

    def _walk(self, path: Path, betas: Tensor, steps: Tensor) -> Iterator[tuple[_State, Tensor]]:
        """The state after each transition, with log w so far."""
        state = path.draw()
        total = torch.zeros_like(state.log_weight)
        for gap, beta, step in zip(betas.diff(), betas[1:], steps[1:], strict=True):
            total = total + gap * state.log_weight
            state = self._moved(path, state, beta, step)
            yield state, total

    def _backwards(
        self, path: Path, betas: Tensor, steps: Tensor, posterior: Mapping[str, Tensor]
    ) -> Tensor:
        """The same sum, over chains that go from the posterior back to the base."""
        state = path.posterior(posterior)
        # So that the chains, which begin at one point, are draws of their own.
        for _ in range(self.pilot):
            state = self._moved(path, state, betas[-1], steps[-1])
        total = torch.zeros_like(state.log_weight)
        gaps = betas.diff().flip(0)
        for gap, beta, step in zip(gaps, betas[1:].flip(0), steps[1:].flip(0), strict=True):
            state = self._moved(path, state, beta, step)
            total = total + gap * state.log_weight
        return total

    def _moved(self, path: Path, state: _State, beta: Tensor, step: Tensor) -> _State:
        state, acceptance = path.transition(state, beta, step)
        self.acceptance.append(acceptance.mean())
        self._tick()
        return state

    def _learn(self, path: Path) -> tuple[Tensor, Tensor]:
        """A pilot run along the path.

        Returns:
            βₜ (T + 1,), and step sizes εₜ for each datum (T + 1, N), in units of the base's
            standard deviations.
        """
        n, size = path.layout.shape
        last = len(self._betas) - 1
        at = torch.linspace(0, last, self.pilot, dtype=torch.float64)
        betas = interpolated(at.clamp(min=0.5), self._betas)
        state = path.draw()
        first = math.log(0.5 * max(size, 1) ** -0.25)
        log_step = torch.full((n,), first, dtype=torch.float64, device=state.q.device)
        log_steps = []
        spread = []
        for beta in betas.to(state.q.device):
            state, acceptance = path.transition(state, beta, log_step.exp())
            error = acceptance.double().mean(0) - self._target_accept
            # What all data have in common, the narrowing of the path, is followed closely; what
            # differs is averaged over time.
            log_step = log_step + 0.5 * error + (1 - 1 / n) * error.mean()
            log_steps.append(log_step)
            spread.append(_spread(state.log_weight))
            self._tick()
        time = torch.linspace(0, last, last + 1, dtype=torch.float64)
        if self._learns_schedule:
            time = equalised_times(torch.stack(spread).cpu(), betas, last)
        pilot_time = time / last * (self.pilot - 1)
        steps = interpolated(pilot_time, moving_average(torch.stack(log_steps))).exp()
        return interpolated(time, self._betas), steps


def _spread(log_weight: Tensor) -> Tensor:
    """sd[log w] over chains, of log weights (C, N), averaged over data; 0 for a single chain."""
    if log_weight.shape[0] == 1:
        return log_weight.new_zeros(())
    return log_weight.std(0).nan_to_num(0.0, 0.0, 0.0).mean()
