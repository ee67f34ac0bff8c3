"""What the codes of an InfoGAN tell of its draws: a bound to train by, and its measurement."""

from __future__ import annotations

__all__ = ["code_information", "information_loss"]

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import device_of, evaluating, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.estimate import Estimate
from ppl_gen.program import simulate_sites
from ppl_gen.protocols import Program
from ppl_gen.sites import log_prob_per_datum, stochastic_sites


def information_loss(
    posterior: Callable[[Tensor], Any], weight: float | Mapping[str, float] = 1.0
) -> Callable[..., Tensor]:
    """−Σₖ λₖ E[log q(cₖ | x)] over draws (c, x) of a program: an auxiliary loss of the generator.

    Up to the constant entropy of a code each term is −λₖ times a lower bound of its mutual
    information with x. Pass it to `adversarial_step` as `auxiliary`.

    Args:
        posterior: q(c | x), a Pyro program that samples the codes inside the plate "data", as
            `InfoGAN.posterior` does. Its parameters belong to the generator's optimiser.
        weight: λ, one for all codes or by their names. A continuous code, which has nats without
            end, wants a small one.

    Returns:
        A function of the sites' values by name and the batch, that gives the loss, a scalar in
        nats. It raises ValueError if the posterior samples what the program does not, or a code has
        no weight.

    Examples:
        >>> program = models.infogan((2,), latent_dim=3, categories=4, hidden=[8])
        >>> auxiliary = information_loss(program.posterior, weight=1.0)
        >>> callable(auxiliary)  # goes into adversarial_step(..., auxiliary=auxiliary)
        True

    Reference:
        Chen et al. (2016), InfoGAN, eq. 5 and 6.
    """

    def auxiliary(drawn: Mapping[str, Tensor], *batch: Tensor) -> Tensor:
        log_q = _log_posterior(posterior, drawn)
        weights = _weights(weight, log_q)
        terms = [weights[name] * value for name, value in log_q.items()]
        return -torch.stack(terms).sum(0).mean()

    return auxiliary


def _weights(weight: float | Mapping[str, float], codes: Iterable[str]) -> Mapping[str, float]:
    """The weight of each code by its name; raises ValueError if one has none."""
    if isinstance(weight, int | float):
        return dict.fromkeys(codes, weight)
    if weight.keys() != set(codes):
        raise ValueError(
            f"expected a weight for each of the codes {sorted(codes)}, got {sorted(weight)}"
        )
    return weight


def code_information(
    program: Program, posterior: Callable[[Tensor], Any], n: int = 5000, *, seed: int | None = None
) -> dict[str, Estimate]:
    """I(cₖ; x) ≥ E[log q(cₖ | x) − log p(cₖ)] for each code cₖ, in nats, over n draws.

    Args:
        program: An InfoGAN, or any program with the codes among its latents.
        posterior: q(c | x), a Pyro program that samples the codes inside the plate "data", as
            `InfoGAN.posterior` does.
        n: The number of draws, at least 2.
        seed: Seeds the draws and leaves the generators as they were.

    Returns:
        By the names of the codes, the average (a scalar) and its standard error.

    Raises:
        ValueError: If n is below 2, or the posterior samples what the program does not.

    Examples:
        >>> program = models.infogan((2,), latent_dim=3, categories=4, hidden=[8])
        >>> found = code_information(program, program.posterior, 100, seed=0)
        >>> round(found["c"].value.item(), 1)  # nothing before it is fitted
        0.0

    Reference:
        Barber and Agakov (2003), The IM algorithm.
    """
    expect_at_least(2, n=n)
    found = {}
    with seeded(device_of(program), seed), evaluating(program, posterior):
        sites = simulate_sites(program, n)
        drawn = {name: site["value"] for name, site in sites.items()}
        for name, log_q in _log_posterior(posterior, drawn).items():
            gained = log_q - log_prob_per_datum(sites[name], 1)
            found[name] = Estimate(gained.mean(), gained.std() / n**0.5)
    return found


def _log_posterior(
    posterior: Callable[[Tensor], Any], drawn: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """log q(cₖ | x) of each code that was drawn, of shape (N,)."""
    latents = {name: value for name, value in drawn.items() if name != "x"}
    conditioned = poutine.condition(posterior, data=latents)
    sites = stochastic_sites(poutine.trace(conditioned).get_trace(drawn["x"]))
    if not sites or not sites.keys() <= latents.keys():
        raise ValueError(
            f"expected a posterior of codes that the program samples, {sorted(latents)}, got one "
            f"of {sorted(sites)}"
        )
    return {name: log_prob_per_datum(site, 1) for name, site in sites.items()}
