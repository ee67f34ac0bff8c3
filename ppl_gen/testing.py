"""The laws of explicit programs: `check_program(my_vae, x)` holds your own against them.

Those of a likelihood by itself, at parameters as extreme as you like, are asked for by
`check_likelihood(my_likelihood, parameters)`.
"""

from __future__ import annotations

__all__ = ["DENSITY_LAWS", "LAWS", "check_likelihood", "check_program"]

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_gen import densities
from ppl_gen.contexts import copied, evaluating, forked, guide_of, owner
from ppl_gen.densities import DENSITY_LAWS, check_likelihood
from ppl_gen.inference import log_evidence
from ppl_gen.inference.checks import check
from ppl_gen.program import log_density, propose, simulate
from ppl_gen.protocols import Guide, Program

_ROWS = 50  # whose spread gives the standard error of a gain


@dataclass(frozen=True)
class _Case:
    """A program under test, with its guide, data and context.

    Attributes:
        program: The program.
        guide: Its guide.
        x: Some data, (N, *shape).
        context: What the program is conditioned on, each of length N.
        nesting: The number of axes that the program's own plates take.
    """

    program: Any
    guide: Guide
    x: Tensor
    context: tuple[Tensor, ...]
    nesting: int

    @classmethod
    def checked(cls, program: Program, guide: Guide, x: Tensor, *context: Tensor) -> _Case:
        """A case whose program and guide were found to fit each other and the data."""
        found = check(program, guide, x, *context)
        return cls(program=program, guide=guide, x=x, context=context, nesting=found.nesting)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that program and guide are, or are methods of; each once."""
        parts = [self.program]
        if owner(self.guide) is not self.program:
            parts.append(owner(self.guide))
        return [part for part in parts if isinstance(part, nn.Module)]

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that have a gradient, by name."""
        trained: dict[str, nn.Parameter] = {}
        for module in self.modules:
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    trained[name] = parameter
        return trained

    @property
    def state(self) -> list[tuple[str, Tensor]]:
        """Names and values of all parameters and buffers."""
        state: list[tuple[str, Tensor]] = []
        for module in self.modules:
            state.extend(module.state_dict().items())
        return state

    @property
    def modes(self) -> list[bool]:
        """Whether each submodule is in training mode."""
        modes: list[bool] = []
        for module in self.modules:
            modes.extend(submodule.training for submodule in module.modules())
        return modes

    def propose(self, particles: int) -> dict[str, Tensor]:
        """Latents from the guide, each of shape (particles, N, *event)."""
        return propose(self.guide, particles, self.nesting, self.x, *self.context).latents

    def score(self, latents: Mapping[str, Tensor], rows: slice = slice(None)) -> Tensor:
        """log p(x, z) of some rows of the data, datum by datum."""
        context = [c[rows] for c in self.context]
        return log_density(self.program.model, latents, self.x[rows], *context).joint

    def repeated(self, rows: int) -> _Case:
        """The case with its data again and again, to so many rows or more."""
        times = math.ceil(rows / len(self.x))
        x, *context = (torch.cat([value] * times) for value in (self.x, *self.context))
        return replace(self, x=x, context=tuple(context))

    def bound(self, particles: int) -> Tensor:
        """The importance-weighted bound on log p(x), in nats, of shape (N,)."""
        estimate = log_evidence(
            self.program, self.guide, self.x, *self.context, particles=particles
        )
        return estimate.value


def _draws_have_the_shape_of_data(case: _Case) -> None:
    drawn = simulate(case.program, len(case.x), *case.context)
    _expect_same("the shape of simulated data", tuple(drawn.shape), tuple(case.x.shape))


def _leading_axes_are_a_loop(case: _Case) -> None:
    with evaluating(case.program, case.guide):
        latents = case.propose(6)
        together = case.score(latents)
        one_by_one = []
        for i in range(6):
            particle = {name: z[i] for name, z in latents.items()}
            one_by_one.append(case.score(particle))
        on_two_axes = case.score({name: z.unflatten(0, (2, 3)) for name, z in latents.items()})
    _expect_same(
        "the shape of the log density of 6 particles", tuple(together.shape), (6, len(case.x))
    )
    _expect_close("particles scored at once and one by one", together, torch.stack(one_by_one))
    _expect_close("particles on one leading axis and on two", on_two_axes.flatten(0, 1), together)


def _data_do_not_see_each_other(case: _Case) -> None:
    with evaluating(case.program, case.guide):
        latents = case.propose(1)
        # The last: a program that closes over a row for each datum gives the first its own.
        alone = case.score({name: z[:, -1:] for name, z in latents.items()}, slice(-1, None))
        among_others = case.score(latents)[:, -1:]
    _expect_close("the log density of a datum alone and among others", alone, among_others)


