"""What is wrong with a program, a guide and data taken together, found before any work starts."""

from __future__ import annotations

__all__ = ["Checked", "check", "check_draws", "needs_all_data", "telling_rows"]

from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_gen.contexts import evaluating, expect_context, explained, forked, owner
from ppl_gen.enumeration import is_enumerable
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import Sites, is_auxiliary, latent_sites, plate_nesting, stochastic_sites
from ppl_gen.supports import (
    flaw_of_draws,
    is_discrete,
    is_rounded,
    support_of,
    to_support,
    unwrapped,
)

_RUNNABLE = (
    "take priors, likelihoods and encoders of pyro.distributions that can be drawn from for "
    "several data at once, or run it by itself to see where it stops"
)
_SCORABLE = (
    "take a distribution with a log_prob at any given value (a flow whose inverse is not known "
    "has one at its own draws alone: such a flow can be a guide)"
)


class Checked(NamedTuple):
    """What a check has learned.

    Attributes:
        nesting: How many axes the plates take.
        width: How many numbers the scoring of one datum takes.
        auxiliary: The names of the sites that the guide samples for its own use.
    """

    nesting: int
    width: int
    auxiliary: tuple[str, ...]


def check(
    program: Program, guide: Guide, x: Tensor, *context: Tensor, weighed: bool = True
) -> Checked:
    """Runs program and guide on a few data with validation on; compares their sites, also with x.

    Among the few are those of the smallest and the largest label. Neither the random state nor any
    buffer is changed.

    Args:
        program: Any program with a density.
        guide: q(z | x, c).
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, c, each of length N.
        weighed: Whether densities of draws are to be compared, so that no draw may be a point mass
            or rounded.

    Raises:
        ValueError: If x is empty, not finite, of another shape than the program's data or outside
            the likelihood's support, if a context has another length, if the program cannot be run
            on a few data, if a site of model or guide has no density, or if their latent sites
            differ.
    """
    _expect_data_and_context(program, x, context)
    if needs_all_data(guide):
        rows = torch.arange(x.shape[0], device=x.device)
    else:
        rows = telling_rows(x, context)
    few = [c[rows] for c in context]
    with forked(x.device, None), evaluating(program, guide), pyro.validation_enabled(True):
        with explained("a program that can be run on a few data", _RUNNABLE):
            model_trace = _drawn(program, few, len(rows))
        sites = stochastic_sites(model_trace)
        _expect_likelihood(_data_site(sites), x)
        guide_trace = _traced(guide, x[rows], *few)
    free = latent_sites(model_trace)
    free.pop("x", None)
    guided = latent_sites(guide_trace)
    summable = {name for name, site in free.items() if is_enumerable(site["fn"])}
    summed = {name for name in summable if free[name]["infer"].get("enumerate")}
    latents = free.keys() - summed
    auxiliary = {name for name, site in guided.items() if is_auxiliary(site)}
    proposed = guided.keys() - auxiliary
    if not latents <= proposed <= free.keys():
        raise ValueError(
            f"expected the guide to sample the model's latent sites {sorted(latents)}, got "
            f"{sorted(proposed)}; {_remedy_of_sites(latents - proposed, summable)}"
        )
    for name in sorted(latents):
        _expect_prior(sites[name])
        _expect_proposal(sites[name], guided[name], count=len(rows))
    if weighed:
        _expect_weights(guided)
    with forked(x.device, None), evaluating(program, guide):
        _expect_densities(program.model, guide_trace, x[rows], few)
    return Checked(
        nesting=max(plate_nesting(model_trace), plate_nesting(guide_trace)),
        width=max(x[0].numel(), _width(sites["x"]["fn"], len(rows))),
        auxiliary=tuple(sorted(auxiliary)),
    )


def _remedy_of_sites(missing: Set[str], summable: Set[str]) -> str:
    """What to do where the guide lacks sites, or has others than the model.

    Args:
        missing: The sites that the guide lacks.
        summable: The discrete sites that can be summed out.
    """
    if missing and missing <= summable:
        return (
            "let the guide sample the discrete ones too, or have them summed out: "
            "pyro.sample(..., infer={'enumerate': 'parallel'})"
        )
    return "give the sites the same names in both"


