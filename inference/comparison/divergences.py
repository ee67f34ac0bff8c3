"""Densities of guide and model at the draws of guide and MCMC: evidence, divergences, prediction."""

from __future__ import annotations

__all__ = ["Densities", "predicted"]

import torch
from torch import Tensor

from ppl_gen.inference.comparison.exact import Exact
from ppl_gen.inference.comparison.guide_density import Approximation
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.weights import summarised
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.inference.mcmc.diagnostics import effective_size
from ppl_gen.inference.prediction.loo import Elpd, Predictive


class Densities:
    """log p(x, z) and log q(z) at draws of both, and what follows from them: evidence, its bounds,
    and divergences.

    Args:
        potential: Of the model, with blocks B.
        approximation: The guide.
        known: What is known exactly.
        q: Draws of the guide, (M, B, D).
        log_q: Their log density, (M, B); None where there is none.
        p: Draws of MCMC, (chains, draws, B, D).
        particles: How many of the guide's draws are weighed.

    Attributes:
        evidence: "elbo", "importance", "upper" and "exact", where they are known, each (B,).
        divergence: "KL(q‖p)", "KL(p‖q)" and their sum, each (B,).
        unavailable: Why others are not.
        outside: Share of MCMC draws where log q is below its 1 % quantile under the guide, (B,).
    """

    def __init__(
        self, potential: Potential, approximation: Approximation, known: Exact, q: Tensor, log_q: Tensor | None,
        p: Tensor, particles: int,
    ) -> None:  # fmt: skip
        self.evidence: dict[str, Estimate] = {}
        self.divergence: dict[str, Estimate] = {}
        self.unavailable: dict[str, str] = {}
        self.outside: Tensor | None = None
        self.log_p, self.log_q = log_joint(potential, q).double(), log_q
        if known.log_evidence is not None:
            self.evidence["exact"] = Estimate(
                known.log_evidence, torch.zeros_like(known.log_evidence)
            )
        if log_q is None:
            why = approximation.own_reason
            self.unavailable |= dict.fromkeys(
                ("importance", "elbo", "k_hat", "KL(q‖p)", "KL(p‖q)"), why
            )
            return
        weights = (self.log_p - log_q.double())[:particles]
        self.evidence["importance"], self.evidence["elbo"] = summarised(weights)
        self._from_guide(weights)
        if approximation.reason:
            self.unavailable |= dict.fromkeys(("KL(p‖q)", "upper", "outside"), approximation.reason)
        else:
            log_q_there = approximation.log_prob(p.flatten(0, 1)).double()
            self._from_mcmc(log_joint(potential, p.flatten(0, 1)).double(), log_q_there, p.shape[0])
            self.outside = (
                (log_q_there < log_q.double().kthvalue(max(1, len(log_q) // 100), 0).values)
                .double()
                .mean(0)
            )

    @property
    def reference(self) -> str:
        """The evidence that the divergences are measured from."""
        return "exact" if "exact" in self.evidence else "importance"

    def _from_guide(self, weights: Tensor) -> None:
        known, elbo = self.evidence[self.reference], self.evidence["elbo"]
        error = elbo.standard_error
        if (
            self.reference == "importance" and len(weights) > 1
        ):  # from the same draws: the errors are not independent
            relative = (weights - self.evidence["importance"].value).exp()
            error = (relative - weights).std(0) / len(weights) ** 0.5
        self.divergence["KL(q‖p)"] = Estimate(known.value - elbo.value, error)

    def _from_mcmc(self, log_p: Tensor, log_q: Tensor, chains: int) -> None:
        ratio = (log_p - log_q).unflatten(0, (chains, -1))
        sizes = effective_size(ratio).nan_to_num(float(ratio.shape[0] * ratio.shape[1]))
        upper = Estimate(ratio.mean((0, 1)), (ratio.var((0, 1)) / sizes).sqrt())
        known, elbo = self.evidence[self.reference], self.evidence["elbo"]
        self.evidence["upper"] = upper
        for name, below in (("KL(p‖q)", known), ("KL(q‖p) + KL(p‖q)", elbo)):
            error = (upper.standard_error.square() + below.standard_error.square()).sqrt()
            self.divergence[name] = Estimate(upper.value - below.value, error)


def predicted(
    potential: Potential, approximation: Approximation, mcmc: dict[str, Tensor], guide_samples: dict[str, Tensor],
    densities: Densities, unavailable: dict[str, str],
) -> dict[str, Elpd]:  # fmt: skip
    """ELPD by leaving out one datum; the evidence of each datum where nothing is shared between
    data.

    Args:
        potential: Of the model.
        approximation: The guide.
        mcmc: Draws by site, (chains, draws, *shape).
        guide_samples: Draws by site, (M, *shape).
        densities: Of these draws of the guide.
        unavailable: Where to say what cannot be had, and why.
    """
    found: dict[str, Elpd] = {}
    try:
        predictive = Predictive(potential.model, approximation.args, mcmc)
        if not predictive.outer:
            best = densities.evidence.get(densities.reference)
            if best is not None and potential.local:
                how = f"log evidence of each datum ({densities.reference}), since all latents are local"
                return {
                    "mcmc": Elpd.of(best.value, best.k_hat, float(best.standard_error.max()), how)
                }
            value, error = predictive.log_likelihood(
                {"": torch.zeros(1, device=potential.device)}, 100_000
            )
            how = (
                "log evidence of each datum (averaged over the prior), since all latents are local"
            )
            return {"mcmc": Elpd.of(value[0], None, error, how)}
        found["mcmc"] = predictive.loo(mcmc)
    except ValueError as error:
        unavailable["elpd"] = str(error)
        return found
    try:
        if densities.log_q is None:
            raise ValueError(approximation.own_reason)
        count = len(next(iter(guide_samples.values())))
        found["guide"] = predictive.loo_of_guide(
            guide_samples, densities.log_p[:count, 0], densities.log_q[:count, 0]
        )
    except ValueError as error:
        unavailable["elpd of the guide"] = str(error)
    return found
