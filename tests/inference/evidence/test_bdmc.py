"""The sandwich of forward and reverse annealing: it holds the exact evidence, and closes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from posteriors import ppca

from ppl_gen.data import Dataset
from ppl_gen.inference import ais, bdmc, fit, log_evidence, svi_step
from ppl_gen.models import cvae, vae


class TestSandwich:
    def test_it_closes_on_principal_components(self) -> None:
        program = ppca()
        sandwich = bdmc(program, 200, temperatures=1000, seed=0)
        exact = float(program.exact_log_evidence(sandwich.x).double().mean())
        lower = sandwich.lower.mean()
        upper = sandwich.upper.mean()
        gap = sandwich.mean_gap
        assert float(gap.value) < 0.05
        assert float(gap.standard_error) < 0.02
        assert float(lower.value) <= exact + 4 * float(lower.standard_error)
        assert float(upper.value) >= exact - 4 * float(upper.standard_error)

    def test_few_temperatures_leave_a_gap_around_the_truth(self) -> None:
        program = ppca()
        sandwich = bdmc(program, 200, temperatures=20, seed=0)
        exact = float(program.exact_log_evidence(sandwich.x).double().mean())
        lower = sandwich.lower.mean()
        upper = sandwich.upper.mean()
        assert float(lower.value) + 4 * float(lower.standard_error) < exact
        assert exact < float(upper.value) - 4 * float(upper.standard_error)
        assert "≤ log p(x) ≤" in str(sandwich)
        torch.testing.assert_close(sandwich.gap.value, sandwich.upper.value - sandwich.lower.value)

    def test_given_a_label(self) -> None:
        program = cvae((1, 8, 8), 2, classes=10, hidden=(16,))
        y = torch.arange(10)
        sandwich = bdmc(program, 10, y, guide=program.guide, temperatures=50, seed=0)
        assert sandwich.x.shape == (10, 1, 8, 8)
        gap = sandwich.mean_gap
        assert abs(float(gap.value)) < 4 * float(gap.standard_error)


@pytest.mark.slow
def test_on_mnist_ais_is_no_lower_than_importance_weights(mnist: Callable[..., Dataset]) -> None:
    """50 latents, five epochs: 1000 temperatures from the guide against 5000 importance samples."""
    digits = mnist(binarize="dynamic")
    program = vae(digits.shape, 50)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3, fused=True), steps=3000)
    fit(step, digits.train.batches(100), 5, progress=False)
    x = digits.test.fixed(0, 30).x
    annealed = ais(program, x, guide=program.guide, seed=0).mean()
    weighted = log_evidence(program, None, x, particles=5000, seed=0).mean()
    sandwich = bdmc(program, 30, guide=program.guide, seed=0)
    print(f"\nAIS {annealed}, importance weights {weighted}; {sandwich}")
    error = math.hypot(float(annealed.standard_error), float(weighted.standard_error))
    assert float(annealed.value - weighted.value) > -4 * error
    assert float(sandwich.gap.mean().value) < 1.0
