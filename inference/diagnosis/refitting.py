"""Guides refitted datum by datum, inside their family or in a richer one."""

from __future__ import annotations

__all__ = ["Family", "Refitted", "full_covariance", "refit", "same_family"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Independent, transform_to

from ppl_gen.contexts import evaluating, modules_of
from ppl_gen.inference.checks import check
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.fitting.objectives import StickingTheLanding
from ppl_gen.inference.fitting.svi import svi_step
from ppl_gen.program import is_auxiliary, stochastic_sites
from ppl_gen.protocols import Distribution, Guide, Program

Family = Callable[[Distribution], "tuple[dict[str, Tensor], Callable[..., Distribution]]"]


def same_family(q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
    """The parameters of q, datum by datum, and the constructor that they belong to.

    Raises:
        ValueError: If q is no distribution with parameters of its own, as that of a flow is not.
    """
    events, base = 0, q
    while isinstance(base, Independent):
        events, base = events + base.reinterpreted_batch_ndims, base.base_dist
    # LogScaleNormal and its like are normals by another parameter.
    kind: Any = next(c for c in type(base).__mro__ if c.__module__.startswith(("pyro.", "torch.")))
    free = {
        n: c
        for n, c in base.arg_constraints.items()
        if n not in ("covariance_matrix", "precision_matrix", "probs")
    }
    if isinstance(base, dist.Delta | dist.Uniform) or not free:
        raise ValueError(
            "expected a guide whose distribution has parameters for each datum, such as a "
            f"Gaussian, got a {type(base).__name__}, which has none that can be moved; give "
            "another family=..."
        )
    return {n: getattr(base, n) for n in free}, lambda **p: kind(**p, validate_args=False).to_event(
        events
    )


def full_covariance(q: Distribution) -> tuple[dict[str, Tensor], Callable[..., Distribution]]:
    """N(μ, LLᵀ) over all entries of an event, with mean and standard deviations of q to begin with;
    N(μ, σ²) for a scalar.

    Raises:
        ValueError: If q has no moments or is no distribution of vectors.
    """
    if not q.event_shape:
        return {"loc": q.mean, "scale": q.stddev}, lambda **p: dist.Normal(**p, validate_args=False)
    if len(q.event_shape) > 1:
        raise ValueError(
            f"expected latents that are vectors, got events of shape {tuple(q.event_shape)}; "
            "leave the richer family out (richer=None), or give one of your own"
        )
    loc, tril = q.mean, q.stddev.diag_embed()
    if isinstance(q, dist.MultivariateNormal):
        tril = q.scale_tril
    return {"loc": loc, "scale_tril": tril}, lambda **p: dist.MultivariateNormal(
        **p, validate_args=False
    )


class Refitted(nn.Module):
    """q(z | xᵢ) with parameters λᵢ of its own for each of N data, in the place of a network's
    output.

    Args:
        guide: What is refitted: a guide whose sites depend on the data alone, each of one
            distribution.
        family: From the guide's distribution of a site to parameters and constructor:
            `same_family`, `full_covariance`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on.

    Raises:
        ValueError: If the guide has auxiliary sites, sites that depend on each other, or as the
            family does.
    """

    needs_all_data = True

    def __init__(self, guide: Guide, family: Family, x: Tensor, *context: Tensor) -> None:
        super().__init__()
        self._make: dict[str, Callable[..., Distribution]] = {}
        self._axis: dict[str, int] = {}
        self._to: dict[str, Any] = {}
        self.free = nn.ParameterDict()
        with evaluating(guide):
            first, second = (
                stochastic_sites(poutine.trace(guide).get_trace(x, *context)) for _ in range(2)
            )
        if auxiliary := sorted(name for name, site in first.items() if is_auxiliary(site)):
            raise ValueError(
                f"expected a guide without auxiliary sites, got {auxiliary}; take one that "
                "samples its latents"
            )
        for name, site in first.items():
            parameters, self._make[name] = family(site["fn"])
            others, _ = family(second[name]["fn"])
            if any(not torch.equal(parameters[p], others[p]) for p in parameters):
                raise ValueError(
                    f"expected sites that depend on the data alone, got {name!r}, whose "
                    "distribution depends on another latent: its parameters are a function, "
                    "which cannot be refitted datum by datum"
                )
            self._axis[name] = next(f.dim for f in site["cond_indep_stack"] if f.name == "data")
            constraints = self._make[name](**parameters)
            while isinstance(constraints, Independent):
                constraints = constraints.base_dist
            for p, value in parameters.items():
                self._to[f"{name}/{p}"] = transform_to(constraints.arg_constraints[p])
                self.free[f"{name}/{p}"] = nn.Parameter(
                    self._to[f"{name}/{p}"].inv(value.detach()).clone()
                )

    def forward(self, x: Tensor, *context: Tensor) -> None:
        """The guide of these N data, in their order."""
        for name, make in self._make.items():
            parameters = {
                k.split("/")[1]: self._to[k](v)
                for k, v in self.free.items()
                if k.split("/")[0] == name
            }
            with pyro.plate("data", x.shape[0], dim=self._axis[name]):
                pyro.sample(name, make(**parameters))


def refit(
    program: Program,
    guide: Guide,
    family: Family,
    x: Tensor,
    *context: Tensor,
    steps: int = 500,
    rate: float = 0.02,
    particles: int = 8,
    engine: Engine = "auto",
    tick: Callable[[], Any] = lambda: None,
) -> Refitted:
    """max over λ₁, …, λ_N of Σᵢ ELBO(xᵢ; λᵢ), all data at once; the program's own parameters stay
    as they are.

    Adam on the gradient of `StickingTheLanding`, which has no variance where q is the posterior;
    its rate falls to zero.

    Args:
        program: Any program with a density and reparameterised latents.
        guide: Where to begin.
        family: As in `Refitted`.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on.
        steps: The number of steps.
        rate: The first learning rate, in units of unconstrained parameters.
        particles: Draws per datum and step.
        engine: As in `svi_step`.
        tick: Called after each step.

    Raises:
        ValueError: If a count is below 1, or as `Refitted` and `svi_step` do.
    """
    expect_counts(steps=steps, particles=particles)
    check(program, guide, x, *context)
    refitted = Refitted(guide, family, x, *context)
    # A gradient of 10⁻³ nats is taken for none: Adam would otherwise step away from an optimum on
    # rounding alone.
    optimizer = torch.optim.Adam(refitted.parameters(), rate, eps=1e-3 / len(x))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with evaluating(program, guide), torch.enable_grad(), _still(program):
        objective = StickingTheLanding(particles)
        step = svi_step(program, optimizer, objective, guide=refitted, engine=engine, steps=steps)
        for _ in range(steps):
            step(x, *context)
            schedule.step()
            tick()
    return refitted


@contextmanager
def _still(program: Program) -> Iterator[None]:
    """Leaves the program's parameters without gradients."""
    parameters = [
        p for module in modules_of(program) for p in module.parameters() if p.requires_grad
    ]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
