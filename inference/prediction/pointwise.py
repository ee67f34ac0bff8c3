"""What a program gives at one draw of its latents: new data, log likelihoods, deterministic sites.

Each function here returns a function of the latents, which `at_each` then applies to many draws.
"""

from __future__ import annotations

__all__ = ["Pointwise", "Values", "ancestral", "log_likelihood", "replicated", "values_at"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_gen.sites import is_auxiliary, is_deterministic, plate_nesting, stochastic_sites

Values = dict[str, Tensor]
_MOST_AXES = 50  # of a tensor; torch allows some more


class _Unobserved(Messenger):
    """Draws the observed sites anew.

    `poutine.uncondition` would draw deterministic sites as well, and their plate would widen them.
    """

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] and not is_deterministic(msg):
            msg["is_observed"] = False
            msg["value"] = None
            msg["done"] = False


def values_at(
    model: Callable[..., Any], args: Sequence[Any], names: Sequence[str]
) -> Callable[[Values], Values]:
    """A function from latents to the values of the sites of these names.

    Args:
        model: Any Pyro program.
        args: What it is called with.
        names: The sites; those without a value among the latents are computed or drawn.
    """

    def values(latents: Values) -> Values:
        trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*args)
        return {name: trace.nodes[name]["value"] for name in names}

    return values


def replicated(
    model: Callable[..., Any], args: Sequence[Any], names: Sequence[str]
) -> Callable[[Values], Values]:
    """A function from latents z to one draw x ~ p(x | z) of the observed sites.

    Discrete latents that were summed out are drawn anew as well.

    Args:
        model: Any Pyro program.
        args: What it is called with.
        names: The observed sites.
    """
    return values_at(_Unobserved()(model), args, names)


def ancestral(program: Callable[..., Any], args: Sequence[Any]) -> Callable[[Values], Values]:
    """A function from anything to one draw of all sites of a model or guide.

    Observed sites are drawn as well; auxiliary sites of guides and `pyro.factor` are left out.

    Args:
        program: Any model or guide.
        args: What it is called with.
    """
    free = _Unobserved()(program)

    def draw(_: Values) -> Values:
        drawn = {}
        for name, site in stochastic_sites(poutine.trace(free).get_trace(*args)).items():
            is_factor = tuple(site["fn"].event_shape) == (0,)
            if not is_auxiliary(site) and not is_factor:
                drawn[name] = site["value"]
        return drawn

    return draw


class Pointwise(NamedTuple):
    """log p(xᵢ | z) of each datum.

    Attributes:
        function: From latents to log p(xᵢ | z) by observed site, in nats.
        plates: By observed site, for each axis of these the name of its plate, "" for an axis in
            none.
    """

    function: Callable[[Values], Values]
    plates: dict[str, tuple[str, ...]]


def log_likelihood(
    model: Callable[..., Any], args: Sequence[Any], latents: Values, names: Sequence[str]
) -> Pointwise:
    """log p(xᵢ | z) = log Σₖ p(k | z) p(xᵢ | z, k), k over the discrete latents that belong to xᵢ.

    Masks are kept, scales are ignored.

    Args:
        model: Any Pyro program.
        args: What it is called with.
        latents: The continuous latents at one draw, by site.
        names: The observed sites.

    Raises:
        ValueError: If discrete latents join several observations, as the states of a chain do.
    """
    trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*args)
    plain = stochastic_sites(trace)
    nesting = plate_nesting(trace)
    for name in names:
        nesting = max(nesting, _log_prob(plain[name]).dim())

    def enumerated(latents: Values) -> dict[str, Any]:
        conditioned = poutine.condition(model, data=latents)
        return stochastic_sites(poutine.trace(_Enumerated(nesting)(conditioned)).get_trace(*args))

    sites = enumerated(latents)
    reach = {name: _state_axes(site, nesting) for name, site in sites.items()}
    plans = {}
    plates = {}
    for name in names:
        plans[name] = _plan(name, sites, plain[name], reach, nesting)
        plates[name] = plans[name].plates

    def pointwise(latents: Values) -> Values:
        sites = enumerated(latents)
        return {name: plan.marginal(name, sites) for name, plan in plans.items()}

    return Pointwise(pointwise, plates)


class _Enumerated(Messenger):
    """Gives each discrete latent all of its values, along an axis of its own left of the plates.

    Pyro's own `enum` keeps vmap from following.
    """

    def __init__(self, nesting: int) -> None:
        super().__init__()
        self.first = -1 - nesting
        self.free = self.first

    def __enter__(self) -> _Enumerated:
        self.free = self.first
        return super().__enter__()

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        has_value = msg["is_observed"] or msg["value"] is not None
        if has_value or site_is_subsample(msg) or not fn.has_enumerate_support:
            return
        if self.free < -_MOST_AXES:
            raise ValueError(
                f"expected at most {_MOST_AXES + self.first + 1} discrete latents, got more"
            )
        values = fn.enumerate_support(expand=False)
        event = values.shape[values.dim() - fn.event_dim :]
        axes_right = -self.free - 1
        msg["value"] = values.reshape(-1, *(1,) * axes_right, *event)
        msg["infer"]["_enumerate_dim"] = self.free
        self.free -= 1


