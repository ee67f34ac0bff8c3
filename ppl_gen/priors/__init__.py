"""p(z | context): priors. Every one is a Conditional, takes any context and may ignore it."""

from __future__ import annotations

__all__ = [
    "ConditionalMixture",
    "ConditionalNormal",
    "Delayed",
    "Empirical",
    "FlowPrior",
    "Horseshoe",
    "Hypersphere",
    "Labels",
    "MixtureOfGaussians",
    "OneHot",
    "SpikeAndSlab",
    "StandardNormal",
    "Uniform",
    "VampPrior",
    "fitted",
    "pseudo_inputs",
]

from ppl_gen.priors import fitted
from ppl_gen.priors.codes import Labels, OneHot
from ppl_gen.priors.delayed import Delayed
from ppl_gen.priors.empirical import Empirical
from ppl_gen.priors.flow import FlowPrior
from ppl_gen.priors.hypersphere import Hypersphere
from ppl_gen.priors.mixture import ConditionalMixture, MixtureOfGaussians
from ppl_gen.priors.normal import ConditionalNormal, StandardNormal
from ppl_gen.priors.sparse import Horseshoe, SpikeAndSlab
from ppl_gen.priors.uniform import Uniform
from ppl_gen.priors.vamp import VampPrior, pseudo_inputs
