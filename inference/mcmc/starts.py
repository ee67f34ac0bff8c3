"""Where chains begin: dispersed starts, led down from where the density is hopelessly steep."""

from __future__ import annotations

__all__ = ["Init", "Starts", "descended", "starts_from"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import in_evaluation_mode, store_kept
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.sites import latent_sites

# A start is steep if a coordinate's force |∂U/∂q|, averaged over coordinates, is above this: from
# less, HMC comes down by itself in the first sixth of its warm-up.
_STEEP = 1e4
# A descent looks every so many steps whether it still pays, and is given up after so many looks.
_WINDOW = 10
_MOST_WINDOWS = 20


class Starts(Protocol):
    """An algorithm that finds starts by itself."""

    def starts(self, potential: Potential, chains: int) -> Tensor:
        """Starts (C, B, D) in the unconstrained coordinates of a potential.

        Args:
            potential: U(q) of the posterior to be sampled.
            chains: C, the number of chains.
        """
        ...


# A guide, draws by site, an earlier run, or an algorithm.
Init = Callable[..., Any] | Mapping[str, Tensor] | Draws | Starts


def starts_from(init: Init, potential: Potential, args: Sequence[Any], chains: int) -> Tensor:
    """Starts (C, B, D) where the user says.

    Args:
        init: A guide, called with `args` once for each chain; values by site, each (C, *shape of
            the site), in its support; `Draws`, of which the last of each chain are taken, or as
            many as are needed, evenly spaced over all, where the number of chains differs; or an
            object with a method `starts`.
        potential: U(q) of the posterior to be sampled.
        args: What the model is called with.
        chains: C, the number of chains.

    Raises:
        ValueError: If init is none of these, lacks a site, or gives values of another shape,
            outside a support, not finite or of no density.
    """
    if hasattr(init, "starts"):
        q = init.starts(potential, chains)
    else:
        q = potential.flatten(_values(init, potential, args, chains))
    q = q.detach().to(potential.device, potential.dtype)
    expected = (chains, *potential.shape)
    if tuple(q.shape) != expected:
        raise ValueError(
            f"expected starts of shape {expected} from init, got {tuple(q.shape)}; give one for "
            "each chain"
        )
    bad = ~potential.possible(q)
    if bool(bad.any()):
        chain = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"expected starts of finite log density from init, got none for chain {chain}, from "
            f"{potential.impossible_sites(q[chain])}; take draws from inside the posterior"
        )
    return q


def _values(init: Any, potential: Potential, args: Sequence[Any], chains: int) -> dict[str, Tensor]:
    """By site, values (C, *shape of the site) in its support."""
    if isinstance(init, Draws):
        given: Mapping[str, Tensor] = _of_earlier(init, chains)
    elif isinstance(init, Mapping):
        given = init
    elif callable(init):
        given = _of_guide(init, args, chains)
    else:
        raise ValueError(
            "expected init to be a guide, a dict of draws by site, Draws, or an object with a "
            f"method `starts`, got {type(init).__name__}"
        )
    missing = sorted(set(potential.names) - given.keys())
    known = {*potential.names, *potential.dims, *potential.summed_out}
    surplus = sorted(given.keys() - known)
    if missing or (surplus and given is init):
        raise ValueError(
            f"expected starts of the sites {sorted(potential.names)} from init, got "
            f"{sorted(given)}; give each of them values, and nothing else"
        )
    values = {}
    for name in potential.names:
        values[name] = _expect_inside(name, torch.as_tensor(given[name]), potential, chains)
    return values


def _expect_inside(name: str, value: Tensor, potential: Potential, chains: int) -> Tensor:
    """The values of a site; raises ValueError unless they are of its shape and in its support."""
    expected = (chains, *potential.shapes[name])
    if tuple(value.shape) != expected:
        raise ValueError(
            f"expected starts of {name!r} of shape {expected}, one for each chain, got "
            f"{tuple(value.shape)}; chains={value.shape[0] if value.dim() else 1} takes as many"
        )
    value = value.detach().to(potential.device, potential.dtype)
    support = potential.supports[name]
    free = potential.layout.places[name].transform(value)
    if not bool(support.check(value).all()) or not bool(free.isfinite().all()):
        raise ValueError(
            f"expected starts of {name!r} inside its support, {support}, got values from "
            f"{float(value.min()):.3g} to {float(value.max()):.3g}; move them inside"
        )
    return value


