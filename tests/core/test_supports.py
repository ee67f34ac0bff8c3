"""Where draws lie: Pyro's own answer is too wide for angles, mixtures and transformed draws."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints, transforms

from ppl_gen.protocols import Distribution
from ppl_gen.supports import flaw_of_draws, is_discrete, support_of, to_support

_NORMAL = dist.Normal(torch.zeros(3), 1.0)
_CASES: dict[str, tuple[Distribution, float, float]] = {
    "angle": (dist.VonMises(torch.zeros(2), 1.0).mask(True), -math.pi, math.pi),
    "two angles": (dist.VonMises(torch.zeros(2), 1.0).to_event(1), -math.pi, math.pi),
    "mixture": (
        dist.MixtureSameFamily(
            dist.Categorical(torch.ones(2)),
            dist.Uniform(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 4.0])),
        ),
        0.0,
        4.0,
    ),
    "scaled sigmoid": (
        dist.TransformedDistribution(
            _NORMAL, [transforms.SigmoidTransform(), transforms.AffineTransform(1.0, -2.0)]
        ),
        -1.0,
        1.0,
    ),
    "entries on an interval": (
        dist.TransformedDistribution(
            _NORMAL.to_event(1),
            [transforms.biject_to(constraints.independent(constraints.interval(2.0, 5.0), 1))],
        ),
        2.0,
        5.0,
    ),
    "shifted exponential": (
        dist.TransformedDistribution(dist.Exponential(1.0), [transforms.AffineTransform(3.0, 2.0)]),
        3.0,
        math.inf,
    ),
    "Pareto": (dist.GeneralizedPareto(1.0, torch.ones(2), 0.1), 1.0, math.inf),
    "flow": (
        dist.TransformedDistribution(_NORMAL.to_event(1), [transforms.spline(3)]),
        -math.inf,
        math.inf,
    ),
}


@pytest.mark.parametrize("name", _CASES)
def test_the_whole_line_leads_to_the_support(name: str) -> None:
    fn, lower, upper = _CASES[name]
    transform = to_support("z", fn)
    shape = transform.inverse_shape(fn.shape())
    ends = transform(torch.full(shape, -30.0)), transform(torch.full(shape, 30.0))
    for end, reached in ((lower, ends[0]), (upper, ends[1])):
        if math.isfinite(end):
            torch.testing.assert_close(reached, torch.full_like(reached, end), atol=1e-4, rtol=0)
        else:
            assert bool((reached.abs() > 25).all())
    drawn = fn.sample((100,))
    assert bool(support_of(fn).check(drawn).all())


def test_a_distribution_without_a_support_is_named() -> None:
    fn = dist.Rejector(dist.Normal(0.0, 1.0), torch.zeros_like, torch.zeros(()))
    assert support_of(fn) is None
    with pytest.raises(ValueError, match="names its support for the latent 'z', got Rejector"):
        to_support("z", fn)


def test_a_support_without_a_way_there_is_named() -> None:
    fn = dist.ProjectedNormal(torch.ones(2))
    with pytest.raises(ValueError, match="got 'z' from ProjectedNormal"):
        to_support("z", fn)


def test_points_are_discrete_and_real_numbers_are_not() -> None:
    assert is_discrete(dist.Empirical(torch.zeros(3), torch.zeros(3)))
    assert is_discrete(dist.Categorical(torch.ones(3)))
    assert not is_discrete(_NORMAL)


def test_torch_draws_correlation_matrices_too_wide() -> None:
    """Where this fails, torch has mended its draws, and `flaw_of_draws` need not refuse them.

    At η = 1 every correlation of three dimensions has a standard deviation of ½.
    """
    fn = dist.LKJCholesky(3, torch.tensor(1.0))
    factor = fn.sample((20_000,))
    correlation = (factor @ factor.mT)[:, 2, 0]
    assert float(correlation.std()) > 0.5 + 4 * 0.5 / (2 * 20_000) ** 0.5
    assert "too wide" in flaw_of_draws(fn)
    assert not flaw_of_draws(dist.LKJCholesky(2, torch.tensor(1.0)))
