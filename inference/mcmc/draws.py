"""What a sampler returns: draws by site, with the diagnostics that say whether to believe them."""

from __future__ import annotations

__all__ = ["Draws", "Progress", "reporting"]

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from rich import progress as bars
from torch import Tensor

from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.mcmc.diagnostics import (
    Statistic,
    by_coordinate,
    constant,
    one_by_one,
    quantile,
)

if TYPE_CHECKING:
    import pandas

# Numbers that are held as float64 at once while coordinates are gone through.
_TAILS = (0.05, 0.95)


class Progress(NamedTuple):
    """Where a sampler is, said about every twentieth of the way.

    Attributes:
        phase: What the last transition was for.
        done: Transitions so far, those of warm-up included.
        total: All that were asked for. A sampler that runs chain after chain counts those of all
            chains.
        acceptance: Mean acceptance probability of the present phase.
        divergences: Divergent transitions so far, without those of warm-up.
        r_hat: The largest R̂ so far, where it is cheap to have.
    """

    phase: Literal["warmup", "draws"]
    done: int
    total: int
    acceptance: float
    divergences: int
    r_hat: float | None = None


@contextmanager
def reporting(
    on_draw: Callable[[Progress], Any] | None, progress: bool
) -> Iterator[Callable[[Progress], None]]:
    """What a sampler calls with its progress: the user's callback, after a bar if one is asked for."""
    with bars.Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("preparing", total=None)

        def report(now: Progress) -> None:
            quality = f"acceptance {now.acceptance:.2f}, {now.divergences} divergences"
            quality += "" if now.r_hat is None else f", R̂ {now.r_hat:.2f}"
            bar.update(
                task, completed=now.done, total=now.total, description=f"{now.phase}: {quality}"
            )
            if on_draw is not None:
                on_draw(now)

        yield report