class _Plan(NamedTuple):
    """How the log likelihood of an observed site is computed from its enumerated trace.

    Attributes:
        states: The discrete sites to sum out.
        added: The axes to add up before, of plates that hold the observed site but no state.
        plates: For each axis that is left the name of its plate, or "".
        shape: Of what is left.
        nesting: The number of axes of plates; axes further left are those of states.
    """

    states: list[str]
    added: list[int]
    plates: tuple[str, ...]
    shape: torch.Size
    nesting: int

    def marginal(self, name: str, sites: Mapping[str, Any]) -> Tensor:
        """log Σₖ p(k) p(x | k) over all values k of the discrete sites."""
        total = _log_prob(sites[name])
        if self.added:
            total = total.sum(self.added, keepdim=True)
        for state in self.states:
            total = total + _log_prob(sites[state])
        while total.dim() > self.nesting:
            total = total.logsumexp(0)
        return total.reshape(self.shape)


def _plan(
    name: str,
    sites: Mapping[str, Any],
    plain: Mapping[str, Any],
    reach: Mapping[str, set[int]],
    nesting: int,
) -> _Plan:
    """Plans the log likelihood of the observed site `name`.

    Args:
        name: The observed site.
        sites: All sites, with discrete latents enumerated.
        plain: The observed site without enumeration.
        reach: By site, the axes along which its log density varies with discrete states.
        nesting: The number of axes of plates.

    Raises:
        ValueError: If discrete latents behind the site do not belong to one observation each.
    """
    shape = _log_prob(plain).shape
    plates = _plate_names(plain, shape)
    states = _states_behind(name, sites, reach)
    if not states:
        return _Plan(states=[], added=[], plates=plates, shape=shape, nesting=nesting)
    _check_local(name, states, sites, reach)
    added = _plate_at(sites[name]).keys() - _plate_at(sites[states[0]]).keys()
    kept_plates = []
    kept_sizes = []
    for axis in range(-len(shape), 0):
        if axis not in added:
            kept_plates.append(plates[axis])
            kept_sizes.append(shape[axis])
    return _Plan(
        states=states,
        added=sorted(added),
        plates=tuple(kept_plates),
        shape=torch.Size(kept_sizes),
        nesting=nesting,
    )


def _states_behind(name: str, sites: Mapping[str, Any], reach: Mapping[str, set[int]]) -> list[str]:
    """The discrete sites that an observed one depends on, directly or through each other."""
    discrete = [other for other, site in sites.items() if _is_enumerated(site)]
    states: list[str] = []
    joined = set(reach[name])
    before = None
    while joined != before:
        before = set(joined)
        states = [state for state in discrete if reach[state] & joined]
        for state in states:
            joined |= reach[state]
    return states


def _check_local(
    name: str,
    states: Sequence[str],
    sites: Mapping[str, Any],
    reach: Mapping[str, set[int]],
) -> None:
    """Raises ValueError unless the discrete sites belong to one entry of `name` each.

    They have to lie in the same plates, each of them a plate of `name`, and no other site may
    depend on them.
    """
    joined = set(reach[name])
    for state in states:
        joined |= reach[state]
    others = []
    for other in sorted(sites):
        if other != name and other not in states and reach[other] & joined:
            others.append(repr(other))
    own = _plate_at(sites[name])
    local = _plate_at(sites[states[0]])
    in_same_plates = all(_plate_at(sites[state]) == local for state in states)
    one_for_each = local.items() <= own.items() and (bool(local) or not own)
    if in_same_plates and one_for_each and not others:
        return
    beside = ""
    if others:
        beside = f", which {', '.join(others)} depend on as well"
    raise ValueError(
        f"expected the discrete latents behind {name!r} to belong to one datum each, in plates of "
        f"{name!r}, got {', '.join(map(repr, states))}{beside}"
    )


def _is_enumerated(site: Mapping[str, Any]) -> bool:
    return site["infer"].get("_enumerate_dim") is not None


def _state_axes(site: Mapping[str, Any], nesting: int) -> set[int]:
    """The axes along which the log density of a site varies with discrete states."""
    shape = _log_prob(site).shape
    return {axis for axis in range(-len(shape), -nesting) if shape[axis] > 1}


def _log_prob(site: Mapping[str, Any]) -> Tensor:
    """The log density of a site at its value, masked but not scaled, with one axis per plate."""
    return scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])


def _plate_at(site: Mapping[str, Any]) -> dict[int, Any]:
    """The plates of a site by the axis that each takes in its log density."""
    return {frame.dim: frame for frame in site["cond_indep_stack"] if frame.vectorized}


def _plate_names(site: Mapping[str, Any], shape: torch.Size) -> tuple[str, ...]:
    """For each axis of a log density of this shape, the name of its plate, or "" if in none."""
    plate_at = _plate_at(site)
    names = []
    for axis, size in enumerate(shape, start=-len(shape)):
        plate = plate_at.get(axis)
        if plate is None or plate.size != size:
            names.append("")
        else:
            names.append(plate.name)
    return tuple(names)
