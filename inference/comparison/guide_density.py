"""A guide as a density of the flat vector that samplers move in.

It gives draws, and log q at given points where that can be had.
"""

from __future__ import annotations

__all__ = ["Approximation", "latents_at_zero"]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide import AutoContinuous, AutoNormal
from torch import Tensor

from ppl_gen.contexts import reason
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.left_out import is_outside, point_masses
from ppl_gen.pyro_patches import location_and_scale
from ppl_gen.sites import data_plate, is_auxiliary, stochastic_sites, unwrapped
from ppl_gen.supports import flaw_of_draws

_WORK = 8  # numbers that a run of the guide computes, for each latent


class Approximation:
    """q(z) of a guide, as draws of the flat vector q (M, B, D) of a `Potential`, and log q (M, B).

    The density is that of the unconstrained q, log q(z) + log |∂z/∂q|, so that log weights are
    differences of densities of the same space. Pyro's automatic Gaussians and flows are densities
    of a flat vector of their own, whose order and transforms are compared with the potential's;
    other guides are traced with their sites conditioned.

    Args:
        guide: Any guide over the latents of the potential.
        potential: −log p(x, z) of the model on the same arguments.
        args: What model and guide are called with.

    Attributes:
        args: What model and guide are called with.
        reason: Why log q cannot be evaluated at given points; empty where it can.
        own_reason: Why it cannot be evaluated even at the guide's own draws; empty where it can.

    Raises:
        ValueError: If the guide's latent sites are not the model's, by name or by shape.
    """

    def __init__(
        self, guide: Callable[..., Any], potential: Potential, args: Sequence[Any]
    ) -> None:
        self.args = tuple(args)
        sites = _sampled_sites(guide, self.args)
        _expect_latents(sites, potential, self.args)
        self._density: _FlatDensity | _TracedDensity
        if isinstance(guide, AutoContinuous | AutoNormal):
            self._density = _FlatDensity(guide, potential, self.args)
        else:
            self._density = _TracedDensity(guide, potential, self.args, sites)
        self.reason = self._density.reason
        self.own_reason = self._density.own_reason

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Points q (M, B, D), and log q (M, B) there; None for the latter if there is no density.

        Args:
            count: M, the number of draws.
        """
        return self._density.draw(count)

    def log_prob(self, q: Tensor) -> Tensor:
        """log q at given points q (M, B, D), of shape (M, B), in nats.

        Args:
            q: Points in the flat vector of the potential.

        Raises:
            ValueError: If there is a `reason` why not.
        """
        if self.reason:
            raise ValueError(
                f"expected a guide with a density at given points, got none: {self.reason}"
            )
        return self._density.log_prob(q)


def latents_at_zero(potential: Potential) -> dict[str, Tensor]:
    """z(q) at q = 0: a value of each latent site, of its shape and in its support."""
    q = torch.zeros(1, *potential.shape, dtype=potential.dtype, device=potential.device)
    return {name: values[0] for name, values in potential.sites(q).items()}


def _sampled_sites(guide: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Any]:
    """The sites that a guide samples, auxiliary ones included, from one run of it."""
    sites = stochastic_sites(poutine.trace(guide).get_trace(*args))
    return {name: site for name, site in sites.items() if not site["is_observed"]}


def _expect_latents(sites: Mapping[str, Any], potential: Potential, args: tuple[Any, ...]) -> None:
    """Raises ValueError unless a guide's sites are the model's latents, by name and by shape."""
    known = stochastic_sites(poutine.trace(potential.model).get_trace(*args)).keys()
    latents = {name: site for name, site in sites.items() if not is_auxiliary(site)}
    wanted = set(potential.names)
    if not wanted <= latents.keys() <= known:
        raise ValueError(
            f"expected the guide to sample the model's latent sites {sorted(wanted)}, got "
            f"{sorted(latents)}; give the sites the same names in both"
        )
    for name, value in latents_at_zero(potential).items():
        shape = latents[name]["value"].shape
        if value.shape != shape:
            raise ValueError(
                f"expected the guide to sample {name!r} of shape {tuple(value.shape)}, as the "
                f"model does, got {tuple(shape)}; make the guide for these data"
            )


class _Slice(NamedTuple):
    """Where a site lies in the flat vector of an automatic guide.

    Attributes:
        name: The site.
        start: The first of its entries.
        stop: The entry after its last.
        shape: Its unconstrained shape.
        transform: From the whole line to its support.
    """

    name: str
    start: int
    stop: int
    shape: torch.Size
    transform: Any


def _slices(guide: AutoContinuous | AutoNormal) -> Iterator[_Slice]:
    """The sites of an automatic guide in the order of its flat vector."""
    start = 0
    for name, site in guide.prototype_trace.iter_stochastic_nodes():
        transform = biject_to(site["fn"].support)
        shape = transform.inv(site["value"]).shape
        stop = start + shape.numel()
        yield _Slice(name=name, start=start, stop=stop, shape=shape, transform=transform)
        start = stop


class _FlatDensity:
    """A Gaussian or a flow of Pyro's: one density of a flat vector, in an order of its own.

    Args:
        guide: Made for the same model and data.
        potential: Whose flat vector is asked for.
        args: What the guide is called with.

    Raises:
        ValueError: If the support of a site changes with other latents: the guide's unconstrained
            vector is then another one than the potential's.
    """

    def __init__(
        self, guide: AutoContinuous | AutoNormal, potential: Potential, args: tuple[Any, ...]
    ) -> None:
        self._local = potential.local
        self._places = self._places_in(guide, potential)
        self._flat = self._distribution_of(guide, args)
        self._base = unwrapped(self._flat)
        self.own_reason = self._why_no_density(type(guide).__name__)
        self.reason = self.own_reason
        self._expect_same_transforms(guide, potential)

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Points q (M, B, D), and log q (M, B) there; None for the latter without a density."""
        latent = self._flat.sample((count,))
        if self.own_reason:
            return latent[..., self._places], None
        return latent[..., self._places], self._flat_log_prob(latent)

    def log_prob(self, q: Tensor) -> Tensor:
        """log q at given points q (M, B, D), of shape (M, B), in nats."""
        latent = q.new_empty(q.shape[0], self._places.numel())
        latent[:, self._places.flatten()] = q.flatten(1)
        return self._flat_log_prob(latent)

    @staticmethod
    def _places_in(guide: AutoContinuous | AutoNormal, potential: Potential) -> Tensor:
        """Where each coordinate of the potential lies in the guide's flat vector, (B, D)."""
        places = {}
        for part in _slices(guide):
            numbers = torch.arange(part.start, part.stop, device=potential.device)
            places[part.name] = numbers.reshape(part.shape)
        blocks = potential.shape[0]
        return torch.cat([places[name].reshape(blocks, -1) for name in potential.names], -1)

    @staticmethod
    def _distribution_of(guide: AutoContinuous | AutoNormal, args: tuple[Any, ...]) -> Any:
        """The distribution of the guide's flat vector."""
        if isinstance(guide, AutoContinuous):
            return guide.get_posterior(*args)
        locs: list[Tensor] = []
        scales: list[Tensor] = []
        for part in _slices(guide):
            loc, scale = location_and_scale(guide, part.name)
            locs.append(loc.expand(part.shape).flatten())
            scales.append(scale.expand(part.shape).flatten())
        return dist.Normal(torch.cat(locs), torch.cat(scales)).to_event(1)

    def _why_no_density(self, family: str) -> str:
        """Why there is no log q by block; empty where there is."""
        gaussian = isinstance(
            self._base, dist.Normal | dist.MultivariateNormal | dist.LowRankMultivariateNormal
        )
        if isinstance(self._base, dist.Delta):
            return "the guide is a point mass and has no density"
        if self._local and not gaussian:
            return (
                f"{family} is one density over all data, not one for each; compare with local=False"
            )
        return ""

    def _expect_same_transforms(
        self, guide: AutoContinuous | AutoNormal, potential: Potential
    ) -> None:
        """Raises ValueError unless guide and potential make the same latents of flat vectors."""
        latent = self._flat.sample((2,))
        ours = potential.sites(latent[..., self._places])
        for part in _slices(guide):
            free = latent[:, part.start : part.stop].reshape(2, *part.shape)
            theirs = part.transform(free)
            if not torch.allclose(ours[part.name], theirs, rtol=1e-4, atol=1e-6):
                raise ValueError(
                    f"expected the site {part.name!r} to have a support that other latents do not "
                    "change, got one that does; sample it on a fixed interval and scale it with "
                    "pyro.deterministic"
                )

    def _flat_log_prob(self, latent: Tensor) -> Tensor:
        """log q (M, B) at flat vectors (M, K): of all, or of the marginals, which are Gaussian."""
        if not self._local:
            return self._flat.log_prob(latent)[:, None]
        if isinstance(self._base, dist.Normal):
            return self._base.log_prob(latent)[:, self._places].sum(-1)
        rows = self._places[:, :, None]
        columns = self._places[:, None, :]
        covariance = self._base.covariance_matrix[rows, columns]
        marginal = dist.MultivariateNormal(self._base.loc[self._places], covariance)
        return marginal.log_prob(latent[:, self._places])


