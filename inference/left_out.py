"""What a guide leaves out of the posterior, read off the supports of its sites."""

from __future__ import annotations

__all__ = ["expect_density", "is_outside", "left_out", "point_masses", "warn_of_left_out"]

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoDelta
from torch import Tensor, nn

from ppl_gen.contexts import evaluating, forked
from ppl_gen.guides import from_prior
from ppl_gen.inference.checks import needs_all_data, telling_rows
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import is_auxiliary, latent_sites
from ppl_gen.supports import is_discrete, support_of, to_support, unwrapped

_DRAWS = 64  # of the prior, that are looked for in the support of the guide
_FAR = (-5.0, 5.0)  # further points of each site, unconstrained


def is_outside(fn: Any, value: Tensor) -> Tensor:
    """Whether q(z) = 0 at values of a site: they lie outside of the support of its distribution.

    Densities are no answer by themselves: outside of its support torch's Exponential gives a
    number, and its Gamma NaN.

    Args:
        fn: The distribution.
        value: The values, (*, *batch, *event).

    Returns:
        Booleans of the shape of `fn.log_prob(value)`.
    """
    log_prob = fn.log_prob(value)
    outside = log_prob == -torch.inf
    support = support_of(fn)
    if support is None:
        return outside
    reinterpreted = 0
    while isinstance(support, constraints.independent):
        reinterpreted += support.reinterpreted_batch_ndims
        support = support.base_constraint
    if support.event_dim > 0:  # as a simplex, which float32 leaves by rounding alone
        return outside
    beyond = ~support.check(value)
    if reinterpreted:
        beyond = beyond.flatten(-reinterpreted).any(-1)
    return outside | beyond


def expect_density(guide: Guide, x: Tensor, *context: Tensor) -> None:
    """Raises ValueError if a guide puts a latent at a point, where it has no density.

    A Delta that carries a log density, or stands beside auxiliary sites, which carry it, is none.
    The random state is left as it was found.

    Args:
        guide: q(z | x, c).
        x: Data of shape (N, *shape).
        *context: What the guide is conditioned on, each of length N.
    """
    rows = slice(None)
    if not needs_all_data(guide):
        rows = slice(1)
    with forked(x.device, 0), evaluating(guide):
        sites = latent_sites(poutine.trace(guide).get_trace(x[rows], *[c[rows] for c in context]))
    points = point_masses(guide, sites)
    if points:
        raise ValueError(
            f"expected a guide with a density, got a point mass at {', '.join(points)}: p(x, z) at "
            "a point neither gives nor bounds p(x); fit a guide with a density (DiagonalGaussian, "
            "AutoNormal), or anneal from the prior by ppl_gen.inference.ais"
        )


def point_masses(guide: Callable[..., Any], sites: Mapping[str, Any]) -> list[str]:
    """The continuous latents that a guide puts at points, where it has no density, sorted.

    A Delta beside auxiliary sites carries their density, but for that of an AutoDelta.

    Args:
        guide: The guide.
        sites: What it samples, by name, auxiliary sites included.
    """
    has_auxiliary = any(is_auxiliary(site) for site in sites.values())
    if has_auxiliary and not _holds_auto_delta(guide):
        return []
    points = []
    for name, site in sites.items():
        fn = unwrapped(site["fn"], masks=True)
        at_integer = not site["value"].is_floating_point()  # where a mass is a density
        is_point = isinstance(fn, dist.Delta) and not bool(fn.log_density.any())
        if (is_point or isinstance(fn, dist.Empirical)) and not at_integer:
            points.append(name)
    return sorted(points)


def _holds_auto_delta(guide: Callable[..., Any]) -> bool:
    """Whether a guide is, or is made of parts one of which is, an AutoDelta."""
    if not isinstance(guide, nn.Module):
        return False
    return any(isinstance(part, AutoDelta) for part in guide.modules())


