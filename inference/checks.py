"""What is wrong with a program, a guide and data taken together, said before any work starts."""

from __future__ import annotations

__all__ = ["Checked", "check", "check_draws", "needs_all_data", "telling_rows"]

from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from ppl_gen.contexts import evaluating, expect_context, forked, owner
from ppl_gen.program import is_auxiliary, plate_nesting, stochastic_sites
from ppl_gen.protocols import Guide, Program


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


def check(program: Program, guide: Guide, x: Tensor, *context: Tensor) -> Checked:
    """Runs program and guide once on a few data, with validation on, and compares their sites with
    each other and with x.

    Among the few are those of the smallest and the largest label. Neither the random state nor any
    buffer is changed.

    Raises:
        ValueError: If x is empty, not finite, of another shape than the program's data or outside
            the likelihood's support, if a context has another length, if the likelihood has no
            density, or if the latent sites of model and guide differ.
    """
    _check_batch(program, x, context)
    rows = (
        torch.arange(x.shape[0], device=x.device)
        if needs_all_data(guide)
        else telling_rows(x, context)
    )
    few = [c[rows] for c in context]
    with forked(x.device, None), evaluating(program, guide), pyro.validation_enabled(True):
        model_trace = _run(program.model, None, *few, n=len(rows))
        sites = stochastic_sites(model_trace)
        if "x" not in sites:
            raise ValueError(
                "expected the program to sample the data at a site 'x', got the sites "
                f"{sorted(sites)}"
            )
        _check_data(sites["x"], x)
        guide_trace = _run(guide, x[rows], *few)
    free = {name: site for name, site in sites.items() if name != "x" and not site["is_observed"]}
    latents = {name for name, site in free.items() if not site["infer"].get("enumerate")}
    guided = {
        name: site
        for name, site in stochastic_sites(guide_trace).items()
        if not site["is_observed"]
    }
    proposed = {name for name, site in guided.items() if not is_auxiliary(site)}
    if not latents <= proposed <= free.keys():
        raise ValueError(
            f"expected the guide to sample the model's latent sites {sorted(latents)}, got "
            f"{sorted(proposed)}; give the sites the same names in both"
        )
    for name in sorted(latents):
        expected, got = (s[name]["value"].numel() // len(rows) for s in (sites, guided))
        if expected != got:
            raise ValueError(
                f"expected the guide to sample {name!r} of {expected} numbers for each datum, got "
                f"{got}"
            )
        support, value = sites[name]["fn"].support, _reached(guided[name])
        if not _inside(support, value):
            raise ValueError(
                f"expected the guide to sample {name!r} in the support of its prior, {support}, "
                f"got values from {float(value.min()):.3g} to {float(value.max()):.3g}; take a "
                "distribution on that support"
            )
    width = max(
        x[0].numel(),
        *(
            t.numel() // len(rows)
            for t in vars(_base(sites["x"]["fn"])).values()
            if torch.is_tensor(t)
        ),
    )
    auxiliary = tuple(sorted(name for name, site in guided.items() if is_auxiliary(site)))
    return Checked(max(plate_nesting(model_trace), plate_nesting(guide_trace)), width, auxiliary)


def check_draws(program: Program, x: Tensor, *context: Tensor) -> Tensor:
    """Draws a few data as an implicit model is fitted: without a density, as a differentiable
    function of the latents.

    The contexts are the first two and those of the smallest and the largest label. Neither the
    random state nor any buffer is changed.

    Returns:
        The draws, (n, *shape), with the contexts that `telling_rows` names.

    Raises:
        ValueError: If x or a context is not as it should be (see `check`), if there is no site "x",
            or if the draws have another shape than x or no gradient.
    """
    _check_batch(program, x, context)
    few = [c[telling_rows(x, context)] for c in context]
    n = len(few[0]) if few else min(len(x), 2)
    with (
        forked(x.device, None),
        evaluating(program),
        pyro.validation_enabled(True),
        torch.enable_grad(),
    ):
        program.model(
            None, *few, n=n
        )  # not traced: what is wrong with a label is said in its own words
        sites = stochastic_sites(_run(program.model, None, *few, n=n))
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


def _check_batch(program: Program, x: Tensor, context: tuple[Tensor, ...]) -> None:
    """Says what is wrong with data and context by themselves."""
    expect_context(program, context)
    n = x.shape[0] if x.dim() else 0
    for i, c in enumerate(context):
        if c.shape[0] != n:
            raise ValueError(
                f"expected context {i} to have one row for each of {n} data, got {c.shape[0]}"
            )
    if n == 0:
        raise ValueError(
            f"expected data of shape (N, *shape) with N of at least 1, got shape {tuple(x.shape)}"
        )
    for name, values in (("data", x), *(("context", c) for c in context)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"expected finite {name}, got NaN or infinite values; remove or replace them"
            )
    _check_dtype(program, x)


def _run(program: Any, *args: Any, **options: Any) -> poutine.Trace:
    try:
        return poutine.trace(program).get_trace(*args, **options)
    except TypeError as error:
        raise ValueError(
            f"the program cannot be run on a few data: {str(error).splitlines()[0]}; expected "
            "priors, likelihoods and encoders that return distributions of pyro.distributions"
        ) from error


def needs_all_data(guide: Guide) -> bool:
    """Whether a guide holds one posterior per datum, as Pyro's automatic guides do: it can only see
    all data at once.

    A guide of one's own says so with an attribute `needs_all_data`.
    """
    return isinstance(guide, AutoGuide) or bool(getattr(owner(guide), "needs_all_data", False))


def _check_dtype(program: Program, x: Tensor) -> None:
    parameters = program.parameters() if isinstance(program, torch.nn.Module) else iter(())
    dtypes = {p.dtype for p in parameters if p.is_floating_point()}
    if x.is_floating_point() and dtypes and x.dtype not in dtypes:
        raise ValueError(
            f"expected data of {' or '.join(map(str, dtypes))}, as the program is, got {x.dtype}; "
            "say x.to(...)"
        )


def _inside(support: Any, x: Tensor) -> bool:
    """Whether all data lie in a support; one whose bounds differ between the few data that were
    tried decides nothing.
    """
    try:
        return bool(support.check(x).all())
    except RuntimeError:
        return True


def _reached(site: Any) -> Tensor:
    """What was drawn at a site and, of a continuous one, points far out in its distribution's
    support.
    """
    fn, drawn = site["fn"], site["value"]
    points = [drawn]
    if not fn.support.is_discrete and not isinstance(_base(fn), dist.Delta):
        with suppress(NotImplementedError):
            transform = biject_to(fn.support)
            shape = transform.inverse_shape(drawn.shape)
            points += [transform(drawn.new_full(shape, end)) for end in (-5.0, 5.0)]
    return torch.stack([p.expand(drawn.shape) for p in points])


def telling_rows(x: Tensor, context: tuple[Tensor, ...]) -> Tensor:
    """The first two data, and those of the smallest and the largest label."""
    labels = [c for c in context if c.dim() == 1 and not c.is_floating_point()]
    extremes = [index for c in labels for index in (int(c.argmin()), int(c.argmax()))]
    return torch.tensor([*range(min(len(x), 2)), *extremes], device=x.device)


def _base(fn: Any) -> Any:
    """The distribution inside those that only reshape or mask it."""
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn


def _check_data(site: Any, x: Tensor) -> None:
    expected, got = tuple(site["value"].shape[1:]), tuple(x.shape[1:])
    if expected != got:
        raise ValueError(
            f"expected data of shape (N, {', '.join(map(str, expected))}), got {tuple(x.shape)}; "
            "reshape them"
        )
    fn = _base(site["fn"])
    name = type(fn).__name__
    if isinstance(fn, dist.Delta):
        raise ValueError(
            "expected a likelihood with a density, got a Dirac: an implicit model has none; "
            "score ppl_gen.program.Observed(program, Gaussian(ε)) instead"
        )
    support = fn.support
    if _inside(support, x):
        return
    what = f"expected data in the support of {name}, {support}, got values from {float(x.min()):.3g} to {float(x.max()):.3g}"
    if support.is_discrete:
        raise ValueError(
            f"{what}: binarise them (binarize 'threshold', 'static' or 'dynamic'), or take a "
            "likelihood of grey values (ContinuousBernoulli, Gaussian, Laplace)"
        )
    raise ValueError(
        f"{what}; rescale them, or take a likelihood of the whole line (Gaussian, Laplace)"
    )
