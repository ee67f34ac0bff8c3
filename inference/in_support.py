"""Whether data lie where their likelihood has a density: in its support, and not at a bare end."""

from __future__ import annotations

__all__ = ["expect_in_support", "is_inside"]

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ppl_gen.contexts import explained
from ppl_gen.distributions import Columns, Masked
from ppl_gen.supports import described_support, point_in, support_ends, support_of, unwrapped


def expect_in_support(site: Any, x: Tensor | None) -> None:
    """Raises ValueError unless the values at a site have a density, as far as its support tells.

    A class may name closed ends for its support where its density is 0 or infinite: that of a Beta
    or a Gamma is finite there for special parameters alone.

    Args:
        site: An observed site of a trace.
        x: All data, of which the trace may have seen a few.
    """
    if torch.is_tensor(site["mask"]) or isinstance(site["fn"], dist.MaskedDistribution):
        return  # what is masked may be anything
    if x is None and _has_moving_support(site):
        return  # at other latents it may hold them
    values = _all_values(torch.as_tensor(site["value"]), x)
    _expect_inside(unwrapped(site["fn"], masks=True), values, "data")


def is_inside(support: Any, x: Tensor) -> bool:
    """Whether all data lie in a support; also if its bounds differ between the data tried."""
    try:
        return bool(support.check(x).all())
    except RuntimeError:
        return True


def _expect_inside(fn: Any, values: Tensor, what: str) -> None:
    """Raises ValueError unless values are in the support of a distribution, or rightly missing.

    Args:
        fn: The distribution, not wrapped.
        values: Of all data.
        what: What to call them.
    """
    if isinstance(fn, Masked):
        _expect_inside(unwrapped(fn.base), fn.filled(values), what)
        return
    if isinstance(fn, Columns):
        for name, part, some in fn.by_name(values):
            _expect_inside(part, some, f"column {name!r}")
        return
    support = support_of(fn)
    if support is None:
        return
    inside = is_inside(support, values)
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    got = f"got values from {float(values.min()):.3g} to {float(values.max()):.3g}"
    family = type(fn).__name__
    if not inside:
        remedy = _remedy(support, values)
        raise ValueError(f"expected {what} in the support of {family}, {support}, {got}{remedy}")
    if support.is_discrete:
        return
    for end in support_ends(fn):
        reached = bool((values == end).any())
        if reached and not _is_finite_at(end, fn, support, values):
            raise ValueError(
                f"expected {what} at which {family} has a finite log density, inside of "
                f"{described_support(support)}, {got}{_remedy_at(end, support)}"
            )


def _is_finite_at(end: float, fn: Any, support: Any, values: Tensor) -> bool:
    """Whether a distribution has a log density at an end of its support, where values lie on it.

    Parameters that have none anywhere are no fault of the values.

    Args:
        end: The end, which some values are at.
        fn: The distribution of a few data, not wrapped.
        support: Its support, of a number or of an event.
        values: Of all data.
    """
    if support is constraints.simplex:
        usual = torch.full_like(values[:1], 1 / values.shape[-1])
        at_end = values[(values == end).any(-1)][:1]
    else:
        usual = torch.as_tensor(point_in(support)).to(values)
        at_end = torch.where((values == end).any(0), end, usual)
    remedy = "look at its log_prob there, or take another likelihood"
    with torch.no_grad(), explained(f"a log density of {type(fn).__name__} at {end:.3g}", remedy):
        known = fn.log_prob(usual).isfinite()
        finite = fn.log_prob(at_end).isfinite()
    broken = known & ~finite
    return not bool(broken.any())


def _remedy(support: Any, values: Tensor) -> str:
    """What to do about values outside the support of their likelihood, that of each of them."""
    if not support.is_discrete:
        for name in ("lower_bound", "upper_bound"):
            end = getattr(support, name, None)
            if end is not None and bool((values == end).any()):
                return _remedy_at(float(end), support)
        return "; rescale them, or take a likelihood of the whole line (Gaussian, Laplace)"
    if not hasattr(support, "lower_bound"):
        return (
            ": binarise them (binarize 'threshold', 'static' or 'dynamic'), or take a likelihood "
            "of grey values (ContinuousBernoulli, Gaussian, Laplace)"
        )
    broken = values[values != values.round()]
    if len(broken) == 0:
        return "; shift them, or take a likelihood of counts in that range"
    return (
        f", among them {float(broken[0]):.3g}: counts are whole numbers, neither scaled nor "
        "averaged; give them as they were counted, or take a likelihood of real numbers (Gaussian, "
        "Laplace)"
    )


def _remedy_at(end: float, support: Any) -> str:
    """What to do about values at an end of the support, where there is no density."""
    way = "as x ↦ (x (N − 1) + ½)/N moves those in [0, 1]"
    others = "ContinuousBernoulli"
    if not hasattr(support, "upper_bound"):
        way = "as a small number added to all of them does"
        others = "Exponential, HalfNormal"
    if support is constraints.simplex:
        way = "as x ↦ (x (N − 1) + 1/K)/N moves shares of K parts"
        others = "Multinomial, of counts"
    return (
        f", among them {end:.3g}, where it ends and has no density: move them inside, {way}, or "
        f"take a likelihood that has its ends ({others}) or none (Gaussian, Laplace)"
    )


def _has_moving_support(site: Any) -> bool:
    """Whether the support of a distribution depends on its parameters, as that of a Uniform."""
    family = type(unwrapped(site["fn"], masks=True))
    support = getattr(family, "support", None)
    return support is None or bool(constraints.is_dependent(support))


def _all_values(value: Tensor, x: Tensor | None) -> Tensor:
    """The data as a site sees them: x in the shape of the site's value, if that is a part of x."""
    if x is None or value.dim() == 0 or value[:1].numel() != x[:1].numel():
        return value
    return x.reshape(-1, *value.shape[1:])
