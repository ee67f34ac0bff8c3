"""Normalising flows of Pyro and zuko as prior, guide and likelihood."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import transforms
from torch import Tensor, nn

from ppl_gen.contexts import copied, evaluating
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import hmc, log_evidence, svi_step
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import VAE
from ppl_gen.nn import mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.protocols import Distribution
from ppl_gen.pyro_patches import tracing
from ppl_gen.testing import check_program


class _Flow(nn.Module):
    """A flow of Pyro's on two standard normal numbers."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, *_: Tensor) -> Distribution:
        return dist.TransformedDistribution(StandardNormal(2)(), [self.flow])


class _Zuko(nn.Module):
    """A flow of zuko's, given a context or not."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, *context: Tensor) -> Distribution:
        return ZukoToPyro(self.flow(*context))


def _nsf(features: int, context: int = 0) -> nn.Module:
    return _Zuko(zuko.flows.NSF(features, context, bins=4, transforms=1, hidden_features=(8,)))


def _of_prior(prior: Any) -> VAE:
    return VAE(prior, mlp([2, 8, 3]), Gaussian(0.5), DiagonalGaussian(mlp([3, 8, 4])))


def _of_guide(guide: Any) -> VAE:
    return VAE(StandardNormal(2), mlp([2, 8, 3]), Gaussian(0.5), guide)


# Each has a density at any value.
PROGRAMS: dict[str, Callable[[], VAE]] = {
    "spline prior": lambda: _of_prior(_Flow(transforms.spline(2))),
    "spline coupling prior": lambda: _of_prior(_Flow(transforms.spline_coupling(2, 1, [8]))),
    "autoregressive prior": lambda: _of_prior(_Flow(transforms.affine_autoregressive(2, [8]))),
    "zuko prior": lambda: _of_prior(_nsf(2)),
    "zuko guide": lambda: _of_guide(_nsf(2, 3)),
    "zuko likelihood": lambda: VAE(
        StandardNormal(2), nn.Identity(), _nsf(3, 2), DiagonalGaussian(mlp([3, 8, 4]))
    ),
}
# The inverse of these is not known: a density at their own draws alone.
ONE_WAY: dict[str, Callable[[], nn.Module]] = {
    "planar": lambda: transforms.planar(2),
    "radial": lambda: transforms.radial(2),
    "block autoregressive": lambda: transforms.block_autoregressive(2),
}


@pytest.fixture
def x() -> Tensor:
    return 2 * torch.randn(6, 3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_laws_hold_after_a_step_that_trains_the_flow(name: str, x: Tensor) -> None:
    program = PROGRAMS[name]()
    before = copy.deepcopy(program.state_dict())
    step = svi_step(program, torch.optim.Adam(program.parameters(), 0.01), engine="eager")
    step(x)
    after = dict(program.named_parameters())
    still = [name for name, p in after.items() if torch.equal(p, before[name])]
    assert not still
    check_program(program, x)


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("error")
def test_a_graph_gives_the_numbers_of_the_program(name: str, x: Tensor) -> None:
    elbos = {}
    for engine in ("eager", "fx"):
        torch.manual_seed(3)
        program = PROGRAMS[name]()
        step = svi_step(program, torch.optim.Adam(program.parameters(), 0.01), engine=engine)
        elbos[engine] = [float(step(x)["elbo"]) for _ in range(5)]
    assert elbos["fx"] == pytest.approx(elbos["eager"], rel=1e-4)


def test_evidence_under_a_flow_prior_is_an_average_over_its_draws(x: Tensor) -> None:
    program = _of_prior(_nsf(2))
    estimate = log_evidence(program, None, x, particles=4000, seed=0)
    with torch.no_grad():
        z = program.prior()((40_000, 1))
        log_likelihood = program.likelihood(program.decoder(z)).log_prob(x).sum(-1)
    weights = log_likelihood.double().softmax(0)
    expected = log_likelihood.double().logsumexp(0) - torch.tensor(40_000.0).log()
    variance = weights.square().sum(0) + estimate.standard_error.square()
    assert bool(((estimate.value - expected).abs() < 4 * variance.sqrt() + 0.01).all())


@pytest.mark.parametrize("name", ONE_WAY)
def test_a_flow_without_an_inverse_is_a_guide_and_no_prior(name: str, x: Tensor) -> None:
    torch.manual_seed(1)
    guide = _of_guide(_Flow(ONE_WAY[name]()))
    assert bool(log_evidence(guide, None, x, particles=50).value.isfinite().all())
    with pytest.raises(ValueError, match="whose inverse is not known"):
        log_evidence(_of_prior(_Flow(ONE_WAY[name]())), None, x)


@pytest.mark.parametrize("name", ["spline coupling prior", "autoregressive prior", "zuko prior"])
def test_chains_of_a_flow_prior_move_at_once(name: str, x: Tensor) -> None:
    program = PROGRAMS[name]()
    with evaluating(program), tracing():
        potential = Potential(program.model, (x,), local=True)
        energies, obstacle = potential.fastest
        q = torch.randn(3, *potential.shape)
        together = energies(q, *potential.tensors)
        apart = potential.energies_in_turn(q, *potential.tensors)
    assert obstacle is None
    assert energies.__name__ != "energies_in_turn"
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def _posterior_by_quadrature(program: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of two latents of each datum, (B, 2), from a grid."""
    line = torch.linspace(-6, 6, 601)
    z = torch.cartesian_prod(line, line)
    with torch.no_grad():
        log_prior = program.prior().log_prob(z)[:, None]
        log_likelihood = program.likelihood(program.decoder(z)[:, None]).log_prob(x).sum(-1)
    weights = (log_prior + log_likelihood).double().softmax(0).T
    mean = weights @ z.double()
    square = weights @ z.double().square()
    return mean, (square - mean.square()).sqrt()


@pytest.mark.slow
def test_draws_of_hmc_under_a_flow_prior(x: Tensor) -> None:
    """A spline as random as Pyro begins it has a dozen modes with walls between them, where R̂ of
    chains is 1.4 and more, and says so. At a third of its weights the modes are joined."""
    program = PROGRAMS["spline coupling prior"]()
    with torch.no_grad():
        for parameter in program.prior.parameters():
            parameter.mul_(0.3)
    draws = hmc(program.model, x, local=True, chains=16, draws=300, warmup=300, seed=0)
    mean, sd = _posterior_by_quadrature(program, x)
    assert draws.max_r_hat < 1.05
    assert bool(((draws.mean["z"] - mean).abs() < 4 * draws.mcse["z"] + 0.01).all())
    assert bool(((draws.sd["z"] - sd).abs() < 4 * draws.mcse_sd["z"] + 0.01).all())


def test_a_copy_leaves_behind_what_a_flow_keeps_of_its_last_draw(x: Tensor) -> None:
    program = PROGRAMS["autoregressive prior"]()
    svi_step(program, torch.optim.Adam(program.parameters()), engine="eager")(x)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(program)
    twin = copied(program)
    own = program.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in twin.state_dict().items())
    assert twin.prior.flow is not program.prior.flow
