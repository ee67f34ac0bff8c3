"""Guides whose support leaves out a part of the posterior are told from those that cover it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import Tensor, nn

from ppl_gen.guides import automatic
from ppl_gen.inference import Comparison, Estimate, ais, bdmc, compare, elbo, gaps, log_evidence
from ppl_gen.inference.left_out import is_outside
from ppl_gen.models import toy

Guide = Callable[[Tensor], Tensor]
LEAVES_OUT = "support leaves out values with p"


@pytest.fixture
def program() -> toy.PPCA:
    """p(z | x) = N(x/2, 1/2)."""
    return toy.PPCA(torch.ones(1, 1), torch.zeros(1), 1.0)


class Unknown(nn.Module):
    """The same, whose evidence and posterior nobody knows."""

    def __init__(self, program: toy.PPCA) -> None:
        super().__init__()
        self.model = program.model


def drawn_from(family: Callable[[Tensor], dist.Distribution]) -> Guide:
    """A guide from data (N, 1) to the distribution of their latents."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", family(x).to_event(1))

    return guide


# With P(z in the support | x = 1.5): Φ is that of N(0.75, 1/2).
LEAVING_OUT = {
    "uniform": (lambda x: dist.Uniform(x / 2 - 1, x / 2 + 1), math.erf(1.0)),
    "half normal": (
        lambda x: dist.HalfNormal(torch.full_like(x, 1.5)),
        0.5 + 0.5 * math.erf(0.75),
    ),
    "exponential": (lambda x: dist.Exponential(torch.ones_like(x)), 0.5 + 0.5 * math.erf(0.75)),
    "log normal": (lambda x: dist.LogNormal(0 * x, 1.0), 0.5 + 0.5 * math.erf(0.75)),
}
COVERING = {
    "normal": lambda x: dist.Normal(x / 2, 1.0),
    "transformed": lambda x: dist.TransformedDistribution(
        dist.Uniform(0 * x, 1.0), dist.transforms.SigmoidTransform().inv
    ),
    "expanded": lambda x: dist.StudentT(4.0, 0.0, 1.0).expand(x.shape),
}


@pytest.fixture
def x() -> Tensor:
    return torch.tensor([[1.5]])


class TestWeights:
    @pytest.mark.parametrize("name", LEAVING_OUT)
    def test_a_part_left_out_is_warned_of(self, name: str, program: toy.PPCA, x: Tensor) -> None:
        family, covered = LEAVING_OUT[name]
        with pytest.warns(RuntimeWarning, match=LEAVES_OUT):
            found = log_evidence(program, drawn_from(family), x, particles=20_000, seed=0)
        of_support = float(program.exact_log_evidence(x)) + math.log(covered)
        assert abs(float(found.value) - of_support) < 4 * float(found.standard_error)

    @pytest.mark.parametrize("name", COVERING)
    def test_all_of_it_is_not(self, name: str, program: toy.PPCA, x: Tensor) -> None:
        with warnings.catch_warnings(action="error"):
            log_evidence(program, drawn_from(COVERING[name]), x, particles=10)
            log_evidence(program, automatic(AutoNormal, program.model, x), x, particles=10)

    def test_nor_is_what_the_likelihood_excludes(self, x: Tensor) -> None:
        """x | z ~ U(0, z): the posterior has no mass below x, where the guide does not go."""

        class Bounded(nn.Module):
            def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
                if x is not None:
                    n = x.shape[0]
                with pyro.plate("data", n):
                    z = pyro.sample("z", dist.Exponential(1.0))
                    width = torch.stack([z], -1)
                    return pyro.sample("x", dist.Uniform(0 * width, width).to_event(1), obs=x)

        def guide(x: Tensor) -> Tensor:
            with pyro.plate("data", x.shape[0]):
                return pyro.sample("z", dist.Pareto(x[:, 0], 2.0))

        with warnings.catch_warnings(action="error"):
            log_evidence(Bounded(), guide, x, particles=10)

    def test_bounds_need_no_support(self, program: toy.PPCA, x: Tensor) -> None:
        with warnings.catch_warnings(action="error"):
            elbo(program, drawn_from(LEAVING_OUT["uniform"][0]), x)

    def test_the_generator_is_left(self, program: toy.PPCA, x: Tensor) -> None:
        state = torch.get_rng_state()
        log_evidence(program, drawn_from(COVERING["normal"]), x, particles=2, seed=0)
        assert torch.equal(torch.get_rng_state(), state)


