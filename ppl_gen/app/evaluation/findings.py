"""What `ppl-gen evaluate` is asked for, what it looks at, and what it finds: for the file, for the
tables, in words.
"""

from __future__ import annotations

__all__ = ["Asked", "Judged", "Subject", "numbers", "pair"]

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen.app.config import EXPLICIT
from ppl_gen.app.run.folder import Run, write_json
from ppl_gen.app.run.opened import Fitted
from ppl_gen.inference import Estimate, ais

_OF_ONE = ("particles", "ais", "bdmc", "gaps", "collapse", "moments", "two_sample", "permutations")
_OF_SEVERAL = ("out", "overwrite")
_PARTS: dict[str, tuple[str, ...]] = {  # options that belong to others
    "features": ("moments", "two_sample"),
    "permutations": ("two_sample",),
    **dict.fromkeys(("chains", "temperatures", "subset"), ("ais", "bdmc", "gaps", "epsilon")),
}


@dataclass(frozen=True)
class Asked:
    """What `ppl-gen evaluate` was asked for; `given` are the names of the options on the command
    line.
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

    def expect_for(self, runs: int) -> None:
        """Says when an option was given that so many runs have no use for.

        Raises:
            ValueError: Then.
        """
        if runs > 1 and (strange := [name for name in _OF_ONE if name in self.given]):
            raise ValueError(
                f"{_flags(strange)}: for one run alone, got {runs} to compare; leave it out, or "
                "evaluate the runs one by one"
            )
        if runs == 1 and (strange := [name for name in _OF_SEVERAL if name in self.given]):
            raise ValueError(
                f"{_flags(strange)}: for a comparison of several runs, got one run; leave it out"
            )

    def expect_heeded(self, model: str) -> None:
        """Says when an option was given for one run that nothing else that is asked for has a use
        for.

        Raises:
            ValueError: Then.
        """
        if "particles" in self.given and model not in EXPLICIT:
            raise ValueError(
                f"--particles is an option of {', '.join(EXPLICIT)}, got it for {model}; leave it "
                "out"
            )
        for name, wholes in _PARTS.items():
            if name in self.given and not any(
                getattr(self, whole) not in (None, False) for whole in wholes
            ):
                raise ValueError(
                    f"{_flags([name])} belongs to {_flags(wholes, ' or ')}, got it alone; ask for "
                    "one, or leave it out"
                )

    def expect_counts(self) -> None:
        """Says when a number is too small.

        Raises:
            ValueError: Then.
        """
        for name in ("particles", "limit", "permutations", "chains", "temperatures", "subset"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"expected --{name} of at least 1, got {value}")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise ValueError(
                f"expected --epsilon above zero, the noise in units of the data, got {self.epsilon}"
            )


class Subject:
    """A run with its test data, and the first of them, which the costly methods are run on."""

    def __init__(self, fitted: Fitted, asked: Asked, console: Console) -> None:
        self.fitted, self.asked, self.console = fitted, asked, console
        domain = fitted.data.a if fitted.translates else fitted.data
        test = domain.test.fixed(0, asked.limit)
        self.x, self.given = test.x, fitted.context(test)
        self.progress = console.is_terminal
        self.x_first, *self.given_first = self.head(asked.subset)
        self.condition = f" {fitted.given}" if fitted.given else ""
        self.annealed: Estimate | None = None
        self.sampled: Any = None  # draws, data and features, once they are made

    def head(self, count: int) -> list[Tensor]:
        """The first so many test data and their context."""
        return [t[:count] for t in (self.x, *self.given)]

    @property
    def annealing(self) -> dict[str, Any]:
        """The options of AIS and BDMC."""
        asked = self.asked
        return {
            "guide": getattr(self.fitted.program, "guide", None),
            "chains": asked.chains,
            "temperatures": asked.temperatures,
            "seed": asked.seed,
            "progress": self.progress,
        }

    def anneal(self) -> Estimate:
        """AIS of the first data, once."""
        if self.annealed is None:
            self.annealed = ais(
                self.fitted.program, self.x_first, *self.given_first, **self.annealing
            )
        return self.annealed

    def save(self, judged: Judged, name: str, figure: Any) -> None:
        """Writes a picture into the folder of the run."""
        path = self.fitted.run.folder / name
        figure.savefig(path)
        judged.pictures.append(str(path))


@dataclass
class Judged:
    """What was found."""

    result: dict[str, Any]
    rows: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def row(self, name: str, estimate: Estimate) -> None:
        """A line of the table in nats."""
        mean = estimate if estimate.value.dim() == 0 else estimate.mean()
        error = float(mean.standard_error)
        shown = "unknown (one draw)" if math.isnan(error) else f"{error:.4f}"
        self.rows.append((name, f"{float(mean.value):.3f} ± {shown}"))

    def write(self, run: Run) -> None:
        """Puts it into evaluation.json."""
        write_json(run.folder / "evaluation.json", self.result)

    def show(self, title: str, run: Run, console: Console) -> None:
        """Prints tables, words, and where the rest lies."""
        tables = list(self.tables)
        if self.rows:
            table = Table("nats per datum", "average ± Monte Carlo standard error")
            for row in self.rows:
                table.add_row(*row)
            tables.insert(0, table)
        wide = Console(file=console.file, width=max(console.width, 110))
        for i, table in enumerate(tables):
            table.title, table.title_justify = (
                f"{title}: {table.title}" if table.title else title,
                "left",
            )
            (wide if i or not self.rows else console).print(table)
        for line in self.words:
            console.print(line, soft_wrap=True)
        if self.pictures:
            console.print("pictures: " + ", ".join(self.pictures), soft_wrap=True)
        console.print(f"written to {run.folder / 'evaluation.json'}", soft_wrap=True)


def _flags(names: Iterable[str], joined: str = ", ") -> str:
    return joined.join("--" + name.replace("_", "-") for name in names)


def pair(estimate: Estimate) -> tuple[float, float]:
    """Value and standard error of the average over data."""
    mean = estimate if estimate.value.dim() == 0 else estimate.mean()
    return float(mean.value), float(mean.standard_error)


def numbers(name: str, error: str, estimate: Estimate) -> dict[str, float | None]:
    """Value and standard error under these names; None for an error that is not known."""
    known = not math.isnan(float(estimate.standard_error))
    return {name: float(estimate.value), error: float(estimate.standard_error) if known else None}
