"""A fit that halves its rate at each plateau, and stops where that gains no more."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen.autoguides import automatic
from ppl_gen.contexts import seeded
from ppl_gen.inference import Plateau, Record, fit, svi_step

Y = torch.tensor([1.0, 2.0, 3.0])
# log N(y | 0, I + 1 1ᵀ), whose inverse is I − 1 1ᵀ / 4 and whose determinant is 4.
EVIDENCE = -0.5 * (3 * math.log(2 * math.pi) + math.log(4) + 14 - 36 / 4)


def model(y: Tensor) -> None:
    """The mean of three data of unit noise: N(1.5, 1/4) after them."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def optimizer(rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], rate)


def records(values: Tensor, name: str = "elbo") -> list[Record]:
    """Of as many epochs."""
    return [Record(i, {name: value}, 1, 1.0) for i, value in enumerate(values.tolist(), start=1)]


def noise(count: int, seed: int) -> Tensor:
    return 0.02 * torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.long
def test_a_fit_ends_at_the_optimum_and_says_why() -> None:
    """The family holds the posterior: the bound can reach the evidence, and scatters below it."""
    guide = automatic(AutoNormal, model, Y, seed=0)
    adam = torch.optim.Adam(guide.parameters(), 0.1)
    rule = Plateau(adam, tolerance=0.05)
    step = svi_step(model, adam, guide=guide, engine="fx")
    with seeded(torch.device("cpu"), 0):
        found = fit(step, [(Y,)] * 10, 2000, progress=False, stop=rule)
    assert 100 < len(found) < 2000
    assert rule.is_over
    assert rule.best == len(found)
    assert rule.levels[-1] - rule.levels[-2] < 0.05
    assert abs(rule.levels[-1] - EVIDENCE) < 0.05
    assert adam.param_groups[0]["lr"] == 0.1 / 2 ** (len(rule.levels) - 1)
    assert found[-1].stopped == rule.reason
    assert "converged: halving the learning rate to" in rule.reason


def test_it_goes_on_as_long_as_a_smaller_rate_gains() -> None:
    """Levels at −1, −1/2, −1/4, …: gains of 1/2, 1/4, 1/8, 1/16 and, at the sixth, 1/32."""
    adam = optimizer()
    rule = Plateau(adam, tolerance=0.05)
    scatter = noise(2000, 0)
    for epoch in range(1, 2001):
        level = -adam.param_groups[0]["lr"] / 0.1
        if rule(Record(epoch, {"iwae": level + float(scatter[epoch - 1])}, 1, 1.0)):
            break
    assert len(rule.levels) == 6
    assert rule.best == epoch
    assert adam.param_groups[0]["lr"] == pytest.approx(0.1 / 2**5)


def test_a_rise_is_no_level() -> None:
    """By a scatter's sd in five epochs: halves of any window are five sds apart and more."""
    rising = records(torch.arange(500) * 0.004 + noise(500, 1))
    rule = Plateau(optimizer())
    assert not any(map(rule, rising))
    assert rule.levels == []


def test_a_level_waits_until_it_is_known() -> None:
    """An sd of 0.4 has an average known to a third of the tolerance after (0.4 · 60)² epochs."""
    scattered = records(20 * noise(2000, 2))
    rule = Plateau(optimizer())
    for record in scattered:
        rule(record)
        if rule.levels:
            break
    assert len(rule.levels) == 1
    assert 300 < record.epoch < 2000


@pytest.mark.parametrize("at", [30, 60, 110, 160])
def test_one_that_goes_on_elsewhere_does_the_same(at: int) -> None:
    values = records(noise(400, 3), "objective")
    adam = optimizer()
    whole = Plateau(adam)
    over = next(record.epoch for record in values if whole(record))
    first = Plateau(optimizer())
    for record in values[: min(at, over)]:
        first(record)
    other = optimizer()
    second = Plateau(other)
    second.load_state_dict(first.state_dict())
    for record in values[min(at, over) : over]:
        second(record)
    assert second.state_dict() == whole.state_dict()
    assert other.param_groups[0]["lr"] == adam.param_groups[0]["lr"]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="a finite tolerance above 0, got 0"):
        Plateau(optimizer(), tolerance=0.0)
    with pytest.raises(ValueError, match="window of at least 8, got 3"):
        Plateau(optimizer(), window=3)
    rule = Plateau(optimizer())
    with pytest.raises(ValueError, match="metric elbo or iwae or objective in each epoch, got l"):
        rule(Record(1, {"loss": 1.0}, 1, 1.0))
    with pytest.raises(ValueError, match="expected the metric loss in each epoch, got elbo"):
        Plateau(optimizer(), metric="loss")(Record(1, {"elbo": 1.0}, 1, 1.0))
    with pytest.raises(ValueError, match="an epoch after 1, which this rule has seen, got 1"):
        rule(Record(1, {"elbo": 1.0}, 1, 1.0))
    with pytest.raises(ValueError, match="in the state of a Plateau, got best; give what"):
        rule.load_state_dict({"best": None})
