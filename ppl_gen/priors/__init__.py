"""p(z | context): priors. Every one is a Conditional, takes any context and may ignore it."""

from __future__ import annotations

__all__ = ["ConditionalNormal", "Empirical", "OneHot", "StandardNormal", "Uniform"]

from ppl_gen.priors.codes import OneHot
from ppl_gen.priors.empirical import Empirical
from ppl_gen.priors.normal import ConditionalNormal, StandardNormal
from ppl_gen.priors.uniform import Uniform