def check_draws(program: Program, x: Tensor, *context: Tensor) -> Tensor:
    """Draws a few data as an implicit model is fitted: differentiable in the latents, no density.

    The contexts are the first two and those of the smallest and the largest label. Neither the
    random state nor any buffer is changed.

    Args:
        program: Any program that samples data "x".
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.

    Returns:
        The draws, of shape (n, *shape), with the contexts that `telling_rows` names.

    Raises:
        ValueError: If x is empty or not finite, if a context has another length, if there is no
            site "x", or if the draws have another shape than x or no gradient.
    """
    _expect_data_and_context(program, x, context)
    few = [c[telling_rows(x, context)] for c in context]
    n = min(len(x), 2)
    if few:
        n = len(few[0])
    with (
        forked(x.device, None),
        evaluating(program),
        pyro.validation_enabled(True),
        torch.enable_grad(),
    ):
        # First without a trace, where what is wrong with a label is said in its own words.
        program.model(None, *few, n=n)
        sites = stochastic_sites(_traced(program.model, None, *few, n=n))
    drawn = _data_site(sites)["value"]
    if drawn.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"expected data of the shape that the program draws, {tuple(drawn.shape[1:])}, got "
            f"{tuple(x.shape[1:])}"
        )
    if not drawn.requires_grad:
        raise ValueError(
            "expected draws that are a differentiable function of the latents, got some without a "
            "gradient: discrete data, or no parameter to train; take Observed(program, Dirac()), "
            "which draws the mean"
        )
    return drawn


def needs_all_data(guide: Guide) -> bool:
    """Whether a guide can only see all data at once, as Pyro's automatic guides do.

    They hold one posterior per datum. A guide of one's own says so by an attribute
    `needs_all_data`.
    """
    return isinstance(guide, AutoGuide) or bool(getattr(owner(guide), "needs_all_data", False))


def telling_rows(x: Tensor, context: tuple[Tensor, ...]) -> Tensor:
    """The indices of the first two data, and of those of the smallest and the largest label.

    Args:
        x: Data of shape (N, *shape).
        context: Labels are those of shape (N,) that are whole numbers, or true and false.
    """
    indices = list(range(min(len(x), 2)))
    for c in context:
        if c.dim() == 1 and not c.is_floating_point():
            label = c.long()  # of booleans there is no smallest
            indices += [int(label.argmin()), int(label.argmax())]
    return torch.tensor(indices, device=x.device)


def _expect_data_and_context(program: Program, x: Tensor, context: tuple[Tensor, ...]) -> None:
    """Raises ValueError if something is wrong with data and context by themselves."""
    expect_context(program, context)
    n = 0
    if x.dim() > 0:
        n = x.shape[0]
    for i, c in enumerate(context):
        if c.shape[0] != n:
            raise ValueError(
                f"expected context {i} to have one row for each of {n} data, got {c.shape[0]}"
            )
    if n == 0:
        raise ValueError(
            f"expected data of shape (N, *shape) with N of at least 1, got shape {tuple(x.shape)}"
        )
    _expect_finite("data", x)
    for c in context:
        _expect_finite("context", c)
    _expect_dtype(program, x)


def _expect_finite(name: str, values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"expected finite {name}, got NaN or infinite values; remove or replace them"
        )


def _expect_dtype(program: Program, x: Tensor) -> None:
    """Raises ValueError if data are floating point numbers of another type than the program's."""
    if not isinstance(program, torch.nn.Module) or not x.is_floating_point():
        return
    dtypes = {p.dtype for p in program.parameters() if p.is_floating_point()}
    if dtypes and x.dtype not in dtypes:
        raise ValueError(
            f"expected data of {' or '.join(map(str, dtypes))}, as the program is, got {x.dtype}; "
            "say x.to(...)"
        )


