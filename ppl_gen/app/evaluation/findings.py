"""What an evaluation finds: numbers for a file, tables and sentences for the terminal, pictures."""

from __future__ import annotations

__all__ = ["Judged", "numbers", "value_and_error"]

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ppl_gen.app.run.folder import write_json
from ppl_gen.inference import Estimate

_WIDTH = 110  # columns that wide tables are given, even where the terminal has fewer


class Judged:
    """What was found of a run, gathered from judge to judge.

    Args:
        folder: The folder of the run, which evaluation.json and the pictures are written to.
        result: What stands at the top of evaluation.json.
    """

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.path = folder / "evaluation.json"
        self.result = result
        self._folder = folder
        self._rows: list[tuple[str, str]] = []
        self._tables: list[Table] = []
        self._sentences: list[str] = []
        self._pictures: list[str] = []

    def record(self, **entries: Any) -> None:
        """Adds entries to evaluation.json."""
        self.result |= entries

    def row(self, name: str, estimate: Estimate) -> None:
        """Adds a row to the table in nats: the average over data with its standard error."""
        value, error = value_and_error(estimate)
        shown = "unknown (one draw)" if math.isnan(error) else f"{error:.4f}"
        self._rows.append((name, f"{value:.3f} ± {shown}"))

    def table(self, table: Table) -> None:
        """Adds a table of its own."""
        self._tables.append(table)

    def say(self, sentence: str) -> None:
        """Adds a line below the tables."""
        self._sentences.append(sentence)

    def picture(self, name: str, figure: Figure) -> None:
        """Writes a picture into the folder of the run."""
        path = self._folder / name
        figure.savefig(path)
        self._pictures.append(str(path))

    def write(self) -> None:
        """Writes evaluation.json, over an earlier one."""
        write_json(self.path, self.result)

    def show(self, title: str, console: Console) -> None:
        """Prints the tables under a title, then the sentences, and where the rest lies."""
        if self._rows:
            in_nats = Table("nats per datum", "average ± Monte Carlo standard error")
            for row in self._rows:
                in_nats.add_row(*row)
            _print_titled(in_nats, title, console)
        wide = Console(file=console.file, width=max(console.width, _WIDTH))
        for table in self._tables:
            _print_titled(table, f"{title}: {table.title}", wide)
        for sentence in self._sentences:
            console.print(sentence, soft_wrap=True)
        if self._pictures:
            console.print("pictures: " + ", ".join(self._pictures), soft_wrap=True)
        console.print(f"written to {self.path}", soft_wrap=True)


def value_and_error(estimate: Estimate) -> tuple[float, float]:
    """Value and standard error of the average over data."""
    is_average = estimate.value.dim() == 0
    mean = estimate if is_average else estimate.mean()
    return float(mean.value), float(mean.standard_error)


def numbers(name: str, error_name: str, estimate: Estimate) -> dict[str, float | None]:
    """Value and standard error under these two names; an error that is not known is None."""
    error = float(estimate.standard_error)
    known = None if math.isnan(error) else error
    return {name: float(estimate.value), error_name: known}


def _print_titled(table: Table, title: str, console: Console) -> None:
    table.title = title
    table.title_justify = "left"
    console.print(table)
