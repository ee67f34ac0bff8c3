"""Parameters of simulators by moments and by kernels, against what is known of two toys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_gen.inference import Matched, match_mmd, match_moments
from ppl_gen.inference.samples.discrepancies import squared_mmd
from ppl_gen.inference.samples.kernels import Gaussian, NegativeDistance
from ppl_gen.inference.simulators.features import KernelFeatures

MATCHES = (match_moments, match_mmd)
LINE = [constraints.real, constraints.positive]
POSITIVE = [constraints.positive] * 2
NORMAL = torch.tensor([1.0, 2.0])
COUNTS = torch.tensor([2.0, 0.5])
FAST = {"draws": 10}
# Covered by intervals of 95 %, out of so many: within 4 standard errors of counting.
SEEDS = 60
LEAST = SEEDS * (0.95 - 4 * (0.95 * 0.05 / SEEDS) ** 0.5)

Match = Callable[..., Matched]


def normal(theta: Tensor) -> Any:
    """A number of a mean and a standard deviation, as a distribution."""
    return dist.Normal(theta[..., 0], theta[..., 1])


def counts(theta: Tensor) -> Tensor:
    """Counts of a rate that is itself drawn, of a shape and a rate; without gradients."""
    return torch.poisson(dist.Gamma(theta[..., 0], theta[..., 1]).sample())


def mixed(theta: Tensor) -> Tensor:
    """A mixture, with gradients by the place of its second component, and none by its share."""
    second = torch.rand(len(theta)) < theta[:, 1]
    return torch.randn(len(theta)) + second * theta[:, 0]


def data(simulator: Callable[[Tensor], Any], theta: Tensor, n: int, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = simulator(theta.expand(n, len(theta)))
        if not torch.is_tensor(drawn):
            drawn = drawn.sample()
        return drawn


class TestMoments:
    def test_of_a_normal_are_those_of_maximum_likelihood(self) -> None:
        """But for the noise of the simulation, whose share the errors have."""
        n = 4000
        x = data(normal, NORMAL, n, 0)
        found = match_moments(
            normal, x, start=torch.tensor([0.0, 1.0]), supports=LINE, draws=50, seed=0
        )
        exact = torch.stack([x.mean(), x.std()]).double()
        noise = found.estimate.standard_error / 51**0.5
        assert float(((found.estimate.value - exact).abs() / noise).max()) < 4
        error = torch.tensor([2.0, 2.0 / 2**0.5]) * (1.02 / n) ** 0.5
        # That of the sd hangs on the fourth moment, which so many data know to within √(96/n).
        tolerance = 4 * (96 / n) ** 0.5 / 4
        torch.testing.assert_close(
            found.estimate.standard_error.float(), error, rtol=tolerance, atol=0
        )
        assert (found.derivatives, found.degrees) == ("pathwise", 0)
        assert found.verdict.tags == ("nothing-left",)

    @pytest.mark.slow
    def test_hansen_s_test_has_its_degrees_and_its_level(self) -> None:
        """A third moment is left over, which is χ² with one degree of freedom."""

        def three(x: Tensor) -> Tensor:
            return torch.stack([x, x**2, x**3], 1)

        values = []
        for seed in range(SEEDS):
            x = data(normal, NORMAL, 400, seed)
            found = match_moments(
                normal, x, start=NORMAL, supports=LINE, features=three, seed=seed, **FAST
            )
            assert found.degrees == pytest.approx(1, abs=1e-6)
            values.append(found.p_value)
        share = float((torch.tensor(values) < 0.5).double().mean())
        assert abs(share - 0.5) < 4 * 0.5 / SEEDS**0.5

    @pytest.mark.long
    def test_data_of_another_kind_are_refused(self) -> None:
        x = dist.Exponential(1.0).sample(torch.Size([400]))

        def three(x: Tensor) -> Tensor:
            return torch.stack([x, x**2, x**3], 1)

        for match, more in ((match_moments, {"features": three}), (match_mmd, {})):
            found = match(normal, x, start=NORMAL, supports=LINE, seed=0, **more)
            assert found.verdict.tags == ("misfit",)
            assert not found.verdict.passes

    @pytest.mark.long
    def test_a_gradient_that_is_missing_is_noticed(self) -> None:
        x = data(mixed, torch.tensor([4.0, 0.3]), 1000, 0)
        support = [constraints.real, constraints.unit_interval]
        found = match_moments(mixed, x, start=torch.tensor([3.0, 0.5]), supports=support, seed=0)
        assert found.derivatives == "differences"
        off = (found.estimate.value - torch.tensor([4.0, 0.3])) / found.estimate.standard_error
        assert float(off.abs().max()) < 4

    def test_the_best_of_several_starts_is_taken(self) -> None:
        x = data(normal, NORMAL, 200, 0)
        starts = torch.tensor([[50.0, 0.01], [0.0, 1.0]])
        one = match_moments(normal, x, start=starts[1], supports=LINE, seed=0)
        several = match_moments(normal, x, start=starts, supports=LINE, seed=0)
        torch.testing.assert_close(several.estimate.value, one.estimate.value, rtol=1e-3, atol=1e-3)

    def test_what_features_do_not_tell_apart_is_said(self) -> None:
        x = torch.randn(100, generator=torch.Generator().manual_seed(0))

        def summed(theta: Tensor) -> Any:
            return dist.Normal(theta.sum(-1), 1.0)

        found = match_moments(summed, x, start=torch.zeros(2), seed=0)
        assert found.verdict.tags == ("not-identified",)
        assert bool(found.estimate.standard_error.isnan().all())


class TestMMD:
    def test_features_of_all_data_give_the_mmd_itself(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(30, 2, generator=generator, dtype=torch.double)
        y = 1 + torch.randn(30, 2, generator=generator, dtype=torch.double)
        kernel = Gaussian(1.0)
        features = KernelFeatures(kernel, torch.cat([x, y]))
        gap = (features(x).mean(0) - features(y).mean(0)).square().sum()
        expected = squared_mmd(x, y, kernel, unbiased=False)
        torch.testing.assert_close(gap, expected, rtol=1e-6, atol=1e-9)

    def test_outliers_move_it_less(self) -> None:
        x = data(normal, NORMAL, 300, 0)
        x[:6] = 60.0
        by_moments = match_moments(normal, x, start=NORMAL, supports=LINE, seed=0)
        by_mmd = match_mmd(normal, x, start=NORMAL, supports=LINE, seed=0)
        assert float(by_moments.estimate.value[1]) > 6
        assert abs(float(by_mmd.estimate.value[1]) - 2) < 0.6

    def test_a_kernel_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="positive definite"):
            match_mmd(normal, torch.randn(9), start=NORMAL, kernel=NegativeDistance())


@pytest.mark.slow
@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize(
    ("simulator", "theta", "supports"), [(normal, NORMAL, LINE), (counts, COUNTS, POSITIVE)]
)
def test_intervals_cover(
    match: Match, simulator: Callable[[Tensor], Any], theta: Tensor, supports: list[Any]
) -> None:
    inside = torch.zeros(2)
    for seed in range(SEEDS):
        x = data(simulator, theta, 200, seed)
        found = match(simulator, x, start=torch.ones(2), supports=supports, seed=seed, **FAST)
        low, high = found.interval()
        inside += (low <= theta) & (theta <= high)
    assert bool((inside > LEAST).all()), inside


class TestInput:
    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ({"start": torch.zeros(0)}, r"start of shape \(D,\)"),
            ({"start": 1.0}, "start as a tensor"),
            ({"start": torch.tensor([0.0, -1.0])}, "starts in the supports, got -1"),
            ({"start": torch.tensor([0.0, float("nan")])}, "starts in the supports, got nan"),
            ({"supports": LINE[:1]}, "a support for each of 2 parameters"),
            ({"supports": [constraints.real, constraints.simplex]}, "of single numbers"),
            ({"supports": [constraints.real, 3]}, "of single numbers"),
            ({"draws": 0}, "draws of at least 1"),
        ],
    )
    @pytest.mark.parametrize("match", MATCHES)
    def test_what_is_asked_for(self, match: Match, named: dict[str, Any], said: str) -> None:
        asked = {"start": torch.tensor([0.0, 1.0]), "supports": LINE, **named}
        with pytest.raises(ValueError, match=said):
            match(normal, torch.linspace(0, 1, 9), **asked)

    @pytest.mark.parametrize(
        ("x", "said"),
        [
            (torch.tensor([0.0, 1.0, float("nan"), 2.0]), "finite samples"),
            (torch.zeros(2), "at least 3 data"),
            ([1.0, 2.0, 3.0], "data as a tensor"),
        ],
    )
    @pytest.mark.parametrize("match", MATCHES)
    def test_data(self, match: Match, x: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            match(normal, x, start=torch.tensor([0.0, 1.0]), supports=LINE)

    @pytest.mark.parametrize(
        ("features", "said"),
        [
            (lambda x: x[:, None], "as many features as parameters, 2, got 1"),
            (lambda x: torch.stack([x, x, x], 1), "linearly independent"),
            (lambda x: torch.stack([x, x * 0], 1), "features that vary"),
            (lambda x: x[:, None] ** torch.arange(1, 9), "two data for each feature"),
            (lambda x: x[:3, None], "one row for each point"),
        ],
    )
    def test_features(self, features: Any, said: str) -> None:
        x = torch.linspace(-1, 2, 12)
        with pytest.raises(ValueError, match=said):
            match_moments(normal, x, start=NORMAL, supports=LINE, features=features)

    def test_data_that_do_not_vary(self) -> None:
        with pytest.raises(ValueError, match="entries of data that vary"):
            match_moments(normal, torch.ones(9), start=NORMAL, supports=LINE)

    @pytest.mark.parametrize(
        ("simulator", "said"),
        [
            (lambda theta: theta, "of the shape of those at hand"),
            (lambda theta: 1.0, "a tensor or a distribution, got float"),
            (lambda theta: theta @ torch.ones(7), "a simulator of parameters"),
            (lambda theta: theta[:, 0] / 0, "finite data from the simulator"),
        ],
    )
    @pytest.mark.parametrize("match", MATCHES)
    def test_simulators(self, match: Match, simulator: Any, said: str) -> None:
        x = torch.linspace(-1, 2, 12)
        with pytest.raises(ValueError, match=said):
            match(simulator, x, start=NORMAL, supports=LINE)
