"""Objectives beside Trace_ELBO, datum by datum, with the interface of Pyro's: any of them goes into `svi_step` or `SVI`."""

from __future__ import annotations

__all__ = ["IWAE", "DReG", "FreeBits", "StickingTheLanding", "annealed"]

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ppl_gen.calling import forked
from ppl_gen.program import is_auxiliary, log_prob_per_datum, plate_nesting, stochastic_sites

Sites = dict[str, Any]


class _Draw(NamedTuple):
    """z ~ q(z | x) with particles on the left, and the sites of guide and model there.

    Attributes:
        guide: By name, the guide's sites.
        model: By name, the model's latent sites.
        log_likelihood: log p(x | z), (K, N).
        scale: What the observed data are weighed with: N/n for a subsample of n in a plate of N.
        nesting: The number of axes that the plates take, without that of the particles.
    """

    guide: Sites
    model: Sites
    log_likelihood: Tensor
    scale: Any
    nesting: int

    def log_prob(self, sites: Sites) -> Tensor:
        """The log density of latent sites, (K, N), each weighed by β: its scale, in units of that of the data."""
        return sum(
            (self.beta(site) * log_prob_per_datum(site, self.nesting) for site in sites.values()),
            torch.zeros_like(self.log_likelihood),
        )

    def beta(self, site: Any) -> Any:
        """1, but for latents that a `poutine.scale` or `svi_step(beta=...)` weighs otherwise than the data."""
        return 1.0 if site["scale"] is self.scale else site["scale"] / self.scale

    @property
    def log_weight(self) -> Tensor:
        """log w = log p(x | z) + β (log p(z) − log q(z | x)), (K, N)."""
        return self.log_likelihood + self.log_prob(self.model) - self.log_prob(self.guide)