def _traced(program: Any, *args: Any, **options: Any) -> poutine.Trace:
    """A trace; where there is none, the error says what was expected.

    Raises:
        ValueError: If the program cannot be run.
    """
    with explained("a program that can be run on a few data", _RUNNABLE):
        return poutine.trace(program).get_trace(*args, **options)


def _drawn(program: Program, context: Sequence[Tensor], n: int) -> poutine.Trace:
    """A trace of n draws; of a likelihood that has none, zeros of their shape are taken."""
    try:
        return poutine.trace(program.model).get_trace(None, *context, n=n)
    except NotImplementedError:
        return _traced(_Zeros()(program.model), None, *context, n=n)


class _Zeros(Messenger):
    """Takes zeros for the data, in place of a draw."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "x" and not msg["is_observed"]:
            msg["value"] = torch.zeros(msg["fn"].shape())
            msg["done"] = True


def _data_site(sites: dict[str, Any]) -> Any:
    """The site of the data; raises ValueError if there is none."""
    if "x" not in sites:
        raise ValueError(
            f"expected the program to sample the data at a site 'x', got the sites {sorted(sites)}"
        )
    return sites["x"]


def _expect_likelihood(site: Any, x: Tensor) -> None:
    """Raises ValueError unless the likelihood has a density of data of the shape of x, and at x."""
    expected = tuple(site["value"].shape[1:])
    if expected != tuple(x.shape[1:]):
        raise ValueError(
            f"expected data of shape (N, {', '.join(map(str, expected))}), got {tuple(x.shape)}; "
            "reshape them"
        )
    fn = unwrapped(site["fn"], masks=True)
    if isinstance(fn, dist.Delta):
        raise ValueError(
            "expected a likelihood with a density, got a Dirac: an implicit model has none; "
            "score ppl_gen.program.Observed(program, Gaussian(ε)) instead"
        )
    if is_rounded(fn):
        raise ValueError(
            f"expected a likelihood whose draws follow its density, got {flaw_of_draws(fn)}"
        )
    if isinstance(fn, dist.Empirical):
        raise ValueError(
            "expected a likelihood with a density, got Empirical, which has draws of its points "
            "alone; take a mixture of distributions at these points (MixtureSameFamily)"
        )
    support = support_of(site["fn"])
    if support is None or _is_inside(support, x):
        return
    what = (
        f"expected data in the support of {type(fn).__name__}, {support}, got values from "
        f"{float(x.min()):.3g} to {float(x.max()):.3g}"
    )
    raise ValueError(what + _remedy(support, x))


def _remedy(support: Any, x: Tensor) -> str:
    """What to do about data outside the support of their likelihood."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if not support.is_discrete:
        return "; rescale them, or take a likelihood of the whole line (Gaussian, Laplace)"
    if not hasattr(support, "lower_bound"):
        return (
            ": binarise them (binarize 'threshold', 'static' or 'dynamic'), or take a likelihood "
            "of grey values (ContinuousBernoulli, Gaussian, Laplace)"
        )
    broken = x[x != x.round()]
    if len(broken) == 0:
        return "; shift them, or take a likelihood of counts in that range"
    return (
        f", among them {float(broken[0]):.3g}: counts are whole numbers, neither scaled nor "
        "averaged; give them as they were counted, or take a likelihood of real numbers (Gaussian, "
        "Laplace)"
    )


def _expect_prior(site: Any) -> None:
    """Raises ValueError if a latent of the model has no values that could be weighed."""
    fn = unwrapped(site["fn"], masks=True)
    if isinstance(fn, dist.Delta | dist.Unit):
        raise ValueError(
            f"expected a prior with a density at the latent {site['name']!r}, got "
            f"{type(fn).__name__}, which has none; say pyro.deterministic for what is known, "
            "pyro.factor for a weight"
        )


