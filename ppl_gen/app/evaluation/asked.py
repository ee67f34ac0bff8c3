"""What `ppl-gen evaluate` is asked for: one attribute for each of its options."""

from __future__ import annotations

__all__ = ["Asked", "flags"]

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ppl_gen.inference.expect import expect_counts

_OF_ONE_RUN = (
    "particles",
    "ais",
    "bdmc",
    "gaps",
    "collapse",
    "moments",
    "two_sample",
    "permutations",
)
_OF_SEVERAL_RUNS = ("out", "overwrite")
_COUNTS = ("particles", "limit", "permutations", "chains", "temperatures", "subset")
_ANNEALED = ("ais", "bdmc", "gaps", "epsilon")

# An option that only changes how something else is computed, and the options that ask for that.
_PART_OF = {
    "features": ("moments", "two_sample"),
    "permutations": ("moments", "two_sample"),
    "chains": _ANNEALED,
    "temperatures": _ANNEALED,
    "subset": _ANNEALED,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `ppl-gen evaluate` was asked for.

    Attributes:
        particles: K, the number of importance samples per datum.
        limit: How many test data are scored, counted from the first; None takes all.
        ais: Whether the evidence is also estimated by annealed importance sampling.
        bdmc: Whether the evidence is bounded from both sides, on data drawn from the model.
        gaps: Whether the gap between ELBO and evidence is split into its parts.
        collapse: Whether latents that the guide leaves unused are looked for.
        moments: Whether the moments of draws are compared with those of test data.
        two_sample: Whether draws and test data are compared by two-sample statistics.
        features: What draws and data are compared in: "pixels", "pca", "classifier" or
            "inception"; None takes a classifier's features where there are labels, else "pca".
        permutations: How many permutations a p-value is computed from; where it is not given,
            fewer of many features.
        epsilon: ε, the standard deviation of Gaussian noise, in units of the data, that gives any
            program a likelihood; None asks for no such evidence.
        chains: AIS chains per datum.
        temperatures: Steps of an AIS chain from its start to the posterior.
        subset: How many test data the annealed methods are run on, counted from the first.
        seed: Seed of everything that is drawn.
        given: The names of the options that stood on the command line.
    """

    particles: int = 1000
    limit: int | None = None
    ais: bool = False
    bdmc: bool = False
    gaps: bool = False
    collapse: bool = False
    moments: bool = False
    two_sample: bool = False
    features: str | None = None
    permutations: int = 500
    epsilon: float | None = None
    chains: int = 16
    temperatures: int = 1000
    subset: int = 100
    seed: int = 0
    given: frozenset[str] = frozenset()

    def chosen(self, *options: str) -> dict[str, Any]:
        """What was asked for with some options, by name."""
        return {option: getattr(self, option) for option in options}

    def wants(self, option: str) -> bool:
        """Whether an option is set: a flag that is True, or a value that is not None."""
        return getattr(self, option) not in (None, False)

    @property
    def given_permutations(self) -> int | None:
        """The number of permutations if it stood on the command line, None otherwise."""
        if "permutations" in self.given:
            return self.permutations
        return None

    def expect_counts(self) -> None:
        """Raises ValueError if a count is below 1, or the noise not a finite number above 0."""
        expect_counts(**{_flag(name): getattr(self, name) for name in _COUNTS})
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise ValueError(
                f"expected --epsilon above zero, the noise in units of the data, got {self.epsilon}"
            )

    def expect_for(self, runs: int) -> None:
        """Raises ValueError if an option was given that has no meaning for this number of runs."""
        if runs > 1:
            strange = self._given_among(_OF_ONE_RUN)
            expected = f"for one run alone, got {runs} to compare"
            remedy = "leave it out, or evaluate the runs one by one"
        else:
            strange = self._given_among(_OF_SEVERAL_RUNS)
            expected = "for a comparison of several runs, got one run"
            remedy = "leave it out"
        if strange:
            raise ValueError(f"{flags(strange)}: {expected}; {remedy}")

    def expect_heeded(self) -> None:
        """Raises ValueError if an option was given without one of those that it is a part of."""
        for name in self._given_among(_PART_OF):
            wholes = _PART_OF[name]
            if not any(self.wants(whole) for whole in wholes):
                raise ValueError(
                    f"{_flag(name)} belongs to {flags(wholes, ' or ')}, got it alone; ask for "
                    "one, or leave it out"
                )

    def _given_among(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.given]


def flags(names: Iterable[str], separator: str = ", ") -> str:
    """Options as they are typed: "--ais, --two-sample"."""
    return separator.join(map(_flag, names))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
