"""R̂ and effective sample sizes: ArviZ's, coordinate by coordinate, and one of tensors, many at once."""

from __future__ import annotations

__all__ = ["Statistic", "by_coordinate", "constant", "effective_size", "one_by_one", "quantile"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_gen import memory

Statistic = Callable[[NDArray[np.float64]], Any]


def effective_size(chains: Tensor) -> Tensor:
    """ESS = CS / (1 + 2 Σₜ ρₜ) of the means of draws (C, S, K), of shape (K,), with Geyer's initial
    monotone sequence.

    Chains are split in halves, so that a chain that drifts, or stays in a mode of its own, counts
    for little. NaN for fewer than eight draws in a chain, and for coordinates whose draws are all
    equal.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization, section 3.
    """
    half = chains.shape[1] // 2
    if half < 4:
        return chains.new_full(chains.shape[2:], torch.nan).double()
    width = memory.rows(memory.DIAGNOSED, chains.shape[0] * chains.shape[1])
    return torch.cat([_effective_size(part.double(), half) for part in chains.split(width, -1)])


def _effective_size(chains: Tensor, half: int) -> Tensor:
    split = torch.cat([chains[:, :half], chains[:, -half:]])
    means = split.mean(1)
    spectrum = torch.fft.rfft(split - means[:, None], n=2 * half, dim=1)
    within = torch.fft.irfft(spectrum.abs().square(), n=2 * half, dim=1)[:, :half].mean(0) / half
    within = within * (half / (half - 1))
    total = within[0] * ((half - 1) / half) + means.var(0)
    rho = 1 - (within[0] - within) / total
    rho[0] = 1.0
    pairs = rho[: half // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    kept = (pairs > 0).cumprod(0)
    # Half of the pair that ends the sequence, which matters where draws are antithetic.
    last = rho.gather(0, (2 * kept.sum(0, keepdim=True)).clamp(max=half - 1))[0].clamp(min=0)
    pairs = torch.where(kept.bool(), pairs, 0.0).cummin(0).values
    count = split.shape[0] * half
    length = (2 * pairs.sum(0) - 1 + last).clamp(min=1 / torch.tensor(float(count)).log10().item())
    constant = (chains == chains[:1, :1]).all(0).all(0)
    return torch.where(constant | ~(total > 0), torch.nan, count / length)


def by_coordinate(value: Tensor, statistic: Statistic) -> Tensor:
    """The statistic of every coordinate, float64, a bounded number of coordinates at a time."""
    flat = value.detach().reshape(*value.shape[:2], -1)
    width = memory.rows(memory.DIAGNOSED, flat.shape[0] * flat.shape[1])
    parts = [
        torch.as_tensor(
            np.asarray(
                statistic(part.permute(2, 0, 1).double().cpu().contiguous().numpy()), dtype=float
            )
        )
        for part in flat.split(width, dim=-1)
    ]
    return torch.cat(parts).reshape(value.shape[2:])


def one_by_one(diagnostic: Callable[..., Any], *, least: float = 4, **options: Any) -> Statistic:
    """ArviZ's diagnostic of each (chains, draws), wherever it says something; ArviZ itself goes
    through them in a loop.
    """

    def statistic(z: NDArray[np.float64]) -> NDArray[np.float64]:
        results = np.full(len(z), np.nan)
        if z.shape[2] >= least:
            with np.errstate(all="ignore"):
                for i in np.flatnonzero(np.isfinite(z).all((1, 2)) & ~constant(z)):
                    results[i] = diagnostic(z[i], **options)
        return results

    return statistic


def quantile(p: float, z: NDArray[np.float64]) -> Any:
    """The p-quantile of each coordinate over all chains and draws."""
    return np.quantile(z.reshape(len(z), -1), p, axis=1)


def constant(z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all draws of a coordinate are equal."""
    return np.ptp(z, (1, 2)) == 0
