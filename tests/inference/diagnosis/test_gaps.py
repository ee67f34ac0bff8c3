"""The split of the inference gap, against closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from posteriors import rough
from programs import PROGRAMS, TwoLayers
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ppl_gen import data, guides
from ppl_gen.guides import automatic
from ppl_gen.inference import Estimate, Gaps, fit, gaps, svi_step
from ppl_gen.inference.fitting.guides import Refitted, full_covariance, refit, same_family
from ppl_gen.models import toy, vae
from ppl_gen.program import simulate

N = 30


@pytest.fixture
def ppca() -> tuple[toy.PPCA, Tensor, Estimate]:
    program = toy.PPCA(torch.randn(8, 3), torch.zeros(8), 0.7)
    x = simulate(program, N)
    exact = program.exact_log_evidence(x).double()
    return program, x, Estimate(exact, torch.zeros_like(exact))


def within(got: Estimate | None, expected: float, slack: float = 0.0) -> bool:
    assert got is not None
    mean = got.mean()
    return abs(float(mean.value) - expected) <= 4 * float(mean.standard_error) + slack


class TestClosedForms:
    @pytest.mark.long
    def test_every_gap_of_principal_components(
        self, ppca: tuple[toy.PPCA, Tensor, Estimate]
    ) -> None:
        """A mean-field Gaussian's gap is ½ (Σ log Λᵢᵢ − log |Λ|), Λ the posterior's precision."""
        program, x, evidence = ppca
        found = gaps(program, rough(program), x, evidence=evidence, seed=0, engine="fx")
        covariance = program.exact_posterior(x[:1]).covariance_matrix[0].double()
        precision = torch.linalg.inv(covariance)
        mean_field = float(precision.diagonal().log().sum() - torch.logdet(precision)) / 2
        posterior = program.exact_posterior(x)
        own = dist.MultivariateNormal(
            posterior.mean + 0.1, (2.25 * posterior.variance).diag_embed()
        )
        whole = float(kl_divergence(own, posterior).mean())
        rounding = 2e-3  # of 500 steps
        assert within(found.inference, whole)
        assert within(found.approximation, mean_field, rounding)
        assert within(found.amortisation, whole - mean_field, rounding)
        assert within(found.family, mean_field, rounding)
        assert within(found.left, 0.0, rounding)
        assert "the network loses more" in found.verdict
        assert found.verdict.tags == ("amortisation",)

    @pytest.mark.parametrize("family", [guides.mixture, partial(guides.flow, context=2)])
    def test_guides_that_name_their_parameters_by_datum_are_refitted(self, family: Any) -> None:
        program = vae((4,), 2, hidden=(4,), guide=family)
        x = torch.rand(3, 4).round()
        evidence = Estimate(torch.zeros(3), torch.zeros(3))
        found = gaps(
            program, None, x, evidence=evidence, richer=None, steps=15, particles=300, seed=0
        )
        assert float(found.amortisation.mean().value) > 0

    def test_evidence_below_the_bound_of_the_refitted_guide_is_warned_of(self) -> None:
        program = vae((4,), 2, hidden=(4,))
        x = torch.rand(3, 4).round()
        too_low = Estimate(torch.full((3,), -20.0), torch.full((3,), 0.1))
        with pytest.warns(RuntimeWarning, match="below the bound of the refitted guide, by 1"):
            gaps(program, None, x, evidence=too_low, richer=None, steps=15, particles=50, seed=0)

    def test_a_flow_has_no_moments_that_a_richer_gaussian_could_begin_at(self) -> None:
        program = vae((4,), 2, hidden=(4,), guide=guides.flow)
        evidence = Estimate(torch.zeros(3), torch.zeros(3))
        with pytest.raises(ValueError, match=r"whose moments are known, got a ShiftedFlow.*None"):
            gaps(program, None, torch.zeros(3, 4), evidence=evidence, steps=1, particles=2)

    def test_parts_add_up(self, ppca: tuple[toy.PPCA, Tensor, Estimate]) -> None:
        program, x, evidence = ppca
        found = gaps(program, rough(program), x, evidence=evidence, particles=50, steps=20, seed=0)
        assert found.family is not None
        assert found.left is not None
        torch.testing.assert_close(
            found.inference.value, found.approximation.value + found.amortisation.value
        )
        torch.testing.assert_close(found.approximation.value, found.family.value + found.left.value)
        assert list(found.parts) == [
            "inference",
            "approximation",
            "of it, a richer family gains",
            "of it, left",
            "amortisation",
        ]

    def test_the_posterior_itself_has_none(self, ppca: tuple[toy.PPCA, Tensor, Estimate]) -> None:
        program, x, evidence = ppca
        found = gaps(program, None, x, evidence=evidence, richer=None, steps=20, seed=0)
        assert all(within(part, 0.0, 1e-4) for part in found.parts.values())
        assert set(found.parts) == {"inference", "approximation", "amortisation"}
        assert found.verdict.tags == ("none",)
        assert "no gap to speak of" in found.verdict

    @pytest.mark.long
    def test_a_family_loses_more_than_its_network(
        self, ppca: tuple[toy.PPCA, Tensor, Estimate]
    ) -> None:
        program, x, evidence = ppca
        best = refit(program, rough(program), same_family, x, engine="fx")
        found = gaps(
            program, best, x, evidence=evidence, richer=None, steps=20, seed=0, engine="fx"
        )
        assert "take a richer guide" in found.verdict
        assert found.verdict.tags == ("approximation",)

    def test_a_seed_repeats_and_leaves_the_generator(
        self, ppca: tuple[toy.PPCA, Tensor, Estimate]
    ) -> None:
        program, x, evidence = ppca
        state = torch.get_rng_state()
        options: dict[str, Any] = {"particles": 5, "steps": 2, "seed": 3}
        one = gaps(program, rough(program), x, evidence=evidence, **options)
        two = gaps(program, rough(program), x, evidence=evidence, **options)
        assert torch.equal(one.inference.value, two.inference.value)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("refitted", "error", "tag"),
    [
        (0.3, 0.01, "approximation"),  # 0.3 of 0.5 nats are left by the best of the family
        (0.2, 0.01, "amortisation"),
        (0.3, 0.2, "alike"),  # as much as 0.1 ± 0.26 nats apart
        (0.252, 1e-4, "alike"),  # clear, but nothing
        (0.2, math.nan, "none"),
    ],
)
def test_the_verdict_looks_at_errors(refitted: float, error: float, tag: str) -> None:
    """Evidence 0 and ELBO −0.5, exact where nothing else is said."""
    count = 25
    exact = torch.zeros(count)
    noise = torch.full((count,), error * math.sqrt(count))
    elbo = Estimate(exact - 0.5, exact)
    if math.isnan(error):
        elbo = Estimate(exact - 0.5, noise)
    found = Gaps(Estimate(exact, exact), elbo, Estimate(exact - refitted, noise / 2))
    assert found.verdict.tags == (tag,)


@pytest.mark.slow
def test_a_vae_s_bounds_are_in_order() -> None:
    digits = data.load("digits", binarize="dynamic")
    program = vae(digits.shape, 5, hidden=(32,))
    step = svi_step(program, torch.optim.Adam(program.parameters(), 3e-3))
    fit(step, digits.train.batches(50), 20, progress=False)
    program.zero_grad()
    before = {name: p.clone() for name, p in program.named_parameters()}
    x = digits.test.fixed(0, 20).x
    found = gaps(program, None, x, seed=0, steps=300)
    bounds = [found.elbo, found.refitted, found.richer, found.evidence]
    means = [bound.mean() for bound in bounds if bound is not None]
    for low, high in itertools.pairwise(means):
        error = math.hypot(float(low.standard_error), float(high.standard_error))
        assert float(high.value - low.value) > -4 * error
    amortisation = found.amortisation.mean()
    assert float(amortisation.value) > 4 * float(amortisation.standard_error)
    for name, p in program.named_parameters():
        assert torch.equal(p, before[name])
        assert p.requires_grad
        assert p.grad is None


@pytest.mark.slow
def test_a_program_that_is_no_module_and_a_scalar_latent() -> None:
    class Plain:
        def __init__(self) -> None:
            self.decoder = nn.Linear(1, 2)

        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                return pyro.sample(
                    "x", dist.Normal(self.decoder(z[..., None]), 0.5).to_event(1), obs=x
                )

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0], 0.5))

    program = Plain()
    x = simulate(program, 10)
    found = gaps(program, guide, x, seed=0, particles=200)
    assert within(found.approximation, 0.0, 2e-3)  # the posterior is Gaussian
    assert all(p.grad is None and p.requires_grad for p in program.decoder.parameters())


FAMILIES: dict[str, Callable[[Tensor], Any]] = {
    "normal": lambda x: dist.Normal(x[:, :2], 0.5).to_event(1),
    "full covariance": lambda x: dist.MultivariateNormal(x[:, :2], torch.eye(2) * 0.2),
    "low rank": lambda x: dist.LowRankMultivariateNormal(x[:, :2], torch.ones(2, 1), torch.ones(2)),
    "Laplace": lambda x: dist.Laplace(x[:, :2], 1.0).to_event(1),
    "Student's t": lambda x: dist.StudentT(5.0, x[:, :2], 1.0).to_event(1),
    "uniform over data": lambda x: dist.Normal(0.0, 1.0).expand([2]).to_event(1),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_refitted_guide_begins_where_the_guide_is(name: str) -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", FAMILIES[name](x))

    x, z = torch.randn(6, 3), torch.randn(6, 2)
    free = Refitted(guide, same_family, x)
    log_q = []
    for q in (guide, free):
        trace = pyro.poutine.trace(pyro.condition(q, data={"z": z})).get_trace(x)
        log_q.append(trace.nodes["z"]["fn"].log_prob(z))
    torch.testing.assert_close(log_q[1], log_q[0])
    assert all(p.shape[0] == 6 for p in free.parameters())


def _gaps(guide: Any, **options: Any) -> Gaps:
    program = toy.PPCA(torch.randn(5, 2), torch.zeros(5), 0.5)
    return gaps(program, guide, torch.randn(4, 5), **options)


def _sampling(fn: Any) -> Callable[[Tensor], None]:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", fn(x))

    return guide


def _flow(x: Tensor) -> Any:
    base = dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1)
    return dist.TransformedDistribution(base, [dist.transforms.SigmoidTransform()])


def _two_layers() -> Gaps:
    return gaps(TwoLayers(), None, PROGRAMS["two latent layers"]()[1])


def _automatic() -> Gaps:
    program = toy.PPCA(torch.randn(5, 2), torch.zeros(5), 0.5)
    x = torch.randn(4, 5)
    return gaps(program, automatic(AutoNormal, program.model, x), x)


def _discrete() -> Gaps:
    program = toy.GaussianMixture(torch.ones(3), torch.randn(3, 2), 0.5)
    return gaps(program, None, torch.randn(4, 2), richer=None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: _gaps(None, particles=0), "particles of at least 1, got 0"),
        (lambda: _gaps(None, steps=0), "steps of at least 1, got 0"),
        (
            lambda: _gaps(None, evidence=Estimate(torch.zeros(3), torch.zeros(3))),
            r"evidence of 4 data, got values of shape \(3,\)",
        ),
        (lambda: _gaps(_sampling(_flow)), "parameters for each datum.*TransformedDistribution"),
        (
            lambda: _gaps(
                _sampling(lambda x: dist.Normal(torch.zeros(len(x), 3), 1.0).to_event(1)),
                evidence=None,
            ),
            r"'z' of 2 numbers for each datum.*got 3",
        ),
        (
            lambda: _gaps(
                _sampling(lambda x: dist.Uniform(torch.zeros(len(x), 2), 1.0).to_event(1))
            ),
            "got a Uniform, which has none",
        ),
        (_two_layers, "depends on another latent"),
        (_automatic, "without auxiliary sites"),
        (_discrete, "reparameterised draws of 'z'"),
        (
            lambda: full_covariance(dist.Normal(torch.zeros(3, 2, 2), 1.0).to_event(2)),
            r"latents that are vectors, got events of shape \(2, 2\)",
        ),
    ],
)
def test_bad_input(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
