"""Coordinate by coordinate, a guide beside MCMC beside the exact posterior; and one distance
between their draws.
"""

from __future__ import annotations

__all__ = ["LEVELS", "Marginals", "sliced_wasserstein"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_gen.inference.mcmc.diagnostics import effective_size

LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True, eq=False)
class Marginals:
    """Moments and intervals of K coordinates; every tensor is float64, on the CPU, of shape (K,)
    unless said otherwise.

    Attributes:
        names: Of the coordinates, "theta[0]" for one.
        block: The datum that each belongs to, 0 where the posterior is joint.
        guide_mean: E_q[z], and likewise guide_sd.
        guide_sd: sd_q[z].
        mcmc_mean: E_p[z], over all chains and draws.
        mcmc_sd: sd_p[z].
        mcse: Monte Carlo standard error of mcmc_mean, sd / √ESS.
        exact_mean: The true mean; NaN where it is not known.
        exact_sd: The true standard deviation; NaN where it is not known.
        sd_ratio: sd_q / sd_p, below 1 where the guide is too sure; its error knows of heavy tails
            and of autocorrelation.
        sd_ratio_error: Its Monte Carlo standard error.
        shift: (E_q[z] − E_p[z]) / sd_p.
        shift_error: Its Monte Carlo standard error.
        coverage: P_p(z in the guide's central interval of each of LEVELS), (3, K).
        coverage_error: Its Monte Carlo standard error, (3, K).
        ess: Effective sample size of the MCMC mean.
    """

    names: list[str]
    block: Tensor
    guide_mean: Tensor
    guide_sd: Tensor
    mcmc_mean: Tensor
    mcmc_sd: Tensor
    mcse: Tensor
    exact_mean: Tensor
    exact_sd: Tensor
    sd_ratio: Tensor
    sd_ratio_error: Tensor
    shift: Tensor
    shift_error: Tensor
    coverage: Tensor
    coverage_error: Tensor
    ess: Tensor

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        block: Tensor,
        guide: Tensor,
        chains: Tensor,
        exact: tuple[Tensor, Tensor] | None = None,
    ) -> Marginals:
        """Of draws of the guide (M, K) and of MCMC (C, S, K), and of the exact mean and standard
        deviation where known.
        """
        guide, chains = guide.double().cpu(), chains.double().cpu()
        m, draws = guide.shape[0], chains.flatten(0, 1)
        q, p = guide.mean(0), draws.mean(0)
        q_sd, p_sd = (
            d.std(0) if len(d) > 1 else torch.full_like(p, torch.nan) for d in (guide, draws)
        )
        ess = effective_size(chains)
        nothing = torch.full_like(p, torch.nan)
        ratio = q_sd / p_sd
        relative = _relative_error(guide, m) + _relative_error(
            draws, effective_size((chains - p).square())
        )
        coverage, coverage_error = _coverage(guide, chains, ess)
        return cls(
            list(names), block, q, q_sd, p, p_sd, p_sd / ess.sqrt(), *(exact or (nothing, nothing)),
            ratio, ratio * relative.sqrt(), (q - p) / p_sd, (1 / ess + ratio.square() / m).sqrt(),
            coverage, coverage_error, ess,
        )  # fmt: skip


def _relative_error(draws: Tensor, ess: Tensor | int) -> Tensor:
    """The variance of log sd: (kurtosis − 1) / 4 ESS; 0 where all draws are equal."""
    centred = draws - draws.mean(0)
    kurtosis = centred.pow(4).mean(0) / centred.square().mean(0).square()
    return torch.where(draws.amax(0) == draws.amin(0), 0.0, (kurtosis - 1) / (4 * ess))


def _coverage(guide: Tensor, chains: Tensor, ess: Tensor) -> tuple[Tensor, Tensor]:
    """The share of MCMC draws inside the guide's central intervals, and its error, which is that of
    their ends as well.
    """
    ordered = guide.sort(0).values
    m = ordered.shape[0]
    inside, error = [], []
    for level in LEVELS:
        low, high = ((1 + sign * level) / 2 * (m - 1) for sign in (-1, 1))
        ends = [
            ordered[int(at)].lerp(ordered[min(int(at) + 1, m - 1)], at - int(at))
            for at in (low, high)
        ]
        hits = ((chains >= ends[0]) & (chains <= ends[1])).double()
        size = torch.where((e := effective_size(hits)).isnan(), ess, e)
        share = hits.mean((0, 1))
        shrunk = (share * size + 0.5) / (
            size + 1
        )  # no error of zero where all draws or none are inside
        inside.append(share)
        error.append((shrunk * (1 - shrunk) / size + level * (1 - level) / m).sqrt())
    return torch.stack(inside), torch.stack(error)


def sliced_wasserstein(
    a: Tensor, b: Tensor, scale: Tensor | None = None, directions: int = 64
) -> Tensor:
    """SW₂ = √(E_u W₂²(uᵀa, uᵀb)) of draws a (n, B, D) and b (m, B, D), for each block (B,).

    Directions u are orthonormal frames, drawn from a generator of its own; for N(0, I) and N(δ, I)
    this is |δ| / √D. One-dimensional W₂ is between min(n, m) quantiles of each. Draws of the same
    distribution are some √(1/n) apart.

    Args:
        a: Draws.
        b: Draws.
        scale: What each coordinate is divided by, (B, D).
        directions: The number of directions at the least.

    Reference:
        Bonneel, Rabin, Peyré and Pfister (2015), Sliced and Radon Wasserstein barycenters of
        measures.
    """
    size = a.shape[-1]
    generator = torch.Generator().manual_seed(0)
    frames = (
        [torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q]
        if size < 257
        else []
    )
    while len(frames) * size < (directions if size > 1 else 1):
        frames.append(
            torch.linalg.qr(
                torch.randn(size, min(size, 64), generator=generator, dtype=torch.float64)
            ).Q
        )
    u = torch.cat(frames, -1).to(a.device)
    count = min(len(a), len(b))
    results = []
    for i in range(a.shape[1]):
        unit = 1.0 if scale is None else scale[i].double()
        projected = [(draws[:, i].double() / unit @ u).sort(0).values for draws in (a, b)]
        picks = [
            ((torch.arange(count) + 0.5) / count * len(p)).long().to(a.device) for p in projected
        ]
        difference = projected[0][picks[0]] - projected[1][picks[1]]
        results.append(difference.square().mean().sqrt())
    return torch.stack(results)
