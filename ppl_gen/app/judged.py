"""What `ppl-gen evaluate` is asked for, what it looks at, and what it finds: for the file, for the tables, in words."""

from __future__ import annotations

__all__ = ["Asked", "Judged", "Subject", "numbers", "pair"]

import json
import math
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppl_gen.app.fitted import Fitted
from ppl_gen.app.runs import Run, write_atomically
from ppl_gen.inference import Estimate, ais


@dataclass(frozen=True)
class Asked:
    """What `ppl-gen evaluate` was asked for."""

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
            raise ValueError(f"expected --epsilon above zero, the noise in units of the data, got {self.epsilon}")


class Subject:
    """A run with its test data, and the first of them, which the costly methods are run on."""

    def __init__(self, fitted: Fitted, asked: Asked, console: Console) -> None:
        self.fitted, self.asked, self.console = fitted, asked, console
        domain = fitted.data.a if fitted.translates else fitted.data
        test = domain.test.fixed(0, asked.limit)
        self.x, self.given = test.x, fitted.context(test)
        self.progress = console.is_terminal
        self.x_first, *self.given_first = self.head(asked.subset)
        self.condition = f" given the {fitted.config.condition}" if self.given else ""
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
            self.annealed = ais(self.fitted.program, self.x_first, *self.given_first, **self.annealing)
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
        text = json.dumps(self.result, indent=2) + "\n"
        write_atomically(run.folder / "evaluation.json", lambda file: file.write(text.encode()))

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
            table.title, table.title_justify = f"{title}: {table.title}" if table.title else title, "left"
            (wide if i or not self.rows else console).print(table)
        for line in self.words:
            console.print(line, soft_wrap=True)
        if self.pictures:
            console.print("pictures: " + ", ".join(self.pictures), soft_wrap=True)
        console.print(f"written to {run.folder / 'evaluation.json'}", soft_wrap=True)


def pair(estimate: Estimate) -> tuple[float, float]:
    """Value and standard error of the average over data."""
    mean = estimate if estimate.value.dim() == 0 else estimate.mean()
    return float(mean.value), float(mean.standard_error)


def numbers(name: str, error: str, estimate: Estimate) -> dict[str, float | None]:
    """Value and standard error under these names; None for an error that is not known."""
    known = not math.isnan(float(estimate.standard_error))
    return {name: float(estimate.value), error: float(estimate.standard_error) if known else None}
