"""R̂, effective sample sizes and Monte Carlo errors: whether Markov chains can be believed.

`r_hat`, `ess_bulk`, `ess_tail`, `mcse_mean` and `mcse_sd` are ArviZ's, coordinate by coordinate:
what `Draws` reports. `split_r_hat`, for the progress line of `hmc`, and `effective_size`, for the
marginals of `compare`, compute such numbers in torch, many coordinates at once.
"""

from __future__ import annotations

__all__ = [
    "constant",
    "effective_size",
    "ess_bulk",
    "ess_tail",
    "mcse_mean",
    "mcse_sd",
    "mean",
    "quantile",
    "r_hat",
    "sd",
    "split_r_hat",
    "stuck_chains",
]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_gen import memory

# From draws of shape (coordinates, chains, draws) to a number for each coordinate.
_Statistic = Callable[[NDArray[np.float64]], NDArray[Any]]

# ArviZ's diagnostics split each chain, and need two draws in each half.
_FEWEST_DRAWS = 4
# Halves of this many draws have autocovariances to speak of.
_SHORTEST_HALF = 4


def r_hat(draws: Tensor) -> Tensor:
    """R̂ = √(variance of all draws / variance within half chains), of their normal scores.

    The larger of two: that of the draws themselves (bulk) and that of their distances from the
    median (tails).

    Args:
        draws: The draws of a site, (chains, draws, *shape).

    Returns:
        R̂ of each coordinate, (*shape,), float64. NaN for a single chain, for fewer than four
        draws, and for coordinates that are constant or not finite.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization: an improved R̂.
    """
    import arviz

    if draws.shape[0] == 1:
        return draws.new_full(draws.shape[2:], torch.nan, dtype=torch.float64, device="cpu")
    return _by_arviz(arviz.rhat, draws)


def split_r_hat(chains: Tensor) -> Tensor:
    """R̂ = √((S − 1)/S + B/W) of half chains, without ranks: a quick look, not the diagnosis.

    S is the number of draws in half a chain, B the variance of the means of half chains, W the mean
    of their variances.

    Args:
        chains: Draws (C, draws, K); the first is left out if their number is odd.

    Returns:
        R̂ of each coordinate, (K,), float64; NaN for fewer than four draws.

    Reference:
        Gelman et al. (2013), Bayesian data analysis, section 11.4.
    """
    half = chains.shape[1] // 2
    if half < 2:
        return chains.new_full(chains.shape[2:], torch.nan, dtype=torch.float64)
    draws = chains.transpose(0, 1)[-2 * half :]
    halves = torch.cat([draws[:half], draws[half:]], 1).double()
    within = halves.var(0).mean(0)
    between = halves.mean(0).var(0)
    return ((half - 1) / half + between / within).sqrt()


def ess_bulk(draws: Tensor) -> Tensor:
    """The effective sample size of the bulk: so many independent draws place the middle as well.

    Args:
        draws: The draws of a site, (chains, draws, *shape).

    Returns:
        The size for each coordinate, (*shape,), float64; NaN for fewer than four draws, and for
        coordinates that are constant or not finite.
    """
    import arviz

    return _by_arviz(arviz.ess, draws, method="bulk")


def ess_tail(draws: Tensor, tails: tuple[float, float]) -> Tensor:
    """The effective sample size of the tails: the smaller of those of two quantiles.

    Args:
        draws: The draws of a site, (chains, draws, *shape).
        tails: The probabilities of the two quantiles.

    Returns:
        The size for each coordinate, (*shape,), float64; NaN for fewer than four draws, and for
        coordinates that are constant or not finite.
    """
    import arviz

    return _by_arviz(arviz.ess, draws, method="tail", prob=tails)


def mcse_mean(draws: Tensor) -> Tensor:
    """sd / √ESS, the Monte Carlo standard error of the mean of each coordinate.

    Args:
        draws: The draws of a site, (chains, draws, *shape).
    """
    import arviz

    return _by_arviz(arviz.mcse, draws, method="mean")


def mcse_sd(draws: Tensor) -> Tensor:
    """The Monte Carlo standard error of the standard deviation of each coordinate.

    Args:
        draws: The draws of a site, (chains, draws, *shape).
    """
    import arviz

    return _by_arviz(arviz.mcse, draws, method="sd")


def mean(draws: Tensor) -> Tensor:
    """(1/S) Σₛ zₛ over all chains and draws, float64, of the draws (chains, draws, *shape)."""
    return _by_coordinate(draws, lambda z: z.mean((1, 2)))


def sd(draws: Tensor) -> Tensor:
    """√(Σₛ (zₛ − z̄)² / (S − 1)) over all chains and draws, float64; NaN for a single draw.

    Args:
        draws: The draws of a site, (chains, draws, *shape).
    """
    chains, count = draws.shape[:2]
    if chains * count == 1:
        return draws.new_full(draws.shape[2:], torch.nan, dtype=torch.float64, device="cpu")
    return _by_coordinate(draws, lambda z: z.std((1, 2), ddof=1))


