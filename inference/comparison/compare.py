"""Variational inference, MCMC and, where it is known, the exact posterior, on the same data."""

from __future__ import annotations

__all__ = ["Comparison", "compare"]

import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ppl_gen.arguments import traced
from ppl_gen.contexts import (
    device_of,
    evaluating,
    explained,
    forked,
    guide_of,
    seeded,
    store_kept,
)
from ppl_gen.inference.comparison.comparison import Comparison, shared_sites, side_by_side
from ppl_gen.inference.comparison.divergences import densities_of, predict
from ppl_gen.inference.comparison.exact import Exact
from ppl_gen.inference.comparison.guide_density import Approximation, latents_at_zero
from ppl_gen.inference.comparison.marginals import Marginals, standardised_distance
from ppl_gen.inference.comparison.verdict import judge
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.expect import expect_counts, expect_finite
from ppl_gen.inference.fitting.guides import GuideFit
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.inference.latents.prototype import prototype_of
from ppl_gen.inference.mcmc.convergence import ConvergenceWarning
from ppl_gen.inference.mcmc.draws import Draws, Progress
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.protocols import Guide
from ppl_gen.sites import data_plate, is_auxiliary, stochastic_sites
from ppl_gen.supports import is_discrete

_POINTS = 64  # at which the guide is asked whether it leaves anything out
_RUNNABLE = "a program and a guide that can be run on these data"
_REMEDY = "run each by itself to see where"
_MOST_CORRELATED = 256  # coordinates, of all pairs of which correlations are listed


def compare(
    program: Any,
    guide: Guide | GuideFit | None,
    *data: Any,
    sampler: Callable[..., Draws] = hmc,
    draws: int = 1000,
    chains: int = 16,
    warmup: int = 500,
    guide_draws: int = 4000,
    particles: int | None = None,
    local: bool | None = None,
    exact: Any = None,
    seed: int | None = None,
    progress: bool = False,
    on_draw: Callable[[Progress], None] | None = None,
    engine: Engine = "auto",
) -> Comparison:
    """KL(q ‖ p), KL(p ‖ q) and SW₂(q, p): how far the guide q(z) is from the posterior p(z | x).

    Moments, intervals, evidence and prediction of both are compared as well. KL(q ‖ p) = log p(x) −
    ELBO and KL(p ‖ q) = E_p[log p(x, z) − log q(z)] − log p(x), with log p(x) exact where it is
    known and importance-weighted elsewhere. All densities are those of the flat unconstrained
    latents of a `Potential`; moments and intervals are also taken of the sites as they are.

    Args:
        program: Any program, or the model itself; discrete latents of finite support are summed
            out.
        guide: q(z), called with the same data; `program.guide` if None. What `fit_guide` returns
            brings the seconds of its fit along.
        *data: What the model is called with, (x, *context) for a program; nothing for one without
            data.
        sampler: `hmc`, `nuts` or any function of the same keywords; one without the keyword `local`
            samples all latents jointly.
        draws: The number of draws that each chain keeps.
        chains: The number of chains.
        warmup: The number of iterations before these, in which the sampler adapts.
        guide_draws: M, the number of draws of the guide that are kept.
        particles: K, the number of draws of the guide whose weights give evidence, ELBO and k̂;
            `guide_draws` if None.
        local: Whether each datum has a posterior of its own; if None, this is so where all latents
            of model and guide lie in the plate "data".
        exact: The true posterior: a distribution of the only latent site, or (mean, sd) by site.
            None takes the program's `exact_posterior`, or else its `reference` where these are its
            data.
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar while sampling.
        on_draw: Called now and then with the state of the sampler.
        engine: How the sampler computes its steps: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps.

    Returns:
        All numbers, with a verdict in words.

    Raises:
        ValueError: Before sampling starts, if a count is below 1, data are not finite, the guide's
            latent sites are not the model's, the model has no continuous latents, discrete ones
            that cannot be summed out, or sites that come and go, or, where `local`, a latent lies
            outside the plate "data".

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> guide = pyro.infer.autoguide.AutoNormal(line.model)  # as it begins, not fitted
        >>> few = {"draws": 20, "warmup": 20, "chains": 4, "guide_draws": 50, "engine": "fx"}
        >>> found = compare(line.model, guide, *line.data, **few, seed=0)
        >>> sorted(found.evidence)
        ['elbo', 'importance', 'upper']

    Reference:
        Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational
        inference.
    """
    if particles is None:
        particles = guide_draws
    expect_counts(
        draws=draws, warmup=warmup, chains=chains, guide_draws=guide_draws, particles=particles
    )
    expect_finite(data, program)
    model = getattr(program, "model", program)
    fit_seconds = math.nan
    own: Guide | None
    if isinstance(guide, GuideFit):
        fit_seconds = guide.seconds
        own = guide.guide
    else:
        own = guide
    guide = guide_of(program, own)
    guide_seed = None if seed is None else seed + 1
    with store_kept(), evaluating(program, guide):
        with forked(device_of(model, data), 0), explained(_RUNNABLE, _REMEDY):
            if local is None:
                local = _is_local(model, guide, data)
            potential = Potential(model, data, local=local)
            _expect_room(potential, guide_draws)
            approximation = Approximation(guide, potential, data)
            _warn_of_left_out(potential, approximation)
        known = Exact.of(program, exact, data, potential)
        options = {
            "local": local,
            "progress": progress,
            "on_draw": on_draw,
            "engine": engine,
            "seed": seed,
        }
        understood = _options_of(sampler, options)
        with warnings.catch_warnings():
            # The verdict says it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mcmc = sampler(model, *data, draws=draws, chains=chains, warmup=warmup, **understood)
        with seeded(potential.device, guide_seed):
            found = _compare_draws(potential, approximation, known, mcmc, guide_draws, particles)
    if math.isfinite(fit_seconds):
        found.seconds["guide fit"] = fit_seconds
    return found


