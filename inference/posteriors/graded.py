"""A posterior with a grade in words, the numbers behind it, and how each part was had."""

from __future__ import annotations

__all__ = ["GradedPosterior", "Stage", "Standing", "grade_of", "standing_of", "times_longer"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.posteriors.gaussian import GaussianGuide
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

Grade = Literal["good", "fair", "poor"]

_GOOD_R_HAT, _FAIR_R_HAT = 1.01, 1.05
_GOOD_ESS, _FAIR_ESS = 400, 100
_GOOD_ERROR, _FAIR_ERROR = 0.05, 0.2
_FAIR_DIVERGENT = 0.01
_LONGEST = 6  # times as many draws in a second run
_REMEDY = "reparametrise (non-centred), give tighter priors, or look at the draws before use"


class Stage(NamedTuple):
    """One of the things that were done.

    Attributes:
        name: "pathfinder", "batch and match", "svi", "weights" or "hmc".
        said: What came of it, in words.
        seconds: Its wall time.
        gradients: At how many points the gradient of the log density was computed.
        densities: At how many points its value alone was.
    """

    name: str
    said: str
    seconds: float
    gradients: int
    densities: int = 0


class Standing(NamedTuple):
    """The numbers that a grade stands on.

    Attributes:
        ess: The smallest effective sample size, of bulk and tails of every coordinate.
        error: The largest Monte Carlo error of a mean or standard deviation, in units of the
            posterior's standard deviation.
        divergent: The share of divergent transitions.
        r_hat: The largest R̂; NaN for weighted draws, which are independent.
        k_hat: Pareto k̂ of the weights of the guide; NaN where there was no guide.
    """

    ess: float
    error: float
    divergent: float
    r_hat: float
    k_hat: float


def grade_of(numbers: Standing) -> Grade:
    """What draws are worth.

    "good": R̂ ≤ 1.01, an effective size of 400 in bulk and tails, no divergences, and no mean or
    standard deviation with a Monte Carlo error above 0.05 standard deviations. "fair": R̂ ≤ 1.05,
    100, at most 1 % divergent, 0.2. Else "poor"; so is what is not known, as NaN.

    Args:
        numbers: Of the draws; an R̂ of NaN is passed over.
    """
    converged = math.isnan(numbers.r_hat) or numbers.r_hat <= _GOOD_R_HAT
    if (
        converged
        and numbers.ess >= _GOOD_ESS
        and numbers.divergent == 0
        and numbers.error <= _GOOD_ERROR
    ):
        return "good"
    nearly = math.isnan(numbers.r_hat) or numbers.r_hat <= _FAIR_R_HAT
    if (
        nearly
        and numbers.ess >= _FAIR_ESS
        and numbers.divergent <= _FAIR_DIVERGENT
        and numbers.error <= _FAIR_ERROR
    ):
        return "fair"
    return "poor"


@dataclass(frozen=True, eq=False, repr=False)
class GradedPosterior(Result):
    """The posterior of a program: draws by site, with a grade.

    Attributes:
        draws: Draws by site, of equal weight; ArviZ takes them.
        grade: "good", "fair" or "poor".
        numbers: What it stands on.
        how: By site, how its draws were had: "weights" (draws of the guide, by their
            Pareto-smoothed weights) or "hmc".
        stages: What was done, in order, with seconds and gradients.
        guide: The Gaussian that was fitted first; None where none could be.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> found = posterior(line.model, *line.data, seed=0)
        >>> found.grade, found.mean["coefficients"].shape
        ('good', torch.Size([2]))
    """

    draws: Draws
    grade: Grade
    numbers: Standing
    how: dict[str, str]
    stages: tuple[Stage, ...]
    guide: GaussianGuide | None

    @property
    def samples(self) -> dict[str, Tensor]:
        """By site, draws (chains, draws, *shape of the site), in its support."""
        return self.draws.samples

    @property
    def mean(self) -> dict[str, Tensor]:
        """By site, the mean of each coordinate."""
        return self.draws.mean

    @property
    def sd(self) -> dict[str, Tensor]:
        """By site, the standard deviation of each coordinate."""
        return self.draws.sd

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum([stage.seconds for stage in self.stages])

    @property
    def gradients(self) -> int:
        """Gradients of the log density in all stages."""
        return sum([stage.gradients for stage in self.stages])

    @property
    def verdict(self) -> Verdict:
        """The grade with the numbers behind it, and the remedy where it is not good."""
        sentence = f"{self.grade}: {self._numbers_in_words}"
        if self.grade != "good":
            sentence += f"; {_REMEDY}"
        return Verdict((Finding(self.grade, sentence),), passes=self.grade == "good")

    @property
    def headline(self) -> str:
        """What was done, a line for each stage."""
        lines = []
        for stage in self.stages:
            work = f"{stage.gradients:,} gradients"
            if stage.densities:
                work += f", {stage.densities:,} densities"
            lines.append(f"{stage.name}: {stage.said}; {work}, {stage.seconds:.1f} s")
        return "\n".join(lines)

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: mean, sd, quantiles, errors, effective sizes, R̂."""
        return self.draws.summary()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each draw, with a column for each coordinate."""
        return self.draws.to_pandas()

    def to_arviz(self, *, coords: Mapping[str, Sequence[Any]] | None = None) -> Any:
        """The groups posterior and sample_stats, all of whose axes have names.

        Args:
            coords: By dimension, the names of its entries; 0, 1, … where left out.

        Returns:
            An `arviz.InferenceData`, or an `xarray.DataTree` from ArviZ 1.0 on.
        """
        return self.draws.to_arviz(coords=coords)

    @property
    def _numbers_in_words(self) -> str:
        numbers = self.numbers
        words = [f"ESS at least {numbers.ess:.0f}", f"errors up to {numbers.error:.3f} sd"]
        if not math.isnan(numbers.r_hat):
            words.insert(0, f"R̂ up to {numbers.r_hat:.4g}")
            words.append(f"{self.draws.divergences} divergences")
        if not math.isnan(numbers.k_hat):
            words.append(f"k̂ of the guide {numbers.k_hat:.2f}")
        return ", ".join(words)


def standing_of(draws: Draws, k_hat: float, ess: float | None = None) -> Standing:
    """The numbers of draws.

    Args:
        draws: Of a sampler, or drawn by weights.
        k_hat: Of the guide's weights; NaN for none.
        ess: Of draws by weights, the effective size of the weights; None for those of a sampler.
    """
    errors = []
    sizes = []
    for name, sd in draws.sd.items():
        moves = sd > 0
        errors.append((draws.mcse[name] / sd)[moves])
        errors.append((draws.mcse_sd[name] / sd)[moves])
        sizes.append(draws.ess[name][moves])
        sizes.append(draws.ess_tail[name][moves])
    error = _largest(errors)
    smallest = -_largest([-size for size in sizes])
    r_hat = draws.max_r_hat
    if ess is not None:
        # As many draws as weights, which are worth less than they are many.
        error *= math.sqrt(draws.chains * draws.draws / ess)
        smallest = min(smallest, ess)
        r_hat = math.nan
    return Standing(
        ess=smallest,
        error=error,
        divergent=draws.divergences / draws.divergent.numel(),
        r_hat=r_hat,
        k_hat=k_hat,
    )


def times_longer(numbers: Standing, ess: int) -> int:
    """How much longer a second run is, for the effective size, R̂ and errors.

    R̂ − 1 of chains that mix is about one over twice the effective size of a half chain: many
    short chains can have all the draws that are wanted, and an R̂ that says nothing yet. Under
    heavy tails errors ask for more than the effective size does.

    Args:
        numbers: Of the first run.
        ess: The effective size that is wanted.
    """
    needed = [2.0]
    if numbers.ess > 0:
        needed.append(1.5 * ess / numbers.ess)
    if numbers.r_hat > 1:
        needed.append(1.5 * (numbers.r_hat - 1) / (_GOOD_R_HAT - 1))
    if numbers.error > 0:
        needed.append(1.5 * (numbers.error / _GOOD_ERROR) ** 2)
    return math.ceil(min(_LONGEST, max(needed)))


def _largest(parts: list[Tensor]) -> float:
    """The largest entry; NaN if one is."""
    values = torch.cat([part.flatten() for part in parts])
    if not values.numel():
        return math.nan
    return float(values.max())