class _TracedDensity:
    """Any other guide: log q is read off its trace, with its sites conditioned.

    Args:
        guide: Any guide over the latents of the potential.
        potential: Whose flat vector is asked for.
        args: What the guide is called with.
        sites: What the guide samples, auxiliary sites included.
    """

    def __init__(
        self,
        guide: Callable[..., Any],
        potential: Potential,
        args: tuple[Any, ...],
        sites: Mapping[str, Any],
    ) -> None:
        self._guide = guide
        self._potential = potential
        self._args = args
        self.own_reason = self._why_no_density(sites)
        self.reason = self.own_reason or self._why_only_at_own_draws(sites)

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Points q (M, B, D), and log q (M, B) there; None for the latter without a density."""
        width = math.prod(self._potential.shape) * _WORK
        numbers = torch.zeros(count, device=self._potential.device)
        values, log_prob = at_each(lambda _: self._run({}), numbers, width=width)
        q = self._potential.flatten({name: values[name] for name in self._potential.names})
        if self.own_reason:
            return q, None
        return q, log_prob + self._potential.log_jacobian(q)

    def log_prob(self, q: Tensor) -> Tensor:
        """log q at given points q (M, B, D), of shape (M, B), in nats."""
        width = max(1, q[0].numel()) * _WORK
        values = self._potential.sites(q)
        log_prob = at_each(lambda latents: self._run(latents)[1], values, width=width)
        return log_prob + self._potential.log_jacobian(q)

    def _run(self, given: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The latents of one run of the guide, some of them given, and their log q (B,).

        The latter is 0 for a guide without a density.
        """
        potential = self._potential
        trace = poutine.trace(poutine.condition(self._guide, data=given)).get_trace(*self._args)
        total = torch.zeros(potential.shape[0], dtype=potential.dtype, device=potential.device)
        latents = {}
        sites = stochastic_sites(trace)
        plate = data_plate(sites)
        for name, site in sites.items():
            if site["is_observed"] and name not in given:
                continue
            if not self.own_reason:
                total = total + self._log_prob_by_block(site, plate, name in given)
            if not is_auxiliary(site):
                latents[name] = site["value"]
        return latents, total

    def _log_prob_by_block(self, site: Mapping[str, Any], plate: str, given: bool) -> Tensor:
        """log q of a site: in all, or of each datum (B,) where the posterior is local.

        Args:
            site: A site of the guide.
            plate: The name of the plate of the data.
            given: Whether its value was given, and may lie outside of its support.

        Raises:
            ValueError: If the posterior is local and the site lies outside that plate.
        """
        log_prob = site["fn"].log_prob(site["value"])
        if given:  # elsewhere than where the guide would draw it
            log_prob = log_prob.where(~is_outside(site["fn"], site["value"]), -torch.inf)
        log_prob = scale_and_mask(log_prob, 1.0, site["mask"])
        if not self._potential.local:
            return log_prob.sum()
        axes = [frame.dim for frame in site["cond_indep_stack"] if frame.name == plate]
        if not axes:
            raise ValueError(
                f"expected a guide with every site inside the plate {plate!r} for local=True, got "
                f"{site['name']!r} outside it; compare with local=False"
            )
        others = [axis for axis in range(-log_prob.dim(), 0) if axis != axes[0]]
        if not others:
            return log_prob
        return log_prob.sum(others)

    def _why_no_density(self, sites: Mapping[str, Any]) -> str:
        """Why log q is not known even at the guide's own draws; empty where it is."""
        auxiliary = _auxiliary(sites)
        latents = sites.keys() - set(auxiliary)
        points = point_masses(self._guide, sites)
        surplus = sorted(latents - set(self._potential.names))
        if points:
            return f"the guide is a point mass at {_listed(points)} and has no density"
        if surplus:
            return f"the guide also samples {_listed(surplus)}, which the posterior here is without"
        if auxiliary and not self._is_computed_from(auxiliary, sites):
            return (
                f"the guide's auxiliary sites {_listed(auxiliary)} would have to be integrated out"
            )
        return _why_not_scored(sites)

    @staticmethod
    def _is_computed_from(auxiliary: Sequence[str], sites: Mapping[str, Any]) -> bool:
        """Whether a Delta beside the auxiliary sites carries their density."""
        others = sites.keys() - set(auxiliary)
        return any(isinstance(unwrapped(sites[name]["fn"]), dist.Delta) for name in others)

    def _why_only_at_own_draws(self, sites: Mapping[str, Any]) -> str:
        """Why log q is known at the guide's own draws alone; empty where it is known anywhere."""
        auxiliary = _auxiliary(sites)
        if auxiliary:
            return f"the guide computes its latents from the auxiliary sites {_listed(auxiliary)}"
        try:
            q, _ = self.draw(2)
            self.log_prob(q)
        except Exception as error:  # a flow that is fast one way only knows no density elsewhere
            return f"log q cannot be computed at given values: {reason(error)}"
        return ""


def _why_not_scored(sites: Mapping[str, Any]) -> str:
    """Why the density of a guide's draws cannot be had at some site; empty where it can."""
    for name, site in sites.items():
        if flaw := flaw_of_draws(site["fn"]):
            return f"the guide's draws of {name!r} follow no density: they are of {flaw}"
        try:
            site["fn"].log_prob(site["value"])
        except Exception as error:  # whatever a user's distribution does
            return f"the guide's density at {name!r} cannot be computed: {reason(error)}"
    return ""


def _auxiliary(sites: Mapping[str, Any]) -> list[str]:
    """The names of the sites that a guide samples for its own use, sorted."""
    return sorted(name for name, site in sites.items() if is_auxiliary(site))


def _listed(names: Sequence[str]) -> str:
    """Names in quotes, separated by commas."""
    return ", ".join(map(repr, names))
