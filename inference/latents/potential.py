"""The posterior of any Pyro program as a function of one flat vector: what samplers move in."""

from __future__ import annotations

__all__ = ["Potential", "log_joint"]

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.transforms import biject_to
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.func import grad_and_value, vmap

from ppl_gen.contexts import device_of, evaluating, forked, store_kept
from ppl_gen.inference.engine.graphs import Functional
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.expect import expect_finite
from ppl_gen.inference.latents.layout import Layout
from ppl_gen.inference.latents.prototype import anywhere, continuous_sites, prototype_of
from ppl_gen.program import log_density, stochastic_sites
from ppl_gen.pyro_patches import tracing
from ppl_gen.sites import deterministic_sites, plate_nesting, plates


class Potential:
    """U(q) = −log p(x, z(q)) − log |∂z/∂q|, on unconstrained q of shape (B, D).

    Jointly, B = 1 and q holds all latents of the program. Where the latents are local to the plate
    "data", B = N, one row for each datum, and U is a vector: the posteriors are independent and may
    be sampled as such.

    Args:
        model: Any Pyro program; discrete latents of finite support are summed out (not where
            `local`).
        args: What it is called with. Its tensors, and those of its module, are inputs of `energy`;
            nothing is baked in.
        local: Whether to take the latents datum by datum.

    Raises:
        ValueError: If an argument is not finite, if the program has no continuous latents, discrete
            ones that cannot be summed out, sites that come and go, or, where `local`, sites outside
            the plate "data".
    """

    def __init__(
        self, model: Callable[..., Any], args: Sequence[Any], *, local: bool = False
    ) -> None:
        expect_finite(args)
        self.model, self.local = model, local
        self._args = list(args)
        self._places = [i for i, a in enumerate(args) if torch.is_tensor(a)]
        if local and not (args and torch.is_tensor(args[0]) and args[0].dim() > 0):
            raise ValueError(
                "expected data of shape (N, *shape) as the first argument for local=True; else "
                "say local=False"
            )
        with evaluating(model), tracing(), store_kept(), forked(device_of(model, args), None):
            prototype = prototype_of(model, args)
            latents = continuous_sites(model, args, prototype, local)
            if local:
                self._transforms = {
                    name: biject_to(site["fn"].support).inv for name, site in latents.items()
                }
            else:
                values = {n: biject_to(s["fn"].support).inv(s["value"]) for n, s in latents.items()}
                with warnings.catch_warnings(action="ignore"):
                    _, self._energy_of, self._transforms, _ = initialize_model(
                        self._bound,
                        init_strategy=anywhere,
                        initial_params=values,
                        max_plate_nesting=plate_nesting(prototype, least=0),
                    )
            self.layout = Layout(latents, self._transforms, args[0].shape[0] if local else None)
        self.shape = self.layout.shape
        points = [site["value"] for site in latents.values()]
        self.dtype, self.device = (
            functools.reduce(torch.promote_types, [v.dtype for v in points]),
            points[0].device,
        )
        self._deterministic = deterministic_sites(prototype)
        self._pure = Functional(self._energies, model)
        self.dims = {
            name: plates(prototype.nodes[name]) for name in (*latents, *self._deterministic)
        }

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
        return list(self.layout.places)

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
        """Says when the density itself is random: a sampler would draw from nothing that has a
        name.

        Raises:
            ValueError: If the energies of q (C, B, D) differ between two evaluations.
        """
        first, second = (self.energies_in_turn(q, *self.tensors)[0] for _ in range(2))
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise ValueError(
                "expected the same log density at the same latents, got two: the model draws "
                "random numbers outside its sample sites (a Dropout in training mode?); call "
                ".eval() on its modules, or make them sample sites"
            )

    def starts(self, chains: int) -> Tensor:
        """Dispersed starts (C, B, D), uniform on [−2, 2], drawn again where the density is zero or
        infinite.

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
            "expected a finite log density at some start in [−2, 2] (unconstrained), got none in "
            f"100 tries, from {self._bad_sites(q[bad.nonzero()[0, 0]])}; rescale the data, or "
            "give the latents proper priors"
        )

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent site at q (*batch, B, D), in its support."""
        return self.layout.sites(q)

    def flatten(self, values: dict[str, Tensor]) -> Tensor:
        """q (*batch, B, D), of the values of all latent sites: the inverse of `sites`."""
        return self.layout.flatten(values)

    def log_jacobian(self, q: Tensor) -> Tensor:
        """log |∂z/∂q| at q (*batch, B, D), of shape (*batch, B)."""
        return self.layout.log_jacobian(q)

    def constrain(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent and each deterministic site at q (S, B, D): S on the first axis."""
        with evaluating(self.model), torch.no_grad():
            values = self.sites(q)
            if not self._deterministic:
                return values

            def follow(latents: dict[str, Tensor]) -> dict[str, Tensor]:
                trace = poutine.trace(poutine.condition(self.model, data=latents)).get_trace(
                    *self._args
                )
                return {name: trace.nodes[name]["value"] for name in self._deterministic}

            width = sum(value[0].numel() for value in values.values())
            return values | at_each(follow, values, width=width, randomness="same")

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
                return -log_density(
                    self.model, self.sites(q), *self._args
                ).joint - self.log_jacobian(q)
            free = {k: q[0, a:b].reshape(s) for k, (a, b, s, _) in self.layout.places.items()}
            return self._energy_of(free).reshape(1)
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
        return (
            "site " + ", ".join(bad)
            if bad
            else "the gradient of the log density, though every site is finite"
        )


def log_joint(potential: Potential, q: Tensor) -> Tensor:
    """log p(x, z(q)) + log |∂z/∂q| at many points q (M, B, D), of shape (M, B), in nats."""
    tensors = potential.tensors
    width = max(sum(t.numel() for t in tensors), q[0].numel(), 1)
    return -at_each(lambda point: potential.energy(point, *tensors), q, width=width)
