"""What is wrong with a program, a guide and data taken together, found before any work starts."""

from __future__ import annotations

__all__ = [
    "Checked",
    "check",
    "check_arguments",
    "check_draws",
    "check_sites",
    "expect_observed",
    "expect_values",
    "few_data",
    "needs_all_data",
    "telling_rows",
]

import math
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from ppl_gen.arguments import FILL, described, expect_data, expect_devices, traced
from ppl_gen.contexts import (
    device_of,
    evaluating,
    expect_program,
    explained,
    forked,
    owner,
    simulates,
)
from ppl_gen.distributions import Masked
from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference.in_support import expect_in_support, is_inside
from ppl_gen.protocols import Distribution, Guide, Program
from ppl_gen.sites import (
    Sites,
    is_auxiliary,
    is_deterministic,
    latent_sites,
    plate_nesting,
    stochastic_sites,
)
from ppl_gen.slots import blaming_slots, expect_rows, likelihood_hint
from ppl_gen.supports import (
    described_support,
    family_on,
    flaw_of_draws,
    is_discrete,
    is_on_sphere,
    is_rounded,
    support_of,
    to_support,
    unwrapped,
)

_SCORABLE = (
    "take a distribution with a log_prob at any given value (a flow whose inverse is not known "
    "has one at its own draws alone: such a flow can be a guide)"
)


_DRAWN = "a program that data can be drawn from"
_RUN_BY_ITSELF = "run its model by itself to see where it stops"


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
        ValueError: If x is no tensor, empty, not finite, of another shape than the program's data
            or where the likelihood has no density, if a context has another length, if program or
            guide cannot be run on a few data, if a site of model or guide has no density, or if
            their latent sites differ, in their names, shapes or supports.
    """
    expect_program(program)
    expect_data(program, (x, *context))
    expect_devices((guide,), (x, *context))
    few = few_data(guide, (x, *context))
    count = few[0].shape[0]
    with forked(x.device, None), evaluating(program, guide), pyro.validation_enabled(True):
        model_trace = traced(program.model, few)
        sites = stochastic_sites(model_trace)
        with blaming_slots(program, few):
            observed = expect_observed(program.model, sites, x)
        expect_rows(program, few)
        if not observed:
            raise ValueError(
                "expected the program to observe the data at a site (pyro.sample(..., obs=x)), got "
                f"the sites {sorted(sites)}, none of them observed"
            )
        guide_trace = traced(guide, few, "guide")
    guided = latent_sites(guide_trace)
    _expect_sight(guided, few[0])
    for name in _expect_same_names(latent_sites(model_trace), guided):
        _expect_prior(sites[name])
        _expect_proposal(sites[name], guided[name], count=count)
    if weighed:
        _expect_weights(guided)
    with forked(x.device, None), evaluating(program, guide):
        at_proposal = traced(poutine.replay(program.model, trace=guide_trace), few)
        _expect_densities({"model": at_proposal, "guide": guide_trace})
    return Checked(
        nesting=max(plate_nesting(model_trace), plate_nesting(guide_trace)),
        width=max(x[0].numel(), *[_width(site["fn"], count) for site in observed.values()]),
        auxiliary=tuple(sorted(name for name, site in guided.items() if is_auxiliary(site))),
    )


def check_arguments(model: Callable[..., Any], args: Sequence[Any]) -> None:
    """Looks at what a program's model is to be called with: data and context of N rows each.

    Any other Pyro model may take what it likes. The program is run on a few data with validation
    on. Neither the random state nor any buffer is changed.

    Args:
        model: A program's model, or a Pyro model of any other kind.
        args: What it is called with.

    Raises:
        ValueError: If the model is a program's, and x is no tensor, empty, not finite, of another
            shape than the program's data or where the likelihood has no density, if a context is
            missing, left over or of another length, or if the likelihood has none anywhere.
    """
    expect_devices((model,), args)
    if not args or not simulates(model):
        return
    expect_data(model, args)
    x = args[0]
    rows = telling_rows(x, tuple(args[1:]))
    few = [t[rows] for t in args]
    with forked(x.device, None), evaluating(model), pyro.validation_enabled(True):
        sites = stochastic_sites(traced(model, few))
        with blaming_slots(owner(model), few):
            expect_observed(model, sites, x)
        expect_rows(owner(model), few)


def check_sites(model: Callable[..., Any], guide: Callable[..., Any], args: Sequence[Any]) -> None:
    """Runs any Pyro model and guide once and compares their sites.

    Pyro warns of a latent that the guide leaves out, draws it from its prior, and trains the rest
    under that. Neither the random state nor any buffer is changed.

    Args:
        model: Any Pyro model; sites to be enumerated need no guide.
        guide: Its guide.
        args: What both are called with.

    Raises:
        ValueError: If one of them cannot be run, their latent sites differ in names or shapes, or
            what the model observes has another shape than its distribution, lies outside of its
            support or has no density.
    """
    expect_devices((model, guide), args)
    with forked(device_of(None, args), None), evaluating(model, guide):
        guide_trace = traced(guide, args, "guide")
        model_trace = traced(poutine.replay(model, trace=guide_trace), args)
        expect_observed(model, stochastic_sites(model_trace))
    free = latent_sites(model_trace)
    for name in _expect_same_names(free, latent_sites(guide_trace)):
        _expect_same_shape(name, free[name]["fn"].shape(), free[name]["value"].shape)


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
    expect_data(program, (x, *context))
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
        with blaming_slots(program, (None, *few)), explained(_DRAWN, _RUN_BY_ITSELF):
            program.model(None, *few, n=n)
        sites = stochastic_sites(traced(program.model, (None, *few), n=n))
    if "x" not in sites:
        raise ValueError(
            f"expected the program to sample the data at a site 'x', got the sites {sorted(sites)}"
        )
    drawn = sites["x"]["value"]
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
    """The indices of the first two data, those of the smallest and the largest label, and the datum
    of which most is missing.

    Args:
        x: Data of shape (N, *shape).
        context: Labels are those of shape (N,) that are whole numbers, or true and false.
    """
    indices = list(range(min(len(x), 2)))
    for c in context:
        if c.dim() == 1 and not c.is_floating_point():
            label = c.long()  # of booleans there is no smallest
            indices += [int(label.argmin()), int(label.argmax())]
    missing = x.isnan().reshape(len(x), -1).sum(1)
    if bool(missing.any()):
        indices.append(int(missing.argmax()))
    return torch.tensor(indices, device=x.device)


def few_data(guide: Guide, data: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Some rows of data and context, on which a check is made; all where a guide needs all.

    Args:
        guide: q(z | x, c).
        data: (x, *context), each of length N.
    """
    if needs_all_data(guide):
        return tuple(data)
    rows = telling_rows(data[0], tuple(data[1:]))
    return tuple([t[rows] for t in data])