def quantile(draws: Tensor, p: float) -> Tensor:
    """The p-quantile of each coordinate over all chains and draws (chains, draws, *shape)."""
    return _by_coordinate(draws, lambda z: np.quantile(z.reshape(len(z), -1), p, axis=1))


def constant(draws: Tensor) -> Tensor:
    """1.0 where all draws (chains, draws, *shape) of a coordinate are equal, else 0.0."""
    return _by_coordinate(draws, _is_constant)


def stuck_chains(q: Tensor) -> list[int]:
    """The chains that never moved, of draws (C, S, B, D): a block of theirs has but one value.

    A chain of a single draw is none of them.
    """
    if q.shape[1] == 1:
        return []
    stays = (q == q[:, :1]).all(1)
    stuck = stays.all(-1).any(-1)
    return stuck.nonzero().flatten().tolist()


def effective_size(chains: Tensor) -> Tensor:
    """ESS = CS / (1 + 2 Σₜ ρₜ) of means, the sum cut off by Geyer's initial monotone sequence.

    Chains are split in halves, so that a chain that drifts, or stays in a mode of its own, counts
    for little.

    Args:
        chains: Draws (C, S, K).

    Returns:
        The size for each coordinate, (K,), float64; NaN for fewer than eight draws in a chain, and
        for coordinates whose draws are all equal.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization, section 3.
    """
    half = chains.shape[1] // 2
    if half < _SHORTEST_HALF:
        return chains.new_full(chains.shape[2:], torch.nan).double()
    width = memory.rows(memory.DIAGNOSED, chains.shape[0] * chains.shape[1])
    return torch.cat([_effective_size(part.double(), half) for part in chains.split(width, -1)])


def _effective_size(chains: Tensor, half: int) -> Tensor:
    split = torch.cat([chains[:, :half], chains[:, -half:]])
    count = split.shape[0] * half
    covariances = _autocovariances(split)
    within = covariances[0]
    total = within * ((half - 1) / half) + split.mean(1).var(0)
    rho = 1 - (within - covariances) / total
    rho[0] = 1.0
    even = half // 2 * 2
    pairs = rho[0:even:2] + rho[1:even:2]
    positive = (pairs > 0).cumprod(0)
    monotone = torch.where(positive.bool(), pairs, 0.0).cummin(0).values
    # Half of the pair that ends the sequence, which matters where draws are antithetic.
    end = (2 * positive.sum(0, keepdim=True)).clamp(max=half - 1)
    last = rho.gather(0, end)[0].clamp(min=0)
    shortest = 1 / torch.tensor(float(count)).log10().item()
    length = (2 * monotone.sum(0) - 1 + last).clamp(min=shortest)
    first = chains[:1, :1]
    equal = (chains == first).flatten(0, 1).all(0)
    return torch.where(equal | ~(total > 0), torch.nan, count / length)


def _autocovariances(split: Tensor) -> Tensor:
    """At lags 0, …, S − 1 (S, K), averaged over half chains (2C, S, K); at lag 0 the variance."""
    half = split.shape[1]
    centred = split - split.mean(1)[:, None]
    spectrum = torch.fft.rfft(centred, n=2 * half, dim=1)
    products = torch.fft.irfft(spectrum.abs().square(), n=2 * half, dim=1)[:, :half]
    return products.mean(0) / half * (half / (half - 1))


def _by_arviz(diagnostic: Callable[..., Any], draws: Tensor, **options: Any) -> Tensor:
    """ArviZ's diagnostic of each coordinate; ArviZ itself goes through them one by one."""

    def statistic(z: NDArray[np.float64]) -> NDArray[np.float64]:
        results = np.full(len(z), np.nan)
        if z.shape[2] < _FEWEST_DRAWS:
            return results
        telling = np.isfinite(z).all((1, 2)) & ~_is_constant(z)
        with np.errstate(all="ignore"):
            for i in np.flatnonzero(telling):
                results[i] = diagnostic(z[i], **options)
        return results

    return _by_coordinate(draws, statistic)


def _by_coordinate(draws: Tensor, statistic: _Statistic) -> Tensor:
    """The statistic of every coordinate, float64, a bounded number of coordinates at a time."""
    flat = draws.detach().reshape(*draws.shape[:2], -1)
    width = memory.rows(memory.DIAGNOSED, flat.shape[0] * flat.shape[1])
    found = []
    for part in flat.split(width, dim=-1):
        z = part.permute(2, 0, 1).to("cpu", torch.float64).contiguous()
        found.append(torch.as_tensor(np.asarray(statistic(z.numpy()), dtype=float)))
    return torch.cat(found).reshape(draws.shape[2:])


def _is_constant(z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all draws of a coordinate are equal, of draws (coordinates, chains, draws)."""
    return np.ptp(z, (1, 2)) == 0