def _of_earlier(draws: Draws, chains: int) -> dict[str, Tensor]:
    """One draw for each chain, (C, *shape): its last, or evenly spaced ones of all chains."""
    if draws.chains == chains:
        return {name: value[:, -1] for name, value in draws.samples.items()}
    total = draws.chains * draws.draws
    if total < chains:
        raise ValueError(
            f"expected a draw for each of {chains} chains from init, got {total} draws; give "
            f"more, or say chains={total}"
        )
    evenly = torch.linspace(total - 1, 0, chains).round().long().flip(0)
    return {name: value.flatten(0, 1)[evenly] for name, value in draws.samples.items()}


def _of_guide(guide: Callable[..., Any], args: Sequence[Any], chains: int) -> dict[str, Tensor]:
    """A draw from a guide for each chain, by site, (C, *shape)."""
    drawn: dict[str, list[Tensor]] = {}
    with in_evaluation_mode(guide), store_kept(), torch.no_grad():
        for _ in range(chains):
            trace = poutine.trace(guide).get_trace(*args)
            for name, site in latent_sites(trace).items():
                drawn.setdefault(name, []).append(site["value"])
    return {name: torch.stack(values) for name, values in drawn.items()}


def descended(
    energies: Callable[..., tuple[Tensor, Tensor]], q: Tensor, tensors: Sequence[Tensor]
) -> Tensor:
    """q ← q − δ sign(∂U/∂q) from steep starts until U falls by less than ½ nat a coordinate.

    So much in ten steps: what is left to fall is then no more than the spread of U under the
    posterior, D/2 about its mean, so that chains stop on the way to a mode and not in it. Each
    coordinate has a step δ of its own, which grows by a fifth while the sign stays and halves when
    it turns (Rprop): only signs count, so that forces of 10³⁰ are as good as any. Each chain goes
    down from its own start, and starts that are not steep stay where they are: chains in different
    modes remain so. No random numbers are drawn.

    Args:
        energies: From (q, *tensors) to U (C, B) and ∂U/∂q (C, B, D).
        q: The starts, (C, B, D).
        tensors: What the program depends on.

    Returns:
        The starts to take, of the shape of q.

    Reference:
        Riedmiller and Braun (1993), A direct adaptive method for faster backpropagation learning:
        the RPROP algorithm.
    """
    energy, gradient = energies(q, *tensors)
    steep = gradient.abs().mean(-1) > _STEEP
    chains = steep.any(1)
    if not bool(chains.any()):
        return q
    falling = steep[chains]
    best = q[chains].clone()
    lowest = energy[chains]
    point = torch.nn.Parameter(best.clone())
    point.grad = _direction(gradient[chains])
    optimiser = torch.optim.Rprop([point], lr=0.05, etas=(0.5, 1.2), step_sizes=(1e-9, 1e3))
    for _ in range(_MOST_WINDOWS):
        before = lowest
        for _ in range(_WINDOW):
            optimiser.step()
            energy, gradient = energies(point.detach(), *tensors)
            lower = falling & (energy < lowest)
            best = torch.where(lower[..., None], point.detach(), best)
            lowest = torch.where(lower, energy, lowest)
            point.grad = _direction(gradient)
        falling = falling & (before - lowest > q.shape[-1] / 2)
        if not bool(falling.any()):
            break
    led = q.clone()
    led[chains] = best
    return led


def _direction(gradient: Tensor) -> Tensor:
    """The signs of the forces; 0 where there is none to speak of, so that a coordinate waits."""
    return gradient.nan_to_num(0.0).sign()
