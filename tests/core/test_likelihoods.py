"""Likelihoods are densities or masses, have the mean they claim, and draw what they score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pyro.distributions as dist
import pytest
import torch
from programs import student_t
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen import distributions, likelihoods
from ppl_gen.distributions import ContinuousBernoulli, LogScaleNormal
from ppl_gen.inference import svi_step
from ppl_gen.inference.checks import check
from ppl_gen.models import conv_vae, vae
from ppl_gen.nn import Shape, conv_decoder, conv_features
from ppl_gen.protocols import Conditional
from ppl_gen.testing import DENSITY_LAWS, check_likelihood

LOC = torch.tensor([-2.0, -0.3, 0.0, 0.4, 1.0, 3.0])


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 2.0])
def test_the_discretised_logistic_is_a_mass_on_its_grid(levels: int, scale: float) -> None:
    grid = torch.linspace(0, 1, levels, dtype=torch.float64)
    logistic = likelihoods.DiscretizedLogistic(scale, levels)(LOC.double())
    mass = logistic.log_prob(grid[:, None]).exp().sum(0)
    torch.testing.assert_close(mass, torch.ones_like(mass))


def test_the_discretised_logistic_is_finite_far_out_in_float32() -> None:
    grid = torch.linspace(0, 1, 256)
    logistic = likelihoods.DiscretizedLogistic(1e-3)(torch.tensor([-20.0, 0.5, 20.0]))
    assert torch.isfinite(logistic.log_prob(grid[:, None])).all()


def test_the_categorical_is_a_mass_on_its_grid_with_a_mean() -> None:
    d = likelihoods.Categorical(5)(torch.randn(3, 5))
    grid = torch.linspace(0, 1, 5)
    mass = d.log_prob(grid[:, None]).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(3))
    torch.testing.assert_close(d.mean, (mass * grid[:, None]).sum(0))


LOGITS = torch.tensor([-1e4, -100, -17, -1, -1e-3, 0, 1e-3, 1, 17, 100, 1e4])
LOCATIONS = torch.tensor([-20, -3, -1, -0.01, 0, 0.3, 1, 5, 20])
LOCATIONS_AND_LOG_SCALES = torch.cartesian_prod(
    torch.tensor([-3, 0, 0.5, 3]), torch.tensor([-30.0, -8, -5, 0, 4])
)
WEIGHTS = torch.tensor([0, 1, 100, 1e4])[:, None] * torch.arange(1, 6).cos()


MEANS_AND_PRECISIONS = torch.cartesian_prod(torch.tensor([-2.0, 3]), torch.tensor([0.0, 7]))
MEANS_AND_DISPERSIONS = torch.cartesian_prod(
    torch.tensor([-20.0, -1, 0, 2]), torch.tensor([-1.0, 0, 2, 4, 9, 30])
)
RATES_AND_GATES = torch.cartesian_prod(
    torch.tensor([-20.0, -1, 0, 3]), torch.tensor([-30.0, -1, 0, 2, 30])
)
MEANS_DISPERSIONS_AND_GATES = torch.cartesian_prod(
    torch.tensor([-3.0, 2]), torch.tensor([0.0, 4]), torch.tensor([-30.0, 0, 3])
)


def _two_peaks(loc: Tensor) -> dist.MixtureSameFamily:
    ends = torch.stack([loc - 5, loc + 1], -1)
    weights = dist.Categorical(torch.ones_like(ends))
    return dist.MixtureSameFamily(weights, dist.Normal(ends, 0.1))


def _logits(logit: Tensor) -> Tensor:
    return torch.stack([logit, -logit, torch.zeros_like(logit)], -1)


# Each likelihood with parameters that a decoder may come to, however extreme.
SHELF: dict[str, tuple[Conditional, Tensor]] = {
    "Bernoulli": (likelihoods.Bernoulli(), LOGITS),
    "Beta": (likelihoods.Beta(), MEANS_AND_PRECISIONS),
    "Categorical": (likelihoods.Categorical(5), WEIGHTS),
    "ContinuousBernoulli": (likelihoods.ContinuousBernoulli(), LOGITS),
    "DiscretizedLogistic": (likelihoods.DiscretizedLogistic(), LOCATIONS),
    "DiscretizedLogistic, sharp": (likelihoods.DiscretizedLogistic(1e-4, 2), LOCATIONS),
    "DiscretizedLogistic, wide": (likelihoods.DiscretizedLogistic(10.0, 17), LOCATIONS),
    "Gaussian": (likelihoods.Gaussian(), LOCATIONS),
    "Gaussian, sharp": (likelihoods.Gaussian(1e-3), LOCATIONS),
    "HeteroscedasticGaussian": (likelihoods.HeteroscedasticGaussian(), LOCATIONS_AND_LOG_SCALES),
    "IsotropicGaussian": (likelihoods.IsotropicGaussian(), LOCATIONS_AND_LOG_SCALES),
    "Laplace": (likelihoods.Laplace(), LOCATIONS),
    "Laplace, sharp": (likelihoods.Laplace(1e-3), LOCATIONS),
    "Label": (likelihoods.Label(5), WEIGHTS),
    "LogNormal": (likelihoods.LogNormal(), LOCATIONS),
    "LogNormal, wide": (likelihoods.LogNormal(2.0), LOCATIONS),
    "Masked": (likelihoods.Masked(likelihoods.Laplace()), LOCATIONS),
    "NegativeBinomial": (likelihoods.NegativeBinomial(), LOCATIONS[:-2]),
    "NegativeBinomial, decoded": (
        likelihoods.NegativeBinomial(decoded=True),
        MEANS_AND_DISPERSIONS,
    ),
    "Poisson": (likelihoods.Poisson(), LOCATIONS[:-1]),
    "StudentT": (likelihoods.StudentT(), LOCATIONS),
    "StudentT, sharp": (likelihoods.StudentT(1.5, 1e-3), LOCATIONS),
    "StudentT, nearly a Gaussian": (likelihoods.StudentT(1e6, 1.0), LOCATIONS),
    "ZeroInflated": (likelihoods.ZeroInflated(likelihoods.Poisson()), RATES_AND_GATES),
    "ZeroInflated, negative binomial": (
        likelihoods.ZeroInflated(likelihoods.NegativeBinomial(decoded=True)),
        MEANS_DISPERSIONS_AND_GATES,
    ),
    "of a gamma distribution": (
        likelihoods.of(dist.Gamma, concentration=F.softplus),
        torch.cartesian_prod(torch.tensor([0.0, 5]), torch.tensor([-3.0, 0, 3])),
    ),
    "of Student's t, held": (likelihoods.of(dist.StudentT, df=3.0, scale=0.1), LOCATIONS),
    "a function": (student_t, LOCATIONS),
    "a function to angles": (lambda loc: dist.VonMises(loc, 30.0), LOCATIONS),
    "a mixture": (_two_peaks, LOCATIONS),
    "a function of labels": (lambda logit: dist.Categorical(logits=_logits(logit)), LOGITS),
    "a function of counts": (lambda log_rate: dist.Poisson(log_rate.exp()), LOCATIONS[:-1]),
}


@pytest.mark.parametrize("name", SHELF)
def test_likelihoods_keep_the_laws_at_extreme_parameters(name: str) -> None:
    check_likelihood(*SHELF[name])


def test_every_likelihood_is_in_the_table() -> None:
    kinds = {name.split(",")[0] for name in SHELF}
    classes = {name for name in likelihoods.__all__ if isinstance(getattr(likelihoods, name), type)}
    not_of_single_numbers = {"Dirac", "DiscretizedMixture", "Lines", "Table", "TokenSequence"}
    assert classes - not_of_single_numbers <= kinds


class _SteeperThanItsDensity(torch.autograd.Function):
    """The identity, with twice its gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradient: Tensor) -> Tensor:
        return 2 * gradient[0]


