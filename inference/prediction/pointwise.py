"""What a program says at each of many draws: new data, log likelihoods, deterministic sites."""

from __future__ import annotations

__all__ = ["Pointwise", "ancestral", "axes", "log_likelihood", "replicated", "values_at"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_gen.program import is_auxiliary, plate_nesting, stochastic_sites

Values = dict[str, Tensor]
_MOST_AXES = 50  # of a tensor; torch allows some more


class _Unobserved(Messenger):
    """Draws the observed sites. `poutine.uncondition` draws deterministic ones as well, and their
    plate would widen them.
    """

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not msg["infer"].get("_deterministic"):
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


def values_at(
    model: Callable[..., Any], args: Sequence[Any], names: Sequence[str]
) -> Callable[[Values], Values]:
    """From latents to the values of the sites of these names, deterministic ones."""

    def values(latents: Values) -> Values:
        trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*args)
        return {name: trace.nodes[name]["value"] for name in names}

    return values


def replicated(
    model: Callable[..., Any], args: Sequence[Any], names: Sequence[str]
) -> Callable[[Values], Values]:
    """From latents z to x ~ p(x | z): the observed sites drawn anew, discrete latents that were
    summed out among them.
    """
    return values_at(_Unobserved()(model), args, names)


def ancestral(program: Callable[..., Any], args: Sequence[Any]) -> Callable[[Values], Values]:
    """From anything to one draw of all sites of a model, observed ones included, or of a guide."""
    free = _Unobserved()(program)

    def draw(_: Values) -> Values:
        sites = stochastic_sites(poutine.trace(free).get_trace(*args))
        return {
            n: s["value"]
            for n, s in sites.items()
            if not is_auxiliary(s) and tuple(s["fn"].event_shape) != (0,)
        }

    return draw


def axes(site: Mapping[str, Any], shape: Sequence[int], events: int) -> tuple[str, ...]:
    """For each axis of a tensor of this shape, its last `events` being event axes, the name of its
    plate, or "".
    """
    plates = {frame.dim: frame for frame in site["cond_indep_stack"] if frame.vectorized}
    found = [plates.get(axis + events) for axis in range(-len(shape), 0)]
    return tuple(
        [f.name if f is not None and f.size == n else "" for f, n in zip(found, shape, strict=True)]
    )


class _Plan(NamedTuple):
    """How the log likelihood of an observed site is read: discrete sites to sum out, axes to add
    up, axes and shape left.
    """

    states: list[str]
    added: list[int]
    plates: tuple[str, ...]
    shape: torch.Size


class _Enumerated(Messenger):
    """Gives each discrete latent all of its values, along an axis of its own; Pyro's own `enum`
    keeps vmap from following.
    """

    def __init__(self, nesting: int) -> None:
        super().__init__()
        self.first = self.free = -1 - nesting

    def __enter__(self) -> _Enumerated:
        self.free = self.first
        return super().__enter__()

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if (
            msg["is_observed"]
            or msg["value"] is not None
            or site_is_subsample(msg)
            or not fn.has_enumerate_support
        ):
            return
        if self.free < -_MOST_AXES:
            raise ValueError(
                f"expected at most {_MOST_AXES + self.first + 1} discrete latents, got more"
            )
        values = fn.enumerate_support(expand=False)
        event = values.shape[values.dim() - fn.event_dim :]
        msg["value"] = values.reshape(-1, *(1,) * (-self.free - 1), *event)
        msg["infer"]["_enumerate_dim"] = self.free
        self.free -= 1


class Pointwise(NamedTuple):
    """log p(xᵢ | z) by observed site, as a function of the latents, and the plates of its axes."""

    function: Callable[[Values], Values]
    plates: dict[str, tuple[str, ...]]


def log_likelihood(
    model: Callable[..., Any], args: Sequence[Any], latents: Values, names: Sequence[str]
) -> Pointwise:
    """log p(xᵢ | z) = log Σₖ p(k | z) p(xᵢ | z, k), k over the discrete latents that belong to xᵢ;
    scales are ignored.

    Args:
        model: Any Pyro program.
        args: What it is called with.
        latents: The continuous latents at one draw.
        names: The observed sites.

    Raises:
        ValueError: If discrete latents join several observations, as the states of a chain do.
    """
    trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*args)
    plain = stochastic_sites(trace)
    nesting = max([plate_nesting(trace), *(_log_prob(plain[name]).dim() for name in names)])

    def enumerated(latents: Values) -> dict[str, Any]:
        conditioned = poutine.condition(model, data=latents)
        return stochastic_sites(poutine.trace(_Enumerated(nesting)(conditioned)).get_trace(*args))

    sites = enumerated(latents)
    plans = {name: _plan(name, sites, plain[name], nesting) for name in names}

    def pointwise(latents: Values) -> Values:
        sites = enumerated(latents)
        return {name: _marginal(name, plan, sites, nesting) for name, plan in plans.items()}

    return Pointwise(pointwise, {name: plan.plates for name, plan in plans.items()})


def _log_prob(site: Mapping[str, Any]) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])


def _marginal(name: str, plan: _Plan, sites: Mapping[str, Any], nesting: int) -> Tensor:
    total = _log_prob(sites[name])
    if plan.added:
        total = total.sum(plan.added, keepdim=True)
    for state in plan.states:
        total = total + _log_prob(sites[state])
    while total.dim() > nesting:
        total = total.logsumexp(0)
    return total.reshape(plan.shape)


def _plan(name: str, sites: Mapping[str, Any], plain: Mapping[str, Any], nesting: int) -> _Plan:
    """Finds the discrete sites that an observed one hangs together with, and whether they are local
    to it.
    """
    reach = {n: _states(site, nesting) for n, site in sites.items()}
    discrete = [n for n, site in sites.items() if site["infer"].get("_enumerate_dim") is not None]
    joined, states, before = reach[name], [], None
    while joined != before:
        before = joined
        states = [n for n in discrete if reach[n] & joined]
        joined = joined.union(*(reach[n] for n in states))
    shape = _log_prob(plain).shape
    own, plates = _frames(sites[name]), axes(plain, shape, 0)
    if not states:
        return _Plan([], [], plates, shape)
    others = sorted(n for n in sites if n != name and n not in states and reach[n] & joined)
    local = _frames(sites[states[0]])
    if (
        others
        or any(_frames(sites[n]) != local for n in states)
        or not local <= own
        or bool(local) < bool(own)
    ):
        beside = f", which {', '.join(map(repr, others))} depend on as well" if others else ""
        raise ValueError(
            f"expected the discrete latents behind {name!r} to belong to one datum each, in "
            f"plates of {name!r}, got {', '.join(map(repr, states))}{beside}"
        )
    kept = {frame.dim for frame in local}
    added = [f.dim for f in own if f.dim not in kept]
    left = [axis for axis in range(-len(shape), 0) if axis not in added]
    return _Plan(
        states, added, tuple([plates[i] for i in left]), torch.Size([shape[i] for i in left])
    )


def _states(site: Mapping[str, Any], nesting: int) -> set[int]:
    """The axes along which the log density of a site varies with discrete states."""
    shape = _log_prob(site).shape
    return {axis for axis in range(-len(shape), -nesting) if shape[axis] > 1}


def _frames(site: Mapping[str, Any]) -> frozenset[Any]:
    return frozenset(frame for frame in site["cond_indep_stack"] if frame.vectorized)
