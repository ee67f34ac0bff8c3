"""Priors: they integrate to one, draw what they score, and say what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from scipy import special
from torch import Tensor, nn

from ppl_gen.contexts import copied, forked
from ppl_gen.distributions import GaussianMixture
from ppl_gen.distributions.horseshoe import scaled_exponential_integral
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import BoundedGaussian, DiagonalGaussian, OnSphere, SemiAmortised, on_sphere
from ppl_gen.inference import ais, hmc, log_evidence, svi_step
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import GAN, VAE, cvae, gan, vae
from ppl_gen.priors import (
    ConditionalMixture,
    Delayed,
    Empirical,
    FlowPrior,
    Horseshoe,
    Hypersphere,
    MixtureOfGaussians,
    SpikeAndSlab,
    StandardNormal,
    Uniform,
    VampPrior,
    pseudo_inputs,
)
from ppl_gen.program import Observed, log_density, simulate
from ppl_gen.saving import load_weights, save


class TestEmpirical:
    def test_rows_are_drawn_evenly(self) -> None:
        x, draws = torch.arange(10.0)[:, None], 20_000
        z = Empirical(x)().sample((draws,))
        assert z.shape == (draws, 1)
        shares = z.long().flatten().bincount(minlength=10) / draws
        error = (0.1 * 0.9 / draws) ** 0.5  # of a binomial share
        assert ((shares - 0.1).abs() < 4 * error).all()

    def test_moments_are_those_of_the_data(self) -> None:
        x = torch.randn(50, 3)
        prior = Empirical(x, jitter=0.5)()
        z = prior.sample((20_000,))
        variance = x.var(0, correction=0) + 0.25
        assert torch.allclose(prior.mean, x.mean(0))
        assert torch.allclose(prior.variance, variance)
        mean_error = (variance / 20_000).sqrt()
        assert ((z.mean(0) - prior.mean).abs() < 4 * mean_error).all()
        fourth = (z - z.mean(0)).pow(4).mean(0)
        variance_error = ((fourth - variance.square()) / 20_000).sqrt()
        assert ((z.var(0) - variance).abs() < 4 * variance_error).all()

    def test_in_plates(self) -> None:
        prior = Empirical(torch.rand(5, 1, 4, 4))()
        assert (prior.batch_shape, prior.event_dim) == ((), 3)
        with pyro.plate("particles", 6, dim=-2), pyro.plate("data", 7):
            z = pyro.sample("z", prior)
        assert z.shape == (6, 7, 1, 4, 4)

    def test_the_data_move_with_the_module_and_stay_out_of_checkpoints(self) -> None:
        prior = Empirical(torch.rand(5, 2))
        assert not prior.state_dict()
        assert prior.double()().sample((3,)).dtype == torch.float64

    def test_a_translator_is_a_program(self) -> None:
        x = torch.rand(20, 1, 4, 4)
        program = GAN(Empirical(x), nn.Conv2d(1, 1, 1))
        assert simulate(program, 9).shape == (9, 1, 4, 4)
        trace = poutine.trace(program.model).get_trace(None, n=9)
        z = trace.nodes["z"]["value"]
        assert all(any(torch.equal(row, one) for one in x) for row in z)
        assert torch.equal(trace.nodes["x"]["value"], program.decoder(z))

    def test_stored_points_say_that_they_have_no_density(self) -> None:
        with pytest.raises(
            NotImplementedError, match=r"no density: judge what is drawn .*jitter=0.1"
        ):
            Empirical(torch.rand(5, 2))().log_prob(torch.rand(2))

    @pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
    def test_smoothed_density(self, batch: tuple[int, ...]) -> None:
        x, z = torch.randn(30, 2, 3).double(), torch.randn(*batch, 2, 3).double()
        kernels = dist.Normal(x, 0.3).to_event(2)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(30).double()), kernels)
        prior = Empirical(x, jitter=0.3)().expand(batch)
        assert torch.allclose(prior.log_prob(z), mixture.log_prob(z))

    def test_a_smoothed_prior_scores(self) -> None:
        program = Observed(
            GAN(Empirical(torch.rand(9, 2), jitter=0.1), nn.Linear(2, 2)), Gaussian(0.1)
        )
        scored = log_density(program.model, {"z": torch.rand(6, 5, 2)}, torch.rand(5, 2))
        assert scored.joint.shape == (6, 5)

    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            (
                lambda: Empirical(torch.rand(5)),
                r"data \(N, \*shape\) of a floating dtype, got torch.float32 of shape \(5,\)",
            ),
            (lambda: Empirical(torch.ones(5, 2).long()), r"got torch.int64 of shape \(5, 2\)"),
            (lambda: Empirical(torch.rand(0, 2)), r"of shape \(0, 2\)"),
            (
                lambda: Empirical(torch.rand(5, 2), jitter=0.0),
                r"positive, finite jitter, got 0.0; leave it out",
            ),
        ],
    )
    def test_bad_input(self, attempt: Callable[[], Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            attempt()


# Each as small as its density can be integrated: in one dimension, and in two.
DENSE: dict[str, Callable[[int], nn.Module]] = {
    "mixture": lambda dim: MixtureOfGaussians(dim, 3, spread=0.8),
    "VampPrior": lambda dim: VampPrior(DiagonalGaussian(nn.Linear(4, 2 * dim)), torch.rand(5, 4)),
    "VampPrior of a cube": lambda dim: VampPrior(
        BoundedGaussian(nn.Linear(4, 2 * dim)), torch.rand(5, 4)
    ),
    "affine flow": lambda dim: FlowPrior(coupling_flow(dim, hidden=(8,))),
    "spline flow": lambda dim: FlowPrior(coupling_flow(dim, hidden=(8,), spline_bins=4)),
    "horseshoe": lambda dim: Horseshoe(dim, 0.5),
    "spike and slab": lambda dim: SpikeAndSlab(dim, spike=0.3),
    "uniform": Uniform,
}


def _line(name: str, count: int) -> tuple[Tensor, Tensor]:
    """Points z and weights of a quadrature of the line: z = sinh(v) or, on a cube, z = tanh(v).

    For the horseshoe, with its tails and its peak at 0, v = w³.
    """
    v = torch.linspace(-4.5, 4.5, count, dtype=torch.float64)
    if name == "horseshoe":
        w = v / 1.5
        return torch.sinh(w**3), torch.cosh(w**3) * 3 * w**2 * (w[1] - w[0])
    if name in ("uniform", "VampPrior of a cube"):
        return (2 * v).tanh(), (1 - (2 * v).tanh().square()) * 2 * (v[1] - v[0])
    return v.sinh(), v.cosh() * (v[1] - v[0])


@pytest.mark.parametrize(("dim", "count"), [(1, 1200), (2, 200)])
@pytest.mark.parametrize("name", DENSE)
def test_a_prior_integrates_to_one(name: str, dim: int, count: int) -> None:
    with forked(torch.device("cpu"), 3):
        prior = DENSE[name](dim).double()
    z, weights = _line(name, count)
    points = torch.cartesian_prod(*[z] * dim).reshape(-1, dim)
    each = torch.cartesian_prod(*[weights] * dim).reshape(-1, dim).prod(-1)
    with torch.no_grad():
        total = (prior().log_prob(points).exp() * each).sum()
    assert float(total) == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("name", [*DENSE, "sphere"])
def test_a_prior_draws_what_it_scores(name: str) -> None:
    """P(z₁ ≤ c) of draws, and under the density by weights of other draws."""
    draws = 20_000
    with forked(torch.device("cpu"), 3), torch.no_grad():
        if name == "sphere":
            fn = OnSphere(nn.Linear(1, 4))(torch.ones(1)).expand((draws,))
            proposal = Hypersphere(3)().expand((draws,))
        else:
            fn = DENSE[name](1)().expand((draws,))
            proposal = dist.Cauchy(torch.zeros(draws, 1), 1.0).to_event(1)
            if name in ("uniform", "VampPrior of a cube"):
                proposal = Uniform(1)().expand((draws,))
        z = fn.sample()[:, 0]
        others = proposal.sample()
        log_weights = fn.log_prob(others) - proposal.log_prob(others)
        for border in (-0.5, 0.0, 0.4):
            share = (z <= border).double().mean()
            weighed = log_weights.exp().double() * (others[:, 0] <= border)
            variance = (share * (1 - share) + weighed.var()) / draws
            assert float(abs(share - weighed.mean())) < 4 * float(variance) ** 0.5


class TestDelayed:
    def test_it_is_standard_normal_until_it_is_begun(self) -> None:
        learned = MixtureOfGaussians(2, 3)
        prior = Delayed(learned, 2)
        z = torch.randn(5, 2)
        normal = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        assert torch.allclose(prior().log_prob(z), normal.log_prob(z), atol=1e-6)
        prior.begin()
        assert torch.equal(prior().log_prob(z), learned().log_prob(z))

    def test_its_state_says_whether_it_has_begun(self, tmp_path: Path) -> None:
        program = vae((3,), 2, hidden=(4,), prior=Delayed(MixtureOfGaussians(2, 3), 2))
        for begun in (False, True):
            if begun:
                program.prior.begin()
            save(tmp_path / "weights.pt", program)
            other = vae((3,), 2, hidden=(4,), prior=Delayed(MixtureOfGaussians(2, 3), 2))
            other.prior.has_begun = not begun
            load_weights(tmp_path / "weights.pt", other)
            assert other.prior.has_begun == copied(program).prior.has_begun == begun

    @pytest.mark.parametrize("semi", [False, True], ids=["encoder", "semi-amortised"])
    def test_its_own_parameters_are_those_that_no_other_part_holds(self, semi: bool) -> None:
        program = vae((3,), 2, hidden=(4,))
        vamp = VampPrior(program.encoder, torch.rand(5, 3))
        program.prior = Delayed(vamp, 2)
        if semi:  # which holds the prior too
            slots = (program.encoder, program.prior, program.decoder, program.likelihood)
            program.encoder = SemiAmortised(*slots, steps=1)
        assert program.prior.own(program) == [vamp.pseudo_inputs]
        flow = FlowPrior(coupling_flow(2, hidden=(4,)))
        program.prior = Delayed(flow, 2)
        assert program.prior.own(program) == list(flow.parameters())
        program.prior = Delayed(StandardNormal(2), 2)
        assert not program.prior.own(program)


class TestMixtureOfGaussians:
    def test_components_do_not_coincide_and_have_the_moments_of_a_standard_normal(self) -> None:
        prior = MixtureOfGaussians(40, 500)
        assert float(torch.pdist(prior.loc).min()) > 1
        variance = prior().variance
        assert float(variance.mean()) == pytest.approx(1, abs=0.02)

    def test_moments_of_draws(self) -> None:
        with forked(torch.device("cpu"), 0), torch.no_grad():
            net = nn.Linear(2, 3 * 7)
            prior = ConditionalMixture(net, 3)(torch.randn(5, 2))
            z = prior.expand((4000, 5)).sample()
        error = (prior.variance / 4000).sqrt()
        assert bool(((z.mean(0) - prior.mean).abs() < 4 * error).all())
        fourth = (z - z.mean(0)).pow(4).mean(0)
        error = ((fourth - prior.variance.square()) / 4000).sqrt()
        assert bool(((z.var(0) - prior.variance).abs() < 4 * error).all())

    @pytest.mark.parametrize("dim", [1, 3])
    def test_draws_carry_the_gradient_of_the_weights(self, dim: int) -> None:
        """∂/∂ηₖ Σⱼ πⱼ Eⱼ f = πₖ (Eₖ f − E f), with Eₖ f from draws of each component."""
        with forked(torch.device("cpu"), 1):
            loc = torch.randn(3, dim).double()
            log_scale = 0.3 * torch.randn(3, dim).double()
            logits = torch.randn(3).double().requires_grad_()
            direction = torch.randn(dim).double()
            noise = torch.randn(200_000, dim).double()
            each = []
            for mean, scale in zip(loc, log_scale.exp(), strict=True):
                each.append(torch.sin((mean + scale * noise) @ direction).mean())
            probs = logits.detach().softmax(0)
            expected = probs * (torch.stack(each) - (probs * torch.stack(each)).sum())
            found = []
            for _ in range(20):
                z = GaussianMixture(loc, log_scale, logits).rsample((2000,))
                value = torch.sin(z @ direction).mean()
                found.append(torch.autograd.grad(value, logits)[0])
        error = torch.stack(found).std(0) / 20**0.5
        off = torch.stack(found).mean(0) - expected
        assert bool((off.abs() < 4 * error + 0.003).all())


class TestVampPrior:
    def test_it_is_the_average_of_the_guide(self) -> None:
        program = vae((1, 4, 4), 2, hidden=(8,))
        u = torch.rand(3, 1, 4, 4)
        program.prior = VampPrior(program.encoder, u)
        z = torch.randn(6, 5, 2)
        each = torch.stack([program.encoder(u[k]).log_prob(z) for k in range(3)])
        expected = each.logsumexp(0) - torch.tensor(3.0).log()
        torch.testing.assert_close(program.prior().log_prob(z), expected)

    def test_given_a_label_it_is_that_of_the_guide_there(self) -> None:
        program = cvae((1, 4, 4), 2, classes=3, hidden=(8,))
        u = torch.rand(4, 1, 4, 4)
        program.prior = VampPrior(program.encoder, u)
        y = torch.tensor([2, 0, 1, -1, 1])
        z = torch.randn(6, 5, 2)
        each = []
        for k in range(4):
            each.append(program.encoder(u[k].expand(5, 1, 4, 4), y).log_prob(z))
        expected = torch.stack(each).logsumexp(0) - torch.tensor(4.0).log()
        torch.testing.assert_close(program.prior(y).log_prob(z), expected)
        assert program.prior(y).expand((6, 5)).sample().shape == (6, 5, 2)

    def test_the_encoder_is_one(self, tmp_path: Path) -> None:
        """Counted, trained, copied and saved once, in whichever slot it is found."""
        program = vae((1, 4, 4), 2, hidden=(8,))
        alone = sum(p.numel() for p in program.parameters())
        program.prior = VampPrior(program.encoder, torch.rand(3, 1, 4, 4))
        assert sum(p.numel() for p in program.parameters()) == alone + 3 * 16
        twin = copied(program)
        assert twin.prior.encoder is twin.encoder
        assert twin.encoder is not program.encoder
        svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        x = torch.rand(6, 1, 4, 4).round()
        svi.step(x)
        assert program.prior.encoder is program.encoder
        save(tmp_path / "vamp.pt", program)
        load_weights(tmp_path / "vamp.pt", twin)
        for own, loaded in zip(program.parameters(), twin.parameters(), strict=True):
            assert torch.equal(own, loaded)
        step = svi_step(program, torch.optim.Adam(program.parameters()), engine="fx")
        step(x)
        pyro.clear_param_store()

    def test_pseudo_inputs_stay_in_the_range_of_data(self) -> None:
        prior = VampPrior(DiagonalGaussian(nn.Linear(4, 2)), torch.rand(3, 4))
        with torch.no_grad():
            prior.pseudo_inputs.add_(5 * torch.randn(3, 4))
        assert bool(((prior.inputs() >= 0) & (prior.inputs() <= 1)).all())
        x = torch.rand(20, 4)
        rows = pseudo_inputs(x, 25, seed=0)
        assert rows.shape == (25, 4)
        assert all(any(torch.equal(row, one) for one in x) for row in rows)
        noisy = pseudo_inputs(x, 1000, noise=0.01, seed=0)
        assert bool((noisy.mean(0) - x.mean(0)).abs().max() < 4 * 0.01 / 1000**0.5)


def test_the_exponential_integral_to_the_last_digits() -> None:
    for dtype, least in ((torch.float32, 3e-6), (torch.float64, 1e-12)):
        a = torch.logspace(-30, 2.7, 400, dtype=torch.float64).to(dtype)
        exact = torch.tensor(np.exp(a.double().numpy()) * special.exp1(a.double().numpy()))
        error = scaled_exponential_integral(a).double() / exact - 1
        assert float(error.abs().max()) < least


@pytest.mark.parametrize("dim", [2, 3])
def test_directions_have_a_density_of_areas(dim: int) -> None:
    fn = OnSphere(nn.Linear(1, dim + 1).double())(torch.ones(1).double())
    angle = torch.arange(1000).double() * 2 * torch.pi / 1000
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    area = 2 * torch.pi
    if dim == 3:
        height = (torch.arange(300).double() + 0.5) / 150 - 1
        circle = circle[:, None] * (1 - height.square()).sqrt()[:, None]
        circle = torch.cat([circle, height.expand(1000, 300)[..., None]], -1).flatten(0, 1)
        area = 4 * torch.pi
    with torch.no_grad():
        assert float(fn.log_prob(circle).exp().mean()) * area == pytest.approx(1, abs=1e-4)
    log_prob = Hypersphere(dim)().log_prob(circle.float())
    assert float(log_prob.exp().mean()) * area == pytest.approx(1, abs=1e-5)


@pytest.mark.long
def test_chains_on_a_sphere() -> None:
    """Under p(x | z) = N(z, 1) the posterior of z is von Mises and Fisher's: E z = (coth κ − 1/κ) μ
    with κ μ = x."""

    class Direction(nn.Module):
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else len(x)):
                z = pyro.sample("z", Hypersphere(3)())
                return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    x = torch.tensor([[2.0, 0.0, 0.0], [0.0, -1.0, 1.0]])
    kappa = x.norm(dim=-1, keepdim=True)
    expected = (1 / kappa.tanh() - 1 / kappa) * x / kappa
    draws = hmc(
        Direction().model, x, local=True, chains=16, draws=100, warmup=100, seed=0, engine="fx"
    )
    assert bool(((draws.mean["z"] - expected).abs() < 4 * draws.mcse["z"] + 0.01).all())
    estimate = ais(Direction(), x, chains=32, temperatures=20, seed=0, engine="fx")
    area = (4 * torch.pi * kappa.sinh() / kappa).log()[:, 0] - torch.tensor(4 * torch.pi).log()
    exact = area - 0.5 * (x.square().sum(-1) + 1) - 1.5 * torch.tensor(2 * torch.pi).log()
    assert bool(((estimate.value - exact).abs() < 4 * estimate.standard_error + 0.03).all())


def _vae_with(prior: Any, **options: Any) -> VAE:
    return vae((1, 4, 4), 3, hidden=(8,), prior=prior, **options)


def _vamp_of(u: Tensor, **options: Any) -> VAE:
    program = vae((1, 4, 4), 3, hidden=(8,))
    program.prior = VampPrior(program.encoder, u, **options)
    return program


# By what is wrong: a program, and what is said of it.
WRONG: dict[str, tuple[Callable[[], VAE], str]] = {
    "a tensor": (
        lambda: _vae_with(lambda: torch.zeros(3)),
        r"expected the prior to return a distribution, got a tensor of shape \(3,\); return",
    ),
    "torch's": (
        lambda: _vae_with(lambda: torch.distributions.Normal(torch.zeros(3), 1.0)),
        "got torch.distributions.normal.Normal; return a distribution of pyro.distributions",
    ),
    "coordinates as data": (
        lambda: _vae_with(lambda: dist.Normal(torch.zeros(3), 1.0)),
        r"one event for each datum, got Normal of batch shape \(3,\).*say .to_event\(1\)",
    ),
    "an encoder's tensor": (
        lambda: _vae_with(StandardNormal(3), guide=lambda net, dim: net(dim)),
        "expected the encoder to return a distribution, got a tensor",
    ),
    "a flow of four": (
        lambda: _vae_with(FlowPrior(coupling_flow(4, hidden=(8,)))),
        r"one latent dimension, got draws of shape \(4,\) from the prior and \(3,\)",
    ),
    "a flow of a context": (
        lambda: _vae_with(FlowPrior(coupling_flow(3, 2, hidden=(8,)))),
        "takes no context, got .*; give embed",
    ),
    "a transform for a flow": (
        lambda: _vae_with(FlowPrior(lambda: nn.Linear(3, 3))),
        "a flow that gives a distribution.*got Linear",
    ),
    "no components": (
        lambda: _vae_with(MixtureOfGaussians(3, 0)),
        "expected components of at least 1, got 0",
    ),
    "all components at one place": (
        lambda: _vae_with(MixtureOfGaussians(3, spread=0.0)),
        "expected a spread between 0 and 1, got 0.0",
    ),
    "pseudo-inputs of another shape": (
        lambda: _vamp_of(torch.rand(5, 1, 4, 5)),
        r"takes pseudo-inputs of shape \(5, 1, 4, 5\), got .*; give pseudo-inputs the shape of one",
    ),
    "NaN in pseudo-inputs": (
        lambda: _vamp_of(torch.full((5, 1, 4, 4), torch.nan)),
        "expected finite pseudo-inputs, got NaN",
    ),
    "pseudo-inputs out of range": (
        lambda: _vamp_of(3 * torch.ones(5, 1, 4, 4)),
        "expected pseudo-inputs from 0.0 to 1.0, got values from 3 to 3; say bounds",
    ),
    "a Gaussian guide on a sphere": (
        lambda: _vae_with(Hypersphere(3)),
        "in the support of its prior, Sphere.*take guides.on_sphere",
    ),
    "a Gaussian guide on a cube": (
        lambda: _vae_with(Uniform(3)),
        r"in the support of its prior, \[-1, 1\].*take guides.bounded",
    ),
    "a guide on a sphere alone": (
        lambda: _vae_with(StandardNormal(3), guide=on_sphere),
        "a support like that of its prior.*take priors.Hypersphere",
    ),
    "a sphere of one coordinate": (
        lambda: _vae_with(Hypersphere(1)),
        "a sphere's number of coordinates of at least 2, got 1",
    ),
    "a scale of zero": (lambda: _vae_with(Horseshoe(3, 0.0)), "positive, finite scale, got 0.0"),
    "a spike above the slab": (
        lambda: _vae_with(SpikeAndSlab(3, spike=1.5)),
        "a spike between 0 and 1, got 1.5",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_prior_is_refused(name: str) -> None:
    make, said = WRONG[name]
    x = torch.rand(3, 1, 4, 4).round()
    with pytest.raises(ValueError, match=said):
        log_evidence(make(), None, x, particles=2)


def test_a_gan_says_which_part_is_wrong() -> None:
    program = gan((1, 4, 4), 3, hidden=(8,), prior=MixtureOfGaussians(4, 2))
    said = r"the decoder to take draws of the prior, of shape \(1, 4\), got .*; give prior"
    with pytest.raises(ValueError, match=said):
        simulate(program, 2)
