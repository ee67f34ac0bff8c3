"""A small call of every public function that takes a seed: name -> from a seed to its result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen import contexts, data, inference, models, testing
from ppl_gen.autoguides import automatic
from ppl_gen.critics import mlp_critic, patch_critic
from ppl_gen.data import Dataset, Split
from ppl_gen.data.changes import coloured
from ppl_gen.data.presentation import Presentation
from ppl_gen.data.splits import StreamedSplit
from ppl_gen.data.toys import manifold
from ppl_gen.densities import check_likelihood
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.prediction.labels import accuracy, label_probabilities
from ppl_gen.labels import few_labels
from ppl_gen.likelihoods import Bernoulli, HeteroscedasticGaussian, Masked
from ppl_gen.models import VAE, StackedVAE, infogan, ss_vae, toy, vae
from ppl_gen.nn import ZeroFilled
from ppl_gen.priors import fitted, pseudo_inputs

SAMPLED = {"draws": 20, "warmup": 4, "chains": 2}
Call = Callable[..., Any]


@cache
def _vae() -> tuple[Any, Tensor]:
    """A VAE of a few weights, with eight data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return vae((1, 4, 4), 2, hidden=(8,)), torch.rand(8, 1, 4, 4).round()


@cache
def _stacked() -> tuple[Any, Tensor]:
    """A stack whose labels hang on a draw of the codes, with four data."""
    program, x = _vae()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        above = ss_vae((2,), 2, classes=4, hidden=(8,), likelihood=HeteroscedasticGaussian())
    return StackedVAE(program, above), x[:4]


@cache
def _schools() -> Any:
    return toy.EightSchools()


@cache
def _two() -> tuple[Tensor, Tensor]:
    """Two samples."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 60, 3, generator=generator)
    return x, y


def _streamed() -> StreamedSplit:
    return StreamedSplit([(image / 2, -1) for image in _vae()[1]], "dynamic", workers=0)


def _ais(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    small = {"chains": 2, "temperatures": 4, "leapfrogs": 1}
    return inference.ais(program, x, seed=seed, **small, **options)


def _rate_distortion_curve(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    small = {"chains": 2, "temperatures": 4, "leapfrogs": 1}
    return inference.rate_distortion_curve(program, x, betas=[1.0], seed=seed, **small, **options)


def _impute(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    masked = VAE(program.prior, program.decoder, Masked(Bernoulli()), ZeroFilled(program.encoder))
    return inference.impute(masked, x, x > 0.5, seed=seed, particles=30, draws=3, **options)


def _correct(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    small = {"particles": 100, "draws": 16, "chains": 2, "warmup": 4}
    return inference.correct(program, x, seed=seed, **small, **options)


def _amortise(seed: int | None) -> Any:
    prior = dist.Normal(0.0, 1.0).expand([1]).to_event(1)
    small = {"simulations": 100, "epochs": 1, "calibrations": 20, "draws": 9}
    found = inference.amortise(torch.randn_like, prior, seed=seed, hidden=(4,), **small)
    return found.calibration, found.information


def _match(function: Call) -> Call:
    """A call of a matching of the mean of a normal distribution."""

    def call(seed: int | None) -> Any:
        x = torch.linspace(-2.0, 2.0, 20)
        found = function(
            lambda theta: dist.Normal(theta[:, 0], 1.0),
            x,
            start=torch.zeros(1),
            draws=2,
            seed=seed,
        )
        return found.estimate

    return call


def _choose_guide(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    rung = inference.ByDatum("full", inference.full_covariance, steps=2)
    found = inference.choose_guide(program, x, ladder=[rung], particles=100, seed=seed, **options)
    return found.rungs[0].elbo, found.rungs[0].evidence


def _bdmc(seed: int | None, **options: Any) -> Any:
    program, _ = _vae()
    small = {"chains": 2, "temperatures": 4, "leapfrogs": 1}
    return inference.bdmc(program, 4, seed=seed, **small, **options)


def _compare(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    return inference.compare(program, None, x[:2], seed=seed, guide_draws=40, **SAMPLED, **options)


def _gaps(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    known = inference.Estimate(torch.zeros(len(x)), torch.ones(len(x)))
    small = {"particles": 4, "steps": 3, "evidence": known}
    return inference.gaps(program, None, x, seed=seed, **small, **options)


def _fit_guide(seed: int | None, **options: Any) -> Any:
    schools = _schools()
    return inference.fit_guide(
        schools.model, AutoNormal, *schools.data, steps=3, seed=seed, **options
    )


def _fit_program(seed: int | None, **options: Any) -> Any:
    program, x = _vae()
    fitted = inference.fit_program(copy.deepcopy(program), [(x,)], epochs=3, seed=seed, **options)
    return fitted.objective


def _fit_gan(seed: int | None, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        program = models.gan((2,), 2, hidden=(4,))
        critic = mlp_critic((2,), hidden=(4,))
    x = _two()[0][:, :2]
    fitted = inference.fit_gan(program, critic, [(x,)], epochs=2, seed=seed, **options)
    return fitted.last


def _fit_cycle(seed: int | None, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a, b = torch.rand(2, 6, 1, 8, 8)
        program = models.cycle_gan(a, b, width=2, blocks=1)
        critics = patch_critic(1, width=2, layers=1), patch_critic(1, width=2, layers=1)
    fitted = inference.fit_cycle(program, critics, [(a, b)], epochs=3, seed=seed, **options)
    return fitted.last


def _to_arviz(seed: int | None) -> Any:
    schools = _schools()
    drawn = _hmc(seed=0, engine="eager")
    return inference.to_arviz(drawn, model=schools.model, args=schools.data, seed=seed)


def _hmc(seed: int | None, **options: Any) -> Any:
    schools = _schools()
    return inference.hmc(schools.model, *schools.data, seed=seed, **SAMPLED, **options)


@cache
def _line() -> Any:
    return toy.LinearRegression.simulated(20, 2)


def _posterior(seed: int | None, **options: Any) -> Any:
    line = _line()
    small = {"ess": 100, "chains": 4, "engine": "eager"}
    return inference.posterior(line.model, *line.data, seed=seed, **small, **options)


@cache
def _gaussian() -> inference.GaussianGuide:
    """N(0, I) of a posterior's two latents."""
    line = _line()
    return inference.GaussianGuide(Potential(line.model, line.data), torch.zeros(2), torch.eye(2))


