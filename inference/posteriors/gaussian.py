"""A Gaussian over the unconstrained latents of a program: a density, a guide, a place to start."""

from __future__ import annotations

__all__ = ["GaussianGuide"]

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide, AutoMultivariateNormal
from torch import Tensor

from ppl_gen.autoguides import automatic
from ppl_gen.contexts import seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.latents.prototype import anywhere


class GaussianGuide:
    """q(z) = N(m, LLᵀ) of the latents z on the whole line, D coordinates in all.

    It is called as a Pyro guide, where it samples the latent sites; it gives draws and densities;
    and it stands as `init=` of a sampler.

    Args:
        potential: U(q) of the posterior, whose coordinates these are, all of one block.
        mean: m, (D,).
        factor: L, lower triangular, (D, D).

    Attributes:
        potential: U(q) of the posterior.
        mean: m, float64.
        factor: L, float64.

    Examples:
        >>> schools = toy.EightSchools()
        >>> step = match_step(schools.model)
        >>> metrics = step(*schools.data)
        >>> guide = step.guide
        >>> guide.mean.shape, guide.sample(5)["theta"].shape
        (torch.Size([10]), torch.Size([5, 8]))
    """

    def __init__(self, potential: Potential, mean: Tensor, factor: Tensor) -> None:
        self.potential = potential
        self.mean = mean.double()
        self.factor = factor.double()

    @property
    def covariance(self) -> Tensor:
        """LLᵀ, (D, D)."""
        return self.factor @ self.factor.mT

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Points q (count, 1, D) on the whole line, and log q (count, 1) there, in nats.

        Args:
            count: How many.
        """
        white = torch.randn(count, len(self.mean), dtype=torch.double, device=self.mean.device)
        points = self.mean + white @ self.factor.mT
        log_q = self._log_scale - white.square().sum(-1, keepdim=True) / 2
        return points[:, None].to(self.potential.dtype), log_q

    def log_prob(self, q: Tensor) -> Tensor:
        """log q (count, 1) at points on the whole line, in nats.

        Args:
            q: Points, (count, 1, D).
        """
        centred = (q[:, 0].double() - self.mean).mT
        white = torch.linalg.solve_triangular(self.factor, centred, upper=False)
        return (self._log_scale - white.square().sum(0) / 2)[:, None]

    def sample(self, count: int, seed: int | None = None) -> dict[str, Tensor]:
        """Draws by site, each (count, *shape of the site), in its support; deterministic sites too.

        Args:
            count: How many.
            seed: Seeds the draws and leaves the global generator as it was; None draws from the
                global generator.

        Raises:
            ValueError: If count is below 1.
        """
        expect_at_least(1, count=count)
        with seeded(self.potential.device, seed):
            points, _ = self.draw(count)
            return self.potential.constrain(points)

    def starts(self, potential: Potential, chains: int) -> Tensor:
        """Starts (C, 1, D) of chains: draws.

        Args:
            potential: U(q) of the same posterior.
            chains: C, the number of chains.

        Raises:
            ValueError: If the posterior has other latents.
        """
        if potential.shapes != self.potential.shapes or potential.shape != self.potential.shape:
            raise ValueError(
                f"expected the posterior that the guide was fitted to, of {self.potential.shapes}, "
                f"got one of {potential.shapes}; fit a guide to this one"
            )
        points, _ = self.draw(chains)
        return points

    def __call__(self, *args: Any) -> Any:
        """Samples the latent sites, as Pyro's guides do.

        Args:
            *args: What the model is called with.
        """
        return self.pyro_guide(*args)

    @cached_property
    def pyro_guide(self) -> AutoGuide:
        """The same Gaussian as Pyro's `AutoMultivariateNormal`, with all that this can do."""
        return _as_pyro(self)

    @property
    def _log_scale(self) -> Tensor:
        """−log √det 2πLLᵀ."""
        log_det = self.factor.diagonal().log().sum()
        return -log_det - len(self.mean) * math.log(2 * math.pi) / 2


def _as_pyro(gaussian: GaussianGuide) -> AutoGuide:
    """A guide of Pyro's with a Gaussian's mean and factor, in the order of its own flat vector."""
    potential = gaussian.potential
    guide = automatic(_family, potential.whole, *potential.args, seed=0)
    places: list[int] = []
    for name, _ in guide.prototype_trace.iter_stochastic_nodes():
        place = potential.layout.places[name]
        places.extend(range(place.start, place.stop))
    order = torch.tensor(places, device=potential.device)
    covariance = gaussian.covariance[order][:, order]
    factor = torch.linalg.cholesky(covariance).to(potential.dtype)
    scale = factor.diagonal()
    with torch.no_grad():
        guide.loc.copy_(gaussian.mean[order])
        guide.scale = scale
        guide.scale_tril = factor / scale[:, None]
    return guide


def _family(model: Callable[..., Any]) -> AutoMultivariateNormal:
    return AutoMultivariateNormal(model, init_loc_fn=anywhere)
