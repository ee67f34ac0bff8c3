"""DRAW: its latents step by step, its canvases, its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import plots
from ppl_gen.inference import IWAE, elbo, log_evidence, svi_step
from ppl_gen.models import draw
from ppl_gen.program import log_density, propose, simulate_sites


def _small(**options: Any) -> Any:
    torch.manual_seed(0)
    return draw((1, 8, 8), 2, steps=3, hidden=12, **options)


def test_each_step_has_a_latent() -> None:
    sites = simulate_sites(_small(), 4)
    assert list(sites) == ["z1", "z2", "z3", "x"]
    assert sites["z2"]["value"].shape == (4, 2)


def test_the_last_canvas_is_the_likelihoods_mean() -> None:
    program = _small(attention=(2, 3))
    sites = simulate_sites(program, 4)
    latents = [sites[name]["value"] for name in ("z1", "z2", "z3")]
    shown = program.canvases(*latents)
    assert shown.shape == (3, 4, 1, 8, 8)
    torch.testing.assert_close(shown[-1], sites["x"]["fn"].mean)
    with pytest.raises(ValueError, match="expected latents of all 3 steps, got 2"):
        program.canvases(*latents[:2])


def test_a_later_latent_depends_on_the_earlier_ones(binary: Tensor) -> None:
    """The guide is q(z₂ | x, z₁): another z₁ moves the mean of z₂, and no z₂ moves that of z₁."""
    program = _small()
    means = []
    for value in (-2.0, 2.0):
        z1 = torch.full((len(binary), 2), value)
        trace = poutine.trace(poutine.condition(program.guide, {"z1": z1})).get_trace(binary)
        means.append(trace.nodes["z2"]["fn"].mean)
    assert float((means[0] - means[1]).detach().abs().min()) > 1e-5


def test_two_steps_are_summed(binary: Tensor) -> None:
    """log p(z) is the sum over the steps, each under N(0, I)."""
    program = _small()
    drawn = propose(program.guide, 3, 1, binary)
    density = log_density(program.model, drawn.latents, binary)
    z = torch.cat([drawn.latents[f"z{t}"] for t in (1, 2, 3)], -1)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(density.prior, expected)


@pytest.mark.long
def test_engines_agree(binary: Tensor) -> None:
    found = []
    for engine in ("eager", "fx"):
        torch.manual_seed(0)
        program = draw((1, 8, 8), 2, steps=2, hidden=12, attention=(2, 5))
        step = svi_step(
            program, torch.optim.Adam(program.parameters()), IWAE(num_particles=2), engine=engine
        )
        for _ in range(3):
            metrics = step(binary)
        found.append(float(metrics["iwae"]))
    assert found[0] == pytest.approx(found[1], abs=1e-3)


@pytest.mark.long
def test_steps_raise_the_evidence(binary: Tensor) -> None:
    program = _small(attention=(4, 4))
    step = svi_step(program, torch.optim.Adam(program.parameters(), 5e-3), engine="eager")
    before = elbo(program, None, binary, particles=8, seed=0).mean()
    for _ in range(60):
        step(binary)
    after = log_evidence(program, None, binary, particles=64, seed=0).mean()
    assert after.value - before.value > 10


def test_canvases_are_rows_of_a_picture() -> None:
    figure = plots.canvases(torch.rand(5, 2, 1, 4, 4))
    (image,) = figure.axes[0].get_images()
    assert image.get_array().shape == (2 * 5, 5 * 5)
    with pytest.raises(ValueError, match="expected pictures after each step"):
        plots.canvases(torch.rand(5, 2, 8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "expected steps of at least 1, got 0"),
        ({"attention": (9, 5)}, "expected an attention window of at most 8 pixels a side"),
        ({"attention": (2, 0)}, "expected an attention window of at least 1, got 0"),
        ({"attention": 2}, r"two windows, \(read, write\) such as \(2, 5\), got 2"),
        ({"hidden": 0}, "expected hidden units of at least 1, got 0"),
        ({"latent_dim": 0}, "expected latent_dim of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    asked = {"latent_dim": 2, **options}
    with pytest.raises(ValueError, match=said):
        draw((1, 8, 8), **asked)


def test_vectors_have_no_window() -> None:
    with pytest.raises(ValueError, match="leave attention out"):
        draw((7,), 2, attention=(2, 2))
