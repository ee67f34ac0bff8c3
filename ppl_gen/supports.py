"""Draws of a distribution: where they lie, the way there, and whether they follow its density."""

from __future__ import annotations

__all__ = [
    "described_support",
    "family_on",
    "flaw_of_draws",
    "is_discrete",
    "is_on_sphere",
    "is_rounded",
    "point_in",
    "support_ends",
    "support_of",
    "to_support",
    "unwrapped",
]

import copy
import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.transforms import biject_to
from torch import Tensor

from ppl_gen.distributions.mixtures import Mixture
from ppl_gen.distributions.spheres import Stereographic

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

    Of a mixture, that of its components; of an angle, [−π, π]; of a transformed distribution, the
    image under its transforms (Pyro names the whole line wherever the last of them is affine).

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


def support_ends(fn: Any) -> tuple[float, float]:
    """The least and the largest value that an entry of a draw can take, or ∓∞.

    Where entries have ends of their own, the outermost.

    Args:
        fn: Any distribution.
    """
    support = support_of(fn)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.simplex:
        return 0.0, 1.0
    ends = _ends(support)
    if ends is None:
        return -math.inf, math.inf
    lower, upper = ends
    return float(lower.min()), float(upper.max())


def point_in(support: Any) -> Any:
    """A number in a support, or a tensor of them; 0 where it is in.

    Args:
        support: Of single numbers: the line, a part of it, or a list of numbers.
    """
    if hasattr(support, "point"):
        return support.point
    lower = getattr(support, "lower_bound", None)
    upper = getattr(support, "upper_bound", None)
    if lower is not None and support.is_discrete:
        return lower
    if lower is not None and upper is not None:
        return (lower + upper) / 2
    if lower is not None:
        return lower + 1.0
    if upper is not None:
        return upper - 1.0
    return 0.0


def flaw_of_draws(fn: Any) -> str:
    """Which distribution has draws that do not follow its density, and why; else empty.

    Args:
        fn: Any distribution.
    """
    fn = unwrapped(fn, masks=True)
    family = type(fn).__name__
    if is_rounded(fn):
        smooth = family.removesuffix("StraightThrough")
        return f"{family}, which rounds them; take {smooth}, or train with svi_step alone"
    # torch draws the squared length of the row r = 2, 3, … from Beta(r − ½, ·), for Beta(r/2, ·):
    # at η = 1 in three dimensions two correlations have a standard deviation of 0.548 for 0.5.
    if isinstance(fn, torch.distributions.LKJCholesky | dist.LKJ) and fn.event_shape[-1] > 2:
        return (
            f"{family}, which torch draws too wide from three dimensions on; take it as a prior "
            "for hmc or under a guide of another family, which draw nothing from it"
        )
    return ""


def is_rounded(fn: Any) -> bool:
    """Whether this is a relaxed label whose draws are rounded, while its density is not.

    Args:
        fn: Any distribution.
    """
    family = type(unwrapped(fn, masks=True)).__name__
    return family.startswith("Relaxed") and family.endswith("StraightThrough")


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


def is_on_sphere(fn: Any) -> bool:
    """Whether draws are directions, whose density is one of areas.

    Args:
        fn: Any distribution.
    """
    return support_of(fn) is constraints.sphere


def described_support(support: Any) -> str:
    """A support in an error: an interval by its outermost ends, whatever its number of entries.

    Args:
        support: A constraint.
    """
    ends = _ends(support)
    if ends is None or not bool(ends[0].isfinite().all() and ends[1].isfinite().all()):
        return str(support)
    return f"[{float(ends[0].min()):.3g}, {float(ends[1].max()):.3g}]"


def family_on(support: Any) -> str:
    """What to say of the family of guides that lies in the support of a prior.

    Args:
        support: Of the prior.
    """
    if support is constraints.sphere:
        return "take guides.on_sphere (guide=guides.on_sphere of a builder)"
    ends = _ends(support)
    if ends is not None and bool((ends[0] == -1).all()) and bool((ends[1] == 1).all()):
        return "take guides.bounded (guide=guides.bounded of a builder)"
    return "take a distribution on that support"


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
    # A circle less a point falls into two ends that chains take for different ones.
    if is_on_sphere(fn) and fn.event_shape[-1] > 2:
        return Stereographic()
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
    if isinstance(fn, Mixture):
        return support_of(fn.components)
    if type(fn) is dist.TransformedDistribution:  # its subclasses know their own
        return _over(_image(fn), len(fn.event_shape))
    try:
        return _proper(fn.support)
    except NotImplementedError:
        return _of_wrapped_flow(fn)


def _proper(support: Any) -> Any:
    """An interval whose upper end is infinite as what it is, a half-line."""
    upper = getattr(support, "upper_bound", None)
    lower = getattr(support, "lower_bound", None)
    if upper is None or lower is None or support.is_discrete:
        return support
    if bool((torch.as_tensor(upper) == math.inf).all()):
        return constraints.greater_than_eq(lower)
    return support


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
    """The support of a transformed distribution: its ends are followed through monotone steps."""
    steps = _steps(fn.transforms)
    ends = _ends(support_of(fn.base_dist))
    if ends is None or not all(map(_is_monotone, steps)):
        return _proper(fn.support)
    lower, upper = ends
    for step in steps:
        reached = (step(lower), step(upper))
        lower = torch.minimum(*reached)
        upper = torch.maximum(*reached)
    return _between(lower, upper)


def _steps(transforms: Sequence[Any]) -> list[Any]:
    """The transforms inside those that are composed, or go over the entries of an event."""
    steps: list[Any] = []
    for transform in transforms:
        if isinstance(transform, torch.distributions.ComposeTransform):
            steps += _steps(transform.parts)
        elif isinstance(transform, torch.distributions.IndependentTransform):
            steps += _steps([transform.base_transform])
        else:
            steps.append(transform)
    return steps


def _is_monotone(transform: Any) -> bool:
    """Whether this is a monotone transform of torch's, which knows where infinity goes."""
    if not type(transform).__module__.startswith("torch.distributions"):
        return False
    return transform.bijective and transform.domain.event_dim == 0


def _ends(support: Any) -> tuple[Tensor, Tensor] | None:
    """The ends of an interval, finite or not; None of anything else."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is None or support.is_discrete or support.event_dim:
        return None
    lower = getattr(support, "lower_bound", -math.inf)
    upper = getattr(support, "upper_bound", math.inf)
    return torch.as_tensor(lower), torch.as_tensor(upper)


def _between(lower: Tensor, upper: Tensor) -> Any:
    """The constraint of what lies between two ends, finite or not."""
    has_lower = bool(lower.isfinite().all())
    has_upper = bool(upper.isfinite().all())
    if has_lower and has_upper:
        return constraints.interval(lower, upper)
    if has_lower:
        return constraints.greater_than(lower)
    if has_upper:
        return constraints.less_than(upper)
    return constraints.real


def _of_wrapped_flow(fn: Any) -> Any:
    """The support of a flow inside a wrapper such as `pyro.contrib.zuko.ZukoToPyro`, or None."""
    flow = getattr(fn, "dist", None)
    return getattr(getattr(flow, "transform", None), "domain", None)