class TestAnnealing:
    @pytest.mark.parametrize("name", ["uniform", "exponential"])
    def test_does_not_begin_there(self, name: str, program: toy.PPCA, x: Tensor) -> None:
        guide = drawn_from(LEAVING_OUT[name][0])
        with pytest.raises(ValueError, match="leave guide out to begin from the prior"):
            ais(program, x, guide=guide, temperatures=3)
        with pytest.raises(ValueError, match="leave guide out to begin from the prior"):
            bdmc(program, 3, guide=guide, temperatures=3)

    @pytest.mark.parametrize(("name", "from_prior"), [("exponential", True), ("normal", False)])
    def test_gaps_begin_from_the_prior_then(
        self,
        name: str,
        from_prior: bool,
        program: toy.PPCA,
        x: Tensor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bases = []

        def begun(*_: object, guide: Guide | None, **__: object) -> Estimate:
            bases.append(guide)
            return Estimate(torch.zeros(1), torch.zeros(1))

        monkeypatch.setattr("ppl_gen.inference.diagnosis.gaps.ais", begun)
        family = COVERING.get(name)
        if from_prior:
            family, _ = LEAVING_OUT[name]
        guide = drawn_from(family)
        gaps(program, guide, x, richer=None, steps=1, particles=10, seed=0, engine="eager")
        assert bases == [None if from_prior else guide]


class TestPointMasses:
    @pytest.mark.parametrize("estimator", [log_evidence, elbo])
    def test_are_refused(
        self, estimator: Callable[..., object], program: toy.PPCA, x: Tensor
    ) -> None:
        with pytest.raises(ValueError, match="expected a guide with a density"):
            estimator(program, drawn_from(lambda x: dist.Delta(x / 2)), x)
        with pytest.raises(ValueError, match="expected a guide with a density"):
            estimator(program, automatic(AutoDelta, program.model, x), x)

    def test_are_no_place_to_begin(self, program: toy.PPCA, x: Tensor) -> None:
        with pytest.raises(ValueError, match="expected a guide with a density"):
            ais(program, x, guide=drawn_from(lambda x: dist.Delta(x / 2)))


@pytest.fixture(scope="module", params=["uniform", "exponential"])
def found(request: pytest.FixtureRequest) -> tuple[Comparison, float, float]:
    """The comparison, KL(q‖p) by quadrature, and the share of the posterior left out."""
    program = toy.PPCA(torch.ones(1, 1), torch.zeros(1), 1.0)
    x = torch.tensor([[1.5]])
    family, covered = LEAVING_OUT[request.param]
    options = {"draws": 200, "warmup": 100, "guide_draws": 1000, "seed": 0, "engine": "eager"}
    with pytest.warns(RuntimeWarning, match="only MCMC shows how much"):
        comparison = compare(Unknown(program), drawn_from(family), x, **options)
    z = torch.linspace(-0.25, 30.0, 300_001).double()
    with pyro.validation_enabled(False):
        q = family(x[0].double())
        log_q = q.log_prob(z).where(~is_outside(q, z), -torch.inf)
    log_p = dist.Normal(0.75, math.sqrt(0.5)).log_prob(z)
    terms = (log_q.exp() * (log_q - log_p)).nan_to_num(0.0)
    return comparison, float(torch.trapezoid(terms, z)), 1 - covered


class TestCompare:
    def test_the_verdict_looks_at_it(self, found: tuple[Comparison, float, float]) -> None:
        comparison, _, _ = found
        assert "left-out" in comparison.tags
        assert "good" not in comparison.tags
        assert comparison.verdict.passes is False
        assert math.isinf(float(comparison.divergence["KL(p‖q)"].value))

    def test_the_share_is_that_of_the_posterior(
        self, found: tuple[Comparison, float, float]
    ) -> None:
        comparison, _, left_out = found
        assert comparison.left_out is not None
        error = math.sqrt(left_out * (1 - left_out) / comparison.draws.min_ess)
        assert abs(float(comparison.left_out) - left_out) < 4 * error

    def test_evidence_and_divergence_are_corrected(
        self, found: tuple[Comparison, float, float]
    ) -> None:
        comparison, exact, _ = found
        evidence = comparison.evidence["importance"]
        truth = dist.Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(1.5))
        assert abs(float(evidence.value - truth)) < 4 * float(evidence.standard_error)
        divergence = comparison.divergence["KL(q‖p)"]
        assert abs(float(divergence.value) - exact) < 4 * float(divergence.standard_error)


def test_values_outside_of_a_support() -> None:
    value = torch.tensor([[-1.0, 0.5], [0.5, 0.5]])
    nearly_one = torch.tensor([0.5, 0.5 + 3e-6])  # as rounding leaves it
    never_one = dist.Categorical(logits=torch.tensor([0.0, -math.inf]))
    with pyro.validation_enabled(False):
        for family in (dist.Exponential, dist.HalfNormal):
            each = is_outside(family(torch.ones(2)), value)
            assert each.tolist() == [[True, False], [False, False]]
            joint = is_outside(family(torch.ones(2)).to_event(1), value)
            assert joint.tolist() == [True, False]
        assert not bool(is_outside(dist.Dirichlet(torch.ones(2)), nearly_one))
        assert is_outside(never_one, torch.tensor([0, 1])).tolist() == [False, True]
