"""The sandwich of forward and reverse annealing: it holds the exact evidence, and closes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from posteriors import ppca
from torch import Tensor

from ppl_gen.data import Dataset
from ppl_gen.inference import Estimate, Sandwich, ais, bdmc, fit, log_evidence, svi_step
from ppl_gen.inference.evidence.bdmc import _error_of_upper
from ppl_gen.models import cvae, toy, vae


class TestSandwich:
    @pytest.mark.slow
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

    @pytest.mark.long
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

    @pytest.mark.long
    def test_given_a_label(self) -> None:
        program = cvae((1, 8, 8), 2, classes=10, hidden=(16,))
        y = torch.arange(10)
        sandwich = bdmc(program, 10, y, guide=program.guide, temperatures=50, seed=0)
        assert sandwich.x.shape == (10, 1, 8, 8)
        gap = sandwich.mean_gap
        assert abs(float(gap.value)) < 4 * float(gap.standard_error)


def _sandwich(lower: Tensor, upper: Tensor, error: float) -> Sandwich:
    noise = torch.full_like(lower, error)
    return Sandwich(Estimate(lower, noise), Estimate(upper, noise), lower[:, None])


class TestWords:
    """What is said of 100 data, whose gaps spread by 1: the error of their average is 0.1."""

    spread = torch.linspace(-1, 1, 100) / torch.linspace(-1, 1, 100).std()

    def test_bounds_in_order(self) -> None:
        found = _sandwich(torch.zeros(100), 0.5 + self.spread, 0.1)
        assert "0.000 ± 0.010 ≤ log p(x) ≤ 0.500 ± 0.010 in expectation" in str(found)
        assert "too low by at most 0.500 ± 0.100 nats" in found.verdict

    @pytest.mark.parametrize("gap", [0.1502, -0.1502])
    def test_bounds_that_meet(self, gap: float) -> None:
        """In no order, though the lower one may have come out above."""
        found = _sandwich(torch.zeros(100), gap + self.spread, 0.1)
        assert "meet within error" in str(found)
        assert "≤" not in str(found)
        assert f"too low by less than {gap + 0.1645:.3f} nats" in found.verdict

    def test_bounds_that_are_crossed(self) -> None:
        found = _sandwich(torch.zeros(100), self.spread - 0.5, 0.1)
        assert "crossed" in str(found)
        assert "≤" not in str(found)
        assert found.verdict.passes is False


def test_the_upper_error_has_the_chance_of_the_latents_in_it() -> None:
    """Gaps spread by 10 where chains alone would give an error of 0.1; unknown of one datum."""
    gaps = 10 * TestWords.spread.double()
    chains = torch.full((100,), 0.1).double()
    lower = Estimate(torch.zeros(100).double(), chains)
    error = _error_of_upper(lower, Estimate(-gaps, chains))
    torch.testing.assert_close(error, torch.full_like(error, math.sqrt(100 - 0.01)))
    alone = Estimate(torch.zeros(1), torch.full((1,), 0.1))
    assert bool(_error_of_upper(alone, alone).isnan())
    as_chains_say = _error_of_upper(lower, Estimate(0.01 * gaps, chains))
    torch.testing.assert_close(as_chains_say, chains)


@pytest.mark.slow
def test_errors_cover_what_the_bounds_expect() -> None:
    """In 75 groups of 20 data, the mean upper bound is within 2 errors of its own expectation 95
    times in 100; the errors of chains alone held it 61 times.
    """
    torch.manual_seed(0)
    program = toy.PPCA(torch.randn(20, 10), torch.zeros(20), 0.3)
    sandwich = bdmc(program, 1500, temperatures=100, seed=1, engine="fx")
    exact = program.exact_log_evidence(sandwich.x).double()
    off = (sandwich.upper.value - exact).unflatten(0, (75, 20)).mean(1)
    lower = sandwich.lower
    above = Estimate(-sandwich.upper.value, torch.zeros(1500))
    held = []
    for k, rows in enumerate(torch.arange(1500).split(20)):
        error = _error_of_upper(lower[rows], above[rows]).square().sum().sqrt() / 20
        held.append(abs(float(off[k] - off.mean())) < 1.96 * float(error))
    share = sum(held) / 75
    assert share > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 75)
    assert bool((off > 0).all())


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