@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """Draws from a posterior.

    Diagnostics are float64, of the shape of the site, one for each coordinate, computed by ArviZ at
    first use and kept. They are NaN for fewer than four draws, for a coordinate with a draw that is
    not finite, and for a coordinate whose draws are all equal (the zeros of a Cholesky factor, or a
    sampler that never moved); R̂ also for a single chain.

    Attributes:
        samples: By site, each (chains, draws, *shape of the site), in the site's support; sites of
            pyro.deterministic as well.
        log_density: log p(x, z) + log |∂z/∂q| at each draw, (chains, draws), or (chains, draws, N)
            where local; in nats.
        divergent: Whether the transition to each draw diverged, of the shape of log_density.
        acceptance: The acceptance probability of the transition to each draw, of the shape of
            log_density.
        seconds: Wall time of warm-up and sampling together, without tracing and compilation.
        preparation_seconds: Wall time of tracing and compilation.
        dims: For each site, the name of the plate of each of its axes, "" for an axis in none.
        sampler: The name of the sampler.
        settings: What adaptation arrived at (step size, trajectory length, ...), and what was asked
            for.
        remarks: What went wrong or deserves a look, in words: chains that never moved, an
            interrupted run.

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization: an improved R̂.
    """

    samples: dict[str, Tensor]
    log_density: Tensor
    divergent: Tensor
    acceptance: Tensor
    seconds: float
    preparation_seconds: float = 0.0
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sampler: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def chains(self) -> int:
        """The number of chains."""
        return self.log_density.shape[0]

    @property
    def draws(self) -> int:
        """The number of draws of each chain."""
        return self.log_density.shape[1]

    @property
    def divergences(self) -> int:
        """The number of divergent transitions."""
        return int(self.divergent.sum())

    @cached_property
    def mean(self) -> dict[str, Tensor]:
        """(1/S) Σₛ zₛ over all chains and draws."""
        return self._every(lambda z: z.mean((1, 2)))

    @cached_property
    def sd(self) -> dict[str, Tensor]:
        """√(Σₛ (zₛ − z̄)² / (S − 1)) over all chains and draws; NaN for a single draw."""
        return self._every(
            lambda z: z.std((1, 2), ddof=1) if z[0].size > 1 else np.full(len(z), np.nan)
        )

    @cached_property
    def r_hat(self) -> dict[str, Tensor]:
        """R̂ = √(variance of all draws / variance within half chains), of their normal scores: the
        larger of bulk and tails.
        """
        import arviz

        return self._every(one_by_one(arviz.rhat, least=4 if self.chains > 1 else math.inf))

    @cached_property
    def ess(self) -> dict[str, Tensor]:
        """The effective sample size of the bulk: how many independent draws would place the middle
        as well.
        """
        import arviz

        return self._every(one_by_one(arviz.ess, method="bulk"))

    @cached_property
    def ess_tail(self) -> dict[str, Tensor]:
        """The effective sample size of the tails: the smaller of those of the 5 % and the 95 %
        quantile.
        """
        import arviz

        return self._every(one_by_one(arviz.ess, method="tail", prob=_TAILS))

    @cached_property
    def mcse(self) -> dict[str, Tensor]:
        """The Monte Carlo standard error of the mean, sd / √ESS."""
        import arviz

        return self._every(one_by_one(arviz.mcse, method="mean"))

    @cached_property
    def mcse_sd(self) -> dict[str, Tensor]:
        """The Monte Carlo standard error of the standard deviation."""
        import arviz

        return self._every(one_by_one(arviz.mcse, method="sd"))

    @cached_property
    def max_r_hat(self) -> float:
        """The largest R̂. Constant coordinates are left out, others without an R̂ are not: NaN if
        there is one, or none left.
        """
        values = self._moving(self.r_hat)
        return float(values.max()) if values.numel() else math.nan

    @cached_property
    def min_ess(self) -> float:
        """The smallest effective sample size of the bulk, of the coordinates that `max_r_hat` looks
        at.
        """
        values = self._moving(self.ess)
        return float(values.min()) if values.numel() else math.nan

    def summary(self) -> pandas.DataFrame:
        """A row for each coordinate, named like "theta[0]", with the same columns under every
        version of ArviZ.

        Returns:
            mean and sd; the central 90 % interval, eti_5% to eti_95%; their Monte Carlo errors
            mcse_mean and mcse_sd; ess_bulk, ess_tail and r_hat. Not rounded.
        """
        import pandas

        ends = [self._every(partial(quantile, p)) for p in _TAILS]
        columns = {
            "mean": self.mean,
            "sd": self.sd,
            "eti_5%": ends[0],
            "eti_95%": ends[1],
            "mcse_mean": self.mcse,
            "mcse_sd": self.mcse_sd,
            "ess_bulk": self.ess,
            "ess_tail": self.ess_tail,
            "r_hat": self.r_hat,
        }
        rows = [
            row
            for name, value in self.samples.items()
            for row in coordinates(name, value.shape[2:])
        ]
        flat = {
            label: torch.cat([by_site[n].flatten() for n in self.samples]).numpy()
            for label, by_site in columns.items()
        }
        return pandas.DataFrame(flat, index=rows)

    def __repr__(self) -> str:
        sites = ", ".join(
            f"{name} {tuple(value.shape[2:])}" for name, value in self.samples.items()
        )
        count = f"{self.chains} × {self.draws} draws of {sites}; {self.divergences} divergences, {self.seconds:.1f} s"
        return f"Draws({': '.join(filter(None, (self.sampler, count)))}{''.join(f'; {r}' for r in self.remarks)})"

    def _every(self, statistic: Statistic) -> dict[str, Tensor]:
        """A statistic of each coordinate, given draws of shape (coordinates, chains, draws)."""
        return {name: by_coordinate(value, statistic) for name, value in self.samples.items()}

    def _moving(self, by_site: dict[str, Tensor]) -> Tensor:
        """The values of all coordinates that are not constant."""
        constants = self._every(constant)
        return torch.cat([by_site[name][constants[name] == 0] for name in self.samples])
