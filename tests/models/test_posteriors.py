"""The toy posteriors against independent answers, and Pyro's automatic guides on them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, autoguide
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_gen.guides import automatic
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.models import toy
from ppl_gen.sites import is_deterministic, stochastic_sites

CONTINUOUS: dict[str, Callable[[], toy.Posterior]] = {
    "banana": toy.Banana,
    "funnel, centred": toy.Funnel,
    "funnel, non-centred": lambda: toy.Funnel(4, centred=False),
    "eight schools, centred": lambda: toy.EightSchools(centred=True),
    "eight schools, non-centred": toy.EightSchools,
    "linear": lambda: toy.LinearRegression.simulated(10, 2),
    "linear, more coefficients than data": lambda: toy.LinearRegression.simulated(2, 3),
    "linear, unknown noise": lambda: toy.LinearRegression.simulated(10, 2, noise=None),
    "logistic, one coefficient": lambda: toy.LogisticRegression.simulated(20, 1),
    "logistic, two": lambda: toy.LogisticRegression.simulated(20, 2),
    "sign flip": toy.SignFlip.simulated,
}
ENUMERATED: dict[str, Callable[[], toy.Posterior]] = {
    "ordered mixture": lambda: toy.OrderedMixture.simulated(30),
    "hidden Markov": toy.HiddenMarkov.simulated,
}
POSTERIORS = CONTINUOUS | ENUMERATED
every = pytest.mark.parametrize("make", POSTERIORS.values(), ids=POSTERIORS.keys())
continuous = pytest.mark.parametrize("make", CONTINUOUS.values(), ids=CONTINUOUS.keys())
enumerated = pytest.mark.parametrize("make", ENUMERATED.values(), ids=ENUMERATED.keys())


def nesting(posterior: toy.Posterior) -> int:
    return 0 if isinstance(posterior, toy.HiddenMarkov) else 1


def mixture_by_hand(program: toy.OrderedMixture, locs: Tensor) -> Tensor:
    """Σᵢ log (π₁ N(xᵢ; μ₁, σ²) + π₂ N(xᵢ; μ₂, σ²)), one datum and one component after the other."""
    total = torch.zeros(locs.shape[0], dtype=locs.dtype)
    for x in program.x:
        square = (x - locs).square() / (2 * program.scale.square())
        total += (
            (-square).exp() @ program.weights / (program.scale * math.sqrt(2 * math.pi))
        ).log()
    return total


def markov_by_hand(program: toy.HiddenMarkov, locs: Tensor) -> Tensor:
    """log π₀ᵀ D₀ A D₁ A ⋯ D_T 1 with Dₜ = diag N(xₜ; μ, σ²): a product of matrices, no logs."""
    row = program.initial.expand(locs.shape)
    for t, x in enumerate(program.x):
        if t > 0:
            row = row @ program.transition
        row = row * dist.Normal(locs, program.scale).log_prob(x).exp()
    return row.sum(-1).log()


def from_the_prior(posterior: toy.Posterior, draws: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draws of every site from the prior, with their log likelihood.

    Discrete latents are summed out by hand.
    """
    with pyro.plate("draws", draws, dim=-2), pyro.validation_enabled(False), torch.no_grad():
        trace = poutine.trace(posterior.model).get_trace(*posterior.data)
    values = {name: trace.nodes[name]["value"] for name in posterior.reference()}
    if isinstance(posterior, toy.OrderedMixture):
        return values, mixture_by_hand(posterior, values["locs"].reshape(-1, 2))
    if isinstance(posterior, toy.HiddenMarkov):
        return values, markov_by_hand(posterior, values["locs"].reshape(-1, 2))
    log_likelihood = torch.zeros(draws)
    for name, site in stochastic_sites(trace).items():
        if site["is_observed"] and name not in values:
            log_likelihood = log_likelihood + site["fn"].log_prob(site["value"]).sum(-1)
    return values, log_likelihood


