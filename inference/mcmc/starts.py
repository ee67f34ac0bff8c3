"""Where chains begin, if a user says so: by a guide, values, an earlier run or an algorithm."""

from __future__ import annotations

__all__ = ["Init", "Starts", "starts_from"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import in_evaluation_mode, store_kept
from ppl_gen.inference.latents.potential import Potential
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.sites import latent_sites


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
