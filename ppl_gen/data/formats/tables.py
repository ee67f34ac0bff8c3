"""Tables in .csv files: columns of numbers, standardised by the rows that are fitted to."""

from __future__ import annotations

__all__ = ["TABLES", "read_table", "standardised", "write_table"]

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ppl_gen.contexts import reason
from ppl_gen.data.formats.columns import Columns
from ppl_gen.data.splits import Dataset, Split, nine_to_one
from ppl_gen.memory import expect_memory
from ppl_gen.names import nearest
from ppl_gen.reading import expect_file
from ppl_gen.writing import write_atomically

TABLES = (".csv", ".tsv")

_DELIMITERS = ",;\t"
_MISSING = ("", "?", "na", "n/a", "nan", "null", "none")  # cells without a value, in lower case
_CELL = 80  # bytes of a Python string that holds a number
_SHOWN = 5  # names in a message
_LONG = 20  # characters of a cell in a message
_SHARE = 0.5  # of the rows, that have different labels in a column that is none
_FLAT = 1e-12  # of a column's largest number: a deviation that is rounding alone
_LARGEST = float(np.finfo(np.float32).max)


def read_table(
    path: Path,
    label_column: str | None = None,
    leave_out: Sequence[str] = (),
    missing: bool = False,
) -> Dataset:
    """The columns of a table, standardised; nine of ten rows to train, by a fixed permutation.

    The first line names the columns, unless it holds numbers alone. Cells are parted by commas,
    semicolons or tabs. A cell that is empty, or "?", "NA", "NaN" or the like, is missing.

    Args:
        path: Of the file, in UTF-8.
        label_column: The column whose values, of any kind, are labels y, and no data; −1 where a
            cell is missing.
        leave_out: Columns that are no data.
        missing: Whether cells may be missing; they are NaN.

    Raises:
        ValueError: If the file is no table, a column holds text, one number alone or nothing, cells
            are missing and may not be, or a column that is named is not there.
    """
    table = _table(path)
    for name in (label_column, *leave_out):
        if name is not None and name not in table.names:
            raise ValueError(f"no column {name!r} in {path}; {nearest(name, table.names)}")
    taken = [name for name in table.names if name not in (label_column, *leave_out)]
    if not taken:
        raise ValueError(
            f"expected a column of numbers besides those left out in {path}, got none; leave out "
            "fewer"
        )
    x = np.stack(_numbers(table, taken, path), 1)
    _check_missing(x, taken, missing, path)
    train, test = nine_to_one(len(x), f"the rows of {path}")
    labels = None
    names: tuple[str, ...] = ()
    if label_column is not None:
        labels, names = _labels(table, label_column, path)
    made = standardised(path.name, x, labels, (train, test), taken)
    return replace(made, class_names=names, classes=len(names) or None)


def standardised(
    name: str,
    x: np.ndarray,
    y: np.ndarray | None,
    rows: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
) -> Dataset:
    """(x − m) / s, m and s being the mean and the deviation of each column's training rows.

    Args:
        name: What the table is loaded as.
        x: Its numbers (N, D), NaN where one is missing.
        y: Labels (N,), or None.
        rows: The rows to train on and to test on.
        names: Of the columns, D of them.

    Raises:
        ValueError: If a column has one number alone, or none, in the rows to train on.
    """
    fitted = x[rows[0]]
    _check_spread(fitted, names, name)
    columns = Columns(
        tuple(names),
        torch.as_tensor(np.nanmean(fitted, 0)),
        torch.as_tensor(np.nanstd(fitted, 0)),
    )
    splits = []
    for part in rows:
        labels = None
        if y is not None:
            labels = torch.as_tensor(y[part])
        splits.append(Split(columns.standardised(torch.as_tensor(x[part])), labels))
    words = (
        f"columns standardised by the training rows (for log p in their own units add "
        f"{-columns.log_units:+.3f} nats)"
    )
    lacking = float(np.isnan(x).mean())
    if lacking:
        words += f", {lacking:.1%} missing"
    made = Dataset.of(name, splits[0], splits[1])
    return replace(made, stored=words, columns=columns)


def write_table(path: Path, names: Sequence[str], rows: np.ndarray) -> None:
    """Writes numbers under the names of their columns, whole or not at all.

    Args:
        path: Of the file, whose cells are parted by commas; by tabs in a .tsv file.
        names: Of the columns, D of them.
        rows: Numbers (N, D); NaN becomes an empty cell.
    """
    delimiter = ","
    if path.suffix.lower() == ".tsv":
        delimiter = "\t"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    for row in rows.tolist():
        writer.writerow(["" if np.isnan(number) else f"{number:.9g}" for number in row])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