@every
def test_it_keeps_the_contract(make: Callable[[], Any]) -> None:
    posterior = make().double()
    assert type(posterior).teaches.endswith(".")
    assert isinstance(posterior.data, tuple)
    nodes = poutine.trace(posterior.model).get_trace(*posterior.data).nodes
    for name, (mean, sd) in posterior.reference().items():
        assert mean.shape == sd.shape == nodes[name]["value"].shape, name
        assert mean.dtype == sd.dtype == nodes[name]["value"].dtype == torch.float64
        assert (sd > 0).all()
    flipped = [d.flip(0) for d in posterior.data]
    sites = stochastic_sites(poutine.trace(posterior.model).get_trace(*flipped))
    observed = [
        site["value"].reshape(-1)
        for site in sites.values()
        if site["is_observed"] and not is_deterministic(site)
    ]
    assert len(observed) >= len(flipped)
    if flipped:
        torch.testing.assert_close(torch.cat(observed), torch.cat(flipped))


@pytest.mark.parametrize("name", [n for n in POSTERIORS if not n.startswith("funnel")])
def test_the_reference_is_what_importance_sampling_finds(name: str) -> None:
    """Self-normalised, from the prior: within four standard errors, delta method; posteriordb has
    an error of its own.
    """
    posterior = POSTERIORS[name]()
    values, log_weights = from_the_prior(posterior, 200_000)
    weights = log_weights.double().flatten().softmax(0)
    assert 1 / weights.square().sum() > 300
    own = (0.01, 0.02) if name.startswith("eight schools") else (1e-6, 1e-6)
    for site, (mean, sd) in posterior.reference().items():
        f = values[site].double().reshape(len(weights), *mean.shape).movedim(0, -1)
        got = (f * weights).sum(-1)
        square = (f - got[..., None]).square()
        variance = (square * weights).sum(-1)
        spread = variance.sqrt()
        error = (square * weights.square()).sum(-1).sqrt()
        variance_error = ((square - variance[..., None]) * weights).square().sum(-1).sqrt()
        sd_error = variance_error / (2 * spread)
        mean_off = (got - mean).abs()
        sd_off = (spread - sd).abs()
        assert (mean_off < 4 * (error + own[0] * sd)).all(), (site, got, mean, error)
        assert (sd_off < 4 * (sd_error + own[1] * sd)).all(), (site, spread, sd, sd_error)


@pytest.mark.parametrize("centred", [True, False])
def test_the_moments_of_the_funnel(centred: bool) -> None:
    """Var xᵢ = E exp v has too heavy a tail for draws: by the trapezoid rule over v, x given v by
    its own distribution.
    """
    program = toy.Funnel(4, centred=centred).double()
    v = torch.linspace(-40, 60, 4001, dtype=torch.float64)
    held = {"v": v}
    if not centred:
        held["x_raw"] = torch.ones(len(v), 3).to(v)
    with pyro.plate("nodes", len(v)):
        sites = poutine.trace(poutine.condition(program.model, held)).get_trace().nodes
    spread = sites["x"]["fn"].stddev if centred else sites["x"]["value"]
    weights = sites["v"]["fn"].log_prob(v).exp() * float(v[1] - v[0])
    torch.testing.assert_close((weights @ spread.square()).sqrt(), program.reference()["x"].sd)
    torch.testing.assert_close((weights @ v.square()).sqrt(), program.reference()["v"].sd)
    assert not any(m.mean.any() for m in program.reference().values())


class TestRegression:
    def test_the_normal_equations(self) -> None:
        for n, p in ((30, 4), (2, 3)):
            program = toy.LinearRegression.simulated(n, p, noise=0.5).double()
            precision = program.features.T @ program.features / 0.25 + torch.eye(p).double()
            covariance = torch.linalg.inv(precision)
            mean, sd = program.reference()["coefficients"]
            torch.testing.assert_close(mean, covariance @ program.features.T @ program.y / 0.25)
            torch.testing.assert_close(sd, covariance.diagonal().sqrt())

    def test_unknown_noise_to_rounding(self) -> None:
        """p(σ | y) by dense linear algebra on a fixed grid of log σ."""
        program = toy.LinearRegression.simulated(12, 2, noise=None).double()
        u = torch.linspace(-5, 6, 3001, dtype=torch.float64)
        sigma = u.exp()
        noise = sigma.square()[:, None, None] * torch.eye(12).double()
        covariance = program.features @ program.features.T + noise
        evidence = dist.MultivariateNormal(torch.zeros(12).double(), covariance)
        log_density = evidence.log_prob(program.y) + dist.HalfCauchy(2.5).log_prob(sigma) + u
        weights = log_density.softmax(0)
        mean = weights @ sigma
        sd = (weights @ (sigma - mean).square()).sqrt()
        reference = program.reference()
        torch.testing.assert_close(reference["sigma"].mean, mean)
        torch.testing.assert_close(reference["sigma"].sd, sd)
        coarse = weights[::10] / weights[::10].sum()
        means = []
        for s in sigma[::10]:
            known = toy.LinearRegression(program.features, program.y, 1.0, float(s))
            means.append(known.reference()["coefficients"].mean)
        expected = coarse @ torch.stack(means)
        torch.testing.assert_close(reference["coefficients"].mean, expected)


