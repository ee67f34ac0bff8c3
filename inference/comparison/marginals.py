"""Coordinate by coordinate, a guide beside MCMC beside the exact posterior; and one distance."""

from __future__ import annotations

__all__ = ["LEVELS", "Marginals", "standardised_distance"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.inference.diagnostics import effective_size
from ppl_gen.inference.findings import Verdict
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

LEVELS = (0.5, 0.8, 0.95)
_MOMENTS = [
    "guide mean",
    "guide sd",
    "mcmc mean",
    "mcmc sd",
    "mcse",
    "exact mean",
    "exact sd",
    "sd ratio",
    "sd ratio error",
]
_MOST_SQUARE = 256  # coordinates of which a whole frame of directions is drawn


@dataclass(frozen=True, eq=False, repr=False)
class Marginals(Result):
    """Moments and intervals of K coordinates.

    Every tensor is float64, on the CPU, of shape (K,) unless said otherwise.

    Attributes:
        names: The names of the coordinates, such as "theta[0]".
        block: The datum that each belongs to, 0 where the posterior is joint.
        guide_mean: E_q[z].
        guide_sd: sd_q[z].
        mcmc_mean: E_p[z], over all chains and draws.
        mcmc_sd: sd_p[z].
        mcse: Monte Carlo standard error of mcmc_mean, sd / √ESS.
        exact_mean: The true mean; NaN where it is not known.
        exact_sd: The true standard deviation; NaN where it is not known.
        lowest: The lower end of the support of each, −∞ where it has none.
        highest: The upper end of the support of each, ∞ where it has none.
        sd_ratio: sd_q / sd_p, below 1 where the guide is too sure.
        sd_ratio_error: Monte Carlo standard error of sd_ratio; it takes heavy tails and
            autocorrelation into account.
        shift: (E_q[z] − E_p[z]) / sd_p.
        shift_error: Monte Carlo standard error of shift.
        coverage: P_p(z in the guide's central interval of each of LEVELS), (3, K).
        coverage_error: Monte Carlo standard error of coverage, (3, K).
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
    lowest: Tensor
    highest: Tensor
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
        support: tuple[Tensor, Tensor] | None = None,
    ) -> Marginals:
        """Computes all moments and intervals from draws.

        Args:
            names: Of the K coordinates.
            block: The datum that each belongs to, (K,).
            guide: Draws of the guide, (M, K).
            chains: Draws of MCMC, (C, S, K).
            exact: The true means and standard deviations, each (K,); None where they are not known.
            support: The lower and the upper ends of the supports, each (K,); None where they have
                none.
        """
        guide = guide.double().cpu()
        chains = chains.double().cpu()
        pooled = chains.flatten(0, 1)
        guide_mean = guide.mean(0)
        guide_sd = _sd(guide)
        mcmc_mean = pooled.mean(0)
        mcmc_sd = _sd(pooled)
        if exact is None:
            unknown = torch.full_like(mcmc_mean, torch.nan)
            exact = (unknown, unknown)
        if support is None:
            endless = torch.full_like(mcmc_mean, torch.inf)
            support = (-endless, endless)
        m = len(guide)
        ess = effective_size(chains)
        ess_of_squares = effective_size((chains - mcmc_mean).square())
        ratio = guide_sd / mcmc_sd
        log_ratio_variance = _log_sd_variance(guide, m) + _log_sd_variance(pooled, ess_of_squares)
        coverage, coverage_error = _coverage(guide, chains, ess)
        return cls(
            names=list(names),
            block=block,
            guide_mean=guide_mean,
            guide_sd=guide_sd,
            mcmc_mean=mcmc_mean,
            mcmc_sd=mcmc_sd,
            mcse=mcmc_sd / ess.sqrt(),
            exact_mean=exact[0],
            exact_sd=exact[1],
            lowest=support[0],
            highest=support[1],
            sd_ratio=ratio,
            sd_ratio_error=ratio * log_ratio_variance.sqrt(),
            shift=(guide_mean - mcmc_mean) / mcmc_sd,
            shift_error=(1 / ess + ratio.square() / m).sqrt(),
            coverage=coverage,
            coverage_error=coverage_error,
            ess=ess,
        )

    @property
    def verdict(self) -> Verdict:
        """Nothing is tested here: the verdict is that of the comparison."""
        return Verdict(())

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: moments of guide, MCMC and exact posterior."""
        return self.to_pandas()[_MOMENTS]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each coordinate, with a column for every attribute and level of coverage."""
        import pandas

        columns = {}
        for attribute, values in vars(self).items():
            name = attribute.replace("_", " ")
            if attribute == "names":
                continue
            if values.dim() == 1:
                columns[name] = values.cpu().numpy()
                continue
            for level, of_level in zip(LEVELS, values, strict=True):
                columns[f"{name} {level:.0%}"] = of_level.cpu().numpy()
        return pandas.DataFrame(columns, index=self.names)

    @property
    def headline(self) -> str:
        """How many coordinates there are."""
        return f"moments and intervals of {len(self.names)} coordinates"


def _sd(draws: Tensor) -> Tensor:
    """Standard deviations (K,) of draws (n, K); NaN of a single draw."""
    if len(draws) == 1:
        return torch.full_like(draws[0], torch.nan)
    return draws.std(0)


def _log_sd_variance(draws: Tensor, ess: Tensor | int) -> Tensor:
    """The variance of log sd, (kurtosis − 1) / 4 ESS, from draws (n, K); 0 where all are equal."""
    centred = draws - draws.mean(0)
    kurtosis = centred.pow(4).mean(0) / centred.square().mean(0).square()
    constant = draws.amax(0) == draws.amin(0)
    return torch.where(constant, 0.0, (kurtosis - 1) / (4 * ess))


def _coverage(guide: Tensor, chains: Tensor, ess: Tensor) -> tuple[Tensor, Tensor]:
    """The share of MCMC draws inside the guide's central intervals, and its standard error.

    The error holds that of the intervals' ends as well.

    Args:
        guide: Draws of the guide, (M, K).
        chains: Draws of MCMC, (C, S, K).
        ess: Effective sample size of the MCMC mean, (K,).

    Returns:
        Share and error at each of LEVELS, each (3, K).
    """
    ordered = guide.sort(0).values
    shares: list[Tensor] = []
    errors: list[Tensor] = []
    for level in LEVELS:
        low = _quantile(ordered, (1 - level) / 2)
        high = _quantile(ordered, (1 + level) / 2)
        hits = ((chains >= low) & (chains <= high)).double()
        own_size = effective_size(hits)
        size = torch.where(own_size.isnan(), ess, own_size)
        share = hits.mean((0, 1))
        # Shrunk a little, so that no error is zero where all draws or none are inside.
        shrunk = (share * size + 0.5) / (size + 1)
        variance = shrunk * (1 - shrunk) / size
        variance_of_ends = level * (1 - level) / len(guide)
        shares.append(share)
        errors.append((variance + variance_of_ends).sqrt())
    return torch.stack(shares), torch.stack(errors)


def _quantile(ordered: Tensor, probability: float) -> Tensor:
    """The quantile of each column of sorted draws (n, K), between two of them."""
    last = len(ordered) - 1
    at = probability * last
    below = int(at)
    above = min(below + 1, last)
    return ordered[below].lerp(ordered[above], at - below)


def standardised_distance(
    a: Tensor, b: Tensor, scale: Tensor | None = None, directions: int = 64
) -> Tensor:
    """SW₂ = √(E_u W₂²(uᵀa, uᵀb)) of draws a (n, B, D) and b (m, B, D), for each block (B,).

    Directions u are orthonormal frames, drawn from a generator of its own; for N(0, I) and N(δ, I)
    this is |δ| / √D. One-dimensional W₂ is between min(n, m) quantiles of each. Draws of the same
    distribution are some √(1/n) apart. Unlike `ppl_gen.inference.sliced_wasserstein` this is a
    plain number, rooted, the same in each call, and taken block by block.

    Args:
        a: Draws, (n, B, D).
        b: Draws, (m, B, D).
        scale: The unit of each coordinate, by which both are divided, (B, D); 1 if None.
        directions: The number of directions at the least.

    Reference:
        Bonneel, Rabin, Peyré and Pfister (2015), Sliced and Radon Wasserstein barycenters of
        measures.
    """
    u = _directions(a.shape[-1], directions).to(a.device)
    count = min(len(a), len(b))
    distances = []
    for block in range(a.shape[1]):
        in_a = a[:, block].double()
        in_b = b[:, block].double()
        if scale is not None:
            in_a = in_a / scale[block].double()
            in_b = in_b / scale[block].double()
        difference = _projected_quantiles(in_a, u, count) - _projected_quantiles(in_b, u, count)
        distances.append(difference.square().mean().sqrt())
    return torch.stack(distances)


def _directions(size: int, least: int) -> Tensor:
    """Unit vectors (D, L) in orthonormal frames, at least `least` of them; one where D = 1."""
    generator = torch.Generator().manual_seed(0)
    frames = []
    if size <= _MOST_SQUARE:
        frames.append(_frame(size, size, generator))
    if size == 1:
        least = 1
    while sum(frame.shape[1] for frame in frames) < least:
        frames.append(_frame(size, min(size, 64), generator))
    return torch.cat(frames, -1)


def _frame(size: int, count: int, generator: torch.Generator) -> Tensor:
    """So many orthonormal vectors, (D, count)."""
    normal = torch.randn(size, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(normal).Q


def _projected_quantiles(draws: Tensor, u: Tensor, count: int) -> Tensor:
    """(count, L) quantiles of draws (n, D) along directions u (D, L)."""
    ordered = (draws @ u).sort(0).values
    middles = (torch.arange(count) + 0.5) / count
    picks = (middles * len(ordered)).long().to(draws.device)
    return ordered[picks]
