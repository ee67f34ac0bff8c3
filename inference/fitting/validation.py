"""Both terms of the ELBO on data that are held out, epoch by epoch."""

from __future__ import annotations

__all__ = ["Validation"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen import memory
from ppl_gen.contexts import evaluating, expect_seed, guide_of, modules_of, seeded, takes
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
            `kept, held_out = split.divided(0.1)` it is `(held_out.fixed().x,)`.
        train: Training data to be measured beside, (x, *context), as many for errors of one size;
            none if left out.
        guide: q(z | x); `program.guide` if left out.
        particles: K, the number of draws z ~ q(z | x) per datum.
        seed: Of these draws.

    Attributes:
        modules: Those of program and guide, whose weights `fit(..., stop=...)` keeps.

    Raises:
        ValueError: If particles is below 1, there is no guide, or program, guide and data do not
            fit each other.

    Example:
        >>> from ppl_gen.models import vae
        >>> metrics = Validation(vae((2,), 1), (torch.ones(4, 2),))()
        >>> sorted(name for name in metrics if not name.endswith("_error"))
        ['validation_elbo', 'validation_kl', 'validation_log_likelihood']
    """

    def __init__(
        self,
        program: Program,
        held_out: Sequence[Tensor],
        train: Sequence[Tensor] | None = None,
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
            self._nesting, self._width, _ = check_by_datum(program, guide, *data)
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

    def _terms(self, data: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """The bound and its terms, each (N,), a bounded number of pairs of draw and datum at once.

        Where a guide sees all data at once they are not cut.
        """
        n = len(data[0])
        device = data[0].device
        rows = max(1, memory.pairs(self._width, device) // self._particles)
        if needs_all_data(self._guide):
            rows = n
        parts: list[tuple[Tensor, Tensor]] = []
        with evaluating(self._program, self._guide), seeded(device, self._seed):
            for start in range(0, n, rows):
                parts.append(self._of_rows([t[start : start + rows] for t in data]))
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


def _of_program(program: Program, data: Sequence[Any]) -> tuple[Any, ...]:
    """What the program asks for of (x, *context), of at least one datum."""
    if isinstance(data, Tensor) or not len(data) or not len(data[0]):
        raise ValueError(
            "expected data to validate on as (x, *context) with at least one datum, got "
            f"{type(data).__name__}; give (x,), or (x, y) for a conditional program"
        )
    return tuple(data)[: takes(program.model)]


def _error(values: Tensor) -> float:
    """The standard error of an average over data; NaN for one datum."""
    n = len(values)
    if n == 1:
        return math.nan
    return float(values.std() / math.sqrt(n))
