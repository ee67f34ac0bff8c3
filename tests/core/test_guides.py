"""Guides: each family in each builder, and what is refused."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from torch import Tensor, nn

from ppl_gen import guides
from ppl_gen.flows import coupling_flow
from ppl_gen.inference import elbo, svi_step
from ppl_gen.models import conv_vae, cvae, toy, vae
from ppl_gen.nn import mlp
from ppl_gen.program import simulate

SMALL = {"context": 4, "hidden": (8,)}
FAMILIES = {
    "diagonal": guides.diagonal,
    "full covariance": guides.full_covariance,
    "low rank": guides.low_rank,
    "mixture": guides.mixture,
    "flow": partial(guides.flow, **SMALL),
    "coupling flow": partial(guides.flow, context=4, make=partial(coupling_flow, hidden=(8,))),
}


def test_the_default_family_makes_the_network_of_means_and_log_scales():
    torch.manual_seed(0)
    program = vae((5,), 2, hidden=(4,))
    torch.manual_seed(0)
    encoder = mlp([5, 4, 4], nn.Tanh)
    decoder = mlp([2, 4, 5], nn.Tanh)
    x = torch.rand(3, 5)
    assert torch.equal(program.encoder(x).mean, encoder(x)[:, :2])
    assert torch.equal(program.decoder(torch.ones(2)), decoder(torch.ones(2)))


@pytest.mark.parametrize(
    "build",
    [
        lambda **options: vae((5,), 2, **options),
        lambda **options: cvae((5,), 2, classes=3, **options),
        lambda **options: conv_vae((1, 8, 8), 2, **options),
    ],
    ids=["vae", "cvae", "conv_vae"],
)
def test_a_builder_says_what_is_no_family_of_guides(build):
    made_already = guides.DiagonalGaussian(nn.Linear(5, 4))
    with pytest.raises(ValueError, match=r"a function of \(net, dim\).*got DiagonalGaussian"):
        build(guide=made_already)
    with pytest.raises(ValueError, match="got str"):
        build(guide="diagonal")
    with pytest.raises(ValueError, match="to return a guide, got NoneType"):
        build(guide=lambda net, dim: None)


class _Constant(nn.Module):
    """A network whose outputs are the same for all data."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return self.outputs.expand(*x.shape[:1], -1)


def _of(family: guides.Family, dim: int) -> nn.Module:
    """A guide of a family whose parameters are the same for all data, and far from nothing."""
    torch.manual_seed(2)
    return family(lambda outputs: _Constant(0.7 * torch.randn(outputs)), dim).double()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_integrates_to_one_and_is_that_of_the_draws(name: str) -> None:
    guide = _of(FAMILIES[name], 2)
    line = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    cell = float(line[1] - line[0]) ** 2
    with torch.no_grad():
        q = guide(torch.zeros(1, 1))
        mass = q.log_prob(grid[:, None]).exp()[:, 0] * cell
        assert float(mass.sum()) == pytest.approx(1.0, abs=2e-3)
        z = q.expand((20_000,)).rsample()
    mean = (mass[:, None] * grid).sum(0)
    second = (mass[:, None] * grid.square()).sum(0)
    for power, moment in (
        (z, mean),
        (z.square(), second),
        (z.prod(-1), (mass * grid.prod(-1)).sum()),
    ):
        error = power.std(0) / len(z) ** 0.5
        assert bool(((power.mean(0) - moment).abs() < 4 * error + 0.02 * moment.abs()).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_of_a_draw_is_that_of_the_same_number_given(name: str) -> None:
    guide = _of(FAMILIES[name], 3)
    q = guide(torch.zeros(4, 1)).expand((5, 4))
    z = q.rsample()
    assert z.shape == (5, 4, 3)
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.detach().clone()))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_of_draws_is_that_of_the_expectation(name: str) -> None:
    """∂/∂λ E_q[f(z)] by draws, and by quadrature of q's density, for an f that is no polynomial."""
    guide = _of(FAMILIES[name], 2)
    parameters = [guide.net.outputs]

    def f(z: Tensor) -> Tensor:
        return torch.sin(z[..., 0]) * z[..., 1] + 0.3 * z[..., 0]

    line = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    density = guide(torch.zeros(1, 1)).log_prob(grid[:, None]).exp()[:, 0]
    expectation = (density * f(grid)).sum() * float(line[1] - line[0]) ** 2
    (exact,) = torch.autograd.grad(expectation, parameters)
    draws = []
    for _ in range(20):
        value = f(guide(torch.zeros(1, 1)).expand((1000,)).rsample()).mean()
        draws.append(torch.autograd.grad(value, parameters)[0])
    each = torch.stack(draws)
    error = each.std(0) / len(each) ** 0.5
    assert bool(((each.mean(0) - exact).abs() < 4.5 * error + 2e-3).all())


def test_a_full_covariance_has_every_matrix_by_its_cholesky_factor() -> None:
    scale_tril = torch.tensor([[2.0, 0.0], [-3.0, 0.5]])
    below = scale_tril[1, 0] / scale_tril[1, 1]
    outputs = torch.tensor([1.0, -1.0, *scale_tril.diagonal().log(), below])
    q = guides.FullCovarianceGaussian(nn.Identity())(outputs)
    torch.testing.assert_close(q.covariance_matrix, scale_tril @ scale_tril.T)
    torch.testing.assert_close(q.mean, outputs[:2])


