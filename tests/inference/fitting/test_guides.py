"""`fit_guide`: guides of Pyro's families and of ours, for global and for local latents."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal

from ppl_gen.guides import from_prior
from ppl_gen.inference import Estimate, fit_guide, full_covariance, log_evidence
from ppl_gen.inference.fitting.guides import GuideFit
from ppl_gen.models import toy, vae
from ppl_gen.program import simulate

NODES = torch.tensor([[1.0, 0.8], [0.9, 1.0], [1.0, 1.1], [0.8, 0.9]])


@pytest.fixture(scope="module")
def local() -> tuple[Any, torch.Tensor]:
    """PPCA with posteriors of correlation near −0.9, and five data."""
    program = toy.PPCA(NODES, torch.zeros(4), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return program, simulate(program, 5)


def line(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """y = a + b x + noise of sd 0.5, a and b standard normal: a plain Pyro model."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("points", len(x)):
        return pyro.sample("y", dist.Normal(a + b * x, 0.5), obs=y)


def exact(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of (a, b) given y."""
    design = torch.stack([torch.ones_like(x), x], -1)
    covariance = torch.linalg.inv(torch.eye(2) + design.T @ design / 0.25)
    return covariance @ design.T @ y / 0.25, covariance


@pytest.mark.parametrize(
    "family",
    [
        AutoMultivariateNormal,
        pytest.param(
            partial(AutoLowRankMultivariateNormal, rank=1), id="low rank", marks=pytest.mark.slow
        ),
    ],
)
def test_a_global_posterior_is_found(family: Any) -> None:
    """The mean within 0.15 sd, and all sds and the correlation, of a Gaussian posterior."""
    elbo = Trace_ELBO(20, vectorize_particles=True, max_plate_nesting=1)
    x = torch.linspace(0, 2, 12)
    y = 0.5 - 0.7 * x
    fitted = fit_guide(line, family, x, y, elbo=elbo, steps=600, engine="fx", seed=0)
    assert fitted.verdict.tags == ("settled",)
    posterior = fitted.guide.get_posterior()
    mean, covariance = exact(x, y)
    assert torch.all((posterior.mean - mean).abs() < 0.15 * covariance.diagonal().sqrt())
    assert torch.allclose(posterior.covariance_matrix, covariance, atol=0.01)


@pytest.mark.long
def test_local_posteriors_are_found(local: tuple[Any, torch.Tensor]) -> None:
    """A full covariance for each datum reaches the exact evidence, which mean fields do not."""
    program, x = local
    truth = float(program.exact_log_evidence(x).mean())
    bounds: dict[str, Estimate] = {}
    for name, family, guide in (
        ("full", full_covariance, from_prior(program)),
        ("mean field", AutoNormal, None),
    ):
        fitted = fit_guide(program, family, x, guide=guide, steps=800, engine="fx", seed=0)
        bounds[name] = fitted.final
        found = log_evidence(program, fitted.guide, x, particles=200, seed=0).mean()
        assert abs(float(found.value) - truth) < 0.3
    assert truth - float(bounds["full"].value) < 0.15
    assert truth - float(bounds["mean field"].value) > 0.5


def test_the_program_and_the_generator_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    program = vae((4,), 2)
    x = torch.eye(4)
    before = [p.clone() for p in program.parameters()]
    state = torch.get_rng_state()
    fits = [
        fit_guide(program, full_covariance, x, steps=5, engine="eager", seed=seed)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, program.parameters()))
    assert all(p.requires_grad and p.grad is None for p in program.parameters())
    assert program.training
    assert not pyro.get_param_store().keys()
    assert torch.equal(fits[0].objective, fits[1].objective)
    assert not torch.equal(fits[0].objective, fits[2].objective)


def test_discrete_latents_are_summed_out_where_it_is_asked_for() -> None:
    program = toy.OrderedMixture.simulated()
    fitted = fit_guide(
        program,
        AutoNormal,
        *program.data,
        elbo=TraceEnum_ELBO(max_plate_nesting=1),
        steps=30,
        engine="eager",
        seed=0,
    )
    assert fitted.objective[-5:].mean() > fitted.objective[:5].mean()


def test_a_fit_that_is_cut_short_is_said_to_rise() -> None:
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0))
    rising = GuideFit(guide=None, objective=torch.arange(200.0) + noise)
    assert rising.verdict.tags == ("rising",)
    assert not rising.verdict.passes
    assert "raise steps" in rising.verdict
    settled = GuideFit(guide=None, objective=noise)
    assert settled.verdict.passes
    assert GuideFit(guide=None, objective=noise[:10]).verdict.passes is None
    assert len(settled.table()) == 10
    assert len(settled.to_pandas()) == 200


def test_bad_input_is_said(local: tuple[Any, torch.Tensor]) -> None:
    program, x = local
    with pytest.raises(ValueError, match="steps of at least 1, got 0"):
        fit_guide(program, AutoNormal, x, steps=0)
    with pytest.raises(ValueError, match=r"a finite rate above 0, got -1; 0\.05 is usual"):
        fit_guide(program, AutoNormal, x, rate=-1)
    with pytest.raises(ValueError, match="expected a family that makes an AutoGuide"):
        fit_guide(program, lambda model: model, x, steps=1)
    with pytest.raises(ValueError, match="has no guide of its own: pass one"):
        fit_guide(line, full_covariance, x, steps=1)