def _expect_weights(guide_sites: Sites) -> None:
    """Raises ValueError if a guide's density is not that of its draws: weights mean nothing then.

    Args:
        guide_sites: What the guide samples, by name.
    """
    # A Delta beside auxiliary sites carries their density.
    if not any(map(is_auxiliary, guide_sites.values())):
        for name, site in guide_sites.items():
            if isinstance(unwrapped(site["fn"], masks=True), dist.Delta):
                raise ValueError(
                    f"expected a guide with a density, got a point mass at {name!r}: the best "
                    "latents are no posterior, and their weights no evidence; take a guide such as "
                    "AutoNormal, or from_prior(program)"
                )
    for name, site in guide_sites.items():
        if isinstance(unwrapped(site["fn"], masks=True), dist.Unit):
            raise ValueError(
                f"expected latents with values, got Unit at {name!r}, which has none; say "
                "pyro.factor for a weight"
            )
        if flaw := flaw_of_draws(site["fn"]):
            raise ValueError(f"expected draws of {name!r} that follow their density, got {flaw}")


def _expect_densities(
    model: Any, guide_trace: poutine.Trace, x: Tensor, context: Sequence[Tensor]
) -> None:
    """Raises ValueError unless model and guide have densities, one for each draw, at a proposal.

    Args:
        model: The program's model.
        guide_trace: A trace of the guide on these data.
        x: A few data.
        context: What they are conditioned on.
    """
    scored = _traced(poutine.replay(model, trace=guide_trace), x, *context)
    for part, trace in (("model", scored), ("guide", guide_trace)):
        for name, site in stochastic_sites(trace).items():
            fn = site["fn"]
            family = type(unwrapped(fn, masks=True)).__name__
            with explained(f"a density of {family} at {name!r} of the {part}", _SCORABLE):
                log_prob = fn.log_prob(site["value"])
            if log_prob.shape != fn.batch_shape:
                raise ValueError(
                    f"expected one log density of {family} at {name!r} of the {part} for each "
                    f"draw, of shape {tuple(fn.batch_shape)}, got {tuple(log_prob.shape)}; say "
                    ".to_event for axes that belong to a draw"
                )


def _expect_proposal(latent: Any, proposal: Any, count: int) -> None:
    """Raises ValueError unless the guide samples a latent of the model's size, in its support.

    Args:
        latent: The site of the model.
        proposal: The site of the guide.
        count: How many data both were run on.
    """
    name = latent["name"]
    expected = latent["value"].numel() // count
    got = proposal["value"].numel() // count
    if expected != got:
        raise ValueError(
            f"expected the guide to sample {name!r} of {expected} numbers for each datum, got {got}"
        )
    support = support_of(latent["fn"])
    value = _reached(proposal)
    if support is not None and not _is_inside(support, value):
        raise ValueError(
            f"expected the guide to sample {name!r} in the support of its prior, {support}, "
            f"got values from {float(value.min()):.3g} to {float(value.max()):.3g}; take a "
            "distribution on that support"
        )


def _is_inside(support: Any, x: Tensor) -> bool:
    """Whether all data lie in a support; also if its bounds differ between the data tried."""
    try:
        return bool(support.check(x).all())
    except RuntimeError:
        return True


def _reached(site: Any) -> Tensor:
    """What was drawn at a site; of a continuous one also points far out in its support."""
    fn = site["fn"]
    drawn = site["value"]
    points = [drawn]
    if not is_discrete(fn) and not isinstance(unwrapped(fn, masks=True), dist.Delta):
        with suppress(ValueError):
            transform = to_support(site["name"], fn)
            shape = transform.inverse_shape(drawn.shape)
            for end in (-5.0, 5.0):
                far = transform(drawn.new_full(shape, end))
                points.append(far.expand(drawn.shape))
    return torch.stack(points)


def _width(fn: Any, count: int) -> int:
    """How many numbers per datum the largest parameter of a likelihood holds, of `count` data."""
    width = 0
    for value in vars(unwrapped(fn, masks=True)).values():
        if torch.is_tensor(value):
            width = max(width, value.numel() // count)
    return width
