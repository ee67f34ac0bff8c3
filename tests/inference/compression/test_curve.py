"""The rate–distortion curve of annealed chains is the closed one of PPCA."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from posteriors import exact_rate_distortion
from torch import Tensor

from ppl_gen.inference import RateDistortionCurve, rate_distortion_curve
from ppl_gen.models import cvae, gan, toy
from ppl_gen.program import simulate

SMALL: dict[str, Any] = {"chains": 4, "temperatures": 20, "leapfrogs": 1, "engine": "eager"}


def small_ppca() -> toy.PPCA:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 2, generator=generator) * torch.tensor([1.0, 0.5])
    return toy.PPCA(weight, torch.randn(6, generator=generator), 0.3)


def test_the_closed_form_in_one_dimension() -> None:
    """W = σ = 1, β = 2: of x with x² = 2, as it is on average, R = ½(0.2 + 1.28 − 1 + log 5)."""
    line = toy.PPCA(torch.ones(1, 1), torch.zeros(1), 1.0)
    rate, _ = exact_rate_distortion(line, torch.full((1, 1), math.sqrt(2)), 2.0)
    assert float(rate) == pytest.approx(1.0447, abs=1e-4)


@pytest.mark.long
def test_ppca_has_the_curve_of_the_closed_form() -> None:
    program = small_ppca()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = simulate(program, 12)
    found = rate_distortion_curve(
        program, x, chains=64, temperatures=300, leapfrogs=3, chunk=8, seed=0, engine="fx"
    )
    assert found.verdict.passes
    assert found.rate.value.shape == (16, 12)
    for place, beta in enumerate(found.betas.tolist()):
        for estimate, truth in zip(
            (found.rate[place], found.distortion[place]),
            exact_rate_distortion(program, x, beta),
            strict=True,
        ):
            mean = estimate.mean()
            assert abs(float(mean.value - truth.mean())) < 4 * float(mean.standard_error)
            z = (estimate.value - truth) / estimate.standard_error
            assert float(z.square().mean()) < 4  # of twelve data; 1 on average


@pytest.mark.parametrize("kind", ["a GAN", "a program with labels"])
def test_any_generator_has_a_curve(kind: str) -> None:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    context: tuple[Tensor, ...] = ()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        program: Any = gan((1, 4, 4), 2, hidden=(8,))
        if kind != "a GAN":
            program = cvae((1, 4, 4), 2, classes=3, hidden=(8,))
            context = (torch.tensor([0, 1, 2]),)
        for weight in program.decoder.parameters():
            weight.data *= 4
    found = rate_distortion_curve(program, x, *context, betas=[0.125, 32.0], seed=0, **SMALL)
    assert found.betas.tolist() == [0.125, 32.0]
    assert float(found.rate[1].mean()) > float(found.rate[0].mean())
    assert len(found.table()) == 2
    assert len(found.to_pandas()) == 6
    point = found.points[0]
    assert float(point.distortion.mean()) == pytest.approx(float(found.distortion[0].mean()) / 16)
    assert isinstance(found.plot("a"), Figure)
    assert "nats at squared error" in repr(found)


def test_few_chains_that_count_are_said() -> None:
    found = rate_distortion_curve(
        small_ppca(), 4 * torch.ones(2, 6), chains=32, temperatures=16, seed=0, engine="eager"
    )
    assert isinstance(found, RateDistortionCurve)
    assert found.verdict.tags == ("loose",)
    assert "take more temperatures" in found.verdict


X = torch.zeros(2, 6)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "falling": ({"betas": [2.0, 1.0]}, "expected betas as a list of positive numbers that rise"),
    "none": ({"betas": []}, "expected betas as a list of positive"),
    "zero": ({"betas": [0.0, 1.0]}, "a positive, finite betas, got 0.0"),
    "one chain": ({"chains": 1}, "expected chains of at least 2, got 1"),
    "few temperatures": ({"temperatures": 3}, "expected temperatures of at least 16, got 3"),
    "not finite": ({"x": X / 0}, "expected finite data"),
    "of another shape": ({"x": X[:, :4]}, "expected"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input(wrong: str) -> None:
    options, said = BAD[wrong]
    with pytest.raises(ValueError, match=said):
        rate_distortion_curve(small_ppca(), options.pop("x", X), **options)