class _PerDatum(ELBO):
    """−Σᵢ sᵢ Lᵢ with one bound Lᵢ for each datum of the plate "data"; the scale sᵢ of its subsampling stays outside of Lᵢ.

    Args:
        num_particles: K, the number of draws z ~ q(z | x) per datum, all at once on an axis on the left.
        max_plate_nesting: How many axes the plates of model and guide take; found by running both once if left out.

    Raises:
        ValueError: If K is below 1; when it is first called, if a site lies outside the plate "data", has no
            reparameterised draws or is in one of model and guide only.
    """

    metric: ClassVar[str] = "elbo"
    max_plate_nesting: float

    def __init__(self, num_particles: int = 1, *, max_plate_nesting: float = math.inf) -> None:
        if num_particles < 1:
            raise ValueError(f"expected num_particles of at least 1, got {num_particles}")
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)

    @abstractmethod
    def bound(self, draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """Lᵢ of each datum, (N,); `rerun` gives the guide's sites at other values of its latents."""

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss, for autograd; a sum over data, as Pyro's are."""
        self._find_nesting(model, guide, args, kwargs)
        model_trace, guide_trace = self._get_trace(model, guide, args, kwargs)
        draw = self._draw(model_trace, guide_trace)

        def rerun(values: Mapping[str, Tensor]) -> Sites:
            moved = self._in_particles(poutine.replay(guide, trace=_with_values(guide_trace, values)), args, kwargs)
            return {name: site for name, site in stochastic_sites(moved).items() if name in draw.guide}

        return -(draw.scale * self.bound(draw, rerun)).sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number, its gradient left in the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[poutine.Trace, poutine.Trace]:
        guide_trace = self._seen(self._in_particles(guide, args, kwargs))
        return poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs), guide_trace

    def _seen(self, guide_trace: poutine.Trace) -> poutine.Trace:
        """The guide's trace as the model is to see it."""
        return guide_trace

    def _in_particles(self, guide: Any, args: Any, kwargs: Any) -> poutine.Trace:
        with pyro.plate("_particles", self.num_particles, dim=-1 - int(self.max_plate_nesting)):
            return poutine.trace(guide).get_trace(*args, **kwargs)

    def _find_nesting(self, model: Any, guide: Any, args: Any, kwargs: Any) -> None:
        """Runs both once, without a trace of it, and checks that they fit each other."""
        if self.max_plate_nesting < math.inf:
            return
        device = next((a.device for a in args if torch.is_tensor(a)), torch.device("cpu"))
        with forked(device, None), torch.no_grad(), poutine.block():
            guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
        latents = {name for name, site in _latents(model_trace).items()}
        proposed = {name for name, site in _latents(guide_trace).items() if not is_auxiliary(site)}
        if latents != proposed:
            raise ValueError(
                f"expected the guide to sample the model's latent sites {sorted(latents)}, got {sorted(proposed)}; give the "
                f"sites the same names in both (sites to be enumerated need TraceEnum_ELBO)"
            )
        for name, site in _latents(guide_trace).items():
            if not site["fn"].has_rsample:
                raise ValueError(
                    f"expected reparameterised draws of {name!r} for {type(self).__name__}, got {type(site['fn']).__name__}, "
                    f"which has none; take Trace_ELBO, TraceGraph_ELBO, or TraceEnum_ELBO where it can be summed out"
                )
        self.max_plate_nesting = max(plate_nesting(model_trace), plate_nesting(guide_trace))

    def _draw(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> _Draw:
        nesting = int(self.max_plate_nesting)
        sites, latents = stochastic_sites(model_trace), _latents(model_trace)
        observed = [site for name, site in sites.items() if name not in latents]
        scale = sites["x"]["scale"] if "x" in sites else observed[0]["scale"] if observed else 1.0
        first = next(iter(_latents(guide_trace).values()))
        zero = first["value"].new_zeros(self.num_particles, 1)
        likelihood = sum((log_prob_per_datum(s, nesting) * _ratio(s["scale"], scale) for s in observed), zero)
        return _Draw(_latents(guide_trace), latents, likelihood, scale, nesting)


class IWAE(_PerDatum):
    """L = E[log (1/K) Σₖ wₖ] with wₖ = p(x, zₖ) / q(zₖ | x) and zₖ ~ q(z | x); ELBO = L₁ ≤ L_K ≤ log p(x), in nats per datum.

    A bound under any subsampling of the plate "data", whose scale multiplies L and not log w. With β other than 1, log w is
    log p(x | z) + β (log p(z) − log q(z | x)), and L is no bound.

    Args:
        num_particles: K.
        max_plate_nesting: How many axes the plates take; found by running model and guide once if left out.

    Raises:
        ValueError: If K is below 1; at the first call, if a site lies outside the plate "data", has no reparameterised
            draws, or is in one of model and guide only.

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

    def bound(self, draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        return draw.log_weight.logsumexp(0) - math.log(self.num_particles)


class DReG(_PerDatum):
    """The bound of `IWAE`, with the doubly reparameterised gradient: Σₖ w̃ₖ² ∂log wₖ/∂zₖ ∂zₖ/∂φ for the guide's parameters φ.

    w̃ₖ = wₖ / Σⱼ wⱼ. The expectation of the gradient is that of IWAE, and its signal-to-noise ratio does not fall with K. The
    model's parameters have the gradient Σₖ w̃ₖ ∂log wₖ/∂θ, as with IWAE.

    Args:
        num_particles: As in `IWAE`.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: As `IWAE` does.

    Reference:
        Tucker, Lawson, Gu and Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives, eq. 8.
    """

    metric = "iwae"

    def bound(self, draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """log (1/K) Σₖ wₖ, (N,)."""
        log_weight = draw.log_weight - _score(draw, rerun)
        normalised = log_weight.detach().softmax(0)
        for site in draw.guide.values():
            if site["value"].requires_grad:
                weight = _aligned(normalised, site, draw.nesting)
                site["value"].register_hook(lambda gradient, weight=weight: gradient * weight)
        return log_weight.logsumexp(0) - math.log(self.num_particles)

    def _seen(self, guide_trace: poutine.Trace) -> poutine.Trace:
        """With tensors of its own: their hooks weigh what comes back from log w, and not one latent's path through another."""
        return _with_values(guide_trace, {n: s["value"].view_as(s["value"]) for n, s in _latents(guide_trace).items()})


class StickingTheLanding(_PerDatum):
    """The ELBO, its gradient without the term E_q[∂log q/∂φ] = 0: where q is the posterior, the gradient has no variance.

    Args:
        num_particles: K, over which the ELBO is averaged.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: As `IWAE` does.

    Reference:
        Roeder, Wu and Duvenaud (2017), Sticking the landing, eq. 8.
    """

    def bound(self, draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """(1/K) Σₖ log wₖ, (N,)."""
        return (draw.log_weight - _score(draw, rerun)).mean(0)


class FreeBits(_PerDatum):
    """Σᵢ E_q[log p(xᵢ | z)] − N Σⱼ max(λ, KLⱼ) with KLⱼ = (1/N) Σᵢ KL(q(zⱼ | xᵢ) ‖ p(zⱼ)), j a coordinate of the latents.

    No coordinate gains from a KL below λ, so none is driven to collapse. KLⱼ is closed where both are of factorised families
    that torch knows, else the average of log q − log p; a density that does not factorise, as a flow's, is taken in one piece.

    Args:
        nats: λ, in nats per coordinate.
        num_particles: K, over which the expectations are averaged.
        max_plate_nesting: As in `IWAE`.

    Raises:
        ValueError: If λ is negative, or as `IWAE` does.

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational inference with inverse
        autoregressive flow, eq. 15.
    """

    metric = "objective"

    def __init__(self, nats: float, num_particles: int = 1, *, max_plate_nesting: float = math.inf) -> None:
        if not 0 <= nats < math.inf:
            raise ValueError(f"expected free nats of at least 0, got {nats}")
        super().__init__(num_particles, max_plate_nesting=max_plate_nesting)
        self.nats = nats

    def bound(self, draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
        """(1/K) Σₖ log p(x | zₖ) − Σⱼ max(λ, KLⱼ), (N,)."""
        latents = [site for site in draw.guide.values() if not is_auxiliary(site)]
        kl = [(draw.beta(site), _divergence(site, draw.model[site["name"]], draw.nesting)) for site in latents]
        return draw.log_likelihood.mean(0) - sum(beta * part.clamp(min=self.nats).sum() for beta, part in kl)


def annealed(
    steps: int, start: float = 0.0, stop: float = 1.0, *, cycles: int = 1, rise: float = 1.0
) -> Callable[[int], float]:
    """β(t) for `svi_step(beta=...)`: from `start` to `stop` in a straight line, then level; over and over with several cycles.

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
        Bowman et al. (2016), Generating sentences from a continuous space; for cycles, Fu et al. (2019), Cyclical annealing
        schedule.
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


def _latents(trace: poutine.Trace) -> Sites:
    return {name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]}


def _with_values(trace: poutine.Trace, values: Mapping[str, Tensor]) -> poutine.Trace:
    """A copy of a trace with other values at some sites."""
    moved = trace.copy()
    for name, value in values.items():
        moved.nodes[name] = {**moved.nodes[name], "value": value}
    return moved


def _ratio(scale: Any, unit: Any) -> Any:
    return 1.0 if scale is unit else scale / unit


def _score(draw: _Draw, rerun: Callable[[Mapping[str, Tensor]], Sites]) -> Tensor:
    """Zero, with the gradient −∂log q(z; φ)/∂φ at fixed z: taken from log w, it leaves the path through z alone."""
    values = {name: site["value"].detach() for name, site in draw.guide.items()}
    # One site alone depends on no other: its density is at hand. Of several, the later ones hang on the earlier ones' paths.
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
    """KL(q ‖ p) of each coordinate of a site, averaged over particles and data; whole where a density does not factorise."""
    ours, theirs = _factors(q["fn"]), _factors(p["fn"])
    axes = next(-f.dim for f in q["cond_indep_stack"] if f.name == "data")
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
    data_axis = -axes - kept
    over = [a for a in range(-apart.dim(), 0) if a == data_axis or a < -nesting - kept]
    return apart.mean(over)


def _factors(fn: Any) -> Any:
    """The distribution of single coordinates inside one of whole events."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn
