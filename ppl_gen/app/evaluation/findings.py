"""What an evaluation finds: numbers for a file, tables and sentences for the terminal, pictures."""

from __future__ import annotations

__all__ = ["Judged", "numbers", "value_and_error"]

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ppl_gen.app.evaluation.asked import Asked
from ppl_gen.app.run import evaluation
from ppl_gen.app.run.evaluation import Entry, Evaluation
from ppl_gen.app.run.opened import Fitted
from ppl_gen.app.terminal import widened
from ppl_gen.app.wording import in_options
from ppl_gen.inference import Estimate
from ppl_gen.writing import uninterrupted

_WIDTH = 110  # columns that wide tables are given, even where the terminal has fewer


class Judged:
    """What was found of a run, gathered from judge to judge, and added to its evaluation.json.

    Args:
        fitted: The run, whose folder the file and the pictures are written to.
        asked: What it is evaluated for.

    Raises:
        ValueError: If evaluation.json is damaged.
    """

    def __init__(self, fitted: Fitted, asked: Asked) -> None:
        self.found: dict[str, Entry] = {}
        self._fitted = fitted
        self._asked = asked
        self._weights = fitted.weights
        self._evaluation = Evaluation.read(fitted.run.folder)
        self._evaluation.mark(fitted.epoch, self._weights)
        self._rows: list[tuple[str, str]] = []
        self._tables: list[Table] = []
        self._sentences: list[str] = []
        self._pictures: list[str] = []

    def record(
        self,
        quantity: str,
        numbers: Mapping[str, Any],
        *,
        options: Iterable[str] = (),
        pictures: Mapping[str, Figure] | None = None,
    ) -> None:
        """Adds the entry of a quantity to evaluation.json, and writes its pictures, at once.

        Args:
            quantity: Its name in the file.
            numbers: What was found.
            options: The names of the options that the numbers depend on, besides seed and limit.
            pictures: By the names of files, which are written into the folder of the run.
        """
        pictures = pictures or {}
        entry: Entry = {
            **numbers,
            "epoch": self._fitted.epoch,
            "weights": self._weights,
            "current": True,
            "options": self._asked.chosen("seed", "limit", *options),
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        if pictures:
            entry["pictures"] = list(pictures)
        with uninterrupted():
            for name, figure in pictures.items():
                self._pictures.append(str(self._fitted.write_picture(name, figure)))
            self._evaluation.add(quantity, entry)
            self._evaluation.write()
            self.found[quantity] = entry

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
        self._sentences.append(in_options(sentence))

    def show(self, title: str, console: Console) -> None:
        """Prints the tables under a title, then the sentences, and where the rest lies."""
        if self._rows:
            in_nats = Table("nats per datum", "average ± Monte Carlo standard error")
            for row in self._rows:
                in_nats.add_row(*row)
            _print_titled(in_nats, title, console)
        wide = widened(console, _WIDTH)
        for table in self._tables:
            _print_titled(table, f"{title}: {table.title}", wide)
        for sentence in self._sentences:
            console.print(sentence, soft_wrap=True)
        if self._pictures:
            console.print("pictures: " + ", ".join(self._pictures), soft_wrap=True)
        path = self._fitted.run.folder / evaluation.FILE
        console.print(f"written to {path}{self._kept()}", soft_wrap=True)

    def saved(self) -> str:
        """What is written so far, in words."""
        path = self._fitted.run.folder / evaluation.FILE
        if not self.found:
            return f"nothing was written to {path}"
        return f"{', '.join(self.found)} written to {path}"

    def _kept(self) -> str:
        """What evaluation.json holds from before, as the end of a sentence."""
        kept = []
        for name, entry in self._evaluation.entries.items():
            if name in self.found:
                continue
            of = f"of epoch {entry['epoch']}"
            if not entry["current"]:
                of += ", other weights than now"
            kept.append(f"{name} ({of})")
        if not kept:
            return ""
        return f"; kept there from before: {', '.join(kept)}"


def value_and_error(estimate: Estimate) -> tuple[float, float]:
    """Value and standard error of the average over data."""
    is_average = estimate.value.dim() == 0
    mean = estimate if is_average else estimate.mean()
    return float(mean.value), float(mean.standard_error)


def numbers(estimate: Estimate) -> dict[str, float | None]:
    """Value and standard error for a file; an error that is not known is None."""
    error = float(estimate.standard_error)
    known = None if math.isnan(error) else error
    return {"value": float(estimate.value), "standard_error": known}


def _print_titled(table: Table, title: str, console: Console) -> None:
    table.title = title
    table.title_justify = "left"
    console.print(table)