def _warn_of_left_out(potential: Potential, approximation: Approximation) -> None:
    """Warns if q(z) = 0 where p(x, z) > 0, at points far and wide in unconstrained space."""
    if approximation.reason:
        return
    shape = (_POINTS, *potential.shape)
    points = torch.empty(shape, dtype=potential.dtype, device=potential.device).uniform_(-5, 5)
    nowhere = approximation.log_prob(points) == -torch.inf
    if bool((nowhere & log_joint(potential, points).isfinite()).any()):
        warnings.warn(
            "the guide's support leaves out values with p(x, z) > 0, which neither k̂ nor the "
            "weights of its draws can see: only MCMC shows how much lies there; take a "
            "distribution on all of the support of the prior",
            RuntimeWarning,
            stacklevel=3,
        )


def _expect_room(potential: Potential, guide_draws: int) -> None:
    """Raises ValueError if draws of the guide do not fit into memory."""
    needed = SINGLE * guide_draws * math.prod(potential.shape)
    remedy = "take fewer guide_draws"
    expect_memory(f"{guide_draws} draws of the guide", needed, remedy, potential.device)


def _is_local(model: Any, guide: Any, data: tuple[Any, ...]) -> bool:
    """Whether all latents of model and guide lie in the plate of the data.

    Its size is the length of the first argument.
    """
    if not data or not torch.is_tensor(data[0]) or data[0].dim() == 0:
        return False
    for trace in (prototype_of(model, data), traced(guide, data, "guide")):
        sites = stochastic_sites(trace)
        plate = data_plate(sites)
        for site in sites.values():
            if not site["is_observed"] and not _belongs_to_data(site, plate, len(data[0])):
                return False
    return True


def _belongs_to_data(site: Mapping[str, Any], plate: str, count: int) -> bool:
    """Whether a latent site, continuous or auxiliary, has one value for each of so many data."""
    if is_discrete(site["fn"]) and not is_auxiliary(site):
        return False
    plates = {frame.name: frame.size for frame in site["cond_indep_stack"]}
    return plates.get(plate) == count


