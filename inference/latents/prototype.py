"""The latent sites of a program, looked at before a sampler moves in them."""

from __future__ import annotations

__all__ = ["anywhere", "continuous_sites", "prototype_of"]

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor

from ppl_gen.contexts import forked
from ppl_gen.program import stochastic_sites


def anywhere(site: Any) -> Tensor:
    """The point at the origin of unconstrained space, for any distribution, improper ones included."""
    fn = site["fn"]
    transform = biject_to(fn.support)
    shape = transform.inverse_shape(fn.shape())
    return transform(_held(fn).new_zeros(shape))


def _held(fn: Any) -> Tensor:
    """A tensor of the distribution, or of those inside it: what tells device and type."""
    for value in vars(fn).values():
        if torch.is_tensor(value) and value.is_floating_point():
            return value
    inner = getattr(fn, "base_dist", None)
    return torch.zeros(()) if inner is None else _held(inner)


def prototype_of(model: Callable[..., Any], args: Sequence[Any]) -> poutine.Trace:
    """A trace at the origin of unconstrained space, without the random state being touched."""

    def start(site: Any) -> Tensor | None:
        return None if site["fn"].support.is_discrete else anywhere(site)

    with forked(torch.device("cpu"), 0), warnings.catch_warnings(action="ignore"):
        return poutine.trace(InitMessenger(start)(model)).get_trace(*args)


def continuous_sites(
    model: Callable[..., Any], args: Sequence[Any], trace: poutine.Trace, local: bool
) -> dict[str, Any]:
    """The continuous latent sites, once nothing is wrong with any."""
    hidden = {
        name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]
    }
    for name, site in hidden.items():
        if site["fn"].support.is_discrete and not site["fn"].has_enumerate_support:
            raise ValueError(
                "expected continuous latents, or discrete ones of finite support that can be "
                f"summed out, got the site {name!r} from {type(site['fn']).__name__}; sum it out "
                "by hand, or replace it by a continuous latent"
            )
    latents = {name: site for name, site in hidden.items() if not site["fn"].support.is_discrete}
    if local and len(latents) < len(hidden):
        names = sorted(hidden.keys() - latents.keys())
        raise ValueError(
            f"expected continuous latents alone for local=True, got the discrete {names}; say "
            "local=False"
        )
    if not latents:
        raise ValueError(
            "expected a program with continuous latents to sample, got the sites "
            f"{sorted(hidden) or 'none'}"
        )
    with forked(torch.device("cpu"), 1), warnings.catch_warnings(action="ignore"):
        again = (
            [stochastic_sites(poutine.trace(model).get_trace(*args)) for _ in range(3)]
            if _drawable(hidden)
            else []
        )
    for other in again:
        shapes = [
            {n: s["value"].shape for n, s in t.items() if not s["is_observed"]}
            for t in (hidden, other)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "expected the same latents at every call of the model, got "
                f"{_described(shapes[0])} at one and {_described(shapes[1])} at another; give it "
                "a fixed number of latents"
            )
        for name, site in latents.items():
            bounds = [_bounds(s["fn"].support) for s in (site, other[name])]
            if any(not torch.equal(a, b) for a, b in zip(*bounds, strict=True)):
                raise ValueError(
                    "expected a support that is the same for all latents, got that of the site "
                    f"{name!r}, which depends on another latent; sample it on a fixed interval "
                    "and scale it by pyro.deterministic"
                )
    return latents


def _drawable(sites: dict[str, Any]) -> bool:
    """Whether every prior can be sampled; improper ones cannot."""
    return not any(_is_improper(site["fn"]) for site in sites.values())


def _is_improper(fn: Any) -> bool:
    return type(fn).__name__ == "ImproperUniform" or (
        hasattr(fn, "base_dist") and _is_improper(fn.base_dist)
    )


def _bounds(support: Any) -> list[Tensor]:
    """The numbers of a constraint: those of an interval, also inside others."""
    found = []
    for value in vars(support).values():
        if torch.is_tensor(value) or (
            isinstance(value, (int, float)) and not isinstance(value, bool)
        ):
            found.append(torch.as_tensor(value, dtype=torch.float64))
        elif hasattr(value, "check"):
            found += _bounds(value)
    return found


def _described(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
