"""What a user brings wrongly, in every evaluator and sampler: each says expected, got, remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_gen import likelihoods
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.inference import (
    ais,
    collapse,
    compare,
    elbo,
    gaps,
    hmc,
    log_evidence,
    nuts,
    svi_step,
)
from ppl_gen.inference.checks import check
from ppl_gen.inference.latents.prototype import prototype_of
from ppl_gen.models import cvae, vae
from ppl_gen.priors import StandardNormal
from ppl_gen.program import log_density, reconstruct, simulate
from ppl_gen.testing import check_program

SHAPE = (1, 4, 4)
BINARY = torch.tensor([0.0, 1.0] * 24).reshape(3, *SHAPE)
LABELS = torch.tensor([0, 1, 2])
PROGRAM = vae(SHAPE, 2, hidden=(4,))
CONDITIONAL = cvae(SHAPE, 2, classes=3, hidden=(4,))

EVALUATORS: dict[str, Callable[..., Any]] = {
    "log_evidence": lambda program, *data: log_evidence(program, None, *data, particles=2),
    "elbo": lambda program, *data: elbo(program, None, *data, particles=2),
    "ais": lambda program, *data: ais(program, *data, temperatures=2, chains=2),
    "hmc": lambda program, *data: hmc(program.model, *data, draws=2, warmup=2, chains=2),
    "hmc, local": lambda program, *data: hmc(
        program.model, *data, draws=2, warmup=2, chains=2, local=True
    ),
    "nuts": lambda program, *data: nuts(program.model, *data, draws=2, warmup=2, chains=1),
    "compare": lambda program, *data: compare(
        program, None, *data, draws=4, warmup=2, chains=2, guide_draws=4
    ),
    "gaps": lambda program, *data: gaps(program, None, *data, steps=1, particles=2),
    "collapse": lambda program, *data: collapse(program, None, *data, particles=2),
    "svi_step": lambda program, *data: svi_step(
        program, torch.optim.SGD(program.parameters(), 0.0)
    )(*data),
    "reconstruct": reconstruct,
}

# By what is wrong: data, and what is said of them.
DATA: dict[str, tuple[Any, str]] = {
    "no channel": (BINARY[:, 0], r"data of shape .*1, 4, 4\), got \(3, 4, 4\).*reshape them"),
    "an axis too many": (BINARY[:, None], r"1, 4, 4\), got \(3, 1, 1, 4, 4\).*reshape them"),
    "flat": (BINARY.flatten(1), r"1, 4, 4\), got \(3, 16\).*reshape them"),
    "two channels": (BINARY.repeat(1, 2, 1, 1), r"1, 4, 4\), got \(3, 2, 4, 4\).*reshape them"),
    "NaN": (BINARY / 0, "expected finite data, got NaN"),
    "another type": (
        BINARY.double(),
        "expected data of torch.float32.*got torch.float64; say x.to",
    ),
    "integers": (BINARY.long(), r"torch.int64.*x\.float\(\)"),
    "booleans": (BINARY.bool(), r"torch.bool.*x\.float\(\)"),
    "an array": (BINARY.numpy(), r"a tensor, got numpy\.ndarray.*torch\.as_tensor"),
    "a list": (BINARY.tolist(), r"a tensor, got builtins\.list.*torch\.as_tensor"),
    "none": (BINARY[:0], r"data of shape \(N, \*shape\) with N of at least 1"),
    "a number": (torch.tensor(1.0), r"data of shape \(N, \*shape\)"),
}
# Those that no density is asked of take any values, and read the data before the model does.
OUTSIDE = {
    "grey pixels": (BINARY * 0.5, r"support of Bernoulli.*from 0 to 0.5: binarise them.*Gaussian"),
    "pixels in [−1, 1]": (2 * BINARY - 1, "support of Bernoulli.*got values from -1 to 1"),
}
CONTEXT: dict[str, tuple[Any, str]] = {
    "short": ((LABELS[:2],), "context 0 to have one row for each of 3 data, got 2"),
    "one for all": ((LABELS[:1],), "context 0 to have one row for each of 3 data, got 1"),
    "missing": ((), "expected 1 context tensors .* for CVAE, got 0"),
    "an array": ((LABELS.numpy(),), r"context 0 as a tensor, got numpy\.ndarray"),
    "out of range": ((LABELS + 1,), "expected labels in 0, …, 2, or −1 where missing, got 1 to 3"),
}


@pytest.mark.parametrize("evaluator", EVALUATORS)
class TestEveryEvaluator:
    @pytest.mark.parametrize("wrong", DATA)
    def test_data(self, evaluator: str, wrong: str) -> None:
        x, said = DATA[wrong]
        if evaluator == "reconstruct" and wrong in ("no channel", "flat", "two channels"):
            said = "expected a guide that can be run on"  # its network reads them first
        if evaluator == "hmc, local" and not torch.is_tensor(x):
            said = r"data of shape \(N, \*shape\) as the first argument for local=True, a tensor"
        with pytest.raises(ValueError, match=said):
            EVALUATORS[evaluator](PROGRAM, x)

    @pytest.mark.parametrize("wrong", OUTSIDE)
    def test_values_outside_of_the_support(self, evaluator: str, wrong: str) -> None:
        if evaluator == "reconstruct":
            pytest.skip("asks for no density")
        x, said = OUTSIDE[wrong]
        with pytest.raises(ValueError, match=said):
            EVALUATORS[evaluator](PROGRAM, x)

    @pytest.mark.parametrize("wrong", CONTEXT)
    def test_context(self, evaluator: str, wrong: str) -> None:
        if evaluator == "reconstruct" and wrong == "out of range":
            pytest.skip("runs without validation")
        context, said = CONTEXT[wrong]
        with pytest.raises(ValueError, match=said):
            EVALUATORS[evaluator](CONDITIONAL, BINARY, *context)


def test_a_grey_pixel_far_down_the_data_is_seen() -> None:
    x = BINARY.repeat(20, 1, 1, 1)
    x[47, 0, 2, 1] = 0.3
    for evaluator in ("log_evidence", "hmc", "compare"):
        with pytest.raises(ValueError, match="support of Bernoulli"):
            EVALUATORS[evaluator](PROGRAM, x)


def test_log_density_does_not_broadcast_data() -> None:
    latents = {"z": torch.zeros(5, 3, 2)}
    assert log_density(PROGRAM.model, latents, BINARY).joint.shape == (5, 3)
    for x in (BINARY[:, 0], BINARY[:, None]):
        with pytest.raises(ValueError, match="broadcast against them; reshape them"):
            log_density(PROGRAM.model, latents, x)


class TestPlainModels:
    """Models of any arguments: what they observe has the shape of its distribution."""

    def test_values_broadcast_against_their_plate(self) -> None:
        def regression(x: Tensor, y: Tensor) -> None:
            slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

        x = torch.linspace(-1, 1, 5)
        hmc(regression, x, 2 * x, draws=2, warmup=2, chains=2)
        for y in (x[:1], x[:, None], x[:3]):
            with pytest.raises(ValueError, match=r"shape \(5,\) at the site 'y', got"):
                hmc(regression, x, y, draws=2, warmup=2, chains=2)
            with pytest.raises(ValueError, match=r"shape \(5,\) at the site 'y', got"):
                nuts(regression, x, y, draws=2, warmup=2, chains=1)

    def test_one_distribution_serves_all_values_outside_of_plates(self) -> None:
        def coin(tosses: Tensor) -> None:
            pyro.sample("tosses", dist.Bernoulli(pyro.sample("p", dist.Beta(1, 1))), obs=tosses)

        tosses = torch.tensor([1.0, 0.0, 1.0])
        assert hmc(coin, tosses, draws=2, warmup=2, chains=2, seed=0).samples["p"].shape == (2, 2)
        with pytest.raises(ValueError, match="support of Bernoulli"):
            hmc(coin, tosses / 2, draws=2, warmup=2, chains=2)

    def test_counts_that_are_none(self) -> None:
        def model(x: Tensor) -> None:
            rate = pyro.sample("rate", dist.Gamma(2, 1))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Poisson(rate), obs=x)

        with pytest.raises(ValueError, match=r"among them 0\.5: counts are whole"):
            hmc(model, torch.tensor([1.0, 0.5]), draws=2, warmup=2, chains=2)

    def test_a_masked_value_may_be_anything(self) -> None:
        def model(x: Tensor, seen: Tensor) -> None:
            rate = pyro.sample("rate", dist.Gamma(2, 1))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Poisson(rate).expand(x.shape).mask(seen), obs=x)

        x = torch.tensor([1.0, -1.0, 3.0])

        def rates(x: Tensor, seen: Tensor) -> Tensor:
            return hmc(model, x, seen, draws=2, warmup=2, chains=2, seed=0).samples["rate"]

        seen = x >= 0
        torch.testing.assert_close(rates(x, seen), rates(x[seen], seen[seen]))


class TestLikelihoodsOfTwoParameters:
    """A likelihood function of one's own that takes a mean and a scale per value."""

    @pytest.mark.parametrize(
        "likelihood",
        [
            lambda p: dist.Normal(p[..., 0], p[..., 1].exp()),
            lambda p: dist.Normal(*p.unbind(-1)),
        ],
    )
    def test_the_remedy_is_named(self, likelihood: Any) -> None:
        program = vae((3,), 2, hidden=(4,), likelihood=likelihood)
        for evaluator in ("log_evidence", "hmc", "svi_step"):
            with pytest.raises(ValueError, match=r"likelihood\.parameters_per_value = P"):
                EVALUATORS[evaluator](program, torch.zeros(4, 3))

    def test_it_works_once_it_says_so(self) -> None:
        def likelihood(p: Tensor) -> Any:
            return dist.Normal(p[..., 0], p[..., 1].exp())

        likelihood.parameters_per_value = 2  # type: ignore[attr-defined]
        program = vae((3,), 2, hidden=(4,), likelihood=likelihood)
        assert log_evidence(program, None, torch.zeros(4, 3), particles=2).value.shape == (4,)


