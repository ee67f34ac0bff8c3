"""p(x | parameters): what the output of a decoder means.

Every one is a Conditional; any function from parameters to a Pyro distribution will do as well.

A decoder's output has the shape of the data, (*batch, *shape), or (*batch, *shape, P) for a
likelihood that takes P numbers per value (`parameters_per_value`); with Q numbers per datum besides
(`parameters_per_datum`) it is (*batch, *shape, P + Q). Builders ask the likelihood how many it
wants. Densities are in nats, summed over *shape by the model.
"""

from __future__ import annotations

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "Dirac",
    "DiscretizedLogistic",
    "DiscretizedMixture",
    "Gaussian",
    "HeteroscedasticGaussian",
    "IsotropicGaussian",
    "Label",
    "Laplace",
    "Lines",
    "LogNormal",
    "Masked",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "Table",
    "TokenSequence",
    "ZeroInflated",
    "of",
    "parameters_per_datum",
    "parameters_per_value",
    "takes_missing",
]

from ppl_gen.likelihoods.binary import Bernoulli, Beta, ContinuousBernoulli
from ppl_gen.likelihoods.categorical import Categorical, Label
from ppl_gen.likelihoods.colour import DiscretizedMixture
from ppl_gen.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflated
from ppl_gen.likelihoods.dirac import Dirac
from ppl_gen.likelihoods.lifted import of
from ppl_gen.likelihoods.lines import Lines, TokenSequence
from ppl_gen.likelihoods.location_scale import (
    DiscretizedLogistic,
    Gaussian,
    HeteroscedasticGaussian,
    IsotropicGaussian,
    Laplace,
    LogNormal,
    StudentT,
)
from ppl_gen.likelihoods.masked import Masked
from ppl_gen.likelihoods.parameters import (
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.likelihoods.table import Table
