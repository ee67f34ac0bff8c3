"""What is read off a trace: its sites, their plates, and their log densities datum by datum."""

from __future__ import annotations

__all__ = [
    "data_axis",
    "deterministic_sites",
    "is_auxiliary",
    "log_prob_per_datum",
    "nesting",
    "plate_nesting",
    "plates",
    "stochastic_sites",
    "unwrapped",
]

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor


def unwrapped(fn: Any, *, masks: bool = False) -> Any:
    """The distribution inside `.to_event`; with `masks`, inside `.expand` and `.mask` as well."""
    kinds: tuple[type, ...] = (torch.distributions.Independent,)
    if masks:
        kinds = (*kinds, dist.MaskedDistribution, dist.ExpandedDistribution)
    while isinstance(fn, kinds):
        fn = fn.base_dist
    return fn


def stochastic_sites(trace: poutine.Trace) -> dict[str, Any]:
    """The sample statements of a trace, without the subsampling of its plates."""
    return {
        n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)
    }


def data_axis(site: Mapping[str, Any]) -> int:
    """The axis of the data in the value of a site of a trace, counted from the right.

    Raises:
        ValueError: If the site lies outside the plate "data".
    """
    for frame in site["cond_indep_stack"]:
        if frame.name == "data":
            return frame.dim - len(site["fn"].event_shape)
    raise ValueError(
        f"expected every latent inside the plate 'data', got {site['name']!r} outside it, shared "
        "by all data; sample it inside, or keep it as a parameter"
    )


def is_auxiliary(site: Mapping[str, Any]) -> bool:
    """Whether a guide samples this site for its own use, as automatic guides do."""
    return bool(site["infer"].get("is_auxiliary"))


def plate_nesting(trace: poutine.Trace) -> int:
    """The number of axes that the plates of a trace take, the particle plate apart."""
    frames = [f for site in stochastic_sites(trace).values() for f in site["cond_indep_stack"]]
    return max((-f.dim for f in frames if f.vectorized and f.name != "_particles"), default=1)


def log_prob_per_datum(site: Mapping[str, Any], nesting: int) -> Tensor:
    """The log density of a site of a trace, summed over its own plates but for "data", of shape
    (*particles, N).

    Masks are kept, scales are not.

    Raises:
        ValueError: If the site lies outside the plate "data".
    """
    plates = {f.name: f.dim for f in site["cond_indep_stack"] if f.vectorized}
    if "data" not in plates:
        raise ValueError(
            f"expected every site inside the plate 'data', got {site['name']!r} outside it: a "
            "latent shared by all data has no density per datum; keep it as a parameter, or "
            "sample it by MCMC"
        )
    log_prob = scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
    log_prob = log_prob.reshape((1,) * (nesting - log_prob.dim()) + log_prob.shape)
    others = [axis for axis in range(-nesting, 0) if axis != plates["data"]]
    return log_prob.sum(others) if others else log_prob


def deterministic_sites(trace: poutine.Trace) -> list[str]:
    """The sites of pyro.deterministic; none where discrete latents are summed out, on which they
    may depend.
    """
    if any(
        s["fn"].support.is_discrete
        for s in stochastic_sites(trace).values()
        if not s["is_observed"]
    ):
        return []
    return [
        n
        for n, s in trace.nodes.items()
        if s["type"] == "sample" and s["infer"].get("_deterministic")
    ]


def nesting(trace: poutine.Trace) -> int:
    """The number of axes that plates take; what initialize_model would find out by drawing from the
    priors.
    """
    frames = [
        f for s in stochastic_sites(trace).values() for f in s["cond_indep_stack"] if f.vectorized
    ]
    return max((-f.dim for f in frames), default=0)


def plates(site: Any) -> tuple[str, ...]:
    """For each axis of a site, the name of its plate, or "" where it is in none."""
    frames = {f.dim: (f.name, f.size) for f in site["cond_indep_stack"] if f.vectorized}
    shape = tuple(site["value"].shape)
    events = len(site["fn"].event_shape)
    if site["infer"].get("_deterministic") and events == len(shape):
        events = 0  # pyro.deterministic takes all axes for its event where it is not told
    names = []
    for axis in range(-len(shape), 0):
        name, size = frames.get(axis + events, ("", 0))
        names.append(name if axis + events < 0 and size == shape[axis] else "")
    return tuple(names)
