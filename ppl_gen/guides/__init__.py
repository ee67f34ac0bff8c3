"""q(z | x, context): families of approximate posteriors.

Each is a Conditional. A function such as `diagonal(net, dim)` makes one of any network, and is what
builders of models take as `guide=`. The exceptions are `BottomUp` and `TopDown`, which sample
several layers of latents, and `from_prior` and `automatic` (defined in `ppl_gen.autoguides`), which
make whole guides.
"""

from __future__ import annotations

__all__ = [
    "BottomUp",
    "BoundedGaussian",
    "Classifier",
    "DiagonalGaussian",
    "Family",
    "FlowGuide",
    "FullCovarianceGaussian",
    "GaussianMixtureGuide",
    "LowRankGaussian",
    "NetworkGuide",
    "Networks",
    "OnSphere",
    "SemiAmortised",
    "SharedScaleGaussian",
    "TopDown",
    "automatic",
    "bounded",
    "diagonal",
    "flow",
    "from_prior",
    "full_covariance",
    "guide_of_family",
    "low_rank",
    "mixture",
    "on_sphere",
]

from ppl_gen.autoguides import automatic
from ppl_gen.guides.classifier import Classifier
from ppl_gen.guides.cube import BoundedGaussian, bounded
from ppl_gen.guides.family import Family, NetworkGuide, Networks, guide_of_family
from ppl_gen.guides.flows import FlowGuide, flow
from ppl_gen.guides.gaussian import (
    DiagonalGaussian,
    FullCovarianceGaussian,
    LowRankGaussian,
    SharedScaleGaussian,
    diagonal,
    full_covariance,
    low_rank,
)
from ppl_gen.guides.layers import BottomUp, TopDown
from ppl_gen.guides.mixtures import GaussianMixtureGuide, mixture
from ppl_gen.guides.prior_guide import from_prior
from ppl_gen.guides.semi_amortised import SemiAmortised
from ppl_gen.guides.sphere import OnSphere, on_sphere
