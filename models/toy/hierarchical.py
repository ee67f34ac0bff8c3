"""A hierarchy with few groups and much noise: the eight schools."""

from __future__ import annotations

__all__ = ["EightSchools"]

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.models.toy.contract import Moments

# By site, the means and standard deviations of 10,000 draws: the reference draws of
# "eight_schools-eight_schools_noncentered" in posteriordb (Magnusson et al.).
POSTERIORDB = {
    "theta": (
        (6.150502, 4.939581, 3.905906, 4.796017, 3.614436, 4.051148, 6.317170, 4.883997),
        (5.615583, 4.645346, 5.280448, 4.770699, 4.614490, 4.796009, 5.002605, 5.317426),
    ),
    "mu": (4.410518, 3.309131),
    "tau": (3.602060, 3.198318),
}


class EightSchools(nn.Module):
    """μ ~ N(0, 5²), τ ~ HalfCauchy(5), θⱼ ~ N(μ, τ²), yⱼ ~ N(θⱼ, σⱼ²), with σ known.

    The effects of coaching for a test in eight schools, in points of its score.

    Args:
        centred: Whether θ is sampled itself; if not, θ = μ + τ η with "eta" η ~ N(0, I) sampled.

    Examples:
        >>> schools = EightSchools()
        >>> schools.reference()["mu"].mean, schools.reference()["tau"].sd
        (tensor(4.4105), tensor(3.1983))

    Reference:
        Rubin (1981), Estimation in parallel randomized experiments; Gelman et al., Bayesian Data
        Analysis, section 5.5.
    """

    teaches: ClassVar[str] = (
        "Partial pooling: groups lend each other strength, and a small τ makes a funnel of the "
        "centred form."
    )
    y: Tensor
    sigma: Tensor

    def __init__(self, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        self.register_buffer("y", torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]))
        self.register_buffer("sigma", torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(y,): the estimated effects, of shape (8,)."""
        return (self.y,)

    def model(self, y: Tensor) -> Tensor:
        """Samples "mu", "tau" and, in the plate "schools", "theta" or "eta"; observes "y".

        Of "eta" the site "theta" is made. y is of shape (8,).
        """
        zero = y.new_zeros(())
        five = y.new_full((), 5.0)
        mu = pyro.sample("mu", dist.Normal(zero, five))
        tau = pyro.sample("tau", dist.HalfCauchy(five))
        with pyro.plate("schools", y.shape[0]):
            if self.centred:
                theta = pyro.sample("theta", dist.Normal(mu, tau))
            else:
                eta = pyro.sample("eta", dist.Normal(zero, torch.ones_like(zero)))
                theta = pyro.deterministic("theta", mu + tau * eta)
            return pyro.sample("y", dist.Normal(theta, self.sigma), obs=y)

    def reference(self) -> dict[str, Moments]:
        """From 10,000 draws in posteriordb: means known to a hundredth of a standard deviation."""
        return {
            name: Moments(self.y.new_tensor(mean), self.y.new_tensor(sd))
            for name, (mean, sd) in POSTERIORDB.items()
        }
