"""Objectives beside Trace_ELBO, datum by datum: any goes into `svi_step` or Pyro's `SVI`."""

from __future__ import annotations

__all__ = [
    "IWAE",
    "AnalyticELBO",
    "DReG",
    "Enumerated",
    "FreeBits",
    "StickingTheLanding",
    "annealed",
]

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_gen.counts import expect_at_least, expect_number, expect_weight
from ppl_gen.divergences import closed_divergence
from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference.fitting.bound import Draw, PerDatum, with_values
from ppl_gen.labels import Revealed
from ppl_gen.sites import (
    Sites,
    data_axis,
    data_plate,
    is_auxiliary,
    latent_sites,
    log_prob_per_datum,
    summed_per_datum,
    unwrapped,
)

Rerun = Callable[[Mapping[str, Tensor]], Sites]


class AnalyticELBO(PerDatum):
    """E_q[log p(x | z)] − Σⱼ KL(q(zⱼ | x) ‖ p(zⱼ)): the ELBO, with each KL in closed form.

    Its expectation is that of Trace_ELBO, and the draws' share of the KL is gone from the variance
    of its gradient. j is a latent site. Where torch knows no closed form (a mixture or flow on
    either side), or where p(zⱼ | ·) depends on a latent that the guide draws after zⱼ, so that zⱼ
    given that latent is no draw of q(zⱼ | ·), the KL of this site is by draws, log q − log p.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum, over which the expectation is
            averaged.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Attributes:
        by_draws: The names of the latents whose KL was by draws at the last call; empty before the
            first, and where all have a closed form.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has
            no reparameterised draws, or is in one of model and guide only.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
        >>> step = svi_step(vae, optimizer, AnalyticELBO(), engine="eager")
        >>> sorted(step(torch.zeros(5, 4)))
        ['elbo', 'gradient_norm']

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes, eq. 7.
    """

    by_draws: tuple[str, ...] = ()

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """(1/K) Σₖ log p(x | zₖ) − Σⱼ KLⱼ, (N,)."""
        cost = torch.zeros_like(draw.log_likelihood)
        plate = data_plate(draw.guide)
        by_draws = []
        for name, site in draw.guide.items():
            divergence = None
            if _is_drawn_from_its_conditional(name, draw):
                divergence = closed_divergence(site["fn"], draw.model[name]["fn"])
            if divergence is not None:
                of_site = summed_per_datum(divergence, site, draw.nesting, plate)
            else:
                by_draws.append(name)
                of_site = log_prob_per_datum(site, draw.nesting, plate)
                if not is_auxiliary(site):
                    of_site = of_site - log_prob_per_datum(draw.model[name], draw.nesting, plate)
            cost = cost + draw.beta(site) * of_site
        self.by_draws = tuple(by_draws)
        return (draw.log_likelihood - cost).mean(0)


class IWAE(PerDatum):
    """L = E[log (1/K) Σₖ wₖ] with wₖ = p(x, zₖ) / q(zₖ | x) and zₖ ~ q(z | x), in nats per datum.

    ELBO = L₁ ≤ L_K ≤ log p(x). It is a bound under any subsampling of the plate "data", whose scale
    multiplies L and not log w. With β other than 1, log w is log p(x | z) + β (log p(z) −
    log q(z | x)), and L is no bound.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has
            no reparameterised draws, or is in one of model and guide only.

    Examples:
        >>> from ppl_gen.inference import svi_step
        >>> from ppl_gen.models import vae
        >>> program = vae((2,), 1)
        >>> step = svi_step(program, torch.optim.Adam(program.parameters()), IWAE(num_particles=5))
        >>> sorted(step(torch.zeros(3, 2)))
        ['gradient_norm', 'iwae']

    Reference:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, eq. 8.
    """

    metric = "iwae"

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        return draw.log_weight.logsumexp(0) - math.log(self.num_particles)


