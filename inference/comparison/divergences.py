"""Densities of guide and model at draws of both: evidence, divergences, prediction."""

from __future__ import annotations

__all__ = ["Densities", "densities_of", "predict"]

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_gen.inference.comparison.exact import Exact
from ppl_gen.inference.comparison.guide_density import Approximation
from ppl_gen.inference.diagnostics import effective_size
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.weights import elbo_of, evidence_of
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.inference.prediction.loo import Elpd, Predictive

# What takes log q at the guide's own draws, and what takes it at the draws of MCMC.
_FROM_GUIDE = ("importance", "elbo", "k_hat", "KL(q‖p)", "KL(p‖q)")
_FROM_MCMC = ("KL(p‖q)", "upper", "outside")

_PRIOR_DRAWS = 100_000  # for the evidence of each datum, where no weights give it


@dataclass(frozen=True, eq=False)
class Densities:
    """log p(x, z) and log q(z) at draws of the guide, and what follows from densities.

    Attributes:
        log_p: log p(x, z) at draws of the guide, (M, B), in nats.
        log_q: log q(z) at the same draws, (M, B), in nats; None where the guide has no density.
        evidence: "elbo", "importance", "upper" and "exact", where they are known, each (B,).
        divergence: "KL(q‖p)", "KL(p‖q)" and their sum, each (B,).
        outside: Share of MCMC draws where log q is below its 1 % quantile under the guide, (B,).
        left_out: Share of MCMC draws outside of the guide's support, where q(z) = 0, (B,).
        unavailable: Which of these could not be computed, and why.
    """

    log_p: Tensor
    log_q: Tensor | None
    evidence: dict[str, Estimate]
    divergence: dict[str, Estimate]
    outside: Tensor | None
    left_out: Tensor | None
    unavailable: dict[str, str]


def densities_of(
    potential: Potential,
    approximation: Approximation,
    known: Exact,
    q: Tensor,
    log_q: Tensor | None,
    p: Tensor,
    particles: int,
) -> Densities:
    """Evaluates log p and log q at draws of both; evidence, its bounds and divergences from these.

    Where q(z) = 0 at draws of MCMC, weights give the integral over the support S of q alone: then
    log p(x) = log ∫_S p(x, z) dz − log P(z ∈ S | x), the latter from MCMC.

    Args:
        potential: −log p(x, z) of the model, with blocks B.
        approximation: The guide.
        known: What is known exactly.
        q: Draws of the guide, (M, B, D).
        log_q: Their log density, (M, B), in nats; None where there is none.
        p: Draws of MCMC, (chains, draws, B, D).
        particles: How many of the guide's draws are weighed.
    """
    log_p = log_joint(potential, q).double()
    evidence: dict[str, Estimate] = {}
    if known.log_evidence is not None:
        no_error = torch.zeros_like(known.log_evidence)
        evidence["exact"] = Estimate(known.log_evidence, no_error)
    if log_q is None:
        return Densities(
            log_p=log_p,
            log_q=None,
            evidence=evidence,
            divergence={},
            outside=None,
            left_out=None,
            unavailable=dict.fromkeys(_FROM_GUIDE, approximation.own_reason),
        )

    weights = (log_p - log_q.double())[:particles]
    evidence["importance"] = evidence_of(weights)
    evidence["elbo"] = elbo_of(weights)
    divergence = {"KL(q‖p)": _kl_from_guide(evidence, weights)}
    if approximation.reason:
        return Densities(
            log_p=log_p,
            log_q=log_q,
            evidence=evidence,
            divergence=divergence,
            outside=None,
            left_out=None,
            unavailable=dict.fromkeys(_FROM_MCMC, approximation.reason),
        )

    pooled = p.flatten(0, 1)
    log_q_at_mcmc = approximation.log_prob(pooled).double()
    log_p_at_mcmc = log_joint(potential, pooled).double()
    log_ratio = (log_p_at_mcmc - log_q_at_mcmc).unflatten(0, (p.shape[0], -1))
    upper = _mean_over_chains(log_ratio)
    evidence["upper"] = upper
    inside = (log_q_at_mcmc > -torch.inf).double()
    if not bool(inside.all()):
        covered = _mean_over_chains(inside.unflatten(0, (p.shape[0], -1)))
        if _best(evidence) == "importance":
            divergence["KL(q‖p)"] = _with_left_out(divergence["KL(q‖p)"], covered)
        evidence["importance"] = _with_left_out(evidence["importance"], covered)
    divergence["KL(p‖q)"] = upper - evidence[_best(evidence)]
    divergence["KL(q‖p) + KL(p‖q)"] = upper - evidence["elbo"]
    return Densities(
        log_p=log_p,
        log_q=log_q,
        evidence=evidence,
        divergence=divergence,
        outside=_share_outside(log_q.double(), log_q_at_mcmc),
        left_out=1 - inside.mean(0),
        unavailable={},
    )


