"""A fit that stops when its averaged iterates no longer move, and says so."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import Tensor

from ppl_gen.autoguides import automatic
from ppl_gen.contexts import seeded
from ppl_gen.inference import Converged, Record, fit, svi_step

Y = torch.tensor([1.0, 2.0, 3.0])


def model(y: Tensor) -> None:
    """The mean of three data of unit noise: N(1.5, 1/4) after them."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def fitted(epochs: int) -> tuple[list[Record], Converged, float, float]:
    """The records, the rule, and mean and sd of the guide."""
    guide = automatic(AutoNormal, model, Y, seed=0)
    optimizer = torch.optim.Adam(guide.parameters(), 0.1)
    rule = Converged(guide, optimizer, tolerance=0.1, window=100)
    step = svi_step(model, optimizer, guide=guide, engine="fx")
    with seeded(torch.device("cpu"), 0):
        records = fit(step, [(Y,)], epochs, progress=False, stop=rule)
    low, middle, high = guide.quantiles([0.15865525, 0.5, 0.84134475])["z"]
    return records, rule, float(middle), float((high - low) / 2)


@pytest.mark.long
def test_a_fit_ends_at_the_optimum_and_says_why() -> None:
    records, rule, mean, sd = fitted(20_000)
    assert 400 < len(records) < 20_000
    assert abs(mean - 1.5) < 0.1 * 0.5
    assert abs(math.log(sd / 0.5)) < 0.1
    assert rule.is_over
    assert rule.best == len(records)
    assert rule.moves[-1] < 0.1
    assert records[-1].stopped == rule.reason
    assert "halving the learning rate to" in rule.reason
    assert not any(record.stopped for record in records[:-1])


def test_a_fit_that_is_cut_short_says_nothing() -> None:
    records, rule, _, _ = fitted(60)
    assert len(records) == 60
    assert (rule.is_over, rule.best, rule.reason) == (False, None, "")
    assert records[-1].stopped == ""


def test_bad_arguments() -> None:
    guide = automatic(AutoNormal, model, Y, seed=0)
    optimizer = torch.optim.Adam(guide.parameters(), 0.1)
    other = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], 0.1)
    point = automatic(AutoDelta, model, Y, seed=0)
    with pytest.raises(ValueError, match="a guide with quantiles, such as AutoNormal, got a Auto"):
        Converged(point, torch.optim.Adam(point.parameters(), 0.1))
    with pytest.raises(ValueError, match="got one without 2 of 2; make the guide by"):
        Converged(guide, other)
    with pytest.raises(ValueError, match="a finite tolerance above 0, got 0"):
        Converged(guide, optimizer, tolerance=0.0)
    with pytest.raises(ValueError, match="window of at least 16, got 3"):
        Converged(guide, optimizer, window=3)
