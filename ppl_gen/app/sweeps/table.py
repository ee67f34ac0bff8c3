"""The table of a sweep: on screen, and as files."""

from __future__ import annotations

__all__ = ["as_csv", "as_json", "shown_table"]

import csv
import io
from typing import Any

from rich.table import Table

from ppl_gen.app.sweeps.numbers import Spread, shown
from ppl_gen.app.sweeps.sweep import Results, Row

_HUNDRED = 100
_MOST_LETTERS = 100  # of what has failed, on screen


def shown_table(results: Results, title: str) -> Table:
    """Rows over seeds: settings, number of seeds, each number with its standard error.

    Args:
        results: Of a sweep.
        title: Of the table.
    """
    table = Table(title=title, title_justify="left")
    counts = [len(row.cells) for row in results.rows]
    has_counts = max(counts) > 1
    for name in results.varied:
        table.add_column(_words(name))
    if has_counts:
        table.add_column("seeds")
    for name in results.quantities:
        table.add_column(_words(name))
    if results.failed:
        table.add_column("failed")
    for row in results.rows:
        table.add_row(*_cells(row, results, has_counts))
    return table


def _cells(row: Row, results: Results, has_counts: bool) -> list[str]:
    """The words of one row."""
    words = [_of_setting(row.settings.get(name)) for name in results.varied]
    if has_counts:
        words.append(str(len(row.cells)))
    for name in results.quantities:
        words.append(_of_spread(row.numbers.get(name)))
    if results.failed:
        words.append(_cut(_of_failures(row)))
    return words


def _of_failures(row: Row) -> str:
    words = []
    for failure in row.failures:
        seed = ""
        if "seed" in failure.settings:
            seed = f"seed {failure.settings['seed']}: "
        words.append(seed + failure.why)
    return "; ".join(words)


def _cut(words: str) -> str:
    if len(words) <= _MOST_LETTERS:
        return words
    return words[: _MOST_LETTERS - 1] + "…"


def _of_setting(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _of_spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    words = shown(spread.mean, spread.error)
    if spread.deviation is not None:
        words += f" (sd {_two_digits(spread.deviation)})"
    return words


def _two_digits(number: float) -> str:
    if number >= _HUNDRED:
        return f"{number:.0f}"
    return f"{number:.2g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def as_csv(results: Results) -> str:
    """The rows as comma-separated values, with all digits: NAME, NAME error, NAME sd.

    Args:
        results: Of a sweep.
    """
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    heading = [*results.varied, "seeds"]
    for name in results.quantities:
        heading += [name, f"{name} error", f"{name} sd"]
    lines.writerow([*heading, "failed"])
    for row in results.rows:
        values = [_of_setting(row.settings.get(name)) for name in results.varied]
        values.append(str(len(row.cells)))
        for name in results.quantities:
            values += _digits(row.numbers.get(name))
        values.append(_of_failures(row))
        lines.writerow(values)
    return written.getvalue()


def _digits(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["", "", ""]
    numbers = (spread.mean, spread.error, spread.deviation)
    return ["" if number is None else repr(number) for number in numbers]


def as_json(results: Results) -> dict[str, Any]:
    """The rows for a JSON file, with the settings that all cells share.

    Args:
        results: Of a sweep.
    """
    rows = []
    for row in results.rows:
        rows.append(
            {
                "settings": dict(row.settings),
                "seeds": len(row.cells),
                "numbers": {name: spread._asdict() for name, spread in row.numbers.items()},
                "folders": [done.folder.name for done in row.cells],
                "failed": _of_failures(row),
            }
        )
    return {"shared_settings": results.fixed, "rows": rows}
