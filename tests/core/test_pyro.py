"""Every explicit model goes into plain Pyro unchanged, beside others, and leaves the global param
store alone.
"""

from __future__ import annotations

import copy

import pyro
import pytest
import torch
from programs import PROGRAMS
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from torch import Tensor, nn

from ppl_gen.inference import fit, log_evidence, svi_step
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import conv_vae, cvae, toy, vae
from ppl_gen.program import Observed

EXPLICIT = [
    "vae",
    "conv-vae, 8 × 8",
    "cvae, labels",
    "two latent layers",
    "vae observed under a Gaussian",
    "vae, linear",
]


def state(program: nn.Module) -> list[Tensor]:
    return [v.clone() for v in program.state_dict().values()]


def moved(program: nn.Module, before: list[Tensor]) -> bool:
    """Whether every entry of the state has changed."""
    return not any(torch.equal(a, b) for a, b in zip(state(program), before, strict=True))


@pytest.mark.parametrize("name", EXPLICIT)
def test_plain_svi_trains_every_parameter(name: str) -> None:
    program, x, context = PROGRAMS[name]()
    before = state(program)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(x, *context) for _ in range(60)]
    assert moved(program, before)
    assert sum(losses[-10:]) < sum(losses[:10])


def test_two_vaes_and_a_deep_copy_train_side_by_side_under_plain_svi(binary: Tensor) -> None:
    one, two = vae((1, 8, 8), 2), vae((1, 8, 8), 2)
    runs = [SVI(p.model, p.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()) for p in (one, two)]
    before = [state(one), state(two)]
    for svi in runs:
        svi.step(binary)
    assert moved(one, before[0])
    assert moved(two, before[1])
    twin, original = copy.deepcopy(one), state(one)
    SVI(twin.model, twin.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(binary)
    assert moved(twin, original)
    assert all(torch.equal(a, b) for a, b in zip(state(one), original, strict=True))


def test_two_vaes_and_a_deep_copy_train_side_by_side_under_our_step(binary: Tensor) -> None:
    one = vae((1, 8, 8), 2)
    two, twin = vae((1, 8, 8), 2), copy.deepcopy(one)
    for program in (one, two, twin):
        before = state(program)
        fit(
            svi_step(program, torch.optim.Adam(program.parameters(), 0.01)),
            [(binary,)],
            2,
            progress=False,
        )
        assert moved(program, before)
    assert not pyro.get_param_store().keys()


def test_plain_svi_and_our_step_take_the_same_path(binary: Tensor) -> None:
    """SGD on the sum of the ELBO at rate r is SGD on its mean at rate 12 r."""
    one = vae((1, 8, 8), 2)
    two = copy.deepcopy(one)
    torch.manual_seed(1)
    svi = SVI(one.model, one.guide, pyro.optim.SGD({"lr": 1e-4}), Trace_ELBO())
    for _ in range(5):
        svi.step(binary)
    step = svi_step(two, torch.optim.SGD(two.parameters(), 12e-4))
    torch.manual_seed(1)
    for _ in range(5):
        step(binary)
    for a, b in zip(state(one), state(two), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", EXPLICIT)
def test_predictive_draws_data_and_reconstructions(name: str) -> None:
    program, x, context = PROGRAMS[name]()
    drawn = Predictive(program.model, num_samples=7)(None, *context, n=len(x))
    assert drawn["x"].shape == (7, *x.shape)
    posterior = Predictive(program.guide, num_samples=7)(x, *context)
    replayed = Predictive(program.model, posterior_samples=posterior, parallel=True)(
        None, *context, n=len(x)
    )
    assert replayed["x"].shape == (7, *x.shape)


@pytest.mark.parametrize("make", [vae, conv_vae, lambda shape, dim: cvae(shape, dim, classes=10)])
def test_nuts_samples_the_posterior_of_every_model(make: object, binary: Tensor) -> None:
    program: nn.Module = make((1, 8, 8), 2)
    context = [torch.tensor([3, 5])] if program.__class__.__name__ == "CVAE" else []
    mcmc = MCMC(NUTS(program.model), num_samples=5, warmup_steps=5, disable_progbar=True)
    mcmc.run(binary[:2], *context)
    assert mcmc.get_samples()["z"].shape == (5, 2, 2)
    assert not pyro.get_param_store().keys()


@pytest.mark.long
def test_nuts_finds_the_exact_posterior() -> None:
    program = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
    x = torch.tensor([[0.7, -0.2]])
    mcmc = MCMC(NUTS(program.model), num_samples=600, warmup_steps=200, disable_progbar=True)
    mcmc.run(x)
    z, exact = mcmc.get_samples()["z"].flatten(), program.exact_posterior(x)
    ess = float(pyro.ops.stats.effective_sample_size(z[None], chain_dim=0, sample_dim=1))
    assert abs(float(z.mean() - exact.mean)) < 4 * float(z.std()) / ess**0.5


def test_importance_weights_take_an_automatic_guide() -> None:
    """An AutoNormal holds one posterior per datum; at PPCA with one latent it can be exact."""
    program = toy.PPCA(torch.tensor([[1.0], [0.5]]), torch.zeros(2), 0.5)
    x = torch.randn(20, 2)
    with pyro.settings.context(module_local_params=True):
        guide = pyro.infer.autoguide.AutoNormal(program.model)
        guide(x)
        step = svi_step(program, torch.optim.Adam(guide.parameters(), 0.05), guide=guide)
        fit(step, [(x,)], 400, progress=False)
        estimate = log_evidence(program, guide, x, particles=1000)
    exact = program.exact_log_evidence(x)
    bias = estimate.standard_error.square() / 2
    assert ((estimate.value - exact).abs() < 4 * estimate.standard_error + bias + 1e-4).all()
    assert not pyro.get_param_store().keys()


def test_a_gaussian_sees_the_learned_scale_of_an_observed_program() -> None:
    program = Observed(vae((1, 8, 8), 2), Gaussian())
    x = torch.rand(8, 1, 8, 8)
    before = float(program.likelihood.scale.detach())
    SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()).step(x)
    assert float(program.likelihood.scale.detach()) != before
