"""Objectives beside Trace_ELBO, datum by datum, with the interface of Pyro's: any of them goes into
`svi_step` or `SVI`.
"""

from __future__ import annotations

__all__ = ["IWAE", "DReG", "FreeBits", "StickingTheLanding", "annealed"]

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ppl_gen.inference.fitting.bound import Draw, PerDatum, Sites, latent_sites, with_values
from ppl_gen.program import is_auxiliary


class IWAE(PerDatum):
    """L = E[log (1/K) Σₖ wₖ] with wₖ = p(x, zₖ) / q(zₖ | x) and zₖ ~ q(z | x); ELBO = L₁ ≤ L_K ≤
    log p(x), in nats per datum.

    A bound under any subsampling of the plate "data", whose scale multiplies L and not log w. With
    β other than 1, log w is log p(x | z) + β (log p(z) − log q(z | x)), and L is no bound.

    Args:
        num_particles: K.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if
            left out.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has
            no reparameterised draws, or is in one of model and guide only.

    Example:
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

    def bound(self, draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        return draw.log_weight.logsumexp(0) - math.log(self.num_particles)


class DReG(PerDatum):
    """The bound of `IWAE`, with the doubly reparameterised gradient: Σₖ w̃ₖ² ∂log wₖ/∂zₖ ∂zₖ/∂φ for
    the guide's parameters φ.

    w̃ₖ = wₖ / Σⱼ wⱼ. The expectation of the gradient is that of IWAE, and its signal-to-noise ratio
    does not fall with K. The model's parameters have the gradient Σₖ w̃ₖ ∂log wₖ/∂θ, as with IWAE.

    Args:
        num_particles: As in `IWAE`.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: As `IWAE` does.

    Reference:
        Tucker, Lawson, Gu and Maddison (2019), Doubly reparameterized gradient estimators for Monte
        Carlo objectives.
    """

    metric = "iwae"

    def bound(self, draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        log_weight = draw.log_weight - _score(draw, rerun)
        normalised = log_weight.detach().softmax(0)
        for site in draw.guide.values():
            if site["value"].requires_grad:
                weight = _aligned(normalised, site, draw.nesting)
                site["value"].register_hook(lambda gradient, weight=weight: gradient * weight)
        return log_weight.logsumexp(0) - math.log(self.num_particles)

    def _guide_trace(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        """With tensors of their own in the place of the draws, whose hooks weigh all that comes
        back from log w.

        What one latent's path through another brings back is not weighed again; so densities of a
        guide of several sites are those at the new tensors too (Bauer and Mnih 2021, Generalized
        doubly reparameterized gradient estimators).
        """
        trace = super()._guide_trace(guide, args, kwargs)
        sites = latent_sites(trace)
        seen = with_values(
            trace, {name: site["value"].view_as(site["value"]) for name, site in sites.items()}
        )
        return (
            seen
            if len(sites) == 1
            else self._in_particles(poutine.replay(guide, trace=seen), args, kwargs)
        )


class StickingTheLanding(PerDatum):
    """The ELBO, its gradient without the term E_q[∂log q/∂φ] = 0: where q is the posterior, the
    gradient has no variance.

    Args:
        num_particles: K, over which the ELBO is averaged.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: As `IWAE` does.

    Reference:
        Roeder, Wu and Duvenaud (2017), Sticking the landing.
    """

    def bound(self, draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """(1/K) Σₖ log wₖ, (N,)."""
        return (draw.log_weight - _score(draw, rerun)).mean(0)


class FreeBits(PerDatum):
    """Σᵢ E_q[log p(xᵢ | z)] − N Σⱼ max(λ, KLⱼ) with KLⱼ = (1/N) Σᵢ KL(q(zⱼ | xᵢ) ‖ p(zⱼ)), j a
    coordinate of the latents.

    No coordinate gains from a KL below λ, so none is driven to collapse. KLⱼ is closed where both
    are of factorised families that torch knows, else the average of log q − log p; a density that
    does not factorise, as a flow's, is taken in one piece.

    Args:
        nats: λ, in nats per coordinate.
        num_particles: K, over which the expectations are averaged.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: If λ is negative, or as `IWAE` does.

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational
        inference with inverse autoregressive flow, eq. 15.
    """

    metric = "objective"

    def __init__(
        self, nats: float, num_particles: int = 1, *, max_plate_nesting: float = math.inf
    ) -> None:
        if not 0 <= nats < math.inf:
            raise ValueError(f"expected free nats of at least 0, got {nats}")
        super().__init__(num_particles, max_plate_nesting=max_plate_nesting)
        self.nats = nats

    def bound(self, draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """(1/K) Σₖ log p(x | zₖ) − Σⱼ max(λ, KLⱼ), (N,)."""
        latents = [site for site in draw.guide.values() if not is_auxiliary(site)]
        kl = [
            (draw.beta(site), _divergence(site, draw.model[site["name"]], draw.nesting))
            for site in latents
        ]
        return draw.log_likelihood.mean(0) - sum(
            beta * part.clamp(min=self.nats).sum() for beta, part in kl
        )


def annealed(
    steps: int, start: float = 0.0, stop: float = 1.0, *, cycles: int = 1, rise: float = 1.0
) -> Callable[[int], float]:
    """β(t) for `svi_step(beta=...)`: from `start` to `stop` in a straight line, then level; over
    and over with several cycles.

    Args:
        steps: The number of steps of all cycles together; `stop` from then on.
        start: β at the beginning of a cycle.
        stop: β at the end.
        cycles: The number of cycles.
        rise: The part of a cycle in which β rises; it is level for the rest.

    Raises:
        ValueError: If steps or cycles is below 1, a β is negative, or rise is not in (0, 1].

    Example:
        >>> schedule = annealed(4)
        >>> [schedule(t) for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    Reference:
        Bowman et al. (2016), Generating sentences from a continuous space; for cycles, Fu et al.
        (2019), Cyclical annealing schedule.
    """
    if steps < 1 or cycles < 1:
        raise ValueError(f"expected steps and cycles of at least 1, got {steps} and {cycles}")
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


def _score(draw: Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
    """Zero, with the gradient −∂log q(z; φ)/∂φ at fixed z: taken from log w, it leaves the path
    through z alone.
    """
    values = {name: site["value"].detach() for name, site in draw.guide.items()}
    # One site alone depends on no other: its density is at hand. Of several, the later ones hang on
    # the earlier ones' paths.
    at_hand = {name: {**site, "value": values[name]} for name, site in draw.guide.items()}
    sites = at_hand if len(values) == 1 else rerun(values)
    log_q = draw.log_prob(sites)
    return log_q.detach() - log_q


def _aligned(weight: Tensor, site: Any, nesting: int) -> Tensor:
    """A weight (K, N) in the shape of a site's value: particles left, data on its plate's axis."""
    axis = next(f.dim for f in site["cond_indep_stack"] if f.name == "data")
    shape = [weight.shape[0], *[1] * nesting]
    shape[axis] = weight.shape[1]
    return weight.reshape(*shape, *[1] * site["fn"].event_dim)


def _divergence(q: Any, p: Any, nesting: int) -> Tensor:
    """KL(q ‖ p) of each coordinate of a site, averaged over particles and data; whole where a
    density does not factorise.

    Data that are masked count with a divergence of zero.
    """
    ours, theirs = _factors(q["fn"]), _factors(p["fn"])
    try:
        apart = kl_divergence(ours, theirs)
    except NotImplementedError:
        log_q, log_p = ours.log_prob(q["value"]), theirs.log_prob(p["value"])
        event = q["fn"].event_dim
        kept = min(event - ours.event_dim, event - theirs.event_dim)
        log_q, log_p = (
            t.sum(list(range(-surplus, 0))) if (surplus := event - d.event_dim - kept) else t
            for t, d in ((log_q, ours), (log_p, theirs))
        )
        apart = log_q - log_p
    kept = apart.dim() - len(q["fn"].batch_shape)
    mask = q["mask"] if torch.is_tensor(q["mask"]) else None
    if mask is not None:
        apart = torch.where(mask.reshape(mask.shape + (1,) * kept), apart, 0.0)
    data_axis = next(f.dim for f in q["cond_indep_stack"] if f.name == "data") - kept
    over = [a for a in range(-apart.dim(), 0) if a == data_axis or a < -nesting - kept]
    return apart.mean(over)


def _factors(fn: Any) -> Any:
    """The distribution of single coordinates inside one of whole events."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn
