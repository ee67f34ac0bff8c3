"""Variational inference, MCMC and, where it is known, the exact posterior, side by side on the same
data.
"""

from __future__ import annotations

__all__ = ["Comparison", "compare"]

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import evaluating, forked, guide_of, seeded, store_kept
from ppl_gen.inference.comparison.divergences import Densities, predicted
from ppl_gen.inference.comparison.exact import Exact
from ppl_gen.inference.comparison.guide_density import Approximation
from ppl_gen.inference.comparison.marginals import Marginals, sliced_wasserstein
from ppl_gen.inference.comparison.verdict import Finding, judged
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.expect import expect_counts
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.draws import Draws, Progress
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.inference.prediction.loo import Elpd
from ppl_gen.program import is_auxiliary, stochastic_sites

if TYPE_CHECKING:
    import pandas

_MOST_CORRELATIONS = 256


def compare(
    program: Any,
    guide: Callable[..., Any] | None,
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
    """How far is q(z) from p(z | x)? Moments, intervals, SW₂(q, p), KL(q ‖ p), KL(p ‖ q), evidence
    and prediction of both.

    KL(q ‖ p) = log p(x) − ELBO and KL(p ‖ q) = E_p[log p(x, z) − log q(z)] − log p(x), with log
    p(x) exact where it is known and importance-weighted elsewhere. All densities are those of the
    flat unconstrained latents of a `Potential`; moments and intervals are also taken of the sites
    as they are.

    Args:
        program: Any program, or the model itself; discrete latents of finite support are summed
            out.
        guide: q(z), called with the same data; `program.guide` if None.
        *data: What the model is called with, (x, *context) for a program; nothing for one without
            data.
        sampler: `hmc`, `nuts` or any function of the same keywords; one that knows no `local`
            samples jointly.
        draws: The draws of each chain.
        chains: The number of chains.
        warmup: The iterations before, in which the sampler adapts.
        guide_draws: The draws of the guide that are kept.
        particles: The draws of the guide whose weights give evidence, ELBO and k̂; those kept if
            None.
        local: Whether each datum has a posterior of its own; None finds out: if all latents of
            model and guide lie in the plate "data".
        exact: The true posterior: a distribution of the only latent site, or (mean, sd) by site.
            None asks the program (`exact_posterior`, else `reference` where these are its data).
        seed: Seeds all draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar while sampling.
        on_draw: Called now and then with the state of the sampler.
        engine: How the sampler computes its steps, see `ppl_gen.inference.engine.Replay`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If a count is below 1, data are not finite, the guide's latent sites are not the
            model's, or as `Potential` says; before sampling starts.

    Reference:
        Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational
        inference.
    """
    particles = guide_draws if particles is None else particles
    expect_counts(
        draws=draws, warmup=warmup, chains=chains, guide_draws=guide_draws, particles=particles
    )
    model, guide = getattr(program, "model", program), guide_of(program, guide)
    with store_kept(), evaluating(program, guide):
        with forked(torch.device("cpu"), 0):
            local = _is_local(model, guide, data) if local is None else local
            potential = Potential(model, data, local=local)
            approximation = Approximation(guide, potential, data)
        known = Exact.of(program, exact, data, potential)
        mcmc = _sampled(
            sampler, model, data, local, draws, chains, warmup, seed, progress, on_draw, engine
        )
        after = None if seed is None else seed + 1
        with seeded(potential.device, after):
            return _compared(potential, approximation, known, mcmc, guide_draws, particles)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A guide beside MCMC beside the exact posterior. Where something could not be computed,
    `unavailable` says why.

    Blocks B are the data where the posterior is local, else there is one.

    Attributes:
        draws: Of the sampler, with its own diagnostics.
        guide_samples: Draws of the guide by site, (M, *shape), deterministic sites included.
        exact_samples: Draws of the exact posterior, where there are any.
        marginals: Moments and intervals of every coordinate of every site.
        unconstrained: The same of the flat unconstrained latents, in which verdicts are given.
        correlations: Of the unconstrained latents, (B, D, D), under "guide", "mcmc" and, where it
            is known, "exact".
        distance: SW₂ between guide and MCMC in units of the MCMC standard deviations, (B,).
        distance_baseline: The same between two halves of the MCMC draws: the distance that is only
            noise.
        evidence: log p(x) and its bounds in nats, by name, each (B,): "elbo" below, "importance"
            (with k̂), "upper" from MCMC above, "exact"; other estimators may join.
        divergence: "KL(q‖p)", "KL(p‖q)" and "KL(q‖p) + KL(p‖q)", which needs no evidence; in nats,
            each (B,).
        outside: Share of MCMC draws in the outermost 1 % of the guide or beyond it, (B,); 0.01
            where q = p.
        elpd: Expected log predictive density by "mcmc" and "guide".
        seconds: "mcmc", "mcmc preparation" and "guide".
        unavailable: What could not be computed, and why.
        particles: The number of the guide's draws that were weighed.
        findings: The verdict, as tags and sentences.
    """

    draws: Draws
    guide_samples: dict[str, Tensor]
    exact_samples: dict[str, Tensor] | None
    marginals: Marginals
    unconstrained: Marginals
    correlations: dict[str, Tensor]
    distance: Tensor
    distance_baseline: Tensor
    evidence: dict[str, Estimate]
    divergence: dict[str, Estimate]
    outside: Tensor | None
    elpd: dict[str, Elpd]
    seconds: dict[str, float]
    unavailable: dict[str, str]
    particles: int
    findings: tuple[Finding, ...] = ()

    @property
    def k_hat(self) -> Tensor | None:
        """Pareto shape of the guide's importance weights, (B,)."""
        return self.evidence["importance"].k_hat if "importance" in self.evidence else None

    @property
    def tags(self) -> tuple[str, ...]:
        """The verdict in short, for programs to read.

        Of the guide: "good", or "under-dispersed", "over-dispersed", "biased", "mode-seeking",
        "extra-mode", "correlations", "heavy-tails" (with "good-moments" where nothing else is
        wrong), "no-density". Of MCMC: "divergences", "not-converged", "stuck-chains",
        "off-reference". Where nothing speaks against the guide but MCMC is not to be trusted:
        "undecided".
        """
        return tuple(dict.fromkeys(f.tag for f in self.findings))

    @property
    def verdict(self) -> list[str]:
        """The verdict in plain words."""
        return [f.sentence for f in self.findings]

    @property
    def ess_per_second(self) -> float:
        """The smallest effective sample size of MCMC over its seconds, warm-up included."""
        return self.draws.min_ess / self.draws.seconds

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: guide, MCMC with the error of its mean, exact, ratio of sds
        with error, R̂ and ESS.
        """
        import pandas

        m = self.marginals
        columns = {
            "guide mean": m.guide_mean,
            "guide sd": m.guide_sd,
            "mcmc mean": m.mcmc_mean,
            "mcmc sd": m.mcmc_sd,
            "mcse": m.mcse,
            "exact mean": m.exact_mean,
            "exact sd": m.exact_sd,
            "sd ratio": m.sd_ratio,
            "sd ratio error": m.sd_ratio_error,
            "r_hat": torch.cat([self.draws.r_hat[name].flatten() for name in self._sites]),
            "ess": torch.cat([self.draws.ess[name].flatten() for name in self._sites]),
        }
        return pandas.DataFrame(
            {name: column.cpu().numpy() for name, column in columns.items()}, index=m.names
        )

    def arrays(self) -> tuple[list[str], Tensor, Tensor]:
        """What `ppl_gen.plots.posterior` draws: K names, draws of the guide (M, K) and of MCMC
        (chains, draws, K).
        """
        return self.marginals.names, *_beside(
            self.guide_samples, {n: self.draws.samples[n] for n in self._sites}
        )

    @property
    def _sites(self) -> list[str]:
        """The sites that both have, in the order of all tables."""
        return [name for name in self.draws.samples if name in self.guide_samples]

    def __str__(self) -> str:
        blocks = self.distance.numel()
        lines = [f"{len(self.marginals.names)} coordinates: " + ", ".join(self.tags)]
        lines += [f"- {sentence}" for sentence in self.verdict]
        numbers = ", ".join(
            f"{name} {estimate}" for name, estimate in {**self.evidence, **self.divergence}.items()
        )
        lines += (
            [f"nats{f' per datum, mean of {blocks}' if blocks > 1 else ''}: {numbers}"]
            if numbers
            else []
        )
        lines += [
            f"expected log predictive density ({name}), nats in all: {elpd}"
            for name, elpd in self.elpd.items()
        ]
        return "\n".join(lines)


def _is_local(model: Any, guide: Any, data: tuple[Any, ...]) -> bool:
    """Whether all latents of model and guide lie in the plate "data", whose axis is the first of
    the first argument.
    """
    if not data or not torch.is_tensor(data[0]) or data[0].dim() == 0:
        return False
    for part in (model, guide):
        sites = stochastic_sites(poutine.trace(part).get_trace(*data)).values()
        for site in (s for s in sites if not s["is_observed"]):
            plates = {f.name: f.size for f in site["cond_indep_stack"]}
            discrete = site["fn"].support.is_discrete and not is_auxiliary(site)
            if discrete or plates.get("data") != data[0].shape[0]:
                return False
    return True


def _sampled(
    sampler: Callable[..., Draws], model: Any, data: tuple[Any, ...], local: bool, draws: int, chains: int, warmup: int,
    seed: int | None, progress: bool, on_draw: Callable[[Progress], None] | None, engine: Engine,
) -> Draws:  # fmt: skip
    """The sampler's draws, asked for in the keywords that it knows."""
    wanted: dict[str, Any] = {
        "local": local,
        "progress": progress,
        "on_draw": on_draw,
        "engine": engine,
        "seed": seed,
    }
    parameters = inspect.signature(sampler).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    options = {k: v for k, v in wanted.items() if takes_all or k in parameters}
    return sampler(model, *data, draws=draws, chains=chains, warmup=warmup, **options)


def _compared(
    potential: Potential,
    approximation: Approximation,
    known: Exact,
    mcmc: Draws,
    guide_draws: int,
    particles: int,
) -> Comparison:
    """Everything, once the draws of MCMC are there."""
    unavailable = dict(known.unavailable)
    began = time.perf_counter()
    q, log_q = approximation.draw(max(guide_draws, particles))
    seconds = {
        "mcmc": mcmc.seconds,
        "mcmc preparation": mcmc.preparation_seconds,
        "guide": time.perf_counter() - began,
    }
    guide_samples = potential.constrain(q[:guide_draws])
    p = potential.flatten(mcmc.samples)
    densities = Densities(potential, approximation, known, q, log_q, p, particles)
    unavailable |= densities.unavailable
    names = [n for n in mcmc.samples if n in guide_samples]
    beside = _beside(guide_samples, {n: mcmc.samples[n] for n in names})
    marginals = Marginals.of(
        [row for n in names for row in coordinates(n, guide_samples[n].shape[1:])],
        torch.cat([_block(guide_samples[n].shape[1:], potential.local) for n in names]),
        *beside,
        known.flat({n: guide_samples[n].shape[1:] for n in names}),
    )
    kept, unconstrained = q[:guide_draws], _unconstrained(potential, q[:guide_draws], p)
    scale = p.flatten(0, 1).double().std(0)
    first, second = (
        ((p[::2], p[1::2]) if p.shape[0] > 1 else p.chunk(2, 1))
        if p.shape[:2].numel() > 1
        else (p, p)
    )
    correlations: dict[str, Tensor] = {}
    if p.shape[-1] <= _MOST_CORRELATIONS:
        correlations = {
            "guide": _correlation(kept),
            "mcmc": _correlation(p.flatten(0, 1)),
            **known.correlation(potential),
        }
    else:
        unavailable["correlations"] = (
            f"{p.shape[-1]} coordinates are too many to list those of all pairs"
        )
    elpd = predicted(potential, approximation, mcmc.samples, guide_samples, densities, unavailable)
    comparison = Comparison(
        mcmc, guide_samples, known.draws(guide_draws), marginals, unconstrained, correlations,
        sliced_wasserstein(kept, p.flatten(0, 1), scale),
        sliced_wasserstein(first.flatten(0, 1), second.flatten(0, 1), scale),
        densities.evidence, densities.divergence, densities.outside, elpd, seconds, unavailable, particles,
    )  # fmt: skip
    return replace(
        comparison, findings=judged(comparison, kept.flatten(1).cpu(), p.flatten(2).cpu())
    )


def _beside(guide: Mapping[str, Tensor], mcmc: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Draws by site as columns: (M, K) and (chains, draws, K)."""
    drawn = torch.cat([guide[n].reshape(len(guide[n]), -1) for n in mcmc], -1)
    return drawn, torch.cat([v.reshape(*v.shape[:2], -1) for v in mcmc.values()], -1)


def _block(shape: torch.Size, local: bool) -> Tensor:
    """The datum of each entry."""
    if not local or not shape:
        return torch.zeros(shape.numel(), dtype=torch.long)
    return torch.arange(shape[0]).repeat_interleave(shape.numel() // shape[0])


def _unconstrained(potential: Potential, q: Tensor, p: Tensor) -> Marginals:
    """The same coordinates as samplers see them, block by block."""
    rows, labels = potential.shape[0], []
    origin = torch.zeros(1, *potential.shape, dtype=potential.dtype, device=potential.device)
    for name, value in potential.sites(origin).items():
        shape = potential.layout.places[name].shape
        note = "" if bool((value == 0).all()) else " (unconstrained)"
        per_row = [
            r + note
            for r in coordinates(name, torch.Size([rows, *shape]) if potential.local else shape)
        ]
        labels.append([per_row[i * shape.numel() : (i + 1) * shape.numel()] for i in range(rows)])
    every = [row for i in range(rows) for label in labels for row in label[i]]
    block = torch.arange(rows).repeat_interleave(q.shape[-1])
    return Marginals.of(every, block, q.flatten(1), p.flatten(2))


def _correlation(draws: Tensor) -> Tensor:
    """(B, D, D) of draws (M, B, D)."""
    centred = draws.double() - draws.double().mean(0)
    unit = centred / centred.square().sum(0).sqrt()
    return torch.einsum("mbi,mbj->bij", unit, unit)