def _nuts(seed: int | None) -> Any:
    schools = _schools()
    small = {"draws": 4, "warmup": 4, "chains": 1}
    return inference.nuts(schools.model, *schools.data, seed=seed, **small)


def _of_vae(function: Call, **fixed: Any) -> Call:
    """A call of an evaluator of program, guide and data."""

    def call(seed: int | None, **options: Any) -> Any:
        program, x = _vae()
        return function(program, None, x, seed=seed, **fixed, **options)

    return call


def _of_two(function: Call, **fixed: Any) -> Call:
    """A call of a statistic of two samples."""
    return lambda seed: function(*_two(), seed=seed, **fixed)


def _drawn_from_seed(opened: Call) -> Call:
    """Draws inside of a context that is opened with a seed."""

    def call(seed: int | None) -> Tensor:
        with opened(torch.device("cpu"), seed):
            return torch.rand(3)

    return call


def _codes(seed: int | None) -> Any:
    with torch.random.fork_rng():
        program = infogan((1, 8, 8), 2, categories=2, hidden=(4,))
    return inference.code_information(program, program.posterior, 4, seed=seed)


SEEDED: dict[str, Call] = {
    "labels.few_labels": lambda seed: few_labels(torch.arange(20) % 4, 8, seed=seed or 0),
    "autoguides.automatic": lambda seed: automatic(
        AutoNormal, _schools().model, *_schools().data, seed=seed
    ),
    "contexts.expect_seed": contexts.expect_seed,
    "contexts.forked": _drawn_from_seed(contexts.forked),
    "contexts.seeded": _drawn_from_seed(contexts.seeded),
    "data.changes.coloured": lambda seed: (
        coloured(Dataset(Split(_vae()[1]), Split(_vae()[1]), (1, 4, 4), name="few"), seed).train.x
    ),
    "data.presentation.Presentation.fixed": lambda seed: Presentation("dynamic").fixed(
        _vae()[1] / 2, seed
    ),
    "data.splits.Dataset.divided": lambda seed: (
        Dataset(Split(_vae()[1]), Split(_vae()[1]), (1, 4, 4)).divided(3, seed).train.x
    ),
    "data.splits.Split.divided": lambda seed: Split(_vae()[1]).divided(3, seed)[1].x,
    "data.splits.Split.fixed": lambda seed: Split(_vae()[1] / 2, binarize="dynamic").fixed(seed).x,
    "data.splits.StreamedSplit.divided": lambda seed: _streamed().divided(3, seed)[1].x,
    "data.splits.StreamedSplit.fixed": lambda seed: _streamed().fixed(seed).x,
    "data.toys.manifold": lambda seed: manifold("circle", 5, seed),
    "data.toys.ring": lambda seed: data.ring(5, seed=seed),
    "densities.check_likelihood": lambda seed: check_likelihood(
        Bernoulli(), torch.zeros(2, 3), seed=seed
    ),
    "models.classical.gaussian_mixture": lambda seed: (
        models.gaussian_mixture(_vae()[1], 2, seed=seed or 0).locs
    ),
    "priors.fitted.flow": lambda seed: (
        fitted.flow(_two()[0], hidden=(4,), epochs=1, seed=seed or 0).scale
    ),
    "priors.fitted.mixture": lambda seed: fitted.mixture(_two()[0], 2, seed=seed or 0).locs,
    "inference.codes.anomaly.improbability": lambda seed: inference.improbability(
        *_vae(), particles=4, seed=seed
    ),
    "inference.codes.coder.aggregate_draws": lambda seed: inference.aggregate_draws(
        *_vae(), draws=5, seed=seed
    ),
    "inference.codes.lattice.random_walk": lambda seed: inference.random_walk(
        _vae()[0], steps=4, seed=seed
    ),
    "inference.comparison.compare.compare": _compare,
    "inference.compression.curve.rate_distortion_curve": _rate_distortion_curve,
    "inference.compression.rate_distortion.rate_distortion": _of_vae(inference.rate_distortion),
    "inference.diagnosis.collapse.collapse": _of_vae(inference.collapse),
    "inference.diagnosis.criticism.criticise": lambda seed: inference.criticise(
        *_vae(), draws=1, permutations=20, seed=seed
    ),
    "inference.diagnosis.gaps.gaps": _gaps,
    "inference.diagnosis.sbc.sbc": lambda seed: inference.sbc(_vae()[0], 20, draws=9, seed=seed),
    "inference.evidence.ais.ais": _ais,
    "inference.simulators.match.match_mmd": _match(inference.match_mmd),
    "inference.simulators.match.match_moments": _match(inference.match_moments),
    "inference.posteriors.correct.correct": _correct,
    "inference.posteriors.ladder.choose_guide": _choose_guide,
    "inference.posteriors.simulators.amortise": _amortise,
    "inference.prediction.imputation.impute": _impute,
    "inference.evidence.bdmc.bdmc": _bdmc,
    "inference.evidence.importance.elbo": _of_vae(inference.elbo, particles=4),
    "inference.evidence.importance.log_evidence": _of_vae(inference.log_evidence, particles=4),
    "inference.fitting.guides.fit_guide": _fit_guide,
    "inference.fitting.svi.fit_program": _fit_program,
    "inference.games.fits.fit_cycle": _fit_cycle,
    "inference.games.fits.fit_gan": _fit_gan,
    "inference.games.information.code_information": _codes,
    "inference.prediction.labels.accuracy": lambda seed: accuracy(
        *_stacked(), torch.arange(4), draws=2, seed=seed
    ),
    "inference.prediction.labels.label_probabilities": lambda seed: label_probabilities(
        *_stacked(), draws=2, seed=seed
    ),
    "inference.mcmc.hmc.hmc": _hmc,
    "inference.mcmc.nuts.nuts": _nuts,
    "inference.posteriors.gaussian.GaussianGuide.sample": lambda seed: _gaussian().sample(3, seed)[
        "coefficients"
    ],
    "inference.posteriors.posterior.posterior": _posterior,
    "inference.prediction.arviz_export.to_arviz": _to_arviz,
    "inference.samples.classifier_test.classifier_test": _of_two(
        inference.classifier_test, permutations=20
    ),
    "inference.samples.distances.polynomial_mmd": _of_two(
        inference.polynomial_mmd, subsets=2, subset_size=20
    ),
    "inference.samples.distances.sliced_wasserstein": _of_two(inference.sliced_wasserstein),
    "inference.samples.features.classifier_features": lambda seed: inference.classifier_features(
        _two()[0], torch.arange(60) % 2, epochs=1, seed=seed
    ),
    "inference.samples.moments.moments": _of_two(inference.moments, permutations=20),
    "inference.samples.permutation.two_sample_test": _of_two(
        inference.two_sample_test, permutations=20
    ),
    "inference.samples.precision_recall.precision_recall": _of_two(inference.precision_recall),
    "models.toy.mixture.HiddenMarkov.simulated": lambda seed: toy.HiddenMarkov.simulated(4, seed),
    "models.toy.mixture.OrderedMixture.simulated": lambda seed: toy.OrderedMixture.simulated(
        4, seed
    ),
    "models.toy.mixture.SignFlip.simulated": lambda seed: toy.SignFlip.simulated(4, seed),
    "models.toy.regression.LinearRegression.simulated": lambda seed: toy.LinearRegression.simulated(
        4, 2, seed
    ),
    "models.toy.regression.LogisticRegression.simulated": (
        lambda seed: toy.LogisticRegression.simulated(4, 2, seed)
    ),
    "priors.vamp.pseudo_inputs": lambda seed: pseudo_inputs(_vae()[1], 3, noise=0.1, seed=seed),
    "testing.check_program": lambda seed: testing.check_program(*_vae(), seed=seed),
}