def expect_observed(model: Callable[..., Any], sites: Sites, x: Tensor | None = None) -> Sites:
    """The observed sites, once their values are known to fit their distributions.

    A value has the shape of its distribution: where the two are broadcast against each other, a
    datum counts several times, or another datum's parameters score it. Only where a site is in no
    plate may one distribution serve all values.

    Args:
        model: The model, for what to say of its likelihood.
        sites: The sites of a trace of the model.
        x: All data, of which the trace may have seen a few.

    Returns:
        By name, those that hold data: neither computed (pyro.deterministic) nor weights
        (pyro.factor).

    Raises:
        ValueError: If a value has another shape than its distribution, lies outside its support or
            has no log density, or if its distribution is a Dirac.
    """
    observed = {}
    for name, site in sites.items():
        if site["is_observed"] and not _is_computed(site):
            _expect_shape_of_site(model, site, x)
            _expect_likelihood(site)
            expect_in_support(site, x)
            _expect_log_prob(site)
            observed[name] = site
    return observed


def _is_computed(site: Any) -> bool:
    """Whether an observed value is no datum: what the model computes, or a weight."""
    fn = unwrapped(site["fn"], masks=True)
    if is_deterministic(site) or isinstance(fn, dist.Unit):
        return True
    # As reparameterised sites are, a point that is observed at itself.
    return isinstance(fn, dist.Delta) and torch.equal(fn.v, site["value"])


