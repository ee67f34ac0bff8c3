"""metrics.jsonl: what was measured in each epoch of a run, a line for each."""

from __future__ import annotations

__all__ = ["FILE", "append", "forget", "read"]

import json
import math
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ppl_gen.app.run import documents
from ppl_gen.app.run.documents import is_count
from ppl_gen.inference import Record
from ppl_gen.writing import append_line, plain, write_atomically

FILE = "metrics.jsonl"
_CHECKSUM = "checksum"
# Why a rule ended a fit is no part of a line: the command says it, and former versions wrote none.
_NAMES = {field.name for field in fields(Record)} - {"stopped"}


def append(folder: Path, record: Record) -> None:
    """Adds a line to the file.

    Args:
        folder: Of the run.
        record: Of the epoch that is done.
    """
    append_line(folder / FILE, _line(record))


def read(folder: Path, last_epoch: int | None = None) -> list[Record]:
    """The records so far, in order, the last of each epoch; none where there is no file.

    A line that is damaged, or was cut short, is passed over.

    Args:
        folder: Of the run.
        last_epoch: Later epochs are left out; None for all.

    Raises:
        ValueError: If the file cannot be read.
    """
    text = documents.read(folder / FILE)
    if text is None:
        return []
    records = {}
    for line in text.split(b"\n"):
        try:
            record = _read_record(line)
        except ValueError:
            continue
        if last_epoch is None or record.epoch <= last_epoch:
            records[record.epoch] = record
    return [records[epoch] for epoch in sorted(records)]


def forget(folder: Path, last_epoch: int) -> list[int]:
    """Leaves the lines of later epochs, and those that are damaged, out of the file.

    Args:
        folder: Of the run.
        last_epoch: The last that is kept.

    Returns:
        The epochs up to then that have no line.
    """
    records = read(folder, last_epoch)
    lines = "".join(map(_line, records))
    write_atomically(folder / FILE, lambda file: file.write(lines.encode()))
    there = {record.epoch for record in records}
    return [epoch for epoch in range(1, last_epoch + 1) if epoch not in there]


def _line(record: Record) -> str:
    """A line of JSON, with a checksum of what it says beside."""
    held = plain(asdict(record))
    del held["stopped"]
    return json.dumps({**held, _CHECKSUM: _checksum(held)}, allow_nan=False) + "\n"


def _checksum(held: dict[str, Any]) -> str:
    said = json.dumps(held, sort_keys=True)
    return f"{zlib.crc32(said.encode()):08x}"


def _read_record(line: bytes) -> Record:
    """The record that `_line` has written, null being nan.

    Raises:
        ValueError: If it is none.
    """
    held = documents.parse(line)
    if not isinstance(held, dict):
        raise ValueError(f"expected {', '.join(_NAMES)}")
    checksum = held.pop(_CHECKSUM, None)  # which lines of former versions have not
    if held.keys() != _NAMES or checksum not in (None, _checksum(held)):
        raise ValueError(f"expected {', '.join(_NAMES)}, as they were written")
    metrics = held["metrics"]
    if not isinstance(metrics, dict) or not is_count(held["epoch"]) or not is_count(held["data"]):
        raise ValueError("expected an epoch, its metrics by name, and a number of data")
    return Record(
        epoch=held["epoch"],
        metrics={name: _number(value) for name, value in metrics.items()},
        data=held["data"],
        seconds=_number(held["seconds"]),
    )


def _number(value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)
