"""The latent sites of a program, looked at before a sampler moves in them."""

from __future__ import annotations

__all__ = [
    "anywhere",
    "continuous_sites",
    "deterministic_sites",
    "device_of",
    "expect_counts",
    "expect_finite",
    "nesting",
    "plates",
    "prototype_of",
]

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor

from ppl_gen.contexts import forked, owner
from ppl_gen.program import stochastic_sites


def expect_counts(**counts: int) -> None:
    """Says when a number of draws, chains or warm-up steps is too small.

    Raises:
        ValueError: Then.
    """
    for name, count in counts.items():
        least = 0 if name == "warmup" else 1
        if count < least:
            raise ValueError(f"expected {name} of at least {least}, got {count}")


def expect_finite(args: Sequence[Any]) -> None:
    """Says when an argument has NaN or infinite values.

    Raises:
        ValueError: Then.
    """
    for i, a in enumerate(args):
        if torch.is_tensor(a) and not bool(torch.isfinite(a).all()):
            raise ValueError(
                f"expected finite data, got NaN or infinite values in argument {i}; remove or "
                "replace them"
            )


def device_of(model: Callable[..., Any], args: Sequence[Any]) -> torch.device:
    """Where the tensors of a call lie: those of its arguments, else of its module."""
    module = owner(model)
    held = [*args, *(module.parameters() if isinstance(module, torch.nn.Module) else ())]
    return next((t.device for t in held if torch.is_tensor(t)), torch.device("cpu"))


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