def _with_left_out(inside: Estimate, covered: Estimate) -> Estimate:
    """An evidence or divergence of the guide's support, made one of the whole posterior.

    Args:
        inside: That of the support alone, (B,).
        covered: P(z ∈ S | x), the share of the posterior in the support, (B,).
    """
    relative = covered.standard_error / covered.value
    error = (inside.standard_error.square() + relative.square()).sqrt()
    return replace(inside, value=inside.value - covered.value.log(), standard_error=error)


def _best(evidence: Mapping[str, Estimate]) -> str:
    """The evidence that divergences are measured from."""
    if "exact" in evidence:
        return "exact"
    return "importance"


def _kl_from_guide(evidence: Mapping[str, Estimate], weights: Tensor) -> Estimate:
    """KL(q ‖ p) = log p(x) − ELBO, with log weights (K, B)."""
    best = evidence[_best(evidence)]
    elbo = evidence["elbo"]
    error = elbo.standard_error
    if _best(evidence) == "importance" and len(weights) > 1:
        # Both come from the same draws: their errors are not independent.
        relative = (weights - best.value).exp()
        error = (relative - weights).std(0) / len(weights) ** 0.5
    return Estimate(best.value - elbo.value, error)


def _mean_over_chains(log_ratio: Tensor) -> Estimate:
    """E_p[log p(x, z) − log q(z)] from draws (C, S, B) of MCMC, an upper bound on log p(x)."""
    draws = log_ratio.shape[0] * log_ratio.shape[1]
    sizes = effective_size(log_ratio).nan_to_num(float(draws))
    error = (log_ratio.var((0, 1)) / sizes).sqrt()
    return Estimate(log_ratio.mean((0, 1)), error)


def _share_outside(log_q: Tensor, log_q_at_mcmc: Tensor) -> Tensor:
    """The share of MCMC draws where log q is below its 1 % quantile under the guide, (B,)."""
    rank = max(1, len(log_q) // 100)
    quantile = log_q.kthvalue(rank, 0).values
    return (log_q_at_mcmc < quantile).double().mean(0)


def predict(
    potential: Potential,
    approximation: Approximation,
    mcmc: Mapping[str, Tensor],
    guide_samples: Mapping[str, Tensor],
    densities: Densities,
) -> tuple[dict[str, Elpd], dict[str, str]]:
    """Σᵢ log p(xᵢ | x₋ᵢ) of MCMC and guide, by leaving out one datum.

    Where nothing is shared between data, leaving out others changes nothing: this is then the
    evidence of each datum.

    Args:
        potential: −log p(x, z) of the model.
        approximation: The guide.
        mcmc: Draws of MCMC by site, (chains, draws, *shape).
        guide_samples: Draws of the guide by site, (M, *shape).
        densities: Those at these draws of the guide.

    Returns:
        The expected log predictive density by "mcmc" and "guide"; and what could not be had, with
        the reason.
    """
    try:
        predictive = Predictive(potential.model, approximation.args, dict(mcmc))
        if not predictive.outer:
            return {"mcmc": _evidence_of_each_datum(potential, densities, predictive)}, {}
        found = {"mcmc": predictive.loo(dict(mcmc))}
    except ValueError as error:
        return {}, {"elpd": str(error)}
    if densities.log_q is None:
        return found, {"elpd of the guide": approximation.own_reason}
    if densities.left_out is not None and bool(densities.left_out.any()):
        return found, {
            "elpd of the guide": "the guide's support leaves out a part of the posterior, which "
            "weights of its draws cannot bring back"
        }
    count = len(next(iter(guide_samples.values())))
    log_p = densities.log_p[:count, 0]
    log_q = densities.log_q[:count, 0]
    try:
        found["guide"] = predictive.loo_of_guide(dict(guide_samples), log_p, log_q)
    except ValueError as error:
        return found, {"elpd of the guide": str(error)}
    return found, {}


def _evidence_of_each_datum(
    potential: Potential, densities: Densities, predictive: Predictive
) -> Elpd:
    """Σᵢ log p(xᵢ) of a model whose latents are all local.

    Each log p(xᵢ) is exact or from weights where there are any, else averaged over the prior.
    """
    source = _best(densities.evidence)
    if potential.local and source in densities.evidence:
        best = densities.evidence[source]
        how = f"log evidence of each datum ({source}), since all latents are local"
        error = float(best.standard_error.max())
        return Elpd.of(best.value, best.k_hat, error, how)
    no_globals = {"": torch.zeros(1, device=potential.device)}
    value, error = predictive.log_likelihood(no_globals, _PRIOR_DRAWS)
    how = "log evidence of each datum (averaged over the prior), since all latents are local"
    return Elpd.of(value[0], None, error, how)
