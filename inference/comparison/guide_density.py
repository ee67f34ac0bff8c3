"""A guide as a density of the flat vector that samplers move in: draws, and log q at given points
where it can be had.
"""

from __future__ import annotations

__all__ = ["Approximation"]

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide import AutoContinuous, AutoDelta, AutoNormal
from torch import Tensor

from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.program import is_auxiliary, stochastic_sites
from ppl_gen.pyro_patches import location_and_scale


class Approximation:
    """q(z) of a guide, as draws of the flat vector q (M, B, D) of a `Potential`, and log q(q)
    there, of shape (M, B).

    The density is that of the unconstrained q, log q(z) + log |∂z/∂q|, so that log weights are
    differences of densities of the same space. Pyro's automatic Gaussians and flows are densities
    of a flat vector of their own, whose order and transforms are compared with the potential's;
    other guides are traced with their sites conditioned.

    Args:
        guide: Any guide over the latents of the potential.
        potential: Of the model on the same arguments.
        args: What model and guide are called with.

    Attributes:
        reason: Why log q cannot be evaluated at given points; empty where it can.
        own_reason: Why it cannot be evaluated even at the guide's own draws; empty where it can.

    Raises:
        ValueError: If the guide's latent sites are not the model's, by name or by shape.
    """

    def __init__(
        self, guide: Callable[..., Any], potential: Potential, args: Sequence[Any]
    ) -> None:
        self.guide, self.potential, self.args = guide, potential, tuple(args)
        self.reason = self.own_reason = ""
        self._flat: Any = None
        sites = self._check_sites()
        if isinstance(guide, AutoContinuous | AutoNormal):
            self._places, self._flat = self._layout(guide)
            self._check_flat(guide)
        else:
            self._check_traced(sites)

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Points q (M, B, D), and log q (M, B) there; None for the latter where there is no
        density.
        """
        if self._flat is not None:
            latent = self._flat.sample((count,))
            log_prob = None if self.own_reason else self._flat_log_prob(latent)
            return latent[..., self._places], log_prob
        dummy = torch.zeros(count, device=self.potential.device)
        values, log_prob = at_each(
            lambda _: self._run({}), dummy, width=sum(self.potential.shape) * 8
        )
        q = self.potential.flatten({name: values[name] for name in self.potential.names})
        return q, None if self.own_reason else log_prob + self.potential.log_jacobian(q)

    def log_prob(self, q: Tensor) -> Tensor:
        """log q at given points q (M, B, D), of shape (M, B).

        Raises:
            ValueError: If there is a `reason` why not.
        """
        if self.reason:
            raise ValueError(
                f"expected a guide with a density at given points, got none: {self.reason}"
            )
        if self._flat is not None:
            latent = q.new_empty(q.shape[0], self._places.numel())
            latent[:, self._places.flatten()] = q.flatten(1)
            return self._flat_log_prob(latent)
        width = max(1, q[0].numel()) * 8
        values = self.potential.sites(q)
        log_prob = at_each(lambda each: self._run(each)[1], values, width=width)
        return log_prob + self.potential.log_jacobian(q)

    def _run(self, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The latents of one run of the guide, some of them given, and log q of them, by block
        (B,).
        """
        trace = poutine.trace(poutine.condition(self.guide, data=values)).get_trace(*self.args)
        sites = {
            n: s for n, s in stochastic_sites(trace).items() if n in values or not s["is_observed"]
        }
        total = torch.zeros(
            self.potential.shape[0], dtype=self.potential.dtype, device=self.potential.device
        )
        for site in sites.values():
            log_prob = scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
            if self.potential.local:
                axis = next((f.dim for f in site["cond_indep_stack"] if f.name == "data"), None)
                if axis is None:
                    raise ValueError(
                        "expected a guide with every site inside the plate 'data' for "
                        f"local=True, got {site['name']!r} outside it; compare with local=False"
                    )
                others = [a for a in range(-log_prob.dim(), 0) if a != axis]
                total = total + (log_prob.sum(others) if others else log_prob)
            else:
                total = total + log_prob.sum()
        return {
            name: site["value"] for name, site in sites.items() if not is_auxiliary(site)
        }, total

    def _check_sites(self) -> dict[str, Any]:
        """The guide's sites, once its latents are those of the potential."""
        trace = stochastic_sites(poutine.trace(self.guide).get_trace(*self.args))
        model = set(stochastic_sites(poutine.trace(self.potential.model).get_trace(*self.args)))
        sites = {name: site for name, site in trace.items() if not site["is_observed"]}
        latents = {name: site for name, site in sites.items() if not is_auxiliary(site)}
        wanted = self.potential.names
        if not set(wanted) <= latents.keys() <= model:
            raise ValueError(
                f"expected the guide to sample the model's latent sites {sorted(wanted)}, got "
                f"{sorted(latents)}; give the sites the same names in both"
            )
        origin = torch.zeros(
            1, *self.potential.shape, dtype=self.potential.dtype, device=self.potential.device
        )
        for name, values in self.potential.sites(origin).items():
            value = values[0]
            if value.shape != latents[name]["value"].shape:
                raise ValueError(
                    f"expected the guide to sample {name!r} of shape {tuple(value.shape)}, as the "
                    f"model does, got {tuple(latents[name]['value'].shape)}; make the guide for "
                    "these data"
                )
        return sites

    def _check_traced(self, sites: dict[str, Any]) -> None:
        """Finds out whether conditioning the guide's sites gives log q."""
        points = sorted(n for n, s in sites.items() if _is_point(s["fn"]) and not is_auxiliary(s))
        auxiliary = sorted(n for n, s in sites.items() if is_auxiliary(s))
        more = sorted(sites.keys() - set(self.potential.names) - set(auxiliary))
        lists = self.guide.modules() if isinstance(self.guide, torch.nn.Module) else ()
        if points and (not auxiliary or any(isinstance(part, AutoDelta) for part in lists)):
            self.own_reason = (
                f"the guide is a point mass at {', '.join(map(repr, points))} and has no density"
            )
        elif more:
            self.own_reason = f"the guide also samples {', '.join(map(repr, more))}, which the posterior here is without"
        elif auxiliary and not points:
            self.own_reason = f"the guide's auxiliary sites {', '.join(map(repr, auxiliary))} would have to be integrated out"
        self.reason = self.own_reason
        if auxiliary and not self.reason:
            self.reason = f"the guide computes its latents from the auxiliary sites {', '.join(map(repr, auxiliary))}"
        if self.reason:
            return
        try:
            q, _ = self.draw(2)
            self.log_prob(q)
        except (
            Exception
        ) as error:  # a density that is known at its own draws only, as of one-way flows
            self.reason = f"log q cannot be computed at given values: {str(error).splitlines()[0] or type(error).__name__}"

    def _layout(self, guide: AutoContinuous | AutoNormal) -> tuple[Tensor, Any]:
        """Where each coordinate of the potential lies in the guide's flat vector, (B, D), and the
        distribution of that.
        """
        locs, scales, places, start = [], [], {}, 0
        for name, site in guide.prototype_trace.iter_stochastic_nodes():
            shape = biject_to(site["fn"].support).inv(site["value"]).shape
            places[name] = torch.arange(
                start, start + shape.numel(), device=self.potential.device
            ).reshape(shape)
            start += shape.numel()
            if isinstance(guide, AutoNormal):
                loc, scale = location_and_scale(guide, name)
                locs.append(loc.expand(shape).flatten())
                scales.append(scale.expand(shape).flatten())
        rows = self.potential.shape[0]
        flat = torch.cat([places[name].reshape(rows, -1) for name in self.potential.names], -1)
        if isinstance(guide, AutoNormal):
            return flat, dist.Normal(torch.cat(locs), torch.cat(scales)).to_event(1)
        return flat, guide.get_posterior(*self.args)

    def _check_flat(self, guide: AutoContinuous | AutoNormal) -> None:
        """Finds out whether the guide's flat vector is the potential's, and whether it has a
        density by block.
        """
        base = _innermost(self._flat)
        gaussian = isinstance(
            base, dist.Normal | dist.MultivariateNormal | dist.LowRankMultivariateNormal
        )
        if isinstance(base, dist.Delta):
            self.own_reason = "the guide is a point mass and has no density"
        elif self.potential.local and not gaussian:
            self.own_reason = f"{type(guide).__name__} is one density over all data, not one for each; compare with local=False"
        self.reason = self.own_reason
        latent = self._flat.sample((2,))
        ours = self.potential.sites(latent[..., self._places])
        start = 0
        for name, site in guide.prototype_trace.iter_stochastic_nodes():
            transform = biject_to(site["fn"].support)
            shape = transform.inv(site["value"]).shape
            theirs = transform(latent[:, start : start + shape.numel()].reshape(2, *shape))
            start += shape.numel()
            if not torch.allclose(ours[name], theirs, rtol=1e-4, atol=1e-6):
                raise ValueError(
                    f"expected the site {name!r} to have a support that other latents do not "
                    "change, got one that does; sample it on a fixed interval and scale it with "
                    "pyro.deterministic"
                )

    def _flat_log_prob(self, latent: Tensor) -> Tensor:
        if not self.potential.local:
            return self._flat.log_prob(latent)[:, None]
        base = _innermost(self._flat)
        if isinstance(base, dist.Normal):
            return base.log_prob(latent)[:, self._places].sum(-1)
        covariance = base.covariance_matrix[self._places[:, :, None], self._places[:, None, :]]
        return dist.MultivariateNormal(base.loc[self._places], covariance).log_prob(
            latent[:, self._places]
        )


def _innermost(fn: Any) -> Any:
    """The distribution inside `.to_event`."""
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    return fn


def _is_point(fn: Any) -> bool:
    return isinstance(_innermost(fn), dist.Delta)