class _Grid(nn.Module):
    """z in the plate "data" and in an inner one of three entries, at dim −2 in the model."""

    def __init__(self, guide_dim: int) -> None:
        super().__init__()
        self.guide_dim = guide_dim
        self.prior = StandardNormal(1)
        self.encoder = DiagonalGaussian(nn.Linear(1, 2))

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        with pyro.plate("data", n if x is None else x.shape[0], dim=-1):
            with pyro.plate("entries", 3, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            return pyro.sample("x", dist.Normal(z.sum(-2, keepdim=True), 1.0), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        if self.guide_dim == -2:
            with pyro.plate("data", x.shape[0], dim=-1), pyro.plate("entries", 3, dim=-2):
                return pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", x.shape[0], dim=-2), pyro.plate("entries", 3, dim=-1):
            return pyro.sample("z", dist.Normal(0.0, 1.0))


def test_a_guide_that_passes_is_one_that_the_density_takes() -> None:
    x = torch.linspace(-1, 1, 4)
    program = _Grid(guide_dim=-2)
    assert check(program, program.guide, x).nesting == 2
    log_evidence(program, None, x, particles=2)
    other = _Grid(guide_dim=-1)
    with pytest.raises(ValueError, match=r"'z' of shape \(3, 2\), as the model does, got \(2, 3\)"):
        check(other, other.guide, x)


def test_latents_without_values_are_refused() -> None:
    class Empty(nn.Module):
        def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
            with pyro.plate("data", n if x is None else len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(0), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(0), 1.0).to_event(1))

    program = Empty()
    x = torch.zeros(3)
    for evaluator in ("log_evidence", "ais", "hmc", "hmc, local", "compare"):
        with pytest.raises(ValueError, match=r"latents with values, got none at 'z', of shape"):
            EVALUATORS[evaluator](program, x)


def test_what_has_no_site_of_data_says_so() -> None:
    class Unobserved(nn.Module):
        def model(self, x):  # type: ignore[no-untyped-def]
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Normal(0.0, 1.0))

    program = Unobserved()
    with pytest.raises(ValueError, match=r"to observe the data at a site .*obs=x"):
        check(program, program.model, torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"draws data by model\(None, .* got Unobserved.model\(x\)"
    ):
        simulate(program, 3)


