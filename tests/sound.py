"""Small calls of public functions, sound in every argument: for tests that spoil one, or that lay
all of them elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch

from ppl_gen import critics, data, inference, likelihoods, models, plots, priors
from ppl_gen.models import vae
from ppl_gen.nn import conv_decoder, mlp
from ppl_gen.paths import path
from ppl_gen.program import reconstruct, simulate

Call = Callable[..., Any]

SHAPE = (1, 4, 4)
PROGRAM = vae(SHAPE, 2, hidden=(4,))
X = torch.tensor([0.0, 1.0] * 64).reshape(8, *SHAPE)
TWO = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
SAMPLED = {"draws": 2, "warmup": 2, "chains": 2, "engine": "eager"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A call of a public function that is quick and right.

    Attributes:
        function: What is called.
        given: Its arguments by position.
        named: Its arguments by name.
    """

    function: Call
    given: tuple[Any, ...] = ()
    named: dict[str, Any]


def sound(function: Call, *given: Any, **named: Any) -> Sound:
    return Sound(function=function, given=given, named=named)


def _choose_guide(program: Any, x: torch.Tensor, *, seed: int | None = 0, **named: Any) -> Any:
    """A ladder of one rung."""
    rung = inference.ByDatum("full", inference.full_covariance, steps=2)
    return inference.choose_guide(program, x, ladder=[rung], seed=seed, **named)


def _normal(theta: torch.Tensor) -> Any:
    """A simulator with a mean."""
    return dist.Normal(theta[..., 0], 1.0)


def _amortise(**named: Any) -> Any:
    """A posterior of a normal distribution's mean."""
    prior = dist.Normal(0.0, 1.0).expand([1]).to_event(1)
    return inference.amortise(torch.zeros_like, prior, hidden=(4,), seed=0, **named)


def _match_moments(x: torch.Tensor, *, seed: int | None = 0, **named: Any) -> Any:
    return inference.match_moments(_normal, x, start=torch.zeros(1), seed=seed, **named)


def _match_mmd(x: torch.Tensor, *, seed: int | None = 0, **named: Any) -> Any:
    return inference.match_mmd(_normal, x, start=torch.zeros(1), seed=seed, **named)


def _sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD(PROGRAM.parameters(), 0.0)


MASKED = vae(SHAPE, 2, hidden=(4,), likelihood=likelihoods.Masked(likelihoods.Bernoulli()))
EVALUATORS = {
    "log_evidence": sound(inference.log_evidence, PROGRAM, None, X, particles=2, chunk=None),
    "elbo": sound(inference.elbo, PROGRAM, None, X, particles=2, chunk=None),
    "ais": sound(
        inference.ais,
        PROGRAM,
        X,
        chains=2,
        temperatures=2,
        leapfrogs=1,
        target_accept=0.6,
        chunk=None,
        engine="eager",
    ),
    "hmc": sound(
        inference.hmc, PROGRAM.model, X, **SAMPLED, trajectory=None, target_accept=0.8, chunk=None
    ),
    "nuts": sound(
        inference.nuts,
        PROGRAM.model,
        X,
        draws=2,
        warmup=2,
        chains=1,
        target_accept=0.8,
        max_tree_depth=2,
    ),
    "posterior": sound(inference.posterior, PROGRAM.model, X, ess=100, chains=2, engine="eager"),
    "compare": sound(
        inference.compare, PROGRAM, None, X, draws=4, warmup=2, chains=2, guide_draws=4
    ),
    "gaps": sound(inference.gaps, PROGRAM, None, X, particles=2, steps=1, rate=0.02),
    "collapse": sound(inference.collapse, PROGRAM, None, X, particles=2, threshold=0.01),
    "reconstruct": sound(reconstruct, PROGRAM, X),
    "compress": sound(inference.compress, PROGRAM, X, precision=8),
    "rate_distortion": sound(inference.rate_distortion, PROGRAM, None, X, particles=2),
    "rate_distortion_curve": sound(
        inference.rate_distortion_curve,
        PROGRAM,
        X,
        betas=[1.0],
        chains=2,
        temperatures=2,
        leapfrogs=1,
        target_accept=0.6,
        chunk=None,
        engine="eager",
    ),
    "encode": sound(inference.encode, PROGRAM, X),
    "reconstruction_error": sound(inference.reconstruction_error, PROGRAM, X),
    "improbability": sound(inference.improbability, PROGRAM, X, particles=2),
    "overlap": sound(inference.overlap, PROGRAM, X),
    "aggregate_draws": sound(inference.aggregate_draws, PROGRAM, X, draws=3),
}
OTHERS = {
    "amortise": sound(
        _amortise,
        simulations=100,
        epochs=1,
        patience=1,
        rate=1e-3,
        batch=50,
        calibrations=20,
        draws=9,
    ),
    "choose_guide": sound(_choose_guide, PROGRAM, X, particles=100, engine="eager"),
    "match_mmd": sound(_match_mmd, TWO[0][:, 0], landmarks=5, draws=2),
    "match_moments": sound(_match_moments, TWO[0][:, 0], draws=2),
    "correct": sound(
        inference.correct,
        PROGRAM,
        X,
        particles=100,
        draws=2,
        min_ess=2,
        good=0.9,
        chains=2,
        warmup=2,
        engine="eager",
    ),
    "criticise": sound(
        inference.criticise, PROGRAM, X, grid=2, draws=1, level=0.9, permutations=20
    ),
    "impute": sound(inference.impute, MASKED, X, X > 0.5, particles=2, draws=2),
    "ticks": sound(inference.ticks, PROGRAM, steps=3, within=2.0),
    "lattice": sound(inference.lattice, PROGRAM, side=3, within=2.0),
    "random_walk": sound(inference.random_walk, PROGRAM, steps=3, size=0.3),
    "decode": sound(inference.decode, PROGRAM, torch.randn(3, 2)),
    "nearest": sound(inference.nearest, *TWO, k=3),
    "code_distance": sound(inference.code_distance, *TWO, k=3),
    "one_pass": sound(inference.one_pass, PROGRAM, X, X > 0.5),
    "bdmc": sound(inference.bdmc, PROGRAM, 4, chains=2, temperatures=2, leapfrogs=1),
    "sbc": sound(inference.sbc, PROGRAM, 20, draws=9, chunk=None),
    "simulate": sound(simulate, PROGRAM, 3),
    "mmd": sound(inference.mmd, *TWO),
    "energy_distance": sound(inference.energy_distance, *TWO),
    "frechet_distance": sound(inference.frechet_distance, *TWO),
    "polynomial_mmd": sound(inference.polynomial_mmd, *TWO, subsets=2, subset_size=20),
    "sliced_wasserstein": sound(inference.sliced_wasserstein, *TWO, projections=4),
    "precision_recall": sound(inference.precision_recall, *TWO, k=3, splits=3),
    "moments": sound(inference.moments, *TWO, level=0.9, permutations=20),
    "two_sample_test": sound(inference.two_sample_test, *TWO, permutations=20),
    "classifier_test": sound(inference.classifier_test, *TWO, permutations=20),
    "classifier_features": sound(
        inference.classifier_features,
        TWO[0],
        torch.arange(40) % 2,
        width=4,
        epochs=1,
        batch=20,
        rate=0.01,
    ),
    "PCA": sound(inference.PCA, TWO[0], components=2),
    "annealed": sound(inference.annealed, steps=3, start=0.0, stop=1.0, cycles=1, rise=1.0),
    "IWAE": sound(inference.IWAE, num_particles=2),
    "AnalyticELBO": sound(inference.AnalyticELBO, num_particles=2),
    "DReG": sound(inference.DReG, num_particles=2),
    "StickingTheLanding": sound(inference.StickingTheLanding, num_particles=2),
    "FreeBits": sound(inference.FreeBits, nats=0.1, num_particles=2),
    "information_loss": sound(inference.information_loss, lambda x: {}, weight=1.0),
    "moving_average": sound(inference.moving_average, PROGRAM, decay=0.9),
    "match_step": sound(inference.match_step, PROGRAM.model, draws=2),
    "svi_step": sound(
        lambda *given, **named: inference.svi_step(*given, **named)(X),
        PROGRAM,
        _sgd(),
        beta=1.0,
        clip=None,
        first_step=0,
        steps=None,
    ),
    "vae": sound(models.vae, shape=SHAPE, latent_dim=2),
    "conv_vae": sound(models.conv_vae, shape=(1, 8, 8), latent_dim=2, hidden=4),
    "cvae": sound(models.cvae, shape=SHAPE, latent_dim=2, classes=3),
    "draw": sound(models.draw, shape=SHAPE, latent_dim=2, steps=2, hidden=4),
    "text_vae": sound(
        models.text_vae,
        vocabulary=4,
        length=5,
        latent_dim=2,
        hidden=4,
        embedding=3,
        word_dropout=0.1,
    ),
    "language_model": sound(
        models.language_model, vocabulary=4, length=5, hidden=4, embedding=3, word_dropout=0.1
    ),
    "path": sound(path, PROGRAM, X[:2], steps=3),
    "gan": sound(models.gan, shape=SHAPE, latent_dim=2),
    "dcgan": sound(models.dcgan, shape=(1, 8, 8), latent_dim=2, width=2),
    "infogan": sound(models.infogan, shape=SHAPE, latent_dim=2, categories=2, continuous=0),
    "translator": sound(models.translator, shape=(1, 8, 8), width=2, blocks=1),
    "mlp": sound(mlp, sizes=[2, 3]),
    "conv_decoder": sound(conv_decoder, inputs=2, shape=(1, 8, 8), hidden=4, parameters=1),
    "mlp_critic": sound(critics.mlp_critic, shape=SHAPE, slope=0.2),
    "conv_critic": sound(critics.conv_critic, shape=(1, 8, 8), width=2),
    "patch_critic": sound(critics.patch_critic, channels=1, width=2, layers=1),
    "StandardNormal": sound(priors.StandardNormal, dim=2),
    "Uniform": sound(priors.Uniform, dim=2),
    "OneHot": sound(priors.OneHot, categories=2),
    "Empirical": sound(priors.Empirical, TWO[0], jitter=None),
    "Gaussian": sound(likelihoods.Gaussian, scale=0.5, initial_scale=0.5),
    "Laplace": sound(likelihoods.Laplace, scale=0.5, initial_scale=0.5),
    "HeteroscedasticGaussian": sound(likelihoods.HeteroscedasticGaussian, minimum_scale=0.1),
    "DiscretizedLogistic": sound(
        likelihoods.DiscretizedLogistic, scale=0.1, levels=4, initial_scale=0.1
    ),
    "Categorical": sound(likelihoods.Categorical, levels=4),
    "Batches": sound(lambda size: list(data.Split(X).batches(size)), size=4),
    "ring": sound(data.ring, n=5, modes=3, radius=1.0, scale=0.1),
    "modes_covered": sound(data.modes_covered, TWO[0][:, :2], modes=3, radius=1.0, scale=0.1),
    "image_grid": sound(plots.image_grid, X, columns=4),
    "reconstructions": sound(plots.reconstructions, X, X, columns=4),
    "load": sound(data.load, "digits", image_size=8, binarize=None),
}