def _expect_shape_of_site(model: Callable[..., Any], site: Any, x: Tensor | None) -> None:
    """Raises ValueError unless an observed value has the shape of its distribution."""
    expected = (*site["fn"].batch_shape, *site["fn"].event_shape)  # tuples or lists, of some
    got = tuple(torch.as_tensor(site["value"]).shape)
    if _without_ones(expected) == _without_ones(got) or _is_shared(site, expected, got):
        return
    hint = likelihood_hint(model)
    remedy = "reshape them"
    if hint:
        remedy += f"; {hint}"
    if x is not None and got[1:] == tuple(x.shape[1:]):
        inner = ", ".join(["N", *map(str, expected[1:])])
        raise ValueError(f"expected data of shape ({inner}), got {tuple(x.shape)}; {remedy}")
    raise ValueError(
        f"expected data of shape {expected} at the site {site['name']!r}, got {got}, which would "
        f"be broadcast against them; {remedy}"
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its first axes of size one, which add nothing where they are broadcast."""
    first = 0
    while first < len(shape) and shape[first] == 1:
        first += 1
    return shape[first:]


def _is_shared(site: Any, expected: tuple[int, ...], got: tuple[int, ...]) -> bool:
    """Whether the site is in no plate, and one distribution serves all its values."""
    if any(frame.vectorized for frame in site["cond_indep_stack"]):
        return False
    events = len(site["fn"].event_shape)
    if events and expected[-events:] != got[-events:]:
        return False
    try:
        return tuple(torch.broadcast_shapes(expected, got)) == got
    except RuntimeError:
        return False


def _expect_likelihood(site: Any) -> None:
    """Raises ValueError unless data at this site have a density, and draws that follow it."""
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


def _expect_log_prob(site: Any) -> None:
    """Raises ValueError if the log density cannot be computed, as for data of a wrong dtype."""
    value = torch.as_tensor(site["value"])
    if value.is_floating_point():
        return
    what = f"{_family(site)} at {site['name']!r} to score {described(value)}"
    with explained(what, "pass floating point numbers: x.float()"):
        site["fn"].log_prob(value)


def _family(site: Any) -> str:
    """The class of a site's distribution, without what it is wrapped in."""
    fn = unwrapped(site["fn"], masks=True)
    if isinstance(fn, Masked):
        fn = fn.base
    return type(fn).__name__


def _expect_prior(site: Any) -> None:
    """Raises ValueError if a latent of the model has no values that could be weighed."""
    fn = unwrapped(site["fn"], masks=True)
    if isinstance(fn, dist.Delta | dist.Unit):
        raise ValueError(
            f"expected a prior with a density at the latent {site['name']!r}, got "
            f"{type(fn).__name__}, which has none; say pyro.deterministic for what is known, "
            "pyro.factor for a weight"
        )
    expect_values(site)


def expect_values(site: Any) -> None:
    """Raises ValueError if a latent site has no values, as one of 0 dimensions.

    Args:
        site: Of a trace.
    """
    if site["value"].numel() == 0:
        raise ValueError(
            f"expected latents with values, got none at {site['name']!r}, of shape "
            f"{tuple(site['value'].shape)}; leave it out"
        )


def _expect_sight(guided: Sites, x: Tensor) -> None:
    """Raises ValueError if a guide answers data with missing entries by NaN.

    Args:
        guided: The guide's latent sites.
        x: What it was given.
    """
    if not bool(x.isnan().any()):
        return
    for name, site in guided.items():
        if bool(site["value"].isnan().any()):
            raise ValueError(f"expected the guide to sample numbers at {name!r}, got NaN; {FILL}")


def _expect_weights(guide_sites: Sites) -> None:
    """Raises ValueError if a guide's density is not that of its draws: weights mean nothing then.

    Args:
        guide_sites: What the guide samples, by name.
    """
    for name, site in guide_sites.items():
        if isinstance(unwrapped(site["fn"], masks=True), dist.Unit):
            raise ValueError(
                f"expected latents with values, got Unit at {name!r}, which has none; say "
                "pyro.factor for a weight"
            )
        if flaw := flaw_of_draws(site["fn"]):
            raise ValueError(f"expected draws of {name!r} that follow their density, got {flaw}")


def _expect_densities(traces: Mapping[str, poutine.Trace]) -> None:
    """Raises ValueError unless all sites have densities, one for each draw, at a proposal.

    Args:
        traces: By "model" and "guide", their traces at the guide's draws.
    """
    for part, trace in traces.items():
        for name, site in stochastic_sites(trace).items():
            fn = site["fn"]
            family = _family(site)
            with explained(f"a density of {family} at {name!r} of the {part}", _SCORABLE):
                log_prob = fn.log_prob(site["value"])
            if log_prob.shape != fn.batch_shape:
                raise ValueError(
                    f"expected one log density of {family} at {name!r} of the {part} for each "
                    f"draw, of shape {tuple(fn.batch_shape)}, got {tuple(log_prob.shape)}; say "
                    ".to_event for axes that belong to a draw"
                )


def _expect_same_names(free: Sites, guided: Sites) -> list[str]:
    """The latents that model and guide both sample; raises ValueError if one lacks any.

    Args:
        free: The model's latent sites. Discrete ones to be enumerated the guide may leave out.
        guided: The guide's. Those for its own use are no concern of the model's.
    """
    summable = {name for name, site in free.items() if is_enumerable(site["fn"])}
    summed = {name for name in summable if free[name]["infer"].get("enumerate")}
    latents = free.keys() - summed
    proposed = {name for name, site in guided.items() if not is_auxiliary(site)}
    if latents <= proposed <= free.keys():
        return sorted(latents)
    raise ValueError(
        f"expected the guide to sample the model's latent sites {sorted(latents)}, got "
        f"{sorted(proposed)}; {_remedy_of_sites(latents - proposed, summable)}"
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


def _expect_same_shape(name: str, expected: torch.Size, got: torch.Size) -> None:
    if expected != got:
        raise ValueError(
            f"expected the guide to sample {name!r} of shape {tuple(expected)}, as the model does, "
            f"got {tuple(got)}; give the plates of both the same axes (dim=-1, dim=-2)"
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
            f"expected the guide to sample {name!r} of {expected} numbers for each datum, got "
            f"{got}; give guide and prior the same latent dimension"
        )
    _expect_axes_in_plates(name, proposal)
    _expect_same_shape(name, latent["value"].shape, proposal["value"].shape)
    support = support_of(latent["fn"])
    value = _reached(proposal)
    if support is not None and not is_inside(support, value):
        raise ValueError(
            f"expected the guide to sample {name!r} in the support of its prior, "
            f"{described_support(support)}, got values from {float(value.min()):.3g} to "
            f"{float(value.max()):.3g}; {family_on(support)}"
        )
    if is_on_sphere(proposal["fn"]) and not is_on_sphere(latent["fn"]):
        raise ValueError(
            f"expected the guide to sample {name!r} in a support like that of its prior, "
            f"{_family(latent)}, got {_family(proposal)}, whose density is one of areas of a "
            "sphere; take priors.Hypersphere with it, or a guide of the whole line"
        )


def _expect_axes_in_plates(name: str, proposal: Any) -> None:
    """Raises ValueError if a guide's distribution has batch axes left of those of its plates.

    On a few data they may be as many as the data by chance, and are taken for them.
    """
    nesting = 0
    for frame in proposal["cond_indep_stack"]:
        if frame.vectorized:
            nesting = max(nesting, -frame.dim)
    batch = tuple(proposal["fn"].batch_shape)
    if math.prod(batch[: len(batch) - nesting]) > 1:
        raise ValueError(
            f"expected the guide to sample {name!r} with a batch axis for each plate, {nesting} "
            f"in all, got batch shape {batch}; say .to_event({len(batch) - nesting}) for axes that "
            "belong to a draw"
        )


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
    """How many numbers per datum the largest parameter of a likelihood holds, of `count` data.

    A distribution that computes more of them when it is scored has a `scoring_width` that says so.
    """
    inner = unwrapped(fn, masks=True)
    width = int(getattr(inner, "scoring_width", 0))
    for value in vars(inner).values():
        if torch.is_tensor(value):
            width = max(width, value.numel() // count)
        if isinstance(value, Distribution):
            width = max(width, _width(value, count))
    return width
