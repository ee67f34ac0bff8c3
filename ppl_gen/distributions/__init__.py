"""Distributions that Pyro does not have, or has less exactly or slower than they are needed here.

Each is in the parameters that a decoder gives (logits, logarithms), of plain tensor operations, so
that it is computed alike eagerly and compiled.
"""

from __future__ import annotations

__all__ = [
    "Beta",
    "Classes",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedMixture",
    "GaussianMixture",
    "Grid",
    "LogNormal",
    "LogScaleNormal",
    "MarginalHorseshoe",
    "Masked",
    "Mixture",
    "NegativeBinomial",
    "NoDensity",
    "Normal",
    "Poisson",
    "PowerSpherical",
    "Reshaped",
    "StoredPoints",
    "StudentT",
    "UniformOnSphere",
    "ZeroInflated",
]

from ppl_gen.distributions.colour import DiscretizedMixture
from ppl_gen.distributions.columns import Columns
from ppl_gen.distributions.counts import NegativeBinomial, Poisson, ZeroInflated
from ppl_gen.distributions.grid import Classes, DiscretizedLogistic, Grid
from ppl_gen.distributions.horseshoe import MarginalHorseshoe
from ppl_gen.distributions.masked import Masked
from ppl_gen.distributions.mixtures import GaussianMixture, Mixture
from ppl_gen.distributions.normal import LogScaleNormal, Normal
from ppl_gen.distributions.points import NoDensity, StoredPoints
from ppl_gen.distributions.real import LogNormal, StudentT
from ppl_gen.distributions.reshaped import Reshaped
from ppl_gen.distributions.spheres import PowerSpherical, UniformOnSphere
from ppl_gen.distributions.unit_interval import Beta, ContinuousBernoulli
