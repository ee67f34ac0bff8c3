"""The latent sites of a program, looked at before a sampler moves in them."""

from __future__ import annotations

__all__ = ["anywhere", "continuous_sites", "prototype_of"]

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor

from ppl_gen.arguments import traced
from ppl_gen.contexts import device_of, forked
from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference.checks import check_arguments, expect_observed, expect_values
from ppl_gen.sites import Sites, latent_sites, stochastic_sites
from ppl_gen.supports import (
    flaw_of_draws,
    is_discrete,
    is_rounded,
    support_of,
    to_support,
    unwrapped,
)

# How often a program is run to see whether its latents are the same at every call.
_RUNS = 3


def anywhere(site: Any) -> Tensor:
    """The origin of unconstrained space in the support of a site; its prior may be improper."""
    fn = site["fn"]
    transform = to_support(site["name"], fn)
    shape = transform.inverse_shape(fn.shape())
    return transform(_tensor_of(fn).new_zeros(shape))


def _tensor_of(fn: Any) -> Tensor:
    """A tensor that a distribution holds, or one inside it: it tells device and type."""
    held = list(vars(fn).values())
    for value in held:
        if torch.is_tensor(value) and value.is_floating_point():
            return value
    for value in held:
        if isinstance(value, torch.distributions.Distribution):
            return _tensor_of(value)
    return torch.zeros(())


def prototype_of(model: Callable[..., Any], args: Sequence[Any]) -> poutine.Trace:
    """A trace at the origin of unconstrained space; the random state is left as found.

    Args:
        model: Any Pyro program.
        args: What it is called with.

    Raises:
        ValueError: If the model cannot be run on these arguments, or observes data of another shape
            than their distribution, outside its support or without a density.
    """
    check_arguments(model, args)

    def start(site: Any) -> Tensor | None:
        if is_discrete(site["fn"]):
            return None
        return anywhere(site)

    with forked(device_of(model, args), 0), warnings.catch_warnings(action="ignore"):
        trace = traced(InitMessenger(start)(model), args)
        expect_observed(model, stochastic_sites(trace))
    return trace


def continuous_sites(model: Callable[..., Any], args: Sequence[Any], trace: poutine.Trace) -> Sites:
    """The continuous latent sites of a program, once they are known to be fit for a sampler.

    Args:
        model: Any Pyro program.
        args: What it is called with.
        trace: Its trace, as `prototype_of` makes it.

    Raises:
        ValueError: If there are no continuous latents, or discrete ones that cannot be summed out;
            if sites, shapes or supports differ between two calls.
    """
    _expect_likelihoods_that_hold(trace)
    hidden = latent_sites(trace)
    latents = {}
    for name, site in hidden.items():
        fn = site["fn"]
        inner = unwrapped(fn, masks=True)
        if isinstance(inner, dist.Delta | dist.Unit):
            raise ValueError(
                f"expected latents with a density, got {type(inner).__name__} at the site "
                f"{name!r}; say pyro.deterministic for what is known, pyro.factor for a weight"
            )
        expect_values(site)
        if not is_discrete(fn):
            latents[name] = site
        elif not is_enumerable(fn):
            raise ValueError(
                "expected continuous latents, or discrete ones of finite support that can be "
                f"summed out, got the site {name!r} from {type(fn).__name__}; sum it out "
                "by hand, put its entries in a plate of their own instead of .to_event, or "
                "replace it by a continuous latent"
            )
    if not latents:
        raise ValueError(
            "expected a program with continuous latents to sample, got the sites "
            f"{sorted(hidden) or 'none'}; log_evidence, ais and sbc take discrete latents alone"
        )
    if not any(_is_improper(site["fn"]) for site in hidden.values()):
        with forked(device_of(model, args), 1), warnings.catch_warnings(action="ignore"):
            others = _other_runs(model, args)
        for other in others:
            _expect_same_shapes(hidden, other)
            _expect_same_supports(latents, other)
    return latents


def _expect_likelihoods_that_hold(trace: poutine.Trace) -> None:
    """Raises ValueError if data are scored by the density of what is rounded only afterwards."""
    for name, site in stochastic_sites(trace).items():
        if site["is_observed"] and is_rounded(site["fn"]):
            raise ValueError(
                f"expected a likelihood at {name!r} whose draws follow its density, got "
                f"{flaw_of_draws(site['fn'])}"
            )


def _other_runs(model: Callable[..., Any], args: Sequence[Any]) -> list[Sites]:
    """The latent sites of some runs of a model; none where a prior has a density and no draws."""
    try:
        return [latent_sites(poutine.trace(model).get_trace(*args)) for _ in range(_RUNS)]
    except NotImplementedError:
        return []


def _expect_same_shapes(sites: Sites, others: Sites) -> None:
    """Raises ValueError unless two calls have sites of the same names and shapes."""
    shapes = _shapes(sites)
    other_shapes = _shapes(others)
    if shapes != other_shapes:
        raise ValueError(
            f"expected the same latents at every call of the model, got {_described(shapes)} at "
            f"one and {_described(other_shapes)} at another; give it a fixed number of latents"
        )


def _expect_same_supports(sites: Sites, others: Sites) -> None:
    """Raises ValueError unless two calls have sites of the same supports."""
    for name, site in sites.items():
        bounds = _bounds(support_of(site["fn"]))
        other_bounds = _bounds(support_of(others[name]["fn"]))
        for bound, other_bound in zip(bounds, other_bounds, strict=True):
            if not torch.equal(bound, other_bound):
                raise ValueError(
                    "expected a support that is the same for all latents, got that of the site "
                    f"{name!r}, which depends on another latent; sample it on a fixed interval "
                    "and scale it by pyro.deterministic"
                )


def _is_improper(fn: Any) -> bool:
    """Whether nothing can be drawn from a prior, or from the one inside it."""
    if type(fn).__name__ == "ImproperUniform":
        return True
    return hasattr(fn, "base_dist") and _is_improper(fn.base_dist)


def _bounds(support: Any) -> list[Tensor]:
    """The numbers of a constraint, as those of an interval, also inside others."""
    found = []
    for value in vars(support).values():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number or torch.is_tensor(value):
            found.append(torch.as_tensor(value, dtype=torch.float64))
        elif hasattr(value, "check"):
            found += _bounds(value)
    return found


def _shapes(sites: Sites) -> dict[str, torch.Size]:
    return {name: site["value"].shape for name, site in sites.items()}


def _described(shapes: dict[str, torch.Size]) -> str:
    return ", ".join([f"{name} {tuple(shape)}" for name, shape in shapes.items()])
