"""Data with missing entries: what is scored is what is observed, and nothing is NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from posteriors import PartlySeen, ppca
from programs import digits
from torch import Tensor, nn

from ppl_gen import likelihoods
from ppl_gen.inference import Estimate, ais, elbo, hmc, log_evidence, svi_step
from ppl_gen.likelihoods import Bernoulli, Masked
from ppl_gen.models import conv_vae, cvae, vae
from ppl_gen.nn import ZeroFilled
from ppl_gen.program import reconstruct
from ppl_gen.testing import check_likelihood, check_program

SHAPE = (1, 8, 8)


def holes(x: Tensor, share: float = 0.3, seed: int = 0) -> Tensor:
    """Data of which a share is missing; all of the last datum, nothing of the first."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(x.shape, generator=generator) < share
    mask[0] = False
    mask[-1] = True
    return x.masked_fill(mask, torch.nan)


def binary(count: int) -> Tensor:
    return digits(binarize="threshold").x[:count]


class TestPPCA:
    """Its marginals are Gaussian."""

    def test_the_exact_posterior_gives_the_exact_marginal_evidence(self) -> None:
        seen = PartlySeen(ppca())
        x = holes(digits().x[:20].flatten(1))
        got = log_evidence(seen.program, None, x, particles=10, seed=0)
        error = (got.value - seen.exact_log_evidence(x)).abs()
        assert float(error.max()) < 2e-3  # single precision, of some 100 nats
        assert float(got.value[-1].abs()) < 1e-4  # nothing is observed: p = 1

    def test_weighting_gives_it_within_its_errors(self) -> None:
        seen = PartlySeen(ppca(), widening=1.2)
        x = holes(digits().x[:10].flatten(1))
        exact = seen.exact_log_evidence(x)
        self._expect_within_errors(
            log_evidence(seen.program, None, x, particles=4000, seed=1), exact
        )

    @pytest.mark.long
    def test_annealing_gives_it_within_its_errors(self) -> None:
        seen = PartlySeen(ppca(), widening=1.2)
        x = holes(digits().x[:4].flatten(1))
        found = ais(seen.program, x, guide=seen.program.guide, temperatures=10, chains=8, seed=1)
        self._expect_within_errors(found, seen.exact_log_evidence(x))

    def _expect_within_errors(self, found: Estimate, exact: Tensor) -> None:
        miss = float((found.value - exact).sum())
        error = float(found.standard_error.square().sum().sqrt())
        bias = error**2 / 2
        assert abs(miss) < 4 * error + bias + 0.02  # single precision

    @pytest.mark.long
    def test_chains_find_the_posterior_of_what_is_observed(self) -> None:
        seen = PartlySeen(ppca())
        x = holes(digits().x[:3].flatten(1))[1:2]
        draws = hmc(seen.program.model, x, draws=50, warmup=100, chains=8, local=True, seed=0)
        posterior = seen.posterior(x)
        z = draws.samples["z"].flatten(0, 1)
        error = z.std(0) / draws.ess["z"].sqrt()
        assert float(((z.mean(0) - posterior.mean).abs() / error).max()) < 4


WRAPPED: dict[str, tuple[likelihoods.Masked, Tensor]] = {
    "Bernoulli": (Masked(Bernoulli()), binary(6)),
    "Beta": (Masked(likelihoods.Beta()), digits().x[:6].clamp(0.01, 0.99)),
    "categorical": (Masked(likelihoods.Categorical(17)), digits().x[:6]),
    "discretised logistic": (
        Masked(likelihoods.DiscretizedLogistic(levels=17)),
        digits().x[:6],
    ),
    "a scale for each datum": (Masked(likelihoods.IsotropicGaussian()), digits().x[:6]),
    "log-normal": (Masked(likelihoods.LogNormal()), 1 + digits().x[:6]),
    "counts": (
        Masked(likelihoods.ZeroInflated(likelihoods.NegativeBinomial())),
        (16 * digits().x[:6]).round(),
    ),
    "a function that says to_event": (
        Masked(lambda logits: dist.Bernoulli(logits=logits).to_event(3)),
        binary(6),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_missing_is_left_out(name: str) -> None:
    likelihood, x = WRAPPED[name]
    program: Any = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
    parameters = program.decoder(torch.randn(6, 2)).detach().requires_grad_()
    plain = likelihood.likelihood(parameters)
    with_holes = holes(x)
    got = likelihood(parameters).log_prob(with_holes)
    while plain.event_shape:
        plain = plain.base_dist
    expected = torch.where(with_holes.isnan(), 0.0, plain.log_prob(x))
    torch.testing.assert_close(got.sum(), expected.sum())
    gradients = torch.autograd.grad(got.sum(), [parameters])
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), [parameters]))
    svi_step(program, torch.optim.Adam(program.parameters()))(with_holes)
    assert all(bool(p.isfinite().all()) for p in program.parameters())


