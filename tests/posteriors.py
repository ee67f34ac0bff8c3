"""A toy whose evidence is known, and a guide that is wrong on purpose."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from programs import digits
from torch import Tensor

from ppl_gen.models import toy
from ppl_gen.protocols import Guide


def rough(program: toy.PPCA) -> Guide:
    """A diagonal guide around a PPCA's posterior, off in location and scale."""

    def guide(x: Tensor) -> Tensor:
        posterior = program.exact_posterior(x)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample(
                "z", dist.Normal(posterior.mean + 0.1, 1.5 * posterior.stddev).to_event(1)
            )

    return guide


def ppca() -> toy.PPCA:
    """The principal components of scikit-learn's digits: 10 latents, 64 dimensions."""
    return toy.PPCA.maximum_likelihood(digits().x.flatten(1), 10)
