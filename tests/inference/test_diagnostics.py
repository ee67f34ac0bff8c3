"""R̂ against its definition, what is computed in torch against ArviZ, NaN where there is none."""

from __future__ import annotations

import arviz
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from torch import Tensor

from ppl_gen.inference.diagnostics import (
    constant,
    effective_size,
    r_hat,
    split_r_hat,
    stuck_chains,
)


def autoregressive(rho: float) -> Tensor:
    """Four chains of 1000 draws of three coordinates, each draw depending on the one before."""
    z = torch.randn(4, 1000, 3, dtype=torch.float64)
    for t in range(1, 1000):
        z[:, t] = rho * z[:, t - 1] + (1 - rho**2) ** 0.5 * z[:, t]
    return z


def by_definition(z: NDArray[np.float64]) -> float:
    """R̂ of chains (C, draws): the larger of those of the values and of their distance from the
    median, each of half chains, by normal scores (Vehtari et al. 2021, eq. 1 to 4 and 14).
    """

    def of(values: NDArray[np.float64]) -> float:
        half = values.shape[1] // 2
        halves = np.concatenate([values[:, :half], values[:, half:]])
        ranks = rankdata(halves, method="average").reshape(halves.shape)
        scores = norm.ppf((ranks - 0.375) / (halves.size + 0.25))
        within = scores.var(axis=1, ddof=1).mean()
        between = scores.mean(axis=1).var(ddof=1)
        return float(np.sqrt((half - 1) / half + between / within))

    return max(of(z), of(np.abs(z - np.median(z))))


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.9])
class TestAgainstArviZ:
    def test_effective_size(self, rho: float) -> None:
        z = autoregressive(rho)
        reference = [float(arviz.ess(z[..., k].numpy(), method="mean")) for k in range(3)]
        np.testing.assert_allclose(effective_size(z), reference, rtol=0.02)

    def test_r_hat(self, rho: float) -> None:
        z = autoregressive(rho)
        z[0] += 1
        reference = [float(arviz.rhat(z[..., k].numpy())) for k in range(3)]
        np.testing.assert_allclose(r_hat(z), reference)
        np.testing.assert_allclose(r_hat(z), [by_definition(z[..., k].numpy()) for k in range(3)])

    def test_split_r_hat(self, rho: float) -> None:
        z = autoregressive(rho)
        z[0] += 1
        reference = [float(arviz.rhat(z[..., k].numpy(), method="split")) for k in range(3)]
        np.testing.assert_allclose(split_r_hat(z), reference)


def test_effective_size_of_what_has_none() -> None:
    assert effective_size(torch.ones(2, 100, 1)).isnan().all()
    assert effective_size(torch.randn(2, 7, 1)).isnan().all()
    apart = torch.randn(2, 100, 1) + torch.tensor([0.0, 50.0])[:, None, None]
    assert float(effective_size(apart)) < 10


def test_split_r_hat_of_too_few_draws() -> None:
    assert split_r_hat(torch.randn(4, 3, 2)).isnan().all()


def test_r_hat_of_a_single_chain() -> None:
    assert r_hat(torch.randn(1, 100, 2, 3)).isnan().all()


def test_chains_and_coordinates_that_stay() -> None:
    q = torch.randn(3, 50, 2, 4)
    q[1, :, 0] = 0.5  # a block of the second chain
    assert stuck_chains(q) == [1]
    assert stuck_chains(q[:, :1]) == []
    q[..., 3] = 2.0
    assert constant(q)[0].tolist() == [0, 0, 0, 1]
