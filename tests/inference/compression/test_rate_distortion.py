"""Rates and errors of lossy codecs are those of closed forms; a code's length is its entropy."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen.inference import quantised_codes, rate_distortion
from ppl_gen.inference.compression.rate_distortion import at_rate, codec_curve
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import VAE, Autoencoder, pca
from ppl_gen.plots.rates import rate_distortion as draw
from ppl_gen.priors import StandardNormal


class Linear(nn.Module):
    """q(z | x) = N(½x, 0.3²) of each entry."""

    def forward(self, x: Tensor) -> Any:
        return dist.Normal(0.5 * x, 0.3).to_event(1)


def normal(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def test_a_linear_program_has_the_rate_and_error_of_the_closed_form() -> None:
    program = VAE(StandardNormal(3), nn.Identity(), Gaussian(0.5), Linear())
    x = normal(50, 3)
    found = rate_distortion(program, None, x, particles=400, seed=0)
    kl = 0.5 * ((0.5 * x) ** 2 + 0.09 - 1) - math.log(0.3)
    rate = kl.sum(1) / (3 * math.log(2))
    error = ((0.5 * x) ** 2 + 0.09).mean(1)
    for estimate, exact in ((found.rate, rate), (found.distortion, error)):
        deviation = (estimate.value - exact) / estimate.standard_error
        assert float(deviation.abs().max()) < 4.5  # fifty at once
    assert "bits per dimension" in repr(found)


def test_the_length_of_quantised_codes_is_their_entropy() -> None:
    """Uniform codes of eight values take three bits each, and are decoded within half a step."""
    identity = Autoencoder(nn.Identity(), nn.Identity())
    train, x = torch.rand(2, 4000, 2, generator=torch.Generator().manual_seed(0))
    unit = 0.125 / float(train.std(0)[0])
    found = quantised_codes(identity, train, x, step=unit)
    # Of values at multiples of the step, those at both ends have half the mass.
    expected = 7 / 8 * 3 + 1 / 8 * 4
    assert abs(float(found.rate.value) - expected) < 0.01
    exact = 0.125**2 / 12
    assert abs(float(found.distortion.mean().value) / exact - 1) < 0.05


def test_smaller_steps_cost_bits_and_lose_less() -> None:
    train, x = normal(300, 6), normal(200, 6)
    linear = pca(train, 4)
    points = [quantised_codes(linear, train, x, step=step) for step in (2.0, 1.0, 0.5, 0.25)]
    rates = [float(point.rate.value) for point in points]
    errors = [float(point.distortion.mean().value) for point in points]
    assert rates == sorted(rates)
    assert errors == sorted(errors, reverse=True)
    assert abs(rates[-1] - rates[-2] - 4 / 6) < 0.1  # a bit for each of four codes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "settings"), [("JPEG", (5, 50, 95)), ("JPEG2000", (0.5, 1, 2))])
def test_codecs_lose_less_at_more_bits(
    kind: str, settings: tuple[float, ...], channels: int
) -> None:
    waves = torch.linspace(0, 9, 24).sin().add(1).div(2)
    x = (waves[:, None] * waves).expand(30, channels, 24, 24).contiguous()
    x = x * torch.linspace(0.2, 1, 30).reshape(30, 1, 1, 1)
    curve = codec_curve(x, kind, settings)
    rates = [float(point.rate.value) for point in curve]
    errors = [float(point.distortion.mean().value) for point in curve]
    assert rates == sorted(rates)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3
    assert len(curve[0].distortion.value) == 30


def test_between_points_the_logarithm_is_linear() -> None:
    assert at_rate(0.5, [1.0, 0.0], [0.01, 1.0]) == pytest.approx(0.1)
    assert at_rate(2.0, [1.0, 0.0], [0.01, 1.0]) is None


def test_the_picture() -> None:
    curves = {"a$": [(0.2, 0.1), (0.1, 0.2)], "b": [(0.3, 0.01)]}
    figure = draw(curves, errors={"b": [0.001]}, marked=0.2, title="so far")
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match="at least one curve"):
        draw({})


def test_bad_input() -> None:
    train = normal(300, 6)
    linear = pca(train, 4)
    for step in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="step"):
            quantised_codes(linear, train, train, step=step)
    with pytest.raises(ValueError, match="take a larger step"):
        quantised_codes(linear, train, train, step=1e-5)
    with pytest.raises(ValueError, match="an autoencoder with an encoder"):
        quantised_codes(nn.Linear(6, 6), train, train, step=1.0)
    with pytest.raises(ValueError, match="expected x as a tensor"):
        quantised_codes(linear, train, "x", step=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected images"):
        codec_curve(train, "JPEG", [5])
    with pytest.raises(ValueError, match="expected a codec among"):
        codec_curve(torch.zeros(2, 1, 8, 8), "PNG", [5])