class TestDiscrete:
    @enumerated
    def test_enumeration_sums_as_by_hand(self, make: Callable[[], Any]) -> None:
        posterior = make().double()
        start, potential, *_ = initialize_model(
            posterior.model, posterior.data, max_plate_nesting=nesting(posterior)
        )
        by_hand = mixture_by_hand if isinstance(posterior, toy.OrderedMixture) else markov_by_hand
        for _ in range(5):
            u = torch.randn_like(start["locs"])
            locs = torch.stack([u[0], u[0] + u[1].exp()])
            prior = -0.5 * ((u[0] / 3).square() + u[1].square()) - math.log(3 * 2 * math.pi)
            likelihood = by_hand(posterior, locs[None])[0]
            torch.testing.assert_close(-potential({"locs": u}), prior + likelihood)

    def test_the_chain_is_a_sum_over_all_paths(self) -> None:
        program = toy.HiddenMarkov.simulated(7).double()
        locs = torch.tensor([[-0.3, 1.1], [0.0, 5.0]]).double()
        total = torch.zeros(2).double()
        for path in map(list, itertools.product([0, 1], repeat=7)):
            moves = program.transition[path[:-1], path[1:]]
            chance = program.initial[path[0]] * moves.prod()
            likelihood = dist.Normal(locs[:, path], program.scale).log_prob(program.x)
            total += chance * likelihood.sum(-1).exp()
        torch.testing.assert_close(markov_by_hand(program, locs), total.log())

    def test_the_two_modes_are_far_apart(self) -> None:
        program = toy.SignFlip.simulated()
        _, potential, *_ = initialize_model(program.model, program.data)
        mode = program.reference()["theta"].sd
        at = {float(t): float(potential({"theta": t})) for t in (mode, -mode, torch.zeros(()))}
        assert at[float(mode)] == pytest.approx(at[-float(mode)])
        assert at[0.0] - at[float(mode)] > 20