class _ShiftedMean(dist.Normal):
    mean = property(lambda self: self.loc + 0.1)  # type: ignore[assignment]


class _NarrowDraws(dist.Normal):
    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.loc + 0.5 * (super().sample(sample_shape) - self.loc)


BROKEN: dict[str, Callable[[Tensor], dist.TorchDistribution]] = {
    "it integrates to one": lambda logits: dist.ContinuousBernoulli(logits=logits),
    "it has the mean that it claims": lambda loc: _ShiftedMean(loc, 1.0),
    "it draws what it scores": lambda loc: _NarrowDraws(loc, 1.0),
    "its gradient is its slope": lambda loc: dist.Normal(_SteeperThanItsDensity.apply(loc), 1.0),
}


@pytest.mark.parametrize("law", DENSITY_LAWS)
def test_a_broken_likelihood_is_named(law: str) -> None:
    with pytest.raises(AssertionError, match=f"law broken, '{law}'.*at the parameters 20.0 in"):
        check_likelihood(BROKEN[law], torch.tensor([20.0]))


def test_a_likelihood_of_vectors_is_no_matter_for_quadrature() -> None:
    message = r"of single numbers.*got Multinomial of event shape \(3,\).*check_program"
    with pytest.raises(ValueError, match=message):
        check_likelihood(lambda p: dist.Multinomial(4, logits=p), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_continuous_bernoulli_is_exact_at_any_logit(dtype: torch.dtype) -> None:
    sizes = [0.0, 1e-30, 1e-8, 1e-3, 0.02, 0.2499, 0.2501, 1.0, 17.0, 100.0, 1e4]
    logits = torch.tensor([*sizes, *(-size for size in sizes)], dtype=dtype, requires_grad=True)
    x = torch.tensor(0.7, dtype=dtype)
    d = ContinuousBernoulli(logits)
    log_prob = d.log_prob(x)
    (slope,) = torch.autograd.grad(log_prob.sum(), logits)
    drawn = d.icdf(x)
    (drawn_slope,) = torch.autograd.grad(drawn.sum(), logits)
    exact = [_exact(mpmath.mpf(size), mpmath.mpf(float(x))) for size in logits.tolist()]
    expected = torch.tensor(exact, dtype=torch.float64).T
    got = torch.stack([log_prob, slope, d.mean, d.variance, drawn, drawn_slope]).detach().double()
    rounding = 1000 * torch.finfo(dtype).eps
    torch.testing.assert_close(got, expected, rtol=rounding, atol=rounding)


def _exact(logit: mpmath.mpf, x: mpmath.mpf) -> list[float]:
    """log p(x), its slope, mean, variance, the quantile of x and its slope, in 60 digits."""

    def log_normaliser(t: mpmath.mpf) -> mpmath.mpf:
        return mpmath.log(mpmath.expm1(t) / t) if t else mpmath.mpf(0)

    def quantile(t: mpmath.mpf) -> mpmath.mpf:
        return mpmath.log1p(x * mpmath.expm1(t)) / t if t else x

    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -15
        above, at, below = (log_normaliser(logit + k * step) for k in (1, 0, -1))
        mean = (above - below) / (2 * step)
        variance = (above - 2 * at + below) / step**2
        slope = (quantile(logit + step) - quantile(logit - step)) / (2 * step)
        row = [x * logit - at, x - mean, mean, variance, quantile(logit), slope]
        return [float(number) for number in row]


def test_the_continuous_bernoulli_is_zero_outside_and_expands() -> None:
    d = ContinuousBernoulli(torch.tensor([-30.0, 30.0]))
    assert d.log_prob(torch.tensor([-0.1, 1.1])).tolist() == [-math.inf, -math.inf]
    assert d.expand((3, 2)).sample((4,)).shape == (4, 3, 2)
    drawn = d.rsample((20_000,))
    error = d.variance.sqrt() / 20_000**0.5
    assert ((drawn.mean(0) - d.mean).abs() < 4 * error).all()
    torch.testing.assert_close(d.entropy(), 1 - torch.tensor([30.0, 30.0]).log())


@pytest.mark.parametrize(
    "d",
    [
        likelihoods.Categorical(17)(torch.arange(102.0).sin().reshape(6, 17)),
        likelihoods.DiscretizedLogistic(0.05, 17)(torch.tensor([0.3, 0.4, 0.5, 0.55, 0.6, 0.7])),
        likelihoods.DiscretizedLogistic(0.5, 17)(torch.tensor([-1.0, 0.1, 0.5, 0.55, 0.9, 1.5])),
    ],
    ids=["categorical", "discretised logistic", "a wide one"],
)
def test_draws_have_the_frequencies_of_the_mass(d: dist.TorchDistribution) -> None:
    n = 20_000
    grid = torch.linspace(0, 1, 17)
    drawn = d.sample((n,))
    frequency = (drawn == grid[:, None, None]).double().mean(1)
    mass = d.log_prob(grid[:, None]).double().exp()
    error = (mass * (1 - mass) / n).sqrt() + 1 / n
    assert ((frequency - mass).abs() < 4.5 * error).all()  # 102 frequencies at once
    exact = (mass * grid[:, None]).sum(0)
    mean_error = drawn.std(0) / n**0.5
    assert ((drawn.mean(0) - exact).abs() < 4.5 * mean_error).all()
    torch.testing.assert_close(d.mean, exact.to(d.mean), rtol=1e-4, atol=1e-5)


X = torch.tensor([0.0, 1, 2, 7, 30, 1000], dtype=torch.float64)
INSIDE = torch.tensor([1e-9, 0.1, 0.5, 0.93, 1 - 1e-9], dtype=torch.float64)


@pytest.mark.parametrize("log_mean", [-9.0, 0.5, 6.0])
@pytest.mark.parametrize("dispersion", [1e-3, 0.7, 19.0, 21.0, 1e4])
def test_the_negative_binomial_is_scipy_s(log_mean: float, dispersion: float) -> None:
    mean = math.exp(log_mean)
    expected = stats.nbinom(dispersion, dispersion / (dispersion + mean)).logpmf(X)
    d = distributions.NegativeBinomial(*_double(log_mean, math.log(dispersion)))
    torch.testing.assert_close(d.log_prob(X), torch.as_tensor(expected), rtol=1e-6, atol=1e-6)
    single = distributions.NegativeBinomial(d.log_mean.float(), d.log_dispersion.float())
    torch.testing.assert_close(
        single.log_prob(X.float()), d.log_prob(X).float(), rtol=1e-4, atol=1e-4
    )


def test_a_large_dispersion_is_poisson_s_and_a_closed_gate_nothing() -> None:
    log_mean = torch.tensor([-3.0, 0.0, 5.0]).double()
    poisson = distributions.Poisson(log_mean).log_prob(X[:, None])
    expected = stats.poisson(log_mean.exp()).logpmf(X[:, None])
    torch.testing.assert_close(poisson, torch.as_tensor(expected))
    counts = distributions.NegativeBinomial(log_mean, torch.tensor(30.0).double())
    torch.testing.assert_close(counts.log_prob(X[:, None]), poisson, rtol=1e-6, atol=1e-6)
    never = distributions.ZeroInflated(counts, torch.full_like(log_mean, -400.0))
    torch.testing.assert_close(never.log_prob(X[:, None]), counts.log_prob(X[:, None]))
    torch.testing.assert_close(never.variance, counts.variance)


@pytest.mark.parametrize(("logit", "log_precision"), [(-3.0, 0.0), (0.5, 3.0), (2.0, 9.0)])
def test_the_beta_is_scipy_s(logit: float, log_precision: float) -> None:
    d = distributions.Beta(*_double(logit, log_precision))
    mean, precision = float(d.mean), math.exp(log_precision)
    scipy_s = stats.beta(mean * precision, (1 - mean) * precision)
    expected = torch.as_tensor(scipy_s.logpdf(INSIDE))
    torch.testing.assert_close(d.log_prob(INSIDE), expected, rtol=1e-6, atol=1e-6)
    assert float(d.variance) == pytest.approx(scipy_s.var())


@pytest.mark.parametrize("df", [0.5, 4.0, 39.0, 41.0, 1e6])
def test_student_s_t_is_scipy_s(df: float) -> None:
    loc, scale, nu = _double(0.3, 0.7, df)
    x = torch.tensor([-1e3, -2, 0, 0.3, 5], dtype=torch.float64)
    d = distributions.StudentT(loc, scale, nu)
    expected = torch.as_tensor(stats.t(df, 0.3, 0.7).logpdf(x))
    torch.testing.assert_close(d.log_prob(x), expected)
    in_single = distributions.StudentT(loc.float(), scale.float(), nu.float()).log_prob(x.float())
    torch.testing.assert_close(in_single, expected.float(), rtol=1e-5, atol=1e-5)


def test_the_log_normal_is_scipy_s() -> None:
    d = distributions.LogNormal(*_double(0.3, 0.7))
    x = torch.tensor([1e-9, 0.2, 1, 50], dtype=torch.float64)
    scipy_s = stats.lognorm(0.7, scale=math.exp(0.3))
    torch.testing.assert_close(d.log_prob(x), torch.as_tensor(scipy_s.logpdf(x)))
    assert (float(d.mean), float(d.variance)) == pytest.approx((scipy_s.mean(), scipy_s.var()))


def _double(*numbers: float) -> list[Tensor]:
    return [torch.tensor(number, dtype=torch.float64) for number in numbers]


def test_a_dispersion_is_fixed_learned_for_each_value_or_decoded() -> None:
    assert not list(likelihoods.NegativeBinomial(2.0).parameters())
    per_value = likelihoods.NegativeBinomial(shape=(7,))
    assert per_value.log_dispersion.shape == (7,)
    assert per_value(torch.zeros(3, 5, 7)).batch_shape == (3, 5, 7)
    with pytest.raises(ValueError, match="expected a dispersion or decoded=True, got both"):
        likelihoods.NegativeBinomial(2.0, decoded=True)
    assert likelihoods.StudentT(df=None, scale=1.0).df.requires_grad
    with pytest.raises(ValueError, match="positive, finite df, got 0"):
        likelihoods.StudentT(df=0.0)


def test_only_counts_are_zero_inflated() -> None:
    gated = likelihoods.ZeroInflated(likelihoods.Gaussian())
    with pytest.raises(ValueError, match=r"single counts, got Normal.*take Poisson\(\)"):
        gated(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="numbers per value alone, got IsotropicGaussian"):
        likelihoods.ZeroInflated(likelihoods.IsotropicGaussian())


def test_all_levels_of_eight_bits_are_a_categorical_of_mnist_s_shape() -> None:
    """Evaluators know that a pair of particle and datum takes 256 numbers for each pixel."""
    shape = (1, 28, 28)
    program = vae(shape, 2, hidden=(2,), likelihood=likelihoods.Categorical(256))
    x = (255 * torch.rand(2, *shape)).round() / 255
    found = check(program, program.guide, x)
    assert found.width == 784 * 256
    masked = vae(shape, 2, hidden=(2,), likelihood=likelihoods.Masked(program.likelihood))
    assert check(masked, masked.guide, x).width == 784 * 256
    step = svi_step(program, torch.optim.SGD(program.parameters(), 0.0))
    assert float(step(x)["elbo"]) == pytest.approx(-784 * math.log(256), rel=0.05)


def test_scales_are_learned_or_fixed() -> None:
    assert len(list(likelihoods.Gaussian().parameters())) == 1
    assert not list(likelihoods.Gaussian(0.1).parameters())
    assert float(likelihoods.Laplace(0.1).scale) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="expected a positive scale, got -1"):
        likelihoods.Gaussian(-1.0)


