"""Kernels: their values, and gradients that are right and finite."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_gen.inference.samples.discrepancies import squared_mmd
from ppl_gen.inference.samples.kernels import (
    Gaussian,
    Kernel,
    Mixture,
    NegativeDistance,
    Polynomial,
    RationalQuadratic,
    median_heuristic,
    squared_distances,
)

KERNELS: list[Kernel] = [
    Gaussian(1.5),
    Mixture([0.5, 2.0]),
    RationalQuadratic(1.5, 0.5),
    Polynomial(),
    NegativeDistance(),
]


class TestKernels:
    def test_values(self) -> None:
        x, y = torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]])
        found = [float(k(x, y)) for k in KERNELS]
        mixture = (math.exp(-50) + math.exp(-25 / 8)) / 2
        expected = [math.exp(-25 / 4.5), mixture, (1 + 25 / 2.25) ** -0.5, 1.0, -5.0]
        assert found == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("kernel", [*KERNELS, None])
    @pytest.mark.parametrize("unbiased", [True, False])
    def test_gradients_are_finite_where_points_coincide(
        self, kernel: Kernel | None, unbiased: bool
    ) -> None:
        x = torch.randn(6, 3)
        x[1] = x[0]
        y = torch.cat([x[:4], torch.randn(2, 3)])
        x.requires_grad_()
        squared_mmd(x, y, kernel, unbiased).backward()
        assert bool(torch.isfinite(x.grad).all())
        assert float(x.grad.abs().max()) > 0

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_gradients_are_right(self, kernel: Kernel) -> None:
        x, y = torch.randn(5, 2).double().requires_grad_(), torch.randn(4, 2).double()
        assert torch.autograd.gradcheck(lambda t: squared_mmd(t, y, kernel), x)

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_what_is_not_a_number_is_not_hidden(self, kernel: Kernel) -> None:
        assert bool(kernel(torch.full((2, 2), math.nan), torch.randn(3, 2)).isnan().all())

    def test_distances_far_from_the_origin(self) -> None:
        x, y = torch.randn(20, 5), torch.randn(30, 5)
        exact = torch.cdist(x.double(), y.double()).square().float()
        torch.testing.assert_close(
            squared_distances(x + 1000, y + 1000), exact, rtol=1e-3, atol=1e-3
        )

    def test_the_median_does_not_depend_on_who_is_who(self) -> None:
        x, y = torch.randn(900, 2), 3 * torch.randn(700, 2)
        pooled = torch.cat([x, y])
        shuffled = pooled[torch.randperm(1600)]
        found = median_heuristic(x, y)
        assert float(found) == float(median_heuristic(shuffled[:300], shuffled[300:]))
        # A thousand of the points: the median's error is about √(π/2) that of a mean over a
        # thousand.
        distances = torch.pdist(pooled)
        assert float(found) == pytest.approx(
            float(distances.median()), abs=4 * 1.25 * float(distances.std()) / 1000**0.5
        )
