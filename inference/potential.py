"""The posterior of any Pyro program as a function of one flat vector: what samplers move in."""

from __future__ import annotations

__all__ = ["Potential", "expect_counts"]

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.func import grad_and_value, vmap

from ppl_gen.calling import evaluating, forked, owner, store_kept
from ppl_gen.inference.tracing import Functional, tracing
from ppl_gen.program import log_density, stochastic_sites


class _Latent(NamedTuple):
    """A site in the flat vector: its slice, its shape there, and the transform from its support."""

    start: int
    stop: int
    shape: torch.Size
    transform: Any


class Potential:
    """U(q) = −log p(x, z(q)) − log |∂z/∂q|, on unconstrained q of shape (B, D).

    Jointly, B = 1 and q holds all latents of the program. Where the latents are local to the plate "data", B = N, one row for
    each datum, and U is a vector: the posteriors are independent and may be sampled as such.

    Args:
        model: Any Pyro program; discrete latents of finite support are summed out (not where `local`).
        args: What it is called with. Its tensors, and those of its module, are inputs of `energy`; nothing is baked in.
        local: Whether to take the latents datum by datum.

    Raises:
        ValueError: If an argument is not finite, if the program has no continuous latents, discrete ones that cannot be
            summed out, sites that come and go, or, where `local`, sites outside the plate "data".
    """

    def __init__(self, model: Callable[..., Any], args: Sequence[Any], *, local: bool = False) -> None:
        _check_finite(args)
        self.model, self.local = model, local
        self._args = list(args)
        self._places = [i for i, a in enumerate(args) if torch.is_tensor(a)]
        if local and not (args and torch.is_tensor(args[0]) and args[0].dim() > 0):
            raise ValueError(
                "expected data of shape (N, *shape) as the first argument for local=True; else say local=False"
            )
        with evaluating(model), tracing(), store_kept(), forked(_device(model, args), None):
            prototype = _prototype(model, args)
            latents = _check_sites(model, args, prototype, local)
            if local:
                self._transforms = {name: biject_to(site["fn"].support).inv for name, site in latents.items()}
            else:
                values = {n: biject_to(s["fn"].support).inv(s["value"]) for n, s in latents.items()}
                with warnings.catch_warnings(action="ignore"):
                    _, self._energy_of, self._transforms, _ = initialize_model(
                        self._bound,
                        init_strategy=_anywhere,
                        initial_params=values,
                        max_plate_nesting=_nesting(prototype),
                    )
            n = self._rows = args[0].shape[0] if local else 1
            self._layout, start = {}, 0
            for name, site in latents.items():
                shape = self._transforms[name](site["value"]).shape
                if local and (_plates(site)[:1] != ("data",) or shape[0] != n):
                    raise ValueError(
                        f"expected every latent inside the plate 'data' for local=True, on its first axis, got the site "
                        f"{name!r} outside it, of shape {tuple(shape)}; sample it jointly, with local=False"
                    )
                shape = shape[1:] if local else shape
                self._layout[name] = _Latent(start, start + math.prod(shape), shape, self._transforms[name])
                start += math.prod(shape)
        self.shape = (n, start)
        points = [site["value"] for site in latents.values()]
        self.dtype, self.device = functools.reduce(torch.promote_types, [v.dtype for v in points]), points[0].device
        self._deterministic = _deterministic(prototype)
        self._pure = Functional(self._energies, model)
        self.dims = {name: _plates(prototype.nodes[name]) for name in (*latents, *self._deterministic)}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Parameters and buffers of the program's module, and the tensors among its arguments."""
        return (*self._pure.tensors, *(self._args[i] for i in self._places))

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments that are no tensors, which a graph takes for granted."""
        return tuple(repr(a)[:200] for i, a in enumerate(self._args) if i not in self._places)

    @property
    def names(self) -> list[str]:
        """The latent sites, in the order of the flat vector."""
        return list(self._layout)

    def energy(self, q: Tensor, *tensors: Tensor) -> Tensor:
        """U of shape (B,) at q (B, D); a pure function of q and `self.tensors`."""
        count = len(self._pure.tensors)
        return self._pure(tensors[:count], q, tensors[count:])

    def energies(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """U (C, B) and ∂U/∂q (C, B, D) of C chains at once, q (C, B, D)."""

        def one(q: Tensor) -> tuple[Tensor, Tensor]:
            energy = self.energy(q, *tensors)
            return energy.sum(), energy

        with tracing():
            gradient, (_, energy) = vmap(grad_and_value(one, has_aux=True))(q)
        return energy, gradient

    def energies_in_turn(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """The same, chain by chain, for programs that vmap cannot follow."""
        energies, gradients = [], []
        for one in q:
            point = one.detach().requires_grad_()
            with tracing(), torch.enable_grad():
                energy = self.energy(point, *tensors)
                (gradient,) = torch.autograd.grad(energy.sum(), point)
            energies.append(energy.detach())
            gradients.append(gradient)
        return torch.stack(energies), torch.stack(gradients)

    def expect_no_noise(self, q: Tensor) -> None:
        """Says when the density itself is random: a sampler would draw from nothing that has a name.

        Raises:
            ValueError: If the energies of q (C, B, D) differ between two evaluations.
        """
        first, second = (self.energies_in_turn(q, *self.tensors)[0] for _ in range(2))
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise ValueError(
                "expected the same log density at the same latents, got two: the model draws random numbers outside its "
                "sample sites (a Dropout in training mode?); call .eval() on its modules, or make them sample sites"
            )

    def starts(self, chains: int) -> Tensor:
        """Dispersed starts (C, B, D), uniform on [−2, 2], drawn again where the density is zero or infinite.

        Raises:
            ValueError: If it is so at a hundred starts; names the site.
        """
        q = torch.empty(chains, *self.shape, dtype=self.dtype, device=self.device)
        bad = torch.ones(q.shape[:2], dtype=torch.bool, device=self.device)
        for attempt in range(100):
            q[bad] = torch.empty_like(q[bad]).uniform_(-2, 2) * 0.97**attempt
            try:
                energy, gradient = self.energies(q, *self.tensors)
            except Exception:  # whatever keeps vmap from following; the caller has told
                energy, gradient = self.energies_in_turn(q, *self.tensors)
            bad = ~(energy.isfinite() & gradient.isfinite().all(-1))
            if not bool(bad.any()):
                return q
        raise ValueError(
            f"expected a finite log density at some start in [−2, 2] (unconstrained), got none in 100 tries, from "
            f"{self._bad_sites(q[bad.nonzero()[0, 0]])}; rescale the data, or give the latents proper priors"
        )

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent site at q (*batch, B, D), in its support."""
        values = {}
        for name, (start, stop, shape, transform) in self._layout.items():
            flat = q[..., start:stop] if self.local else q[..., 0, start:stop]
            values[name] = transform.inv(flat.reshape((*flat.shape[:-1], *shape)))
        return values

    def flatten(self, values: dict[str, Tensor]) -> Tensor:
        """q (*batch, B, D), of the values of all latent sites: the inverse of `sites`."""
        parts = []
        for name, (start, stop, shape, transform) in self._layout.items():
            free = transform(values[name])
            parts.append(free.reshape((*free.shape[: free.dim() - len(shape)], stop - start)))
        q = torch.cat(parts, -1)
        return q if self.local else q[..., None, :]

    def log_jacobian(self, q: Tensor) -> Tensor:
        """log |∂z/∂q| at one q (B, D), of shape (B,)."""
        total = q.new_zeros(self.shape[0])
        for start, stop, shape, transform in self._layout.values():
            flat = q[..., start:stop] if self.local else q[..., 0, start:stop]
            free = flat.reshape((*flat.shape[:-1], *shape))
            value = transform.inv(free)
            term = -transform.log_abs_det_jacobian(value, free)
            total = total + (term.reshape(self.shape[0], -1).sum(-1) if self.local else term.sum())
        return total

    def constrain(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent and each deterministic site at q (S, B, D): S on the first axis."""
        with evaluating(self.model), torch.no_grad():
            values = self.sites(q)
            if not self._deterministic:
                return values

            def follow(latents: dict[str, Tensor]) -> dict[str, Tensor]:
                trace = poutine.trace(poutine.condition(self.model, data=latents)).get_trace(*self._args)
                return {name: trace.nodes[name]["value"] for name in self._deterministic}

            width = max(1, sum(value[0].numel() for value in values.values()))
            try:
                with tracing():
                    return values | vmap(follow, randomness="same", chunk_size=max(1, 2**22 // width))(values)
            except Exception:  # whatever keeps vmap from following
                each = [follow({k: v[i] for k, v in values.items()}) for i in range(q.shape[0])]
                return values | {k: torch.stack([d[k] for d in each]) for k in self._deterministic}

    def _bound(self) -> Any:
        return self.model(*self._args)

    def _energies(self, q: Tensor, given: Sequence[Tensor]) -> Tensor:
        """U (B,), the arguments replaced by what is given."""
        own = self._args
        self._args = list(own)
        for i, tensor in zip(self._places, given, strict=True):
            self._args[i] = tensor
        try:
            if self.local:
                return -log_density(self.model, self.sites(q), *self._args).joint - self.log_jacobian(q)
            return self._energy_of({k: q[0, a:b].reshape(s) for k, (a, b, s, _) in self._layout.items()}).reshape(1)
        finally:
            self._args = own

    def _bad_sites(self, q: Tensor) -> str:
        """The sites whose log density is not finite at q (B, D)."""
        values = self.sites(q)
        trace = poutine.trace(poutine.condition(self.model, data=values)).get_trace(*self._args)
        bad = [
            repr(name)
            for name, site in stochastic_sites(trace).items()
            if not bool(torch.isfinite(site["fn"].log_prob(site["value"])).all())
        ]
        return "site " + ", ".join(bad) if bad else "the gradient of the log density, though every site is finite"


def expect_counts(**counts: int) -> None:
    """Says when a number of draws, chains or warm-up steps is too small.

    Raises:
        ValueError: Then.
    """
    for name, count in counts.items():
        least = 0 if name == "warmup" else 1
        if count < least:
            raise ValueError(f"expected {name} of at least {least}, got {count}")


def _check_finite(args: Sequence[Any]) -> None:
    for i, a in enumerate(args):
        if torch.is_tensor(a) and not bool(torch.isfinite(a).all()):
            raise ValueError(
                f"expected finite data, got NaN or infinite values in argument {i}; remove or replace them"
            )


def _device(model: Callable[..., Any], args: Sequence[Any]) -> torch.device:
    module = owner(model)
    held = [*args, *(module.parameters() if isinstance(module, torch.nn.Module) else ())]
    return next((t.device for t in held if torch.is_tensor(t)), torch.device("cpu"))


def _anywhere(site: Any) -> Tensor:
    """The point at the origin of unconstrained space, for any distribution, improper ones included."""
    fn = site["fn"]
    transform = biject_to(fn.support)
    shape = transform.inverse_shape(fn.shape())
    return transform(_held(fn).new_zeros(shape))


def _held(fn: Any) -> Tensor:
    """A tensor of the distribution, or of those inside it: what tells device and type."""
    for value in vars(fn).values():
        if torch.is_tensor(value) and value.is_floating_point():
            return value
    inner = getattr(fn, "base_dist", None)
    return torch.zeros(()) if inner is None else _held(inner)


def _prototype(model: Callable[..., Any], args: Sequence[Any]) -> poutine.Trace:
    def start(site: Any) -> Tensor | None:
        return None if site["fn"].support.is_discrete else _anywhere(site)

    with forked(torch.device("cpu"), 0), warnings.catch_warnings(action="ignore"):
        return poutine.trace(InitMessenger(start)(model)).get_trace(*args)


def _check_sites(model: Callable[..., Any], args: Sequence[Any], trace: poutine.Trace, local: bool) -> dict[str, Any]:
    """The continuous latent sites, once nothing is wrong with any."""
    hidden = {name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]}
    for name, site in hidden.items():
        if site["fn"].support.is_discrete and not site["fn"].has_enumerate_support:
            raise ValueError(
                f"expected continuous latents, or discrete ones of finite support that can be summed out, got the site "
                f"{name!r} from {type(site['fn']).__name__}; sum it out by hand, or replace it by a continuous latent"
            )
    latents = {name: site for name, site in hidden.items() if not site["fn"].support.is_discrete}
    if local and len(latents) < len(hidden):
        names = sorted(hidden.keys() - latents.keys())
        raise ValueError(f"expected continuous latents alone for local=True, got the discrete {names}; say local=False")
    if not latents:
        raise ValueError(
            f"expected a program with continuous latents to sample, got the sites {sorted(hidden) or 'none'}"
        )
    with forked(torch.device("cpu"), 1), warnings.catch_warnings(action="ignore"):
        again = [stochastic_sites(poutine.trace(model).get_trace(*args)) for _ in range(3)] if _drawable(hidden) else []
    for other in again:
        shapes = [{n: s["value"].shape for n, s in t.items() if not s["is_observed"]} for t in (hidden, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"expected the same latents at every call of the model, got {_described(shapes[0])} at one and "
                f"{_described(shapes[1])} at another; give it a fixed number of latents"
            )
        for name, site in latents.items():
            bounds = [_bounds(s["fn"].support) for s in (site, other[name])]
            if any(not torch.equal(a, b) for a, b in zip(*bounds, strict=True)):
                raise ValueError(
                    f"expected a support that is the same for all latents, got that of the site {name!r}, which "
                    f"depends on another latent; sample it on a fixed interval and scale it by pyro.deterministic"
                )
    return latents


def _drawable(sites: dict[str, Any]) -> bool:
    """Whether every prior can be sampled; improper ones cannot."""
    return not any(_is_improper(site["fn"]) for site in sites.values())


def _is_improper(fn: Any) -> bool:
    return type(fn).__name__ == "ImproperUniform" or (hasattr(fn, "base_dist") and _is_improper(fn.base_dist))


def _bounds(support: Any) -> list[Tensor]:
    """The numbers of a constraint: those of an interval, also inside others."""
    found = []
    for value in vars(support).values():
        if torch.is_tensor(value) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            found.append(torch.as_tensor(value, dtype=torch.float64))
        elif hasattr(value, "check"):
            found += _bounds(value)
    return found


def _described(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())


def _deterministic(trace: poutine.Trace) -> list[str]:
    """The sites of pyro.deterministic; none where discrete latents are summed out, on which they may depend."""
    if any(s["fn"].support.is_discrete for s in stochastic_sites(trace).values() if not s["is_observed"]):
        return []
    return [n for n, s in trace.nodes.items() if s["type"] == "sample" and s["infer"].get("_deterministic")]


def _nesting(trace: poutine.Trace) -> int:
    """The number of axes that plates take; what initialize_model would find out by drawing from the priors."""
    frames = [f for s in stochastic_sites(trace).values() for f in s["cond_indep_stack"] if f.vectorized]
    return max((-f.dim for f in frames), default=0)


def _plates(site: Any) -> tuple[str, ...]:
    """For each axis of a site, the name of its plate, or "" where it is in none."""
    frames = {f.dim: (f.name, f.size) for f in site["cond_indep_stack"] if f.vectorized}
    shape = tuple(site["value"].shape)
    events = len(site["fn"].event_shape)
    if site["infer"].get("_deterministic") and events == len(shape):
        events = 0  # pyro.deterministic takes all axes for its event where it is not told
    names = []
    for axis in range(-len(shape), 0):
        name, size = frames.get(axis + events, ("", 0))
        names.append(name if axis + events < 0 and size == shape[axis] else "")
    return tuple(names)
