"""Every distribution class of Pyro, by name: how one is made of a real number per datum.

The table of classes × roles × columns is made of these rows by `tests/distribution_table.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions import constraints, transforms
from torch import Tensor
from torch.nn.functional import softplus

from ppl_gen.protocols import Distribution

# From h of shape (*batch,) to a distribution of batch shape (*batch,) that depends on h smoothly.
Maker = Callable[[Tensor], Distribution]


def _positive(h: Tensor) -> Tensor:
    return softplus(h) + 0.5


def _pair(h: Tensor) -> Tensor:
    return torch.stack([h, -0.5 * h], -1)


def _triple(h: Tensor) -> Tensor:
    return torch.stack([h, 0 * h, -h], -1)


def _concentration(h: Tensor) -> Tensor:
    return torch.stack([_positive(h), _positive(-h), torch.ones_like(h)], -1)


def _gaussian(loc: Tensor) -> Distribution:
    """N(loc, I) of vectors."""
    return dist.MultivariateNormal(loc, torch.eye(loc.shape[-1]))


def _components(h: Tensor) -> Tensor:
    """The places of two components: h − 1 and h + 1."""
    return torch.stack([h - 1, h + 1], -1)


def _weights(h: Tensor) -> Tensor:
    return torch.stack([0 * h, 0 * h + 0.5], -1)


def _discrete_hmm(h: Tensor) -> Distribution:
    places = _components(h)[..., None, :].expand(*h.shape, 3, 2)
    return dist.DiscreteHMM(torch.zeros(2), torch.eye(2), dist.Normal(places, 1.0))


def _hidden(kind: Callable[..., Distribution], h: Tensor) -> Distribution:
    """A linear hidden Markov chain of two states, seen at three times."""
    return kind(
        _gaussian(_pair(h)), 0.5 * torch.eye(2), _gaussian(torch.zeros(2)), torch.eye(2),
        _gaussian(torch.zeros(2)), duration=3,
    )  # fmt: skip


def _gamma_gaussian_hmm(h: Tensor) -> Distribution:
    scale = dist.Gamma(3.0 + 0 * h, 3.0)
    return dist.GammaGaussianHMM(
        scale, _gaussian(_pair(h)), 0.5 * torch.eye(2), _gaussian(torch.zeros(2)), torch.eye(2),
        _gaussian(torch.zeros(2)), duration=3,
    )  # fmt: skip


def _independent_hmm(h: Tensor) -> Distribution:
    batched = dist.GaussianHMM(
        dist.MultivariateNormal(_pair(h)[..., None], torch.eye(1)), torch.eye(1),
        _gaussian(torch.zeros(1)), torch.eye(1), _gaussian(torch.zeros(1)), duration=3,
    )  # fmt: skip
    return dist.IndependentHMM(batched)


def _gaussian_mrf(h: Tensor) -> Distribution:
    return dist.GaussianMRF(
        _gaussian(_pair(h)), _gaussian(torch.zeros(3, 4)), _gaussian(torch.zeros(3, 4))
    )


def _rejector(h: Tensor) -> Distribution:
    """N(h, 1) by rejection from N(h, 2²)."""

    def log_prob_accept(x: Tensor) -> Tensor:
        return dist.Normal(h, 1.0).log_prob(x) - proposal.log_prob(x) - log_most

    proposal = dist.Normal(h, 2.0)
    log_most = torch.tensor(2.0).log()
    return dist.Rejector(proposal, log_prob_accept, -log_most)


ROWS: dict[str, Maker] = {
    "AVFMultivariateNormal": lambda h: dist.AVFMultivariateNormal(
        _pair(h), torch.eye(2), torch.full((2, 1, 2), 0.1)
    ),
    "AffineBeta": lambda h: dist.AffineBeta(
        _positive(h), _positive(-h), torch.tensor(-1.0), torch.tensor(2.0)
    ),
    "AsymmetricLaplace": lambda h: dist.AsymmetricLaplace(h, 1.0, 1.5),
    "Bernoulli": lambda h: dist.Bernoulli(logits=h),
    "Beta": lambda h: dist.Beta(_positive(h), _positive(-h)),
    "BetaBinomial": lambda h: dist.BetaBinomial(_positive(h), _positive(-h), 5),
    "Binomial": lambda h: dist.Binomial(5, logits=h),
    "Categorical": lambda h: dist.Categorical(logits=_triple(h)),
    "Cauchy": lambda h: dist.Cauchy(h, 1.0),
    "Chi2": lambda h: dist.Chi2(2 * _positive(h)),
    "CoalescentTimes": lambda h: dist.CoalescentTimes(torch.tensor([0.0, 0.5, 1.0]), _positive(h)),
    "CoalescentTimesWithRate": lambda h: dist.CoalescentTimesWithRate(
        torch.tensor([0.0, 0.5, 1.0]), _positive(h)[..., None].expand(*h.shape, 4)
    ),
    "ContinuousBernoulli": lambda h: dist.ContinuousBernoulli(logits=h),
    "Delta": lambda h: dist.Delta(h),
    "Dirichlet": lambda h: dist.Dirichlet(_concentration(h)),
    "DirichletMultinomial": lambda h: dist.DirichletMultinomial(_concentration(h), 5),
    "DiscreteHMM": _discrete_hmm,
    "Empirical": lambda h: dist.Empirical(
        torch.tensor([-1.0, 0.0, 1.0]).expand(*h.shape, 3), _triple(h)
    ),
    "ExpandedDistribution": lambda h: dist.ExpandedDistribution(dist.Normal(h, 1.0), h.shape),
    "Exponential": lambda h: dist.Exponential(_positive(h)),
    "ExtendedBetaBinomial": lambda h: dist.ExtendedBetaBinomial(_positive(h), _positive(-h), 5),
    "ExtendedBinomial": lambda h: dist.ExtendedBinomial(5, logits=h),
    "FisherSnedecor": lambda h: dist.FisherSnedecor(4 * _positive(h), 8 * _positive(-h)),
    "FoldedDistribution": lambda h: dist.FoldedDistribution(dist.Normal(h, 1.0)),
    "Gamma": lambda h: dist.Gamma(2 * _positive(h), 2.0),
    "GammaGaussianHMM": _gamma_gaussian_hmm,
    "GammaPoisson": lambda h: dist.GammaPoisson(2 * _positive(h), 1.0),
    "GaussianHMM": lambda h: _hidden(dist.GaussianHMM, h),
    "GaussianMRF": _gaussian_mrf,
    "GaussianScaleMixture": lambda h: dist.GaussianScaleMixture(
        torch.ones(2), _weights(h), torch.tensor([0.5, 1.5])
    ),
    "GeneralizedPareto": lambda h: dist.GeneralizedPareto(0.0, _positive(h), 0.1),
    "Geometric": lambda h: dist.Geometric(logits=h),
    "GroupedNormalNormal": lambda h: dist.GroupedNormalNormal(
        _pair(h), torch.ones(2), torch.ones(3), torch.tensor([0, 1, 1])
    ),
    "Gumbel": lambda h: dist.Gumbel(h, 1.0),
    "HalfCauchy": lambda h: dist.HalfCauchy(_positive(h)),
    "HalfNormal": lambda h: dist.HalfNormal(_positive(h)),
    "ImproperUniform": lambda h: dist.ImproperUniform(constraints.real, h.shape, ()),
    "Independent": lambda h: dist.Independent(dist.Normal(_pair(h), 1.0), 1),
    "IndependentHMM": _independent_hmm,
    "InverseGamma": lambda h: dist.InverseGamma(3 * _positive(h), 3.0),
    "Kumaraswamy": lambda h: dist.Kumaraswamy(_positive(h), _positive(-h)),
    "LKJ": lambda h: dist.LKJ(3, _positive(h)),
    "LKJCholesky": lambda h: dist.LKJCholesky(3, _positive(h)),
    "LKJCorrCholesky": lambda h: dist.LKJCorrCholesky(3, _positive(h)),
    "Laplace": lambda h: dist.Laplace(h, 1.0),
    "LinearHMM": lambda h: _hidden(dist.LinearHMM, h),
    "LogNormal": lambda h: dist.LogNormal(h, 0.5),
    "LogNormalNegativeBinomial": lambda h: dist.LogNormalNegativeBinomial(3.0, h, 0.3),
    "Logistic": lambda h: dist.Logistic(h, 1.0),
    "LogisticNormal": lambda h: dist.LogisticNormal(_pair(h), torch.ones(2)),
    "LowRankMultivariateNormal": lambda h: dist.LowRankMultivariateNormal(
        _pair(h), torch.full((*h.shape, 2, 1), 0.5), torch.ones(*h.shape, 2)
    ),
    "MaskedDistribution": lambda h: dist.MaskedDistribution(
        dist.Normal(h, 1.0), torch.ones(h.shape, dtype=torch.bool)
    ),
    "MaskedMixture": lambda h: dist.MaskedMixture(
        torch.zeros(h.shape, dtype=torch.bool), dist.Normal(h, 1.0), dist.Normal(h, 2.0)
    ),
    "MixtureOfDiagNormals": lambda h: dist.MixtureOfDiagNormals(
        _components(_pair(h)).mT, torch.ones(*h.shape, 2, 2), _weights(h)
    ),
    "MixtureOfDiagNormalsSharedCovariance": lambda h: dist.MixtureOfDiagNormalsSharedCovariance(
        _components(_pair(h)).mT, torch.ones(*h.shape, 2), _weights(h)
    ),
    "MixtureSameFamily": lambda h: dist.MixtureSameFamily(
        dist.Categorical(logits=_weights(h)), dist.Normal(_components(h), 0.7)
    ),
    "Multinomial": lambda h: dist.Multinomial(5, logits=_triple(h)),
    "MultivariateNormal": lambda h: dist.MultivariateNormal(_pair(h), torch.eye(2) + 0.3),
    "MultivariateStudentT": lambda h: dist.MultivariateStudentT(
        torch.tensor(4.0), _pair(h), torch.eye(2)
    ),
    "NanMaskedMultivariateNormal": lambda h: dist.NanMaskedMultivariateNormal(
        _pair(h), torch.eye(2)
    ),
    "NanMaskedNormal": lambda h: dist.NanMaskedNormal(h, 1.0),
    "NegativeBinomial": lambda h: dist.NegativeBinomial(3.0, logits=h),
    "Normal": lambda h: dist.Normal(h, 1.0),
    "OMTMultivariateNormal": lambda h: dist.OMTMultivariateNormal(_pair(h), torch.eye(2)),
    "OneHotCategorical": lambda h: dist.OneHotCategorical(logits=_triple(h)),
    "OneHotCategoricalStraightThrough": lambda h: dist.OneHotCategoricalStraightThrough(
        logits=_triple(h)
    ),
    "OneOneMatching": lambda h: dist.OneOneMatching(h[..., None, None] * torch.eye(3)),
    "OneTwoMatching": lambda h: dist.OneTwoMatching(h[..., None, None] * torch.ones(4, 2)),
    "OrderedLogistic": lambda h: dist.OrderedLogistic(h, torch.tensor([-1.0, 0.5])),
    "Pareto": lambda h: dist.Pareto(1.0, 3 * _positive(h)),
    "Poisson": lambda h: dist.Poisson(2 * _positive(h)),
    "ProjectedNormal": lambda h: dist.ProjectedNormal(_pair(h) + 1),
    "Rejector": _rejector,
    "RelaxedBernoulli": lambda h: dist.RelaxedBernoulli(torch.tensor(0.8), logits=h),
    "RelaxedBernoulliStraightThrough": lambda h: dist.RelaxedBernoulliStraightThrough(
        torch.tensor(0.8), logits=h
    ),
    "RelaxedOneHotCategorical": lambda h: dist.RelaxedOneHotCategorical(
        torch.tensor(0.8), logits=_triple(h)
    ),
    "RelaxedOneHotCategoricalStraightThrough": lambda h: (
        dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.8), logits=_triple(h))
    ),
    "SineBivariateVonMises": lambda h: dist.SineBivariateVonMises(
        h, 0 * h, 1 + 0 * h, 1 + 0 * h, correlation=0.3 + 0 * h
    ),
    "SineSkewed": lambda h: dist.SineSkewed(
        dist.VonMises(_pair(h), 1.0).to_event(1), torch.full((*h.shape, 2), 0.3)
    ),
    "SkewLogistic": lambda h: dist.SkewLogistic(h, 1.0, 1.5),
    "SoftAsymmetricLaplace": lambda h: dist.SoftAsymmetricLaplace(h, 1.0, 1.5, 0.5),
    "SoftLaplace": lambda h: dist.SoftLaplace(h, 1.0),
    "SpanningTree": lambda h: dist.SpanningTree(h[..., None] * torch.ones(3)),
    "Stable": lambda h: dist.Stable(1.5, 0.2, 1.0, h),
    "StableWithLogProb": lambda h: dist.StableWithLogProb(1.5 + 0 * h, 0.2 + 0 * h, 1.0 + 0 * h, h),
    "StudentT": lambda h: dist.StudentT(4.0, h, 1.0),
    "TransformedDistribution": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0), [transforms.SigmoidTransform(), transforms.AffineTransform(-1.0, 2.0)]
    ),
    "TruncatedPolyaGamma": lambda h: dist.TruncatedPolyaGamma(h).expand(h.shape),
    "Uniform": lambda h: dist.Uniform(-2.0, 1 + _positive(h)),
    "Unit": lambda h: dist.Unit(h),
    "VonMises": lambda h: dist.VonMises(h, 1.5),
    "VonMises3D": lambda h: dist.VonMises3D(torch.stack([h, 0 * h, 1 + 0 * h], -1)),
    "Weibull": lambda h: dist.Weibull(_positive(h), 1.5),
    "Wishart": lambda h: dist.Wishart(4.0, torch.eye(2) * _positive(h)[..., None, None]),
    "ZeroInflatedDistribution": lambda h: dist.ZeroInflatedDistribution(
        dist.Poisson(2 * _positive(h)), gate=torch.tensor(0.3)
    ),
    "ZeroInflatedNegativeBinomial": lambda h: dist.ZeroInflatedNegativeBinomial(
        3.0, logits=h, gate=torch.tensor(0.2)
    ),
    "ZeroInflatedPoisson": lambda h: dist.ZeroInflatedPoisson(
        2 * _positive(h), gate=torch.tensor(0.3)
    ),
}


def classes() -> list[str]:
    """The names of the classes of `pyro.distributions` that say how a density is computed."""
    names = []
    for name, thing in vars(dist).items():
        if inspect.isclass(thing) and issubclass(thing, Distribution) and _scores(thing):
            names.append(name)
    return sorted(names)


def _scores(kind: type) -> bool:
    """Whether a class, or one between it and the abstract ones, defines `log_prob`."""
    abstract = (torch.distributions.Distribution, Distribution, dist.Distribution)
    definitions = [base for base in kind.__mro__ if "log_prob" in vars(base)]
    return definitions[0] not in abstract


# Data for those that have no draws of their own, three of each.
SCORED: dict[str, Tensor] = {
    "CoalescentTimesWithRate": torch.tensor([[-1.5, -0.5], [-2.5, 0.2], [-1.0, -0.8]]),
    "GammaGaussianHMM": torch.linspace(-1, 1, 18).reshape(3, 3, 2),
    "GaussianMRF": torch.linspace(-1, 1, 18).reshape(3, 3, 2),
    "GroupedNormalNormal": torch.linspace(-1, 1, 9).reshape(3, 3),
    "ImproperUniform": torch.tensor([-1.0, 0.0, 1.0]),
    "LinearHMM": torch.linspace(-1, 1, 18).reshape(3, 3, 2),
    "LogNormalNegativeBinomial": torch.tensor([0.0, 2.0, 5.0]),
    "VonMises3D": torch.eye(3),
}