def warn_of_left_out(
    program: Program, guide: Guide, nesting: int, x: Tensor, *context: Tensor
) -> None:
    """Warns of sites at which a guide never goes where the posterior does.

    Args:
        program: Any program with a density.
        guide: q(z | x, c).
        nesting: The number of axes that the plates take.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
    """
    found = left_out(program, guide, nesting, x, *context)
    for name, kinds in found.items():
        warnings.warn(
            f"the guide draws {name!r} from {kinds}, whose support leaves out values with "
            "p(x, z) > 0: its weights give log ∫ p(x, z) dz over that support alone, which is "
            "less than log p(x), and no standard error knows; take a distribution on all of the "
            "support of the prior",
            RuntimeWarning,
            stacklevel=4,
        )


def left_out(
    program: Program, guide: Guide, nesting: int, x: Tensor, *context: Tensor
) -> dict[str, str]:
    """The sites at which q(z | x) = 0 and p(x, z) > 0 somewhere, with the guide's distribution.

    Looked for among draws of the prior and points far out in its support, at a few data. The random
    state is left as it was found.

    Args:
        program: Any program with a density.
        guide: q(z | x, c). Of one for all data at once, as Pyro's automatic guides are, whose
            supports are those of the model, nothing is looked at.
        nesting: The number of axes that the plates take.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.

    Returns:
        By site, the name of the guide's distribution there.
    """
    if needs_all_data(guide):
        return {}
    rows = telling_rows(x, context)
    data = (x[rows], *[c[rows] for c in context])
    found: dict[str, str] = {}
    # A flow without an inverse, which keeps its draws, raises KeyError at others.
    unknown = suppress(NotImplementedError, KeyError)
    with forked(x.device, 0), evaluating(program, guide), unknown:
        latents = propose(from_prior(program), _DRAWS, nesting, *data).latents
        for points in (latents, *_far_out(program, latents, data)):
            proposed = poutine.trace(poutine.condition(guide, data=points)).get_trace(*data)
            for name in points.keys() & proposed.nodes.keys():
                fn = proposed.nodes[name]["fn"]
                if isinstance(unwrapped(fn, masks=True), dist.Delta):
                    continue
                outside = is_outside(fn, proposed.nodes[name]["value"])
                if bool(outside.any()) and _is_possible(program, points, outside, data):
                    found[name] = type(unwrapped(fn, masks=True)).__name__
    return found


def _far_out(
    program: Program, latents: Mapping[str, Tensor], data: tuple[Tensor, ...]
) -> list[dict[str, Tensor]]:
    """Two draws of the prior for each continuous site, which then lies far out in its support."""
    prior = poutine.trace(from_prior(program)).get_trace(*data)
    points = []
    for name, site in latent_sites(prior).items():
        if name not in latents or is_discrete(site["fn"]):
            continue
        try:
            transform = to_support(name, site["fn"])
        except ValueError:  # nothing leads there from the whole line
            continue
        shape = transform.inverse_shape(site["value"].shape)
        ends = [transform(site["value"].new_full(shape, end)) for end in _FAR]
        two = {other: value[: len(_FAR)] for other, value in latents.items()}
        far = torch.stack(ends)
        inner = two[name].dim() - far.dim()  # axes of plates that the guide has for itself
        far = far.reshape(len(_FAR), *[1] * inner, *far.shape[1:])
        two[name] = far.expand_as(two[name])
        points.append(two)
    return points


def _is_possible(
    program: Program, latents: Mapping[str, Tensor], outside: Tensor, data: tuple[Tensor, ...]
) -> bool:
    """Whether p(x, z) > 0 at one of the latents that lie outside of the guide's support."""
    x, *context = data
    joint = log_density(program.model, latents, x, *context).joint
    joint = joint.reshape(-1, len(x))
    # Of more plates than that of the data, any entry outside counts.
    while outside.dim() > 2:
        outside = outside.any(1)
    return bool((outside & (joint > -torch.inf)).any())
