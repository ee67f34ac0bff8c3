"""Discrete latents summed out: log Σₖ p(x, z, k), datum by datum, by variable elimination."""

from __future__ import annotations

__all__ = ["Marginal", "SomeValue", "in_parallel", "is_enumerable", "marginal"]

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyro
from pyro import poutine
from pyro.ops.contract import contract_to_tensor
from pyro.ops.packed import unpack
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.sites import data_frame, data_plate, stochastic_sites
from ppl_gen.supports import is_discrete

# The names of the plates of particles begin so.
_PARTICLES = "_particles_"


class Marginal(NamedTuple):
    """log p(z) and log p(x, z), discrete latents k summed out of both, in nats per datum.

    Attributes:
        prior: log Σₖ p(z, k), of shape (*particles, N).
        joint: log Σₖ p(x, z, k), of shape (*particles, N).
    """

    prior: Tensor
    joint: Tensor


def is_enumerable(fn: Any) -> bool:
    """Whether a discrete distribution has finitely many values that can be listed.

    A Poisson has not; nor has a Bernoulli under `.to_event`, whose values are all combinations.
    """
    if not (is_discrete(fn) and fn.has_enumerate_support):
        return False
    try:
        fn.enumerate_support(expand=False)
    except NotImplementedError:
        return False
    return True


def in_parallel(model: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    """The model, its sites of these names marked to be enumerated in parallel, and no others.

    Args:
        model: Any Pyro program; what it says itself of enumeration is overridden.
        names: The discrete latents to be summed out.
    """

    def mark(site: Any) -> dict[str, Any]:
        if site["name"] in names:
            return {"enumerate": "parallel", "expand": False}
        return {"enumerate": None}

    return poutine.infer_config(model, mark)


class SomeValue(Messenger):
    """Gives each discrete latent of listable values its first, so that nothing is drawn for it."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or msg["value"] is not None:
            return
        fn = msg["fn"]
        if getattr(fn, "has_enumerate_support", False) and is_enumerable(fn):
            first = fn.enumerate_support(expand=False)[0]
            msg["value"] = first.expand(fn.batch_shape + fn.event_shape)
            msg["done"] = True


def marginal(
    model: Callable[..., Any],
    summed: Collection[str],
    given: Collection[str],
    data: Sequence[Tensor],
    nesting: int,
    particles: Sequence[int],
) -> Marginal:
    """log Σₖ p(z, k) and log Σₖ p(x, z, k) by Pyro's tensor variable elimination.

    Discrete latents may depend on each other, as the states of a chain do, and lie in plates inside
    "data". Masks are kept, scales are ignored.

    Args:
        model: The model, conditioned on its other latents z.
        summed: The names of the discrete latents k, of listable values.
        given: The names of the latents z.
        data: (x, *context), each of length N.
        nesting: The number of axes of the model's own plates.
        particles: The sizes of the axes left of these, which the values of z have.

    Raises:
        ValueError: If a site lies outside the plate "data".
    """
    with ExitStack() as plates:
        for i, size in enumerate(reversed(particles)):
            axis = -1 - nesting - i
            plates.enter_context(pyro.plate(f"{_PARTICLES}{i}", size, dim=axis))
        first_free = -1 - nesting - len(particles)
        enumerated = poutine.enum(in_parallel(model, summed), first_available_dim=first_free)
        trace = poutine.trace(enumerated).get_trace(*data)
    sites = stochastic_sites(trace)
    for site in sites.values():
        site["scale"] = 1.0
    trace.compute_log_prob(lambda name, site: name in sites)
    trace.pack_tensors()
    plate = data_plate(sites)
    latents = {*summed, *given}
    prior = [site for name, site in sites.items() if name in latents]
    shape = [*particles, data[0].shape[0]]
    return Marginal(
        prior=_eliminated(trace, prior, plate).reshape(shape),
        joint=_eliminated(trace, list(sites.values()), plate).reshape(shape),
    )


def _eliminated(trace: poutine.Trace, sites: Sequence[Any], plate: str) -> Tensor:
    """log Σₖ Πₛ pₛ over sites s, k on all enumerated axes, with the axes of particles and data.

    Args:
        trace: The enumerated trace, its log densities packed.
        sites: Some of its sites.
        plate: The name of the plate of the data.
    """
    symbols = trace.plate_to_symbol
    factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    kept = set()
    for site in sites:
        data = data_frame(site, plate)
        # Packed tensors have no axes of length one.
        frames = [f for f in site["cond_indep_stack"] if f.vectorized and f.size > 1]
        kept.update([symbols[f.name] for f in frames if f == data or _holds_particles(f)])
        ordinal = frozenset([symbols[f.name] for f in frames])
        factors.setdefault(ordinal, []).append(site["packed"]["log_prob"])
    states = set(trace.symbol_to_dim) - set(symbols.values())
    return unpack(contract_to_tensor(factors, states, frozenset(kept)), trace.symbol_to_dim)


def _holds_particles(frame: Any) -> bool:
    return frame.name.startswith(_PARTICLES)