COUNTS = 3 * BINARY
BAD_SUPPORT: dict[str, tuple[Any, Tensor, str]] = {
    "grey pixels under Poisson": (
        likelihoods.Poisson(),
        BINARY / 2,
        "support of Poisson, .*from 0 to 0.5, among them 0.5: counts are whole numbers",
    ),
    "fewer than none": (
        likelihoods.NegativeBinomial(),
        COUNTS - 1,
        "support of NegativeBinomial, .*got values from -1 to 2; shift them",
    ),
    "half a count behind a gate": (
        likelihoods.ZeroInflated(likelihoods.Poisson()),
        COUNTS + 0.5,
        "support of ZeroInflated, .*among them 0.5: counts are whole numbers",
    ),
    "the end of an interval": (
        likelihoods.Beta(),
        BINARY / 2,
        r"support of Beta, .*among them 0, where it ends.*ContinuousBernoulli",
    ),
    "zero has no logarithm": (
        likelihoods.LogNormal(),
        BINARY,
        "support of LogNormal, .*among them 0, where it ends and has no density: move them",
    ),
    "a label too many": (likelihoods.Label(3), COUNTS, r"support of Classes, .*from 0 to 3"),
}


@pytest.mark.parametrize("wrong", BAD_SUPPORT)
def test_every_likelihood_says_what_data_it_takes(wrong: str) -> None:
    likelihood, x, said = BAD_SUPPORT[wrong]
    program = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
    with pytest.raises(ValueError, match=said):
        check(program, program.guide, x)