def test_it_is_the_likelihood_where_nothing_is_missing() -> None:
    check_likelihood(Masked(likelihoods.Gaussian()), torch.tensor([-3.0, 0.0, 20.0]))
    check_likelihood(Masked(likelihoods.Poisson()), torch.tensor([-3.0, 0.0, 3.0]))


@pytest.mark.parametrize("engine", ["eager", "fx"])
def test_a_traced_step_takes_the_mask_of_its_batch(engine: Any) -> None:
    torch.manual_seed(0)
    program = vae(SHAPE, 2, hidden=(8,), likelihood=Masked(Bernoulli()))
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine=engine)
    x = binary(20)
    for seed in range(3):
        with_holes = holes(x, 0.1 + 0.3 * seed, seed)
        torch.manual_seed(1)
        got = step(with_holes)["elbo"]
        torch.manual_seed(1)
        eager = svi_step(program, torch.optim.SGD(program.parameters(), 0.0), engine="eager")
        torch.testing.assert_close(got, eager(with_holes)["elbo"])


@pytest.mark.parametrize("build", [vae, conv_vae, cvae])
def test_builders_tell_the_encoder_what_is_missing(build: Callable[..., Any]) -> None:
    options: dict[str, Any] = {}
    context = []
    if build is cvae:
        options["classes"] = 10
        context = [torch.tensor([0, 1, 2, 3, 4, -1])]
    torch.manual_seed(2)
    program = build(SHAPE, 2, likelihood=Masked(Bernoulli()), **options)
    x = holes(binary(6))
    assert elbo(program, None, x, *context, particles=2).value.isfinite().all()
    assert reconstruct(program, x, *context).isfinite().all()
    zeros = x.nan_to_num(0.0)
    seen = program.encoder(x, *context).mean
    assert not torch.allclose(seen, program.encoder(zeros, *context).mean)


def test_a_fitted_encoder_is_wrapped() -> None:
    program: Any = vae(SHAPE, 2, hidden=(8,))
    x = holes(binary(6))
    with pytest.raises(ValueError, match=r"expected finite data, got NaN.*likelihoods\.Masked"):
        log_evidence(program, None, x)
    program.likelihood = Masked(program.likelihood)
    with pytest.raises(ValueError, match=r"got NaN; let the encoder.*nn\.ZeroFilled"):
        log_evidence(program, None, x)
    mean = program.encoder(x.nan_to_num(0.0)).mean
    program.encoder = ZeroFilled(program.encoder)
    assert program.encoder(x).mean.equal(mean)
    check_program(program, x)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x / 0, "expected finite data, got NaN or infinite values"),
        (lambda x: x / 2, "support of Bernoulli, .*from 0 to 0.5: binarise"),
    ],
)
def test_what_is_observed_is_looked_at(spoil: Callable[[Tensor], Tensor], said: str) -> None:
    program = vae(SHAPE, 2, hidden=(4,), likelihood=Masked(Bernoulli()))
    with pytest.raises(ValueError, match=said):
        log_evidence(program, None, spoil(holes(binary(6))))


def test_values_that_depend_on_each_other_have_no_marginals() -> None:
    eye = torch.eye(3)
    joint = Masked(lambda loc: dist.MultivariateNormal(loc, eye))
    with pytest.raises(ValueError, match=r"independent.*MultivariateNormal of event shape \(3,\)"):
        joint(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="independent given the latents, got Delta"):
        Masked(likelihoods.Dirac())(torch.zeros(2, 3))


def test_zeros_and_the_mask_lie_along_the_first_axis_of_a_datum() -> None:
    x = torch.full((4, 5, 2, 3, 3), 7.0)
    x[..., 1, 0, 0] = torch.nan
    seen = ZeroFilled(nn.Identity(), axes=3)(x)
    assert seen.shape == (4, 5, 4, 3, 3)
    assert seen[..., 1, 0, 0].eq(0).all()
    assert seen[..., 3, 0, 0].eq(0).all()
    assert seen[..., 2, :, :].eq(1).all()