def _options_of(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a function has a keyword for."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(options)
    return {name: value for name, value in options.items() if name in parameters}


def _compare_draws(
    potential: Potential,
    approximation: Approximation,
    known: Exact,
    mcmc: Draws,
    guide_draws: int,
    particles: int,
) -> Comparison:
    """Draws from the guide, computes all numbers on its draws and those of MCMC, judges them."""
    began = time.perf_counter()
    q, log_q = approximation.draw(max(guide_draws, particles))
    guide_seconds = time.perf_counter() - began
    kept = q[:guide_draws]
    guide_samples = potential.constrain(kept)
    p = potential.flatten(mcmc.samples)
    pooled = p.flatten(0, 1)
    scale = pooled.double().std(0)
    first, second = _halves(p)
    densities = densities_of(
        potential, approximation, known, q=q, log_q=log_q, p=p, particles=particles
    )
    correlations, too_many = _correlations(potential, known, kept, pooled)
    elpd, not_predicted = predict(potential, approximation, mcmc.samples, guide_samples, densities)
    comparison = Comparison(
        draws=mcmc,
        guide_samples=guide_samples,
        exact_samples=known.draws(guide_draws),
        marginals=_site_marginals(potential, known, guide_samples, mcmc.samples),
        unconstrained=_unconstrained_marginals(potential, kept, p),
        correlations=correlations,
        distance=standardised_distance(kept, pooled, scale),
        distance_baseline=standardised_distance(first, second, scale),
        evidence=densities.evidence,
        divergence=densities.divergence,
        outside=densities.outside,
        left_out=densities.left_out,
        elpd=elpd,
        seconds={
            "mcmc": mcmc.seconds,
            "mcmc preparation": mcmc.preparation_seconds,
            "guide": guide_seconds,
        },
        unavailable={
            **known.unavailable,
            **densities.unavailable,
            **too_many,
            **not_predicted,
        },
        particles=particles,
    )
    findings = judge(comparison, kept.flatten(1).cpu(), p.flatten(2).cpu())
    return replace(comparison, findings=findings)


def _halves(p: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves of the MCMC draws (C, S, B, D), each (n, B, D): of the chains, or of the only one.

    A single draw stands for both.
    """
    if p.shape[:2].numel() == 1:
        first, second = p, p
    elif p.shape[0] == 1:
        first, second = p.chunk(2, 1)
    else:
        first, second = p[::2], p[1::2]
    return first.flatten(0, 1), second.flatten(0, 1)


def _site_marginals(
    potential: Potential,
    known: Exact,
    guide_samples: Mapping[str, Tensor],
    mcmc_samples: Mapping[str, Tensor],
) -> Marginals:
    """Moments and intervals of every coordinate of every site."""
    sites = shared_sites(guide_samples, mcmc_samples)
    shapes = {site: guide_samples[site].shape[1:] for site in sites}
    names: list[str] = []
    blocks: list[Tensor] = []
    lowest: list[Tensor] = []
    highest: list[Tensor] = []
    for site, shape in shapes.items():
        names += coordinates(site, shape)
        blocks.append(_datum_of_each_entry(shape, potential.local))
        low, high = potential.layout.support_ends(site)
        lowest.append(torch.full((shape.numel(),), low, dtype=torch.float64))
        highest.append(torch.full((shape.numel(),), high, dtype=torch.float64))
    guide, chains = side_by_side(guide_samples, mcmc_samples)
    support = (torch.cat(lowest), torch.cat(highest))
    return Marginals.of(names, torch.cat(blocks), guide, chains, known.flat(shapes), support)


def _datum_of_each_entry(shape: torch.Size, local: bool) -> Tensor:
    """The datum that each entry of a site belongs to; 0 where the posterior is joint."""
    if not local or not shape:
        return torch.zeros(shape.numel(), dtype=torch.long)
    return torch.arange(shape[0]).repeat_interleave(shape.numel() // shape[0])


def _unconstrained_marginals(potential: Potential, q: Tensor, p: Tensor) -> Marginals:
    """Moments and intervals of the flat latents, block by block.

    Args:
        potential: −log p(x, z) of the model.
        q: Draws of the guide, (M, B, D).
        p: Draws of MCMC, (C, S, B, D).
    """
    blocks, width = potential.shape
    block = torch.arange(blocks).repeat_interleave(width)
    return Marginals.of(_unconstrained_names(potential), block, q.flatten(1), p.flatten(2))


def _unconstrained_names(potential: Potential) -> list[str]:
    """The names of all coordinates of the flat latents, block by block and site by site."""
    blocks = potential.shape[0]
    by_site: list[list[str]] = []
    for name, value in latents_at_zero(potential).items():
        shape = potential.layout.places[name].shape
        if potential.local:
            shape = torch.Size([blocks, *shape])
        moved = bool((value != 0).any())  # by the transform from the whole line to the support
        note = " (unconstrained)" if moved else ""
        by_site.append([coordinate + note for coordinate in coordinates(name, shape)])
    names: list[str] = []
    for block in range(blocks):
        for labels in by_site:
            width = len(labels) // blocks
            names += labels[block * width : (block + 1) * width]
    return names


def _correlations(
    potential: Potential, known: Exact, q: Tensor, p: Tensor
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Correlations of the flat latents, (B, D, D).

    Args:
        potential: −log p(x, z) of the model.
        known: What is known exactly.
        q: Draws of the guide, (M, B, D).
        p: Draws of all chains of MCMC, (n, B, D).

    Returns:
        Correlations under "guide", "mcmc" and, where it is known, "exact"; or none, and why.
    """
    width = p.shape[-1]
    if width > _MOST_CORRELATED:
        why = f"{width} coordinates are too many to list those of all pairs"
        return {}, {"correlations": why}
    sampled = {"guide": _correlation(q), "mcmc": _correlation(p)}
    return sampled | known.correlation(potential), {}


def _correlation(draws: Tensor) -> Tensor:
    """(B, D, D) of draws (M, B, D)."""
    centred = draws.double() - draws.double().mean(0)
    unit = centred / centred.square().sum(0).sqrt()
    return torch.einsum("mbi,mbj->bij", unit, unit)