def _gradients_reach_every_parameter(case: _Case) -> None:
    trained = case.trained
    loss = Trace_ELBO().differentiable_loss(case.program.model, case.guide, case.x, *case.context)
    if not trained:
        return
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    for name, gradient in zip(trained, gradients, strict=True):
        if gradient is None or not bool(torch.isfinite(gradient).all()):
            raise AssertionError(
                f"the gradient of the ELBO reaches {name}: expected finite numbers, got {gradient}"
            )


def _a_copy_with_the_state_is_the_same(case: _Case) -> None:
    if not isinstance(case.program, nn.Module):
        return
    program: Any = case.program
    twin: Any = copied(program)
    for parameter in twin.parameters():
        parameter.data.add_(1.0)
    twin.load_state_dict(program.state_dict())
    with evaluating(program, case.guide, twin):
        latents = case.propose(1)
        original = log_density(program.model, latents, case.x, *case.context)
        restored = log_density(twin.model, latents, case.x, *case.context)
    what = "the log density after a state_dict round trip"
    _expect_same(what, restored.prior.tolist(), original.prior.tolist())
    _expect_same(what, restored.likelihood.tolist(), original.likelihood.tolist())


def _evaluation_leaves_no_trace(case: _Case) -> None:
    state = [value.clone() for _, value in case.state]
    modes = case.modes
    stored = set(pyro.get_param_store().keys())
    case.bound(2)
    for before, (name, after) in zip(state, case.state, strict=True):
        _expect_same(f"{name} after an evaluation", bool(torch.equal(before, after)), True)
    _expect_same("the modes after an evaluation", case.modes, modes)
    _expect_same(
        "the global param store after an evaluation", set(pyro.get_param_store().keys()), stored
    )


def _more_particles_are_a_tighter_bound(case: _Case) -> None:
    many = case.repeated(_ROWS)
    bounds = [many.bound(particles) for particles in (1, 8, 64)]
    for loose, tight in itertools.pairwise(bounds):
        gain = tight - loose
        margin = 4 * float(gain.std()) / len(gain) ** 0.5
        rounding = 1e-4 * float(tight.abs().mean())
        if not float(gain.mean()) >= -margin - rounding:
            raise AssertionError(
                f"ELBO ≤ IWAE₈ ≤ IWAE₆₄: expected a gain of at least 0, got {gain.mean():.4f} ± "
                f"{margin / 4:.4f}"
            )


def _the_likelihood_is_a_density(case: _Case) -> None:
    """Where its values are single numbers, at the parameters of one draw of the latents."""
    context = [c[:1] for c in case.context]
    with evaluating(case.program):
        trace = poutine.trace(case.program.model).get_trace(None, *context, n=1)
        of_likelihood = densities.Case.of(trace.nodes["x"]["fn"])
        if of_likelihood is None:
            return
        for law in DENSITY_LAWS.values():
            law(of_likelihood)


LAWS: dict[str, Callable[[_Case], None]] = {
    "draws have the shape of data": _draws_have_the_shape_of_data,
    "leading axes are a loop": _leading_axes_are_a_loop,
    "data do not see each other": _data_do_not_see_each_other,
    "gradients reach every parameter": _gradients_reach_every_parameter,
    "a copy with the state is the same": _a_copy_with_the_state_is_the_same,
    "evaluation leaves no trace": _evaluation_leaves_no_trace,
    "more particles are a tighter bound": _more_particles_are_a_tighter_bound,
    "the likelihood is a density": _the_likelihood_is_a_density,
}


def check_program(
    program: Program, x: Tensor, *context: Tensor, guide: Guide | None = None, seed: int = 0
) -> None:
    """Holds a program and its guide against every law in `LAWS`, on some data.

    Args:
        program: A program of your own, with a density.
        x: A handful of data, (N, *shape), N of at least 2.
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, context); `program.guide` if left out.
        seed: Seed of all draws; the global generator is left as it was.

    Raises:
        ValueError: If x is empty, not finite, of another shape than the program's data or where
            the likelihood has no density, if a context has another length, if the likelihood has
            none anywhere, or if the latent sites of model and guide differ.
        AssertionError: Names the law that is broken, with what was expected and found.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> check_program(vae, torch.rand(5, 4).round())  # silent where every law holds
        >>> try:
        ...     check_program(vae, torch.rand(5, 3))
        ... except ValueError as error:
        ...     print(error)
        expected data of shape (N, 4), got (5, 3); reshape them
    """
    case = _Case.checked(program, guide_of(program, guide), x, *context)
    for name, law in LAWS.items():
        with forked(x.device, seed):
            try:
                law(case)
            except AssertionError as error:
                raise AssertionError(f"law broken, {name!r}: {error}") from None


def _expect_same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"{what}: expected {expected}, got {got}")


def _expect_close(what: str, got: Tensor, expected: Tensor) -> None:
    if not torch.allclose(got, expected, rtol=1e-4, atol=1e-3):
        error = (got - expected).abs().max()
        raise AssertionError(
            f"{what}: expected equal numbers, got a difference of {error:.3g} nats"
        )