def test_the_normal_by_log_scale_is_pyro_s() -> None:
    loc, log_scale, x = torch.randn(4, 3), torch.randn(4, 3), torch.randn(5, 4, 3)
    ours, theirs = LogScaleNormal(loc, log_scale), dist.Normal(loc, log_scale.exp())
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(torch.distributions.kl_divergence(ours, theirs), torch.zeros(4, 3))
    assert ours.expand((2, 4, 3)).log_scale.shape == (2, 4, 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (2, 9, 31), (4, 33, 8)])
@pytest.mark.parametrize("parameters", [1, 3])
def test_convolutions_fit_any_image(shape: tuple[int, ...], parameters: int) -> None:
    decoded: Tensor = conv_decoder(5, shape, parameters=parameters)(torch.randn(2, 3, 5))
    per_value = (parameters,) if parameters > 1 else ()
    assert decoded.shape == (2, 3, *shape, *per_value)
    assert conv_features(shape, 7)(torch.rand(2, 3, *shape)).shape == (2, 3, 7)


def test_the_end_of_a_decoder_gives_values_and_data_what_is_theirs() -> None:
    flat = torch.arange(7.0).expand(4, 5, 7)
    both = Shape((2, 3), 1, 1)(flat)
    assert both[..., 0].flatten(-2).equal(flat[..., :6])
    assert both[..., 1].equal(torch.full((4, 5, 2, 3), 6.0))
    assert Shape((7,), 0, 7)(flat)[..., 2, :].equal(flat)
    assert [Shape((2, 3), p, q).inputs for p, q in ((1, 0), (1, 1), (4, 2), (0, 9))] == [
        6,
        7,
        26,
        9,
    ]


@pytest.mark.parametrize("build", [vae, conv_vae])
def test_one_scale_for_each_datum(build: Callable[..., nn.Module]) -> None:
    program: Any = build((1, 8, 8), 3, likelihood=likelihoods.IsotropicGaussian())
    scale = program.likelihood(program.decoder(torch.randn(4, 5, 3))).scale
    assert scale.shape == (4, 5, 1, 8, 8)
    assert scale.equal(scale[..., :1, :1].expand_as(scale))
    assert scale[..., 0, 0, 0].unique().numel() == 20


@pytest.mark.parametrize("shape", [(1, 7, 28), (1, 65, 64), (28, 28), (0, 8, 8)])
def test_convolutions_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="with 8 to 64 pixels a side"):
        conv_features(shape, 7)
