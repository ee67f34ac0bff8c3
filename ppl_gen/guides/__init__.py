"""q(z | x, context): families of approximate posteriors.

Each is a Conditional, but for `from_prior` and `automatic` (defined in `ppl_gen.autoguides`), which
make whole guides.
"""

from __future__ import annotations

__all__ = ["DiagonalGaussian", "automatic", "from_prior"]

from ppl_gen.autoguides import automatic
from ppl_gen.guides.diagonal import DiagonalGaussian
from ppl_gen.guides.prior_guide import from_prior
