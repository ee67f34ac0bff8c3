"""What the codes of an InfoGAN tell of its draws: the bound that is ascended in training, and its
measurement.
"""

from __future__ import annotations

__all__ = ["code_information", "information_loss"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import device_of, evaluating, seeded
from ppl_gen.inference.estimate import Estimate
from ppl_gen.program import log_prob_per_datum, simulate_sites, stochastic_sites
from ppl_gen.protocols import Program


def information_loss(
    posterior: Callable[[Tensor], Any], weight: float | Mapping[str, float] = 1.0
) -> Callable[..., Tensor]:
    """−Σₖ λₖ E[log q(cₖ | x)] over draws (c, x) of a program: an auxiliary loss for
    `adversarial_step`.

    Up to the constant entropy of a code each term is −λₖ times a lower bound of its mutual
    information with x.

    Args:
        posterior: q(c | x), a Pyro program that samples the codes inside the plate "data", as
            `InfoGAN.posterior` does. Its parameters belong to the generator's optimiser.
        weight: λ, one for all codes or by their names. A continuous code, which has nats without
            end, wants a small one.

    Raises:
        ValueError: In the step, if the posterior samples what the program does not, or a code has
            no weight.

    Reference:
        Chen et al. (2016), InfoGAN, eq. 5 and 6.
    """

    def auxiliary(drawn: Mapping[str, Tensor], *batch: Tensor) -> Tensor:
        told = _log_posterior(posterior, drawn)
        if not isinstance(weight, int | float) and weight.keys() != told.keys():
            raise ValueError(
                f"expected a weight for each of the codes {sorted(told)}, got {sorted(weight)}"
            )
        weights = {
            name: weight if isinstance(weight, int | float) else weight[name] for name in told
        }
        return -torch.stack([weights[name] * value for name, value in told.items()]).sum(0).mean()

    return auxiliary


def code_information(
    program: Program, posterior: Callable[[Tensor], Any], n: int = 5000, *, seed: int | None = None
) -> dict[str, Estimate]:
    """I(cₖ; x) ≥ E[log q(cₖ | x) − log p(cₖ)] for each code cₖ, in nats, over n draws of the
    program.

    Args:
        program: An InfoGAN, or any program with the codes among its latents.
        posterior: q(c | x), as in `information_loss`.
        n: The number of draws.
        seed: Seeds the draws and leaves the generators as they were.

    Returns:
        By the names of the codes, the average (a scalar) and its standard error.

    Raises:
        ValueError: If n is below 2, or the posterior samples what the program does not.

    Reference:
        Barber and Agakov (2003), The IM algorithm.
    """
    if n < 2:
        raise ValueError(f"expected n of at least 2, got {n}")
    device = device_of(program)
    with (
        seeded(device, seed),
        evaluating(program, posterior),
    ):
        sites = simulate_sites(program, n)
        found = _log_posterior(posterior, {name: site["value"] for name, site in sites.items()})
        told = {name: value - log_prob_per_datum(sites[name], 1) for name, value in found.items()}
    return {name: Estimate(value.mean(), value.std() / n**0.5) for name, value in told.items()}


def _log_posterior(
    posterior: Callable[[Tensor], Any], drawn: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """log q(cₖ | x) of each code that was drawn, of shape (N,)."""
    latents = {name: value for name, value in drawn.items() if name != "x"}
    sites = stochastic_sites(
        poutine.trace(poutine.condition(posterior, data=latents)).get_trace(drawn["x"])
    )
    if not sites or not sites.keys() <= latents.keys():
        raise ValueError(
            f"expected a posterior of codes that the program samples, {sorted(latents)}, got one "
            f"of {sorted(sites)}"
        )
    return {name: log_prob_per_datum(site, 1) for name, site in sites.items()}
