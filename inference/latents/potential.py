"""The posterior of any Pyro program as a function of one flat vector: what samplers move in."""

from __future__ import annotations

__all__ = ["Potential", "log_joint"]

import functools
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.func import grad_and_value, vmap

from ppl_gen.contexts import device_of, evaluating, explained, forked, store_kept
from ppl_gen.enumeration import in_parallel
from ppl_gen.inference.engine.graphs import Functional
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.expect import expect_finite
from ppl_gen.inference.latents.layout import Layout
from ppl_gen.inference.latents.prototype import anywhere, continuous_sites, prototype_of
from ppl_gen.inference.latents.subsampling import (
    expect_whole_data,
    subsampled_plates,
    with_whole_plates,
)
from ppl_gen.program import log_density
from ppl_gen.pyro_patches import tracing
from ppl_gen.sites import (
    data_frame,
    data_plate,
    deterministic_sites,
    latent_sites,
    plate_nesting,
    plates,
    stochastic_sites,
)
from ppl_gen.supports import support_of, to_support

_SCORABLE = "take distributions with a log_prob of many values at once"
# From q (C, B, D) and tensors to U (C, B) and ∂U/∂q (C, B, D).
Energies = Callable[..., tuple[Tensor, Tensor]]


class Potential:
    """U(q) = −log p(x, z(q)) − log |∂z/∂q|, on unconstrained q of shape (B, D), in nats.

    Jointly, B = 1 and q holds all latents of the program. Where the latents are local to the plate
    "data", B = N, one row for each datum, and U is a vector: the posteriors are independent and may
    be sampled as such.

    Args:
        model: Any Pyro program; discrete latents of finite support are summed out.
        args: What it is called with. Its tensors, and those of its module, are inputs of `energy`,
            so that a graph of it serves others as well.
        local: Whether to take the latents datum by datum.

    Attributes:
        layout: Where each site is in q.
        shape: (B, D).
        dtype: The type of q.
        device: Where q is.
        dims: By site, latent or deterministic, the name of the plate of each axis; "" for none.
        summed_out: The names of the discrete latents.
        subsampled: By plate that the model subsamples, and that is taken whole here, the number
            of indices that the model takes and that there are.
        shapes: By latent site, the shape of its value.
        supports: By latent site, its support.

    Raises:
        ValueError: If an argument is not finite, if the program has no continuous latents, discrete
            ones that cannot be summed out, sites that come and go, or, where `local`, sites outside
            the plate "data"; if the program subsamples a plate and cannot be given all its data.
    """

    def __init__(
        self, model: Callable[..., Any], args: Sequence[Any], *, local: bool = False
    ) -> None:
        expect_finite(args, model)
        if local:
            _expect_data(args)
        self.model = model
        self.local = local
        self._call = model
        self._args = list(args)
        self._places = [i for i, argument in enumerate(args) if torch.is_tensor(argument)]
        with evaluating(model), tracing(), store_kept(), forked(device_of(model, args), None):
            prototype = prototype_of(model, args)
            self.subsampled = subsampled_plates(prototype)
            if self.subsampled:
                self._call = with_whole_plates(model)
                expect_whole_data(self._call, args, self.subsampled)
                prototype = prototype_of(self._call, args)
            latents = continuous_sites(self._call, args, prototype)
            hidden = latent_sites(prototype)
            self.summed_out = tuple([name for name in hidden if name not in latents])
            transforms = {name: to_support(name, site["fn"]).inv for name, site in latents.items()}
            rows = None
            if local:
                rows = args[0].shape[0]
            else:
                self._prepare_joint(latents, transforms, prototype)
            sites = stochastic_sites(prototype)
            plate = data_plate(sites)
            self.layout = Layout(latents, transforms, rows, plate=plate)
            if local:
                for site in sites.values():
                    data_frame(site, plate)  # raises where a site has no density per datum
        self.shapes = {name: site["value"].shape for name, site in latents.items()}
        self.supports = {name: support_of(site["fn"]) for name, site in latents.items()}
        self.shape = self.layout.shape
        values = [site["value"] for site in latents.values()]
        self.dtype = functools.reduce(torch.promote_types, [value.dtype for value in values])
        self.device = values[0].device
        self._deterministic = deterministic_sites(prototype)
        self._pure = Functional(self._energies, model)
        named = (*latents, *self._deterministic)
        self.dims = {name: plates(prototype.nodes[name]) for name in named}

    def _prepare_joint(
        self, latents: dict[str, Any], transforms: dict[str, Any], prototype: poutine.Trace
    ) -> None:
        """Lets Pyro make the joint density, discrete latents summed out."""
        start = {name: transforms[name](site["value"]) for name, site in latents.items()}
        with warnings.catch_warnings(action="ignore"):
            _, self._joint_energy, _, _ = initialize_model(
                in_parallel(lambda: self._call(*self._args), self.summed_out),
                transforms=transforms,
                init_strategy=anywhere,
                initial_params=start,
                max_plate_nesting=plate_nesting(prototype, least=0),
            )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Parameters and buffers of the program's module, and the tensors among its arguments."""
        return (*self._pure.tensors, *[self._args[i] for i in self._places])

    @property
    def args(self) -> tuple[Any, ...]:
        """What the model is called with."""
        return tuple(self._args)

    @property
    def whole(self) -> Callable[..., Any]:
        """The model as it is sampled: plates whole, discrete latents marked to be summed out."""
        return in_parallel(self._call, self.summed_out)

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments that are no tensors, which a graph takes for granted."""
        return tuple([repr(word)[:200] for word in self._args if not torch.is_tensor(word)])

    @property
    def remarks(self) -> list[str]:
        """What a user should know of the posterior that is sampled, in words."""
        remarks = []
        if self.summed_out:
            remarks.append(f"discrete latents summed out: {', '.join(self.summed_out)}")
        for name, (taken, size) in self.subsampled.items():
            remarks.append(
                f"all {size} data of the plate {name!r} were taken, of which the model subsamples "
                f"{taken}; leave subsample_size out to say so"
            )
        return remarks

    @property
    def names(self) -> list[str]:
        """The latent sites, in the order of the flat vector."""
        return list(self.layout.places)

    def energy(self, q: Tensor, *tensors: Tensor) -> Tensor:
        """U, of shape (B,), a pure function of its arguments.

        Args:
            q: The flat vector, of shape (B, D).
            *tensors: `self.tensors`, or others in their place.
        """
        count = len(self._pure.tensors)
        return self._pure(tensors[:count], q, tensors[count:])

    def energies(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """U (C, B) and ∂U/∂q (C, B, D) of C chains at once.

        Args:
            q: One flat vector for each chain, of shape (C, B, D).
            *tensors: `self.tensors`, or others in their place.
        """

        def one(q: Tensor) -> tuple[Tensor, Tensor]:
            energy = self.energy(q, *tensors)
            return energy.sum(), energy

        with tracing():
            gradient, (_, energy) = vmap(grad_and_value(one, has_aux=True))(q)
        return energy, gradient

    def energies_side_by_side(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """U (C, B) and ∂U/∂q (C, B, D), the chains on a leading axis of all latents, as particles.

        For local latents of programs that vmap cannot follow, such as flows that keep their draws.

        Args:
            q: One flat vector for each chain, of shape (C, B, D).
            *tensors: `self.tensors`, or others in their place.
        """
        point = q.detach().requires_grad_()
        with tracing(), torch.enable_grad():
            energy = self.energy(point, *tensors)
            (gradient,) = torch.autograd.grad(energy.sum(), point)
        return energy.detach(), gradient

    def energies_in_turn(self, q: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """U (C, B) and ∂U/∂q (C, B, D), chain by chain, for programs that vmap cannot follow.

        Args:
            q: One flat vector for each chain, of shape (C, B, D).
            *tensors: `self.tensors`, or others in their place.
        """
        energies = []
        gradients = []
        for one in q:
            point = one.detach().requires_grad_()
            with tracing(), torch.enable_grad():
                energy = self.energy(point, *tensors)
                (gradient,) = torch.autograd.grad(energy.sum(), point)
            energies.append(energy.detach())
            gradients.append(gradient)
        return torch.stack(energies), torch.stack(gradients)

    @cached_property
    def fastest(self) -> tuple[Energies, Exception | None]:
        """The first way that works of computing energies and gradients of all chains at once.

        Also the reason why chains take turns, where no way does.
        """
        q = torch.zeros(2, *self.shape, dtype=self.dtype, device=self.device)
        q[1] = 0.1
        try:
            self.energies(q, *self.tensors)
            return self.energies, None
        except Exception as error:  # whatever keeps vmap from following
            reason = error
        if self.local:
            with suppress(Exception):
                together = self.energies_side_by_side(q, *self.tensors)
                apart = self.energies_in_turn(q, *self.tensors)
                if all(map(partial(torch.allclose, rtol=1e-4, equal_nan=True), together, apart)):
                    return self.energies_side_by_side, None
        with explained("a log density of the model at given latents", _SCORABLE):
            self.energies_in_turn(q, *self.tensors)
        return self.energies_in_turn, reason

    def expect_no_noise(self, q: Tensor) -> None:
        """Raises ValueError if the density is random: two evaluations at the same points differ.

        Args:
            q: The points, of shape (C, B, D).
        """
        first, _ = self.energies_in_turn(q, *self.tensors)
        second, _ = self.energies_in_turn(q, *self.tensors)
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise ValueError(
                "expected the same log density at the same latents, got two: the model draws "
                "random numbers outside its sample sites (a Dropout in training mode?); call "
                ".eval() on its modules, or make them sample sites"
            )

    def starts(self, chains: int) -> Tensor:
        """Dispersed starts (C, B, D), uniform on [−2, 2]; drawn again where the density is 0 or ∞.

        Args:
            chains: C, the number of chains.

        Raises:
            ValueError: If it is so at a hundred starts; names the site.
        """
        q = torch.empty(chains, *self.shape, dtype=self.dtype, device=self.device)
        bad = torch.ones(q.shape[:2], dtype=torch.bool, device=self.device)
        for attempt in range(100):
            q[bad] = torch.empty_like(q[bad]).uniform_(-2, 2) * 0.97**attempt
            bad = ~self.possible(q)
            if not bool(bad.any()):
                return q
        chain = bad.nonzero()[0, 0]
        raise ValueError(
            "expected a finite log density at some start in [−2, 2] (unconstrained), got none in "
            f"100 tries, from {self.impossible_sites(q[chain])}; rescale the data, give the "
            "latents proper priors, or say where to begin (init=)"
        )

    def possible(self, q: Tensor) -> Tensor:
        """Whether energy and gradient are finite, (C, B), at starts (C, B, D)."""
        energies, _ = self.fastest
        energy, gradient = energies(q, *self.tensors)
        return energy.isfinite() & gradient.isfinite().all(-1)

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent site, in its support, by name.

        Args:
            q: The flat vector, of shape (*batch, B, D).
        """
        return self.layout.sites(q)

    def flatten(self, values: dict[str, Tensor]) -> Tensor:
        """The flat vector q of shape (*batch, B, D): the inverse of `sites`.

        Args:
            values: By name, the value of each latent site, in its support.
        """
        return self.layout.flatten(values)

    def log_jacobian(self, q: Tensor) -> Tensor:
        """log |∂z/∂q|, of shape (*batch, B).

        Args:
            q: The flat vector, of shape (*batch, B, D).
        """
        return self.layout.log_jacobian(q)

    def constrain(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each latent and each deterministic site, by name, with S on the first axis.

        Args:
            q: S flat vectors, of shape (S, B, D).
        """
        with evaluating(self.model), torch.no_grad():
            values = self.sites(q)
            if not self._deterministic:
                return values
            width = sum([value[0].numel() for value in values.values()])
            return values | at_each(self._follow, values, width=width, randomness="same")

    def _follow(self, latents: dict[str, Tensor]) -> dict[str, Tensor]:
        """The deterministic sites at one value of the latents."""
        trace = self._trace_at(latents)
        return {name: trace.nodes[name]["value"] for name in self._deterministic}

    def _trace_at(self, latents: dict[str, Tensor]) -> poutine.Trace:
        return poutine.trace(poutine.condition(self._call, data=latents)).get_trace(*self._args)

    def _energies(self, q: Tensor, given: Sequence[Tensor]) -> Tensor:
        """U (B,), the tensors among the arguments replaced by those given."""
        own = self._args
        self._args = list(own)
        for i, tensor in zip(self._places, given, strict=True):
            self._args[i] = tensor
        try:
            if self.local:
                density = log_density(self._call, self.sites(q), *self._args)
                return -density.joint - self.log_jacobian(q)
            return self._joint_energy(self.layout.unconstrained(q)).reshape(1)
        finally:
            self._args = own

    def impossible_sites(self, q: Tensor) -> str:
        """The sites whose log density is not finite at q (B, D), in words."""
        bad = []
        for name, site in stochastic_sites(self._trace_at(self.sites(q))).items():
            log_prob = site["fn"].log_prob(site["value"])
            if not bool(torch.isfinite(log_prob).all()):
                bad.append(repr(name))
        if not bad:
            return "the gradient of the log density, though every site is finite"
        return "site " + ", ".join(bad)


def _expect_data(args: Sequence[Any]) -> None:
    """Raises ValueError unless the first argument has an axis of data."""
    if not (args and torch.is_tensor(args[0]) and args[0].dim() > 0):
        raise ValueError(
            "expected data of shape (N, *shape) as the first argument for local=True, a tensor; "
            "else say local=False"
        )


def log_joint(potential: Potential, q: Tensor) -> Tensor:
    """log p(x, z(q)) + log |∂z/∂q| at many points, of shape (M, B), in nats.

    Args:
        potential: Of the posterior p(z | x).
        q: The points, M flat vectors, of shape (M, B, D).
    """
    tensors = potential.tensors
    given = sum(map(torch.numel, tensors))
    width = max(given, q[0].numel(), 1)
    return -at_each(lambda point: potential.energy(point, *tensors), q, width=width)
