"""Bounds of the evidence datum by datum: particles, scales, and the interface of Pyro's ELBOs."""

from __future__ import annotations

__all__ = ["Draw", "PerDatum", "with_values"]

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from ppl_gen.contexts import device_of, evaluating, forked
from ppl_gen.inference.expect import expect_counts
from ppl_gen.sites import (
    Sites,
    data_plate,
    is_auxiliary,
    latent_sites,
    log_prob_per_datum,
    plate_nesting,
    stochastic_sites,
)


class Draw(NamedTuple):
    """z ~ q(z | x) with particles on the left, and the sites of guide and model there.

    Attributes:
        guide: By name, the guide's sites.
        model: By name, the model's latent sites.
        log_likelihood: log p(x | z), (K, N).
        scale: The weight of the observed data: N/n for a subsample of n in a plate of N.
        nesting: The number of axes that the plates take, without that of the particles.
    """

    guide: Sites
    model: Sites
    log_likelihood: Tensor
    scale: Any
    nesting: int

    def log_prob(self, sites: Sites) -> Tensor:
        """The log density of latent sites, each multiplied by its β, of shape (K, N).

        Args:
            sites: By name, sites of guide or model.
        """
        total = torch.zeros_like(self.log_likelihood)
        plate = data_plate(sites)
        for site in sites.values():
            total = total + self.beta(site) * log_prob_per_datum(site, self.nesting, plate)
        return total

    def beta(self, site: Any) -> Any:
        """β of a latent site: its scale, in units of that of the data.

        1, unless a `poutine.scale` or `svi_step(beta=...)` gives it another weight than the data.
        """
        return _ratio(site["scale"], self.scale)

    @property
    def log_weight(self) -> Tensor:
        """log w = log p(x | z) + β (log p(z) − log q(z | x)), (K, N)."""
        return self.log_likelihood + self.log_prob(self.model) - self.log_prob(self.guide)


class PerDatum(ELBO):
    """−Σᵢ sᵢ Lᵢ with one bound Lᵢ for each datum of the plate "data".

    The scale sᵢ, of the plate's subsampling, stays outside of Lᵢ.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum, all at once on an axis on the
            left.
        max_plate_nesting: How many axes the plates of model and guide take; found by running both
            once if left out.

    Raises:
        ValueError: If K is below 1; when it is first called, if a site lies outside the plate
            "data", has no reparameterised draws or is in one of model and guide only.
    """

    metric: ClassVar[str] = "elbo"
    max_plate_nesting: float

    def __init__(self, num_particles: int = 1, *, max_plate_nesting: float = math.inf) -> None:
        expect_counts(num_particles=num_particles)
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)

    @abstractmethod
    def bound(self, draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """Lᵢ of each datum, of shape (N,).

        Args:
            draw: Draws from the guide, and the sites of guide and model there.
            rerun: From other values of the guide's latents, by name, to the guide's sites there.
        """

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss, for autograd; a sum over data, as Pyro's are.

        Args:
            model: The model, a callable of Pyro primitives.
            guide: The guide, a callable of Pyro primitives.
            *args: The positional arguments that both are called with.
            **kwargs: The keyword arguments that both are called with.
        """
        self._find_nesting(model, guide, args, kwargs)
        model_trace, guide_trace = self._get_trace(model, guide, args, kwargs)
        self._expect_fit(model_trace, guide_trace)
        draw = self._draw(model_trace, guide_trace)

        def rerun(values: Mapping[str, Tensor]) -> Sites:
            moved = poutine.replay(guide, trace=with_values(guide_trace, values))
            sites = stochastic_sites(self._in_particles(moved, args, kwargs))
            return {name: sites[name] for name in sites if name in draw.guide}

        return -(draw.scale * self.bound(draw, rerun)).sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number; the arguments are those of `differentiable_loss`."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number; its gradient is added to those in the parameters.

        The arguments are those of `differentiable_loss`.
        """
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def _get_trace(
        self, model: Any, guide: Any, args: Any, kwargs: Any
    ) -> tuple[poutine.Trace, poutine.Trace]:
        guide_trace = self._guide_trace(guide, args, kwargs)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
        return model_trace, guide_trace

    def _guide_trace(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        """The guide's trace, as the model is to see it."""
        return self._in_particles(guide, args, kwargs)

    def _in_particles(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        with pyro.plate("_particles", self.num_particles, dim=-1 - int(self.max_plate_nesting)):
            return poutine.trace(guide).get_trace(*args, **kwargs)

    def _find_nesting(self, model: Any, guide: Any, args: Any, kwargs: Any) -> None:
        """Counts the axes that plates take by running both once, unless it is known."""
        if self.max_plate_nesting < math.inf:
            return
        device = device_of(None, args)
        with evaluating(model, guide), forked(device, None), poutine.block():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
        self._expect_fit(model_trace, guide_trace)
        self.max_plate_nesting = max(plate_nesting(model_trace), plate_nesting(guide_trace))

    def _expect_fit(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> None:
        """Raises ValueError unless the guide has reparameterised draws of the model's latents."""
        latents = set(latent_sites(model_trace))
        guided = latent_sites(guide_trace)
        proposed = {name for name, site in guided.items() if not is_auxiliary(site)}
        if not latents:
            raise ValueError(
                "expected a program with latents, got none; its log density is its evidence"
            )
        if latents != proposed:
            raise ValueError(
                f"expected the guide to sample the model's latent sites {sorted(latents)}, got "
                f"{sorted(proposed)}; give the sites the same names in both (sites to be "
                "enumerated need TraceEnum_ELBO)"
            )
        for name, site in guided.items():
            self._expect_draws(name, site)

    def _expect_draws(self, name: str, site: Any) -> None:
        """Raises ValueError unless the guide's draws at a site suit the objective."""
        if not site["fn"].has_rsample:
            raise ValueError(
                f"expected reparameterised draws of {name!r} for {type(self).__name__}, got "
                f"{type(site['fn']).__name__}, which has none; take Trace_ELBO, TraceGraph_ELBO, "
                "or Enumerated where it can be summed out"
            )

    def _draw(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> Draw:
        nesting = int(self.max_plate_nesting)
        guided = latent_sites(guide_trace)
        sites = stochastic_sites(model_trace)
        observed = {name: site for name, site in sites.items() if site["is_observed"]}
        scale = _scale_of_data(observed)
        some = next(iter(guided.values()))["value"]
        log_likelihood = some.new_zeros(self.num_particles, 1)
        plate = data_plate(sites)
        for site in observed.values():
            weight = _ratio(site["scale"], scale)
            log_likelihood = log_likelihood + log_prob_per_datum(site, nesting, plate) * weight
        return Draw(
            guide=guided,
            model=latent_sites(model_trace),
            log_likelihood=log_likelihood,
            scale=scale,
            nesting=nesting,
        )


def _scale_of_data(observed: Sites) -> Any:
    """The scale of the site "x", or else of the first observed one; 1 if there is none."""
    if not observed:
        return 1.0
    first = next(iter(observed.values()))
    return observed.get("x", first)["scale"]


def with_values(trace: poutine.Trace, values: Mapping[str, Tensor]) -> poutine.Trace:
    """A copy of a trace with other values at some sites.

    Args:
        trace: Any trace.
        values: The new values, by the name of the site.
    """
    moved = trace.copy()
    for name, value in values.items():
        moved.nodes[name] = {**moved.nodes[name], "value": value}
    return moved


def _ratio(scale: Any, unit: Any) -> Any:
    """scale / unit; the number 1 where both are the same object."""
    if scale is unit:
        return 1.0
    return scale / unit
