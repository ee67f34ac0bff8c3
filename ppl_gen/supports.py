"""Where the draws of a distribution lie, and the way there from the whole line."""

from __future__ import annotations

__all__ = ["is_discrete", "support_of", "to_support", "unwrapped"]

import copy
import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.transforms import biject_to

# An angle's density goes on with period 2π, and Pyro names the whole line for its support; yet
# all draws, and a mass of 1, lie in [−π, π].
_CIRCULAR = (dist.VonMises, dist.SineBivariateVonMises, dist.SineSkewed)
_ANGLES = constraints.interval(-math.pi, math.pi)


def unwrapped(fn: Any, *, masks: bool = False) -> Any:
    """The distribution inside `.to_event`; with `masks`, inside `.expand` and `.mask` as well.

    Args:
        fn: Any distribution.
        masks: Whether to look inside `.expand` and `.mask` too.
    """
    wrappers: Any = torch.distributions.Independent
    if masks:
        wrappers = (wrappers, dist.MaskedDistribution, dist.ExpandedDistribution)
    while isinstance(fn, wrappers):
        fn = fn.base_dist
    return fn


def support_of(fn: Any) -> Any:
    """The set that the draws of a distribution lie in, where its class names none or a larger one.

    Of a mixture, that of its components; of an angle, [−π, π]; of a transformed distribution whose
    last transform is affine, the image of what it is applied to (Pyro names the whole line).

    Args:
        fn: Any distribution.

    Returns:
        A constraint; None if the distribution has none.
    """
    inner = unwrapped(fn, masks=True)
    support = _own_support(inner)
    if support is None:
        return None
    missing = len(fn.event_shape) - len(inner.event_shape)
    if missing:
        return constraints.independent(support, missing)
    return support


def is_discrete(fn: Any) -> bool:
    """Whether the draws of a distribution are counts, labels or some of a few given points.

    Args:
        fn: Any distribution.
    """
    if isinstance(unwrapped(fn, masks=True), dist.Empirical):
        return True
    support = support_of(fn)
    if support is None:
        return bool(fn.has_enumerate_support)
    return bool(support.is_discrete)


def to_support(name: str, fn: Any) -> Any:
    """The transform from the whole line to the support of a latent.

    Args:
        name: Of the latent, for the message.
        fn: Its distribution, which is not discrete.

    Raises:
        ValueError: If the distribution has no support, or one that nothing leads to.
    """
    family = type(unwrapped(fn, masks=True)).__name__
    support = support_of(fn)
    if support is None:
        raise ValueError(
            f"expected a distribution that names its support for the latent {name!r}, got "
            f"{family}, which names none; give its class an attribute `support`, such as "
            "constraints.real"
        )
    try:
        return biject_to(support)
    except NotImplementedError:
        raise ValueError(
            "expected latents on a support that a transform leads to from the whole line, got "
            f"{name!r} from {family} on {support}; register one with "
            "pyro.distributions.transforms.biject_to, or take an estimator that needs none "
            "(log_evidence, elbo)"
        ) from None


def _own_support(fn: Any) -> Any:
    """The support of a distribution that is not wrapped; None where it names none."""
    if isinstance(fn, _CIRCULAR):
        return _over(_ANGLES, len(fn.event_shape))
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        return _of_components(fn)
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return _over(_image(fn), len(fn.event_shape))
    try:
        return fn.support
    except NotImplementedError:
        return _of_wrapped_flow(fn)


def _over(support: Any, event_dims: int) -> Any:
    """The same for every entry of an event with so many axes."""
    missing = event_dims - support.event_dim
    if missing > 0:
        return constraints.independent(support, missing)
    return support


def _of_components(fn: Any) -> Any:
    """The smallest support, of its kind, that holds those of all components of a mixture."""
    components = fn.component_distribution
    support = support_of(components)
    if support is None:
        return None
    return _merged(support, -1 - len(components.event_shape))


def _merged(support: Any, axis: int) -> Any:
    """A support with its bounds taken over one axis, where they differ along it."""
    merged = copy.copy(support)
    if hasattr(support, "base_constraint"):
        merged.base_constraint = _merged(support.base_constraint, axis)
    for name, extreme in (("lower_bound", torch.amin), ("upper_bound", torch.amax)):
        bound = getattr(support, name, None)
        if torch.is_tensor(bound) and bound.dim() >= -axis:
            setattr(merged, name, extreme(bound, axis))
    return merged


def _image(fn: Any) -> Any:
    """The support of a transformed distribution."""
    last = fn.transforms[-1] if fn.transforms else None
    parts = [last]
    if isinstance(last, torch.distributions.ComposeTransform):
        parts = last.parts
    affine = parts[-1] if parts else None
    if not isinstance(affine, torch.distributions.AffineTransform):
        return fn.support
    before = [*fn.transforms[:-1], *parts[:-1]]
    inner = support_of(fn.base_dist)
    if before:
        inner = support_of(dist.TransformedDistribution(fn.base_dist, before))
    return _affine_image(inner, affine)


def _affine_image(support: Any, affine: Any) -> Any:
    """loc + scale · support."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    ends = []
    for name, outermost in (("lower_bound", -math.inf), ("upper_bound", math.inf)):
        end = torch.as_tensor(getattr(support, name, outermost))
        ends.append(affine.loc + affine.scale * end)
    lower = torch.minimum(*ends)
    upper = torch.maximum(*ends)
    if bool(lower.isfinite().all()) and bool(upper.isfinite().all()):
        return constraints.interval(lower, upper)
    if bool(lower.isfinite().all()):
        return constraints.greater_than(lower)
    if bool(upper.isfinite().all()):
        return constraints.less_than(upper)
    return constraints.real


def _of_wrapped_flow(fn: Any) -> Any:
    """The support of a flow inside a wrapper such as `pyro.contrib.zuko.ZukoToPyro`, or None."""
    flow = getattr(fn, "dist", None)
    return getattr(getattr(flow, "transform", None), "domain", None)