class TestSemiAmortised:
    def _made(self, steps: int) -> tuple[toy.PPCA, nn.Module, Tensor]:
        torch.manual_seed(1)
        program = toy.PPCA(torch.randn(8, 3), torch.zeros(8), 0.7)
        x = simulate(program, 5)
        wrong = guides.DiagonalGaussian(_Constant(torch.zeros(6)))
        decoder = nn.Linear(3, 8)
        decoder.weight.data = program.weight
        decoder.bias.data = program.loc

        def likelihood(loc: Tensor):
            return dist.Normal(loc, program.scale).to_event(1)

        guide = guides.SemiAmortised(
            wrong, lambda *_: program.prior(), decoder, likelihood, steps=steps, particles=8
        )
        return program, guide, x

    def test_many_steps_reach_the_mean_of_a_gaussian_posterior(self) -> None:
        program, guide, x = self._made(30)
        with torch.no_grad():
            q = guide(x)
        posterior = program.exact_posterior(x)
        sd = posterior.stddev
        assert bool(((q.mean - posterior.mean).abs() < 0.2 * sd).all())

    def test_steps_raise_the_bound_of_a_family_that_cannot_reach_it(self) -> None:
        bounds = []
        for steps in (1, 4, 16):
            program, guide, x = self._made(steps)

            def q(x: Tensor, guide: nn.Module = guide) -> None:
                with pyro.plate("data", len(x)):
                    pyro.sample("z", guide(x))

            bounds.append(float(elbo(program, q, x, particles=500, seed=0).mean().value))
        exact = float(program.exact_log_evidence(x).mean())
        assert bounds[0] < bounds[1] < bounds[2] + 0.05
        assert bounds[2] < exact

    def test_it_is_one_distribution_whatever_the_gradients(self) -> None:
        _, guide, x = self._made(3)
        with torch.no_grad():
            still = guide(x)
        trained = guide(x)
        assert torch.equal(still.mean, trained.mean.detach())
        assert not still.mean.requires_grad
        state = torch.get_rng_state()
        torch.testing.assert_close(guide(x[:2]).mean, trained.mean[:2])
        assert torch.equal(torch.get_rng_state(), state)


BAD = {
    "odd outputs": (lambda: guides.DiagonalGaussian(nn.Linear(5, 3)), "2D outputs, got 3"),
    "no triangle": (
        lambda: guides.FullCovarianceGaussian(nn.Linear(5, 4)),
        r"D\(D \+ 3\)/2 outputs, got 4",
    ),
    "low rank": (
        lambda: guides.LowRankGaussian(nn.Linear(5, 7)),
        r"\(R \+ 2\)D = 4D outputs, got 7",
    ),
    "rank above D": (lambda: guides.LowRankGaussian(nn.Linear(5, 10), 3), "from 1 to D = 2"),
    "mixture": (
        lambda: guides.GaussianMixtureGuide(nn.Linear(5, 6)),
        "= 3\\(2D \\+ 1\\) outputs, got 6",
    ),
    "flow": (
        lambda: guides.FlowGuide(nn.Linear(5, 9), zuko.flows.MAF(2, 4), 4),
        r"2D \+ C = 8 outputs, got 9",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_network_of_other_outputs_is_refused_in_one_message(name: str) -> None:
    make, expected = BAD[name]
    program = vae((5,), 2)
    program.encoder = make()
    step = svi_step(program, torch.optim.Adam(program.parameters()))
    with pytest.raises(ValueError, match=expected):
        step(torch.zeros(3, 5))


NOT_MADE = {
    "rank 0": (partial(guides.low_rank, rank=0), "rank of at least 1, got 0"),
    "rank above D": (partial(guides.low_rank, rank=3), "from 1 to D = 2"),
    "no components": (partial(guides.mixture, components=0), "components of at least 1, got 0"),
    "flow of another dimension": (
        partial(guides.flow, make=lambda dim, context: zuko.flows.MAF(dim + 1, context)),
        "flow of D = 2 features, the latent dimension, got one of 3",
    ),
    "flow of another context": (
        partial(guides.flow, make=lambda dim, context: zuko.flows.MAF(dim, context + 1)),
        "takes a context of 32 numbers",
    ),
    "no flow": (partial(guides.flow, make=nn.Linear), "takes a context of 32 numbers"),
}


@pytest.mark.parametrize("name", NOT_MADE)
def test_a_family_of_other_sizes_is_refused_when_it_is_made(name: str) -> None:
    family, expected = NOT_MADE[name]
    with pytest.raises(ValueError, match=expected):
        vae((5,), 2, guide=family)


RETURNS = {
    "a tensor": (lambda x: x[:, :2], "encoder to return a distribution, got a tensor"),
    "a wrong batch shape": (
        lambda x: dist.Normal(x[:, :2], 1.0).expand((4, 3, 2)).to_event(1),
        "expected a guide that can be run on",
    ),
    "axes that are no events": (
        lambda x: dist.Normal(x[:, :2], 1.0),
        "a batch axis for each plate",
    ),
    "another dimension": (lambda x: dist.Normal(x[:, :3], 1.0).to_event(1), "2 numbers.*got 3"),
}


@pytest.mark.parametrize("name", RETURNS)
def test_an_encoder_that_returns_something_else_is_refused(name: str) -> None:
    program = vae((5,), 2)
    encoder, expected = RETURNS[name]
    del program.encoder
    program.encoder = encoder
    step = svi_step(program, torch.optim.Adam(program.parameters()))
    with pytest.raises(ValueError, match=expected):
        step(torch.zeros(3, 5))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 0}, "steps of at least 1"),
        ({"particles": 3}, "even number"),
        ({"rate": 0.0}, "rate above 0"),
    ],
)
def test_semi_amortised_settings(options, expected) -> None:
    program = vae((5,), 2)
    slots = (program.encoder, program.prior, program.decoder, program.likelihood)
    with pytest.raises(ValueError, match=expected):
        guides.SemiAmortised(*slots, **options)
    with pytest.raises(ValueError, match=r"DiagonalGaussian.*got function"):
        guides.SemiAmortised(lambda x: x, *slots[1:])