@continuous
def test_it_traces_and_maps(make: Callable[[], Any]) -> None:
    """vmap of the gradient of its potential through make_fx is the loop over chains."""
    posterior = make().double()
    start, potential, *_ = initialize_model(posterior.model, posterior.data, max_plate_nesting=1)
    chains = [{k: v + 0.1 * torch.randn_like(v) for k, v in start.items()} for _ in range(3)]
    stacked = {k: torch.stack([c[k] for c in chains]) for k in start}

    def gradient_and_value(q: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        return torch.func.grad_and_value(potential)(q)

    with pyro.validation_enabled(False):
        graph = make_fx(torch.func.vmap(gradient_and_value))(stacked)
        moved = {k: v + 0.2 for k, v in stacked.items()}
        gradients, values = graph(moved)
        for i in range(3):
            gradient, value = gradient_and_value({k: v[i] for k, v in moved.items()})
            torch.testing.assert_close(values[i], value)
            torch.testing.assert_close({k: g[i] for k, g in gradients.items()}, gradient)


@pytest.mark.parametrize(
    "draw",
    [
        functools.partial(toy.LinearRegression.simulated, 9, 2),
        functools.partial(toy.LogisticRegression.simulated, 9, 2),
        toy.OrderedMixture.simulated,
        toy.SignFlip.simulated,
        toy.HiddenMarkov.simulated,
    ],
)
def test_simulated_data_have_a_generator_of_their_own(draw: Callable[..., Any]) -> None:
    state = torch.get_rng_state()
    first, again, other = draw(), draw(seed=0), draw(seed=1)
    assert torch.equal(first.data[0], again.data[0])
    assert not torch.equal(first.data[0], other.data[0])
    assert torch.equal(state, torch.get_rng_state())


NAN = torch.tensor([1.0, float("nan")])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: toy.Banana(scale=0.0), "expected positive scale, got 0"),
        (lambda: toy.Banana(curvature=math.inf), "expected finite curvature"),
        (lambda: toy.Funnel(1), "dimension of at least 2, got 1"),
        (
            lambda: toy.LinearRegression(torch.ones(3), torch.ones(3)),
            r"expected features of shape \(N, P\)",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(3, 1), torch.ones(2)),
            r"expected y of shape \(3,\).* got \(2,\)",
        ),
        (lambda: toy.LinearRegression(torch.ones(2, 1), NAN), "expected finite y, got NaN"),
        (
            lambda: toy.LinearRegression(NAN[:, None], torch.ones(2)),
            "expected finite features, got NaN",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(2, 1), torch.ones(2).long()),
            "floating dtype, got torch.int64",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(2, 1), torch.ones(2).double()),
            "the features' dtype torch.float32",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(2, 1), torch.ones(2), -1.0),
            "positive prior_scale, got -1",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(2, 1), torch.ones(2), noise=0.0),
            "positive noise, got 0",
        ),
        (
            lambda: toy.LinearRegression(torch.ones(1, 1), torch.ones(1), noise=None),
            "at least 2 data",
        ),
        (lambda: toy.LinearRegression.simulated(3, 0), "n = 3 and p = 0"),
        (
            lambda: toy.LogisticRegression(torch.ones(2, 1), torch.arange(2.0) * 2),
            "0 or 1, got values from 0.0 to 2",
        ),
        (
            lambda: toy.LogisticRegression.simulated(50, 2).reference(points=9),
            "leave 'coefficients' .* raise points",
        ),
        (
            lambda: toy.LogisticRegression.simulated(20, 3).reference(),
            "at most 2 coefficients for a quadrature, got 3",
        ),
        (
            lambda: toy.SignFlip.simulated().reference(points=3),
            "at least 5 quadrature points, got 3",
        ),
        (lambda: toy.SignFlip(torch.full((20,), 1e3)).reference(), "mass at the border"),
        (lambda: toy.SignFlip(torch.ones(2, 2)), r"expected data of shape \(N,\).* got \(2, 2\)"),
        (lambda: toy.SignFlip(torch.ones(2), scale=math.nan), "expected positive scale, got nan"),
        (lambda: toy.OrderedMixture(NAN), "expected finite data"),
        (
            lambda: toy.OrderedMixture(torch.ones(3), torch.ones(3)),
            r"expected weights of shape \(2,\), got \(3,\)",
        ),
        (
            lambda: toy.OrderedMixture(torch.ones(3), torch.tensor([1.0, 0.0])),
            "expected positive weights",
        ),
        (lambda: toy.HiddenMarkov(torch.ones(0)), "N of at least 1"),
        (
            lambda: toy.HiddenMarkov(torch.ones(3), torch.ones(2)),
            r"expected transition of shape \(2, 2\), got \(2,\)",
        ),
        (lambda: toy.HiddenMarkov(torch.ones(3), torch.eye(2)), "expected positive transition"),
        (
            lambda: automatic(lambda model: model, lambda: None),
            "a family that makes an AutoGuide, got _bound_partial",
        ),
    ],
)
def test_bad_input_is_named(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


NAMES = [
    "Normal",
    "DiagonalNormal",
    "MultivariateNormal",
    "LaplaceApproximation",
    "IAFNormal",
    "Gaussian",
]
FAMILIES: dict[str, Any] = {name: getattr(autoguide, f"Auto{name}") for name in NAMES}
FAMILIES["LowRank"] = functools.partial(autoguide.AutoLowRankMultivariateNormal, rank=1)


class TestAutomatic:
    @pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
    def test_two_of_a_family_share_nothing(self, family: Any) -> None:
        pyro.param("theirs", torch.ones(2))
        posterior = toy.LinearRegression.simulated(10, 2)
        a, b = (automatic(family, posterior.model, *posterior.data, seed=0) for _ in range(2))
        before = [p.detach().clone() for p in b.parameters()]
        optimizer = torch.optim.Adam(a.parameters(), 0.1)
        assert needs_all_data(a)
        for _ in range(2):
            optimizer.zero_grad()
            Trace_ELBO().differentiable_loss(posterior.model, a, *posterior.data).backward()
            optimizer.step()
            b(*posterior.data)
        assert all(torch.equal(p, q) for p, q in zip(before, b.parameters(), strict=True))
        assert all((p != q).any() for p, q in zip(before, a.parameters(), strict=True))
        assert list(pyro.get_param_store().keys()) == ["theirs"]
        assert not pyro.settings.get("module_local_params")

    def test_it_reaches_the_exact_posterior(self) -> None:
        """The family holds the posterior, so that at the optimum log p(y, z) − log q(z) is one
        number at every draw.
        """
        posterior = toy.LinearRegression.simulated(50, 2).double()
        guide = automatic(
            autoguide.AutoMultivariateNormal, posterior.model, *posterior.data, seed=0
        )
        optimizer = torch.optim.Adam(guide.parameters(), 0.1)
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
        for _ in range(500):
            optimizer.zero_grad()
            elbo.differentiable_loss(posterior.model, guide, *posterior.data).backward()
            optimizer.step()
            decay.step()
        mean, sd = posterior.reference()["coefficients"]
        q = guide.get_posterior()
        assert ((q.mean - mean).abs() < 0.02 * sd).all()
        assert ((q.stddev / sd - 1).abs() < 0.02).all()
        torch.testing.assert_close(guide.median()["coefficients"], q.mean)
        middle, upper = guide.quantiles([0.5, 0.841345])["coefficients"]
        torch.testing.assert_close(upper - middle, q.stddev, rtol=1e-5, atol=0)

    def test_pyros_own_svi_trains_it(self) -> None:
        posterior = toy.LinearRegression.simulated(10, 2)
        a, b = (
            automatic(autoguide.AutoMultivariateNormal, posterior.model, *posterior.data, seed=0)
            for _ in range(2)
        )
        before = [p.detach().clone() for p in b.parameters()]
        svi = pyro.infer.SVI(
            posterior.model, a, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO(num_particles=2)
        )
        for _ in range(2):
            svi.step(*posterior.data)
        assert all(torch.equal(p, q) for p, q in zip(before, b.parameters(), strict=True))
        assert all((p != q).any() for p, q in zip(before, a.parameters(), strict=True))

    @enumerated
    def test_it_does_not_see_what_is_enumerated(self, make: Callable[[], Any]) -> None:
        posterior = make()
        guide = automatic(
            autoguide.AutoMultivariateNormal, posterior.model, *posterior.data, seed=0
        )
        assert guide(*posterior.data).keys() == {"locs"}
        elbo = TraceEnum_ELBO(max_plate_nesting=nesting(posterior))
        elbo.differentiable_loss(posterior.model, guide, *posterior.data).backward()
        assert all(p.grad.isfinite().all() for p in guide.parameters())

    def test_a_seed_repeats_and_leaves_the_generator(self) -> None:
        posterior, state = toy.EightSchools(), torch.get_rng_state()
        a, b = (
            automatic(
                autoguide.AutoLowRankMultivariateNormal, posterior.model, *posterior.data, seed=3
            )
            for _ in range(2)
        )
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        assert torch.equal(state, torch.get_rng_state())

    def test_the_parameters_of_the_model_stay_as_they_are(self) -> None:
        def model() -> Tensor:
            spread = pyro.param("spread", torch.tensor(2.0))
            return pyro.sample("z", dist.Normal(torch.zeros(()), spread))

        assert automatic(autoguide.AutoNormal, model)().keys() == {"z"}
        assert not pyro.get_param_store().keys()
        spread = pyro.param("spread", torch.tensor(5.0))
        automatic(autoguide.AutoNormal, model)
        assert pyro.param("spread") is spread
