"""The laws that every explicit program obeys, to hold one of your own against:
`check_program(my_vae, x)`.
"""

from __future__ import annotations

__all__ = ["LAWS", "check_program"]

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_gen.contexts import evaluating, forked, guide_of, owner
from ppl_gen.inference import log_evidence
from ppl_gen.inference.checks import check
from ppl_gen.program import log_density, propose, simulate
from ppl_gen.protocols import Guide, Program


@dataclass(frozen=True)
class _Case:
    """A program under test, with its guide, data and context."""

    program: Any
    guide: Guide
    x: Tensor
    context: tuple[Tensor, ...]
    nesting: int

    @property
    def modules(self) -> list[nn.Module]:
        both = {id(part): part for part in (self.program, owner(self.guide))}
        return [part for part in both.values() if isinstance(part, nn.Module)]

    def propose(self, particles: int) -> dict[str, Tensor]:
        return propose(self.guide, particles, self.nesting, self.x, *self.context).latents

    def score(self, latents: Mapping[str, Tensor], rows: slice = slice(None)) -> Tensor:
        return log_density(
            self.program.model, latents, self.x[rows], *(c[rows] for c in self.context)
        ).joint


def _draws_have_the_shape_of_data(case: _Case) -> None:
    drawn = simulate(case.program, len(case.x), *case.context)
    _same("the shape of simulated data", tuple(drawn.shape), tuple(case.x.shape))


def _leading_axes_are_a_loop(case: _Case) -> None:
    with evaluating(case.program, case.guide):
        latents = case.propose(6)
        together = case.score(latents)
        apart = torch.stack([case.score({k: v[i] for k, v in latents.items()}) for i in range(6)])
        square = case.score({k: v.unflatten(0, (2, 3)) for k, v in latents.items()})
    _same("the shape of the log density of 6 particles", tuple(together.shape), (6, len(case.x)))
    _close("particles scored at once and one by one", together, apart)
    _close("particles on one leading axis and on two", square.flatten(0, 1), together)


def _data_do_not_see_each_other(case: _Case) -> None:
    with evaluating(case.program, case.guide):
        latents = case.propose(1)
        alone = case.score({k: v[:, :1] for k, v in latents.items()}, slice(0, 1))
        _close(
            "the log density of a datum alone and among others", alone, case.score(latents)[:, :1]
        )


def _gradients_reach_every_parameter(case: _Case) -> None:
    named = {
        name: p
        for module in case.modules
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    loss = Trace_ELBO().differentiable_loss(case.program.model, case.guide, case.x, *case.context)
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True) if named else ()
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is None or not bool(torch.isfinite(gradient).all()):
            raise AssertionError(
                f"the gradient of the ELBO reaches {name}: expected finite numbers, got {gradient}"
            )


def _a_copy_with_the_state_is_the_same(case: _Case) -> None:
    program: Any = case.program
    if not isinstance(case.program, nn.Module):
        return
    twin: Any = copy.deepcopy(program)
    for p in twin.parameters():
        p.data.add_(1.0)
    twin.load_state_dict(program.state_dict())
    with evaluating(program, case.guide, twin):
        latents = case.propose(1)
        original = log_density(program.model, latents, case.x, *case.context)
        restored = log_density(twin.model, latents, case.x, *case.context)
    _same(
        "the log density after a state_dict round trip",
        [t.tolist() for t in restored],
        [t.tolist() for t in original],
    )


def _evaluation_leaves_no_trace(case: _Case) -> None:
    before = [(k, v.clone()) for module in case.modules for k, v in module.state_dict().items()]
    modes = [m.training for module in case.modules for m in module.modules()]
    names = set(pyro.get_param_store().keys())
    log_evidence(case.program, case.guide, case.x, *case.context, particles=2)
    after = [v for module in case.modules for v in module.state_dict().values()]
    for (key, old), new in zip(before, after, strict=True):
        _same(f"{key} after an evaluation", bool(torch.equal(old, new)), True)
    _same(
        "the modes after an evaluation",
        [m.training for module in case.modules for m in module.modules()],
        modes,
    )
    _same("the global param store after an evaluation", set(pyro.get_param_store().keys()), names)


def _more_particles_are_a_tighter_bound(case: _Case) -> None:
    bounds = [
        log_evidence(case.program, case.guide, case.x, *case.context, particles=k).value
        for k in (1, 8, 64)
    ]
    for loose, tight in itertools.pairwise(bounds):
        gain = tight - loose
        margin = (
            4 * float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else 4 * float(gain.abs())
        )
        if not float(gain.mean()) >= -margin - 1e-4 * float(tight.abs().mean()):
            raise AssertionError(
                f"ELBO ≤ IWAE₈ ≤ IWAE₆₄: expected a gain of at least 0, got {gain.mean():.4f} ± "
                f"{margin / 4:.4f}"
            )


LAWS: dict[str, Callable[[_Case], None]] = {
    "draws have the shape of data": _draws_have_the_shape_of_data,
    "leading axes are a loop": _leading_axes_are_a_loop,
    "data do not see each other": _data_do_not_see_each_other,
    "gradients reach every parameter": _gradients_reach_every_parameter,
    "a copy with the state is the same": _a_copy_with_the_state_is_the_same,
    "evaluation leaves no trace": _evaluation_leaves_no_trace,
    "more particles are a tighter bound": _more_particles_are_a_tighter_bound,
}


def check_program(
    program: Program, x: Tensor, *context: Tensor, guide: Guide | None = None, seed: int = 0
) -> None:
    """Holds a program and its guide against every law in `LAWS`, on some data; random numbers come
    from `seed`.

    Args:
        program: A program of your own, with a density.
        x: A handful of data, (N, *shape), N of at least 2.
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x); `program.guide` if left out.
        seed: Seeds the draws; the global generator is left as it was.

    Raises:
        ValueError: As `ppl_gen.inference.checks.check` says.
        AssertionError: Naming the law that is broken, with what was expected and found.
    """
    guide = guide_of(program, guide)
    case = _Case(program, guide, x, context, check(program, guide, x, *context).nesting)
    for name, law in LAWS.items():
        with forked(x.device, seed):
            try:
                law(case)
            except AssertionError as error:
                raise AssertionError(f"law broken, {name!r}: {error}") from None


def _same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"{what}: expected {expected}, got {got}")


def _close(what: str, got: Tensor, expected: Tensor) -> None:
    if not torch.allclose(got, expected, rtol=1e-4, atol=1e-3):
        raise AssertionError(
            f"{what}: expected equal numbers, got a difference of "
            f"{(got - expected).abs().max():.3g} nats"
        )