class _Table(NamedTuple):
    """The cells of a table, row by row, and the line of the file that each row ends in."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]


def _table(path: Path) -> _Table:
    """The cells of a file, without spaces at their ends, as many in each row.

    Raises:
        ValueError: If it cannot be read, rows are of different length, or names occur twice.
    """
    expect_file(path)
    try:
        # Half of the bytes may be delimiters, each cell a string of its own.
        expect_memory(
            f"the table {path}", _CELL * path.stat().st_size // 2, "store it as .npy instead"
        )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} as text in UTF-8: {reason(error)}") from error
    table = _Table([], [], [])
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=_delimiter(text),
            skipinitialspace=True,
            strict=True,
        )
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                table.rows.append(cells)
                table.lines.append(reader.line_num)
    except csv.Error as error:
        last = (table.lines or [0])[-1]
        raise ValueError(
            f"cannot read {path} as a table: {error} after line {last}; save it as .csv, cells "
            "with commas in quotes"
        ) from error
    if not table.rows:
        raise ValueError(f"expected rows of numbers in {path}, got an empty file; name another")
    _check_lengths(table, path)
    if all(map(_is_number, table.rows[0])):
        names = [f"column{place}" for place in range(1, len(table.rows[0]) + 1)]
    else:
        names = table.rows.pop(0)
        table.lines.pop(0)
    table.names.extend(names)
    _check_names(names, path)
    return table


def _delimiter(text: str) -> str:
    """The delimiter that makes the most cells of the first line."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return max(_DELIMITERS, key=lambda delimiter: _count_cells(first, delimiter))


def _count_cells(line: str, delimiter: str) -> int:
    return len(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))


def _check_lengths(table: _Table, path: Path) -> None:
    width = len(table.rows[0])
    for row, line in zip(table.rows, table.lines, strict=True):
        if len(row) != width:
            raise ValueError(
                f"expected {width} cells in every row of {path}, as its first has, got {len(row)} "
                f"in line {line}; mend that line"
            )


def _check_names(names: list[str], path: Path) -> None:
    if "" in names:
        raise ValueError(
            f"expected a name of each column in the first line of {path}, got none of column "
            f"{names.index('') + 1}; name it"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"expected different names of columns in {path}, got {twice[0]!r} {len(twice)} times; "
            "rename one"
        )


def _is_number(cell: str) -> bool:
    """Whether a cell holds a number, infinite ones included."""
    if _is_missing(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # which Python allows between digits


def _is_missing(cell: str) -> bool:
    return cell.lower() in _MISSING


def _numbers(table: _Table, names: list[str], path: Path) -> list[np.ndarray]:
    """The numbers of each column, NaN where a cell is missing.

    Raises:
        ValueError: If columns hold text, or numbers that are too large.
    """
    found = []
    texts: dict[str, str] = {}
    for name in names:
        cells = table.column(name)
        wrong = [cell for cell in cells if not (_is_missing(cell) or _is_number(cell))]
        if wrong:
            texts[name] = f"{name!r} (such as {wrong[0][:_LONG]!r})"
        else:
            found.append(np.array([_number(cell) for cell in cells]))
    if texts:
        got = _listed([*texts.values()])
        raise ValueError(
            f"expected numbers in each column of {path}, got text in {got}; leave such columns out "
            f"(leave_out=..., --leave-out {','.join(texts)}), or take one as labels "
            "(label_column=..., --label-column)"
        )
    for name, column in zip(names, found, strict=True):
        largest = np.abs(column[~np.isnan(column)]).max(initial=0)
        if largest > _LARGEST:
            raise ValueError(
                f"expected finite numbers up to {_LARGEST:.2g} in {path}, got {largest:.3g} in "
                f"column {name!r}; remove or replace them"
            )
    return found


def _number(cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    return float(cell)


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    said = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        said += f" and {len(names) - _SHOWN} more"
    return said


def _check_missing(x: np.ndarray, names: list[str], missing: bool, path: Path) -> None:
    lacking = np.isnan(x)
    if missing or not lacking.any():
        return
    where = [repr(names[place]) for place in np.flatnonzero(lacking.any(0)).tolist()]
    raise ValueError(
        f"expected a number in each cell of {path}, got none in {lacking.sum()} of {x.size}, in "
        f"{_listed(where)}; fill or remove them, or say data.load(..., missing=True), or "
        "--likelihood masked to ppl-gen fit"
    )


def _check_spread(fitted: np.ndarray, names: Sequence[str], name: str) -> None:
    """Raises ValueError if a column has no two different numbers."""
    empty = [repr(n) for n, lacks in zip(names, np.isnan(fitted).all(0), strict=True) if lacks]
    if empty:
        raise ValueError(
            f"expected numbers in the training rows of each column of {name}, got none in "
            f"{_listed(empty)}; leave them out (leave_out=..., --leave-out)"
        )
    spread = np.nanstd(fitted, 0)
    flat = spread <= _FLAT * np.nanmax(np.abs(fitted), 0)
    if flat.any():
        where = [repr(names[place]) for place in np.flatnonzero(flat).tolist()]
        raise ValueError(
            f"expected different numbers in the training rows of each column of {name}, got one "
            f"alone in {_listed(where)}, which cannot be standardised; leave them out "
            "(leave_out=..., --leave-out)"
        )


def _labels(table: _Table, name: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each row's label, −1 where it is missing; and the labels, in order."""
    cells = table.column(name)
    known = {cell for cell in cells if not _is_missing(cell)}
    if not 1 <= len(known) <= _SHARE * len(cells):
        raise ValueError(
            f"expected a few labels in column {name!r} of {path}, got {len(known)} different ones "
            f"in {len(cells)} rows; leave the column out (leave_out=..., --leave-out) if it is no "
            "label"
        )
    ordered = sorted(known)
    if all(map(_is_number, known)):
        ordered.sort(key=float)
    numbers = {cell: number for number, cell in enumerate(ordered)}
    return np.array([numbers.get(cell, -1) for cell in cells]), tuple(ordered)