def test_a_support_that_moves_with_the_latents_is_no_reason_to_refuse() -> None:
    def model(x: Tensor) -> None:
        width = pyro.sample("width", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Uniform(0.0, width), obs=x)

    x = torch.tensor([0.5, 3.0])  # outside at the origin, where the width is 1
    assert float(prototype_of(model, (x,)).nodes["width"]["value"]) == 1


DOORS: dict[str, Callable[..., Any]] = {
    "check_program": check_program,
    "log_evidence": EVALUATORS["log_evidence"],
    "svi_step": EVALUATORS["svi_step"],
}
SHARES = torch.tensor([[0.2, 0.8], [0.0, 1.0], [0.5, 0.5]])


def _of_two(family: Callable[..., Any]) -> Callable[[Tensor], Any]:
    """A likelihood of one's own with two positive parameters."""

    def likelihood(p: Tensor) -> Any:
        return family(p[..., 0].exp(), p[..., 1].exp())

    likelihood.parameters_per_value = 2  # type: ignore[attr-defined]
    return likelihood


# A user's own likelihoods that name a closed support, data at its ends, and what is said.
NO_DENSITY_AT_ENDS: dict[str, tuple[Any, Tensor, str]] = {
    "Beta at 0": (_of_two(dist.Beta), BINARY / 2, "among them 0, .* as x ↦"),
    "Beta at 1": (_of_two(dist.Beta), BINARY / 2 + 0.5, "among them 1, .*ContinuousBernoulli"),
    "Gamma": (_of_two(dist.Gamma), BINARY, "among them 0, .*Exponential"),
    "Chi2": (lambda p: dist.Chi2(p.exp()), BINARY, "among them 0, "),
    "Kumaraswamy": (_of_two(dist.Kumaraswamy), BINARY, "among them 0, "),
    "AffineBeta": (lambda p: dist.AffineBeta(p.exp(), 1.5, 0.0, 1.0), BINARY, "among them 0, "),
    "Uniform": (lambda p: dist.Uniform(0.0 * p, 1.0), BINARY, "among them 1, "),
    "Dirichlet": (lambda p: dist.Dirichlet(p.exp()), SHARES, "among them 0, .*shares of K parts"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", NO_DENSITY_AT_ENDS)
def test_data_where_a_closed_support_has_no_density(wrong: str, door: str) -> None:
    likelihood, x, said = NO_DENSITY_AT_ENDS[wrong]
    program = vae(tuple(x.shape[1:]), 2, hidden=(4,), likelihood=likelihood)
    family = wrong.split()[0]
    with pytest.raises(ValueError, match=f"{family} has a finite log density, inside.*{said}"):
        DOORS[door](program, x)


@pytest.mark.parametrize("family", ["Beta", "Gamma", "Kumaraswamy"])
def test_such_data_are_seen_behind_masks(family: str) -> None:
    likelihood = likelihoods.Masked(_of_two(getattr(dist, family)))
    program = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
    x = BINARY / 2 + 0.1
    x[0, 0, 0, 0] = torch.nan
    check(program, program.guide, x)
    x[2, 0, 0, 0] = 0.0
    with pytest.raises(ValueError, match=f"{family} has a finite log density"):
        check(program, program.guide, x)


def test_such_data_are_said_by_their_column() -> None:
    gamma = likelihoods.of(dist.Gamma, concentration=torch.exp, rate=torch.exp)
    table = likelihoods.Table({"waits": gamma, "ill": likelihoods.Bernoulli()})
    program = vae((2,), 2, hidden=(4,), likelihood=table)
    x = torch.tensor([[0.5, 1.0], [1.0, 0.0], [2.0, 1.0]])
    check(program, program.guide, x)
    x[2, 0] = 0.0
    with pytest.raises(ValueError, match="expected column 'waits' at which Gamma has a finite"):
        check(program, program.guide, x)


# Those that have a density at the ends of their support, for these parameters at least.
A_DENSITY_AT_ENDS: dict[str, Any] = {
    "Exponential": lambda p: dist.Exponential(p.exp()),
    "HalfNormal": lambda p: dist.HalfNormal(p.exp()),
    "HalfCauchy": lambda p: dist.HalfCauchy(p.exp()),
    "ContinuousBernoulli": lambda p: dist.ContinuousBernoulli(logits=p),
    "Uniform": lambda p: dist.Uniform(0.0 * p, 1.1),
    "Gamma of concentration 1": lambda p: dist.Gamma(1.0, p.exp()),
    "Beta, uniform": lambda p: dist.Beta(1.0 + 0.0 * p, 1.0),
    "Normal": lambda p: dist.Normal(p, 1.0),
}


@pytest.mark.parametrize("right", A_DENSITY_AT_ENDS)
def test_data_at_the_ends_where_there_is_a_density(right: str) -> None:
    program = vae(SHAPE, 2, hidden=(4,), likelihood=A_DENSITY_AT_ENDS[right])
    check(program, program.guide, BINARY)
    assert bool(log_evidence(program, None, BINARY, particles=2).value.isfinite().all())


# Likelihoods of one's own that return another shape than that of the data, and what is said.
WRONG_SHAPES: dict[str, tuple[Any, str]] = {
    "one row for all": (
        lambda p: dist.Normal(p[..., :1, :, :, :], 1.0),
        r"batch shape \(1, 1, 4, 4\).*decoder gives, of shape \(2, 1, 4, 4\), its rows first",
    ),
    "one event for all": (
        lambda p: dist.Normal(p[..., :1, :, :, :], 1.0).to_event(3),
        r"batch shape \(1,\) and event shape \(1, 4, 4\); keep the axes",
    ),
    "one number for all": (
        lambda p: dist.Normal(0.0, 1.0),
        r"Normal of batch shape \(\) and event shape \(\);.*\.expand to them where it ignores z",
    ),
    "all data in one event": (
        lambda p: dist.Normal(p, 1.0).to_event(4),
        r"batch shape \(\) and event shape \(2, 1, 4, 4\)",
    ),
    "flat": (lambda p: dist.Normal(p.flatten(-3), 1.0), r"batch shape \(2, 16\)"),
    "a part of the axis": (lambda p: dist.Normal(p[..., :2], 1.0), r"batch shape \(2, 1, 4, 2\)"),
    "two channels": (
        lambda p: dist.Normal(torch.cat([p, p], -3), 1.0),
        r"batch shape \(2, 2, 4, 4\)",
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_a_likelihood_of_another_shape_is_named(wrong: str, door: str) -> None:
    likelihood, said = WRONG_SHAPES[wrong]
    program = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
    expected = (
        r"expected the likelihood to return one event of shape \(1, 4, 4\) for each datum, got "
    )
    with pytest.raises(ValueError, match=f"{expected}.*{said}"):
        DOORS[door](program, BINARY)


@pytest.mark.parametrize("name", ["hmc", "ais", "compare", "collapse"])
def test_one_row_for_all_is_refused_by_samplers_too(name: str) -> None:
    likelihood, _ = WRONG_SHAPES["one row for all"]
    program = vae(SHAPE, 2, hidden=(4,), likelihood=likelihood)
    with pytest.raises(ValueError, match="expected the likelihood to return one event"):
        EVALUATORS[name](program, BINARY)


def test_a_likelihood_may_ignore_the_latents() -> None:
    program = vae(SHAPE, 2, hidden=(4,), likelihood=lambda p: dist.Normal(0.0, 1.0).expand(p.shape))
    check(program, program.guide, BINARY)
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    observed = log_density(program.model, {"z": z}, BINARY).likelihood
    torch.testing.assert_close(observed, dist.Normal(0.0, 1.0).log_prob(BINARY).sum((1, 2, 3)))


def test_data_of_another_shape_are_to_blame_where_the_likelihood_keeps_its_decoders() -> None:
    program = vae(SHAPE, 2, hidden=(4,), likelihood=lambda p: dist.Normal(p, 1.0))
    for x in (BINARY[:, 0], BINARY.flatten(1)):
        with pytest.raises(ValueError, match=r"expected data of shape .*1, 4, 4\), got"):
            log_evidence(program, None, x, particles=2)
