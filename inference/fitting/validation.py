"""Both terms of the ELBO on data that are held out, epoch by epoch."""

from __future__ import annotations

__all__ = ["Validation"]

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import memory
from ppl_gen.arguments import are_batches, batch_of
from ppl_gen.contexts import (
    device_of,
    evaluating,
    expect_seed,
    forked,
    guide_of,
    modules_of,
    seeded,
    takes,
)
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.expect import expect_counts
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program


class Validation:
    """ELBO = E_q[log p(x | z)] − KL(q(z | x) ‖ p(z)) on held-out data, and on as many of training.

    Called, it gives the averages over data of the bound and of its two terms, the reconstruction
    log-likelihood and the KL, in nats per datum, by the draws of one seed: differences between
    epochs are those of the weights. They are computed in evaluation mode; generators, buffers and
    the param store stay as they are, so that a fit with validation draws what one without does.

    Args:
        program: Any program with a density.
        held_out: Data of which no batch has any: (x, *context), x of shape (N, *shape). Of
            `kept, held_out = split.divided(0.1)` it is `(held_out.fixed().x,)`. Or batches of them,
            where they do not fit into memory: `split.batches(1000, shuffle=False)`, whose pixels
            are those of the seed too.
        train: Training data to be measured beside, (x, *context) or batches, as many for errors of
            one size; none if left out.
        guide: q(z | x); `program.guide` if left out.
        particles: K, the number of draws z ~ q(z | x) per datum.
        seed: Of these draws.

    Attributes:
        modules: Those of program and guide, whose weights `fit(..., stop=...)` keeps.

    Raises:
        ValueError: If particles is below 1, there is no guide, program, guide and data do not fit
            each other, or the guide has to see all data at once and they come in batches.

    Examples:
        >>> from ppl_gen.models import vae
        >>> metrics = Validation(vae((2,), 1), (torch.ones(4, 2),))()
        >>> sorted(name for name in metrics if not name.endswith("_error"))
        ['validation_elbo', 'validation_kl', 'validation_log_likelihood']
    """

    def __init__(
        self,
        program: Program,
        held_out: Sequence[Tensor] | Iterable[tuple[Tensor, ...]],
        train: Sequence[Tensor] | Iterable[tuple[Tensor, ...]] | None = None,
        *,
        guide: Guide | None = None,
        particles: int = 1,
        seed: int = 0,
    ) -> None:
        expect_counts(particles=particles)
        expect_seed(seed)
        guide = guide_of(program, guide)
        self._measured = {"validation": _of_program(program, held_out)}
        if train is not None:
            self._measured["train"] = _of_program(program, train)
        for data in self._measured.values():
            first = _first(program, guide, data)
            self._nesting, self._width, _ = check_by_datum(program, guide, *first)
        self.modules: list[nn.Module] = modules_of(program, guide)
        self._program = program
        self._guide = guide
        self._particles = particles
        self._seed = seed

    def __call__(self) -> dict[str, float]:
        """The terms now, by name, in nats per datum: `validation_elbo`, `train_kl`, ...

        Beside each, under its name and `_error`, is its standard error sd / √N over data, draws of
        the latents among what spreads them; NaN for one datum.
        """
        metrics = {}
        for name, data in self._measured.items():
            for term, values in self._terms(data).items():
                metrics[f"{name}_{term}"] = float(values.mean())
                metrics[f"{name}_{term}_error"] = _error(values)
        return metrics

    def _terms(self, data: Any) -> Mapping[str, Tensor]:
        """The bound and its terms, each (N,), a bounded number of pairs of draw and datum at once.

        Where a guide sees all data at once they are not cut.
        """
        batches: Iterable[Any] = [data]
        device = device_of(self._program)
        if are_batches(data):
            batches = data
        else:
            device = data[0].device
        parts: list[tuple[Tensor, Tensor]] = []
        with evaluating(self._program, self._guide), seeded(device, self._seed):
            for batch in batches:
                some = batch_of(self._program, batch)
                n = len(some[0])
                rows = max(1, memory.pairs(self._width, some[0].device) // self._particles)
                if needs_all_data(self._guide):
                    rows = n
                for start in range(0, n, rows):
                    parts.append(self._of_rows([t[start : start + rows] for t in some]))
        likelihoods, divergences = zip(*parts, strict=True)
        likelihood = torch.cat(likelihoods)
        divergence = torch.cat(divergences)
        return {
            "elbo": likelihood - divergence,
            "log_likelihood": likelihood,
            "kl": divergence,
        }

    def _of_rows(self, data: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """log p(x | z) and log q(z | x) − log p(z), averaged over draws, each (N,)."""
        proposal = propose(self._guide, self._particles, self._nesting, *data)
        halves = log_density(self._program.model, proposal.latents, *data)
        n = len(data[0])
        likelihood = halves.likelihood.reshape(-1, n).double()
        prior = halves.prior.reshape(-1, n).double()
        return likelihood.mean(0), (proposal.log_prob.double() - prior).mean(0)


def _of_program(program: Program, data: Any) -> Any:
    """What the program asks for of (x, *context), of at least one datum; batches as they are."""
    if are_batches(data):
        return data
    if isinstance(data, Tensor) or not len(data) or not len(data[0]):
        raise ValueError(
            "expected data to validate on as (x, *context) with at least one datum, got "
            f"{type(data).__name__}; give (x,), or (x, y) for a conditional program"
        )
    return tuple(data)[: takes(program.model)]


def _first(program: Program, guide: Guide, data: Any) -> Sequence[Tensor]:
    """The data, or their first batch, for which nothing is drawn of the global generator."""
    if not are_batches(data):
        return data
    if needs_all_data(guide):
        raise ValueError(
            "expected a guide that scores a datum by itself, for data in batches, got one that has "
            "to see all of them at once; give them as (x, *context)"
        )
    with forked(device_of(program), None):
        for batch in data:
            return batch_of(program, batch)
    raise ValueError("expected at least one batch to validate on, got none")


def _error(values: Tensor) -> float:
    """The standard error of an average over data; NaN for one datum."""
    n = len(values)
    if n == 1:
        return math.nan
    return float(values.std() / math.sqrt(n))
