"""metrics.jsonl: what was measured in each epoch of a run, a line for each."""

from __future__ import annotations

__all__ = ["FILE", "append", "forget", "read"]

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

from ppl_gen.inference import Record
from ppl_gen.writing import append_line, plain, write_atomically

FILE = "metrics.jsonl"


def append(folder: Path, record: Record) -> None:
    """Adds a line to the file.

    Args:
        folder: Of the run.
        record: Of the epoch that is done.
    """
    append_line(folder / FILE, _line(record))


def read(folder: Path, last_epoch: int | None = None) -> list[Record]:
    """The records so far, up to a line that was cut short; none where there is no file.

    Args:
        folder: Of the run.
        last_epoch: Later epochs are left out; None for all.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = _read_record(line)
        except (TypeError, ValueError, AttributeError):
            break
        if last_epoch is None or record.epoch <= last_epoch:
            records.append(record)
    return records


def forget(folder: Path, last_epoch: int) -> None:
    """Leaves the lines of later epochs out of the file.

    Args:
        folder: Of the run.
        last_epoch: The last that is kept.
    """
    lines = "".join(map(_line, read(folder, last_epoch)))
    write_atomically(folder / FILE, lambda file: file.write(lines.encode()))


def _line(record: Record) -> str:
    return json.dumps(plain(asdict(record)), allow_nan=False) + "\n"


def _read_record(line: str) -> Record:
    """The record that `_line` has written, null being nan."""
    record = Record(**json.loads(line))
    metrics = dict(record.metrics)
    for name, value in metrics.items():
        if value is None:
            metrics[name] = math.nan
    return replace(record, metrics=metrics)