class DReG(PerDatum):
    """L = E[log (1/K) Σₖ wₖ] as `IWAE`, with gradient Σₖ w̃ₖ² ∂log wₖ/∂zₖ ∂zₖ/∂φ in the guide's φ.

    The gradient is doubly reparameterised: w̃ₖ = wₖ / Σⱼ wⱼ, with wₖ = p(x, zₖ) / q(zₖ | x). The
    expectation of the gradient is that of IWAE, and its signal-to-noise ratio does not fall with K.
    The model's parameters have the gradient Σₖ w̃ₖ ∂log wₖ/∂θ, as with IWAE.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has
            no reparameterised draws, or is in one of model and guide only.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
        >>> step = svi_step(vae, optimizer, DReG(num_particles=5), engine="eager")
        >>> sorted(step(torch.zeros(5, 4)))
        ['gradient_norm', 'iwae']

    Reference:
        Tucker, Lawson, Gu and Maddison (2019), Doubly reparameterized gradient estimators for Monte
        Carlo objectives.
    """

    metric = "iwae"

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        log_weight = draw.log_weight - _score(draw, rerun)
        normalised = log_weight.detach().softmax(0)
        plate = data_plate(draw.guide)
        for site in draw.guide.values():
            if site["value"].requires_grad:
                weight = _aligned(normalised, site, draw.nesting, plate)
                site["value"].register_hook(partial(torch.mul, weight))
        return log_weight.logsumexp(0) - math.log(self.num_particles)

    def _guide_trace(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        """The guide's trace with a view of each draw in its place.

        Hooks on the views multiply the gradient that comes back from log w, and not what comes back
        along one latent's path through another. A guide of several sites is run again on the views,
        so that its densities are those there too (Bauer and Mnih 2021, Generalized doubly
        reparameterized gradient estimators).
        """
        trace = super()._guide_trace(guide, args, kwargs)
        sites = latent_sites(trace)
        views = {name: site["value"].view_as(site["value"]) for name, site in sites.items()}
        seen = with_values(trace, views)
        if len(sites) == 1:
            return seen
        return self._in_particles(poutine.replay(guide, trace=seen), args, kwargs)


class StickingTheLanding(PerDatum):
    """The ELBO E_q[log p(x, z) − log q(z | x)], its gradient without the term E_q[∂log q/∂φ] = 0.

    Where q is the posterior, that gradient has no variance.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum, over which the ELBO is
            averaged.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has
            no reparameterised draws, or is in one of model and guide only.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
        >>> step = svi_step(vae, optimizer, StickingTheLanding(), engine="eager")
        >>> sorted(step(torch.zeros(5, 4)))
        ['elbo', 'gradient_norm']

    Reference:
        Roeder, Wu and Duvenaud (2017), Sticking the landing.
    """

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """(1/K) Σₖ log wₖ, (N,)."""
        return (draw.log_weight - _score(draw, rerun)).mean(0)


class FreeBits(PerDatum):
    """Σᵢ E_q[log p(xᵢ | z)] − N Σⱼ max(λ, KLⱼ) with KLⱼ = (1/N) Σᵢ KL(q(zⱼ | xᵢ) ‖ p(zⱼ)).

    j is a coordinate of the latents. No coordinate gains from a KL below λ, so none is driven to
    collapse. KLⱼ is closed where both are of factorised families that torch knows and p(zⱼ) depends
    on no latent that the guide draws after zⱼ, else the average of log q − log p; a density that
    does not factorise, as a flow's, is taken in one piece.

    Args:
        nats: λ, in nats per coordinate.
        num_particles: K, the number of draws z ~ q(z | x) per datum, over which the expectations
            are averaged.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If λ is negative or K below 1; at the first call, if a site lies outside the
            plate "data", has no reparameterised draws, or is in one of model and guide only.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
        >>> step = svi_step(vae, optimizer, FreeBits(0.5), engine="eager")
        >>> sorted(step(torch.zeros(5, 4)))
        ['gradient_norm', 'objective']

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational
        inference with inverse autoregressive flow, eq. 15.
    """

    metric = "objective"

    def __init__(
        self, nats: float, num_particles: int = 1, *, max_plate_nesting: float = math.inf
    ) -> None:
        expect_number(nats=nats)
        if not 0 <= nats < math.inf:
            raise ValueError(f"expected free nats of at least 0, got {nats}")
        super().__init__(num_particles, max_plate_nesting=max_plate_nesting)
        self.nats = nats

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """(1/K) Σₖ log p(x | zₖ) − Σⱼ max(λ, KLⱼ), (N,)."""
        cost: Tensor | float = 0
        plate = data_plate(draw.guide)
        for name, site in draw.guide.items():
            if not is_auxiliary(site):
                is_closed = _is_drawn_from_its_conditional(name, draw)
                divergence = _divergence(
                    site, draw.model[name], draw.nesting, plate, closed=is_closed
                )
                cost = cost + draw.beta(site) * divergence.clamp(min=self.nats).sum()
        return draw.log_likelihood.mean(0) - cost


class Enumerated(PerDatum):
    """Σₖ q(k | x) E_{q(z | x, k)}[log p(x, k, z) − log q(k, z | x)] + α log q(y | x).

    The ELBO, its expectation over discrete latents k of the guide exact: all their values are put
    on axes of their own, in one batch. This is what Pyro's TraceEnum_ELBO computes of such a guide,
    and it is traced and compiled. The second term, in nats, is that of the data whose label y is
    known (see `ppl_gen.models.SemiSupervisedVAE`): without it a classifier q(y | x) learns from
    data without labels alone.

    Args:
        labels: α, the weight of log q(y | x) for each datum with a label.
        num_particles: The number of draws of the other latents, for each value of the discrete
            ones, over which the ELBO is averaged.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If α is negative or the number of draws below 1; at the first call, if a site
            lies outside the plate "data" or is in one of model and guide only, or if a latent has
            neither reparameterised draws nor values that can be listed.

    Examples:
        >>> from ppl_gen.inference import svi_step
        >>> program = models.ss_vae((4,), latent_dim=2, classes=3, hidden=[8])
        >>> optimizer = torch.optim.Adam(program.parameters(), 1e-3)
        >>> step = svi_step(program, optimizer, Enumerated(labels=0.1), engine="eager")
        >>> sorted(step(torch.zeros(5, 4), torch.tensor([0, 1, 2, -1, -1])))  # −1: no label
        ['gradient_norm', 'objective']

    Reference:
        Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative
        models, eq. 6 to 9, the data without a label by eq. 7.
    """

    def __init__(
        self,
        labels: float = 0.0,
        num_particles: int = 1,
        *,
        max_plate_nesting: float = math.inf,
    ) -> None:
        expect_weight(labels=labels)
        super().__init__(num_particles, max_plate_nesting=max_plate_nesting)
        self.labels = labels

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The name of what is ascended: no bound where labels are weighted."""
        if self.labels == 0:
            return "elbo"
        return "objective"

    def bound(self, draw: Draw, rerun: Rerun) -> Tensor:
        """Σₖ q(k | x) log wₖ + α log q(y | x), averaged over the other draws, (N,)."""
        plate = data_plate(draw.guide)
        log_q = torch.zeros_like(draw.log_likelihood)
        known = torch.zeros_like(draw.log_likelihood)
        for site in draw.guide.values():
            if is_enumerable(site["fn"]):
                log_q = log_q + log_prob_per_datum(site, draw.nesting, plate)
            labels = unwrapped(site["fn"])
            if isinstance(labels, Revealed):
                known = known + labels.log_revealed
        bound = _in_sum(log_q.exp() * draw.log_weight)
        if self.labels > 0:
            bound = bound + self.labels * _first_of(known)
        return bound.mean(0)

    def _guide_trace(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        """The guide's trace, each discrete latent's values on an axis left of the particles."""
        listed = poutine.infer_config(guide, _listed)
        first = -2 - int(self.max_plate_nesting)
        enumerated = poutine.enum(listed, first_available_dim=first)
        return self._in_particles(enumerated, args, kwargs)

    def _expect_draws(self, name: str, site: Any) -> None:
        """Discrete latents need none, where their values can be listed."""
        if not is_enumerable(site["fn"]):
            super()._expect_draws(name, site)


def annealed(
    steps: int, start: float = 0.0, stop: float = 1.0, *, cycles: int = 1, rise: float = 1.0
) -> Callable[[int], float]:
    """β(t) for `svi_step(beta=...)`: a straight line from `start` to `stop`, then level.

    With several cycles, it begins again at `start` in each.

    Args:
        steps: The number of steps of all cycles together; `stop` from then on.
        start: β at the beginning of a cycle.
        stop: β at the end of a cycle.
        cycles: The number of cycles.
        rise: The part of a cycle in which β rises, in (0, 1]; it is level for the rest.

    Returns:
        The function from the index of a step, from 0 on, to β.

    Raises:
        ValueError: If steps or cycles is below 1, a β is negative, or rise is not in (0, 1].

    Examples:
        >>> schedule = annealed(4)
        >>> [schedule(t) for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    Reference:
        Bowman et al. (2016), Generating sentences from a continuous space; for cycles, Fu et al.
        (2019), Cyclical annealing schedule.
    """
    expect_at_least(1, steps=steps, cycles=cycles)
    expect_number(start=start, stop=stop, rise=rise)
    if not (0 <= start < math.inf and 0 <= stop < math.inf):
        raise ValueError(f"expected finite β of at least 0, got {start} and {stop}")
    if not 0 < rise <= 1:
        raise ValueError(f"expected rise above 0 and at most 1, got {rise}")

    def schedule(step: int) -> float:
        if step >= steps:
            return stop
        done = step * cycles / steps % 1.0
        return start + (stop - start) * min(done / rise, 1.0)

    return schedule


def _listed(site: Any) -> dict[str, Any]:
    """How Pyro is to treat a sample statement of a guide: values that can be listed are."""
    if not site_is_subsample(site) and is_enumerable(site["fn"]):
        return {"enumerate": "parallel", "expand": False}
    return {"enumerate": None}


def _in_sum(values: Tensor) -> Tensor:
    """The sum over the axes left of particles and data, (K, N)."""
    if values.dim() == 2:
        return values
    return values.flatten(0, -3).sum(0)


def _first_of(values: Tensor) -> Tensor:
    """One value for each particle and datum, (K, N), of those that are the same on axes left."""
    return values.reshape(-1, *values.shape[-2:])[0]


def _score(draw: Draw, rerun: Rerun) -> Tensor:
    """0, with the gradient −∂log q(z; φ)/∂φ at fixed z.

    Taken from log w, it leaves the gradient on the path through z alone.
    """
    values = {name: site["value"].detach() for name, site in draw.guide.items()}
    if len(values) == 1:
        # The density of a single site is known already; with several, later ones depend on the
        # values of earlier ones.
        sites = {name: {**draw.guide[name], "value": value} for name, value in values.items()}
    else:
        sites = rerun(values)
    log_q = draw.log_prob(sites)
    return log_q.detach() - log_q


def _aligned(weight: Tensor, site: Any, nesting: int, plate: str) -> Tensor:
    """A weight (K, N) in the shape of a site's value: particles left, data on its plate's axis."""
    shape = [1] * (1 + nesting)
    shape[0] = weight.shape[0]
    shape[_data_dim(site, plate)] = weight.shape[1]
    events = [1] * site["fn"].event_dim
    return weight.reshape(*shape, *events)


def _data_dim(site: Any, plate: str) -> int:
    """The axis of the data's plate among those of a site's plates, counted from the right."""
    return data_axis(site, plate) + len(site["fn"].event_shape)


def _is_drawn_from_its_conditional(name: str, draw: Draw) -> bool:
    """Whether a latent follows q(zⱼ | ·) given all that p(zⱼ | ·) may depend on.

    Given a latent that the guide draws later it does not, and KL(q ‖ p) is not the expectation of
    log q − log p then.
    """
    if name not in draw.model:
        return False
    known = _before(name, draw.guide)
    return _before(name, draw.model) <= known


def _before(name: str, sites: Sites) -> set[str]:
    """The names of the sites that are sampled before one of them."""
    names = list(sites)
    return set(names[: names.index(name)])


def _divergence(q: Any, p: Any, nesting: int, plate: str, *, closed: bool) -> Tensor:
    """KL(q ‖ p) of each coordinate of a site, averaged over particles and data.

    A density that does not factorise is taken whole. Data that are masked count with a divergence
    of zero.

    Args:
        q: The site of the guide.
        p: The site of the model.
        nesting: The number of axes that plates take.
        plate: The name of the plate of the data.
        closed: Whether a closed form, where there is one, is the expectation of log q − log p.
    """
    divergence = None
    if closed:
        divergence = closed_divergence(unwrapped(q["fn"]), unwrapped(p["fn"]))
    if closed and divergence is None:
        divergence = closed_divergence(q["fn"], p["fn"])
    if divergence is None:
        divergence = _log_ratio(q, p)
    coordinates = divergence.dim() - len(q["fn"].batch_shape)
    mask = q["mask"]
    if torch.is_tensor(mask):
        mask = mask.reshape(mask.shape + (1,) * coordinates)
        divergence = torch.where(mask, divergence, 0.0)
    data = _data_dim(q, plate) - coordinates
    particles = range(-divergence.dim(), -nesting - coordinates)
    return divergence.mean([*particles, data])


def _log_ratio(q: Any, p: Any) -> Tensor:
    """log q − log p at the draws of a guide's site, by coordinate where both factorise."""
    ours = unwrapped(q["fn"])
    theirs = unwrapped(p["fn"])
    event = max(ours.event_dim, theirs.event_dim)
    log_q = _summed(ours.log_prob(q["value"]), event - ours.event_dim)
    log_p = _summed(theirs.log_prob(p["value"]), event - theirs.event_dim)
    return log_q - log_p


def _summed(log_prob: Tensor, axes: int) -> Tensor:
    """The sum over so many of the last axes."""
    if axes == 0:
        return log_prob
    return log_prob.sum(list(range(-axes, 0)))
