"""Checksums of data, which tell whether they are still what they were."""

from __future__ import annotations

__all__ = ["of_columns", "of_labels", "of_numbers"]

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ppl_gen.data.formats.columns import Columns
from ppl_gen.data.reader import rows_of
from ppl_gen.data.splits import Split, StreamedSplit
from ppl_gen.memory import rows as rows_within
from ppl_gen.progress import track

_DIGEST = 16  # bytes
_MANY = 1000  # files, or parts of an array, whose reading is shown
_AT_ONCE = 2**20  # numbers of an array that are read in one go

# The file of a datum and its label, an integer or a vector of attributes.
Row = tuple[Path, Any]


def of_numbers(split: Split | StreamedSplit) -> str:
    """The number of data and a checksum of them: of their bytes, or of their files if they have
    one each.

    A file counts by its name, its size and its content, in the order in which files are read. Rows
    of an array have one checksum, be they in memory or streamed.

    Args:
        split: The data; labels are left out.

    Raises:
        ValueError: If a file cannot be read.
    """
    if isinstance(split, Split):
        return f"{len(split)} {_of_tensor(split.x)}"
    if split.by_threads:
        return f"{len(split)} {_of_rows(split)}"
    rows = _rows(split.source)
    checksum = hashlib.blake2b(digest_size=_DIGEST)
    for file, _ in track(rows, "checking images", shown=len(rows) > _MANY):
        checksum.update(_of_file(file).encode())
    return f"{len(split)} {checksum.hexdigest()}"


def of_labels(split: Split | StreamedSplit) -> str | None:
    """A checksum of the labels or attributes of data; None if they have none.

    Args:
        split: The data.
    """
    if isinstance(split, Split):
        if split.y is None:
            return None
        return _of_tensor(split.y)
    if not split.labelled:
        return None
    if split.by_threads:
        return _of_tensor(_labels(split.source))
    labels = [torch.as_tensor(label) for _, label in _rows(split.source)]
    return _of_tensor(torch.stack(labels))


def of_columns(columns: Columns) -> str:
    """A checksum of the names of columns and the units that their numbers came from.

    Standardised numbers are the same in any unit.

    Args:
        columns: Of a table.
    """
    checksum = hashlib.blake2b("\0".join(columns.names).encode(), digest_size=_DIGEST)
    checksum.update(_of_tensor(torch.stack([columns.mean, columns.sd])).encode())
    return checksum.hexdigest()


def _rows(source: Any) -> Sequence[Row]:
    """The file and the label of each datum of a stream that was read from files."""
    if isinstance(source, Subset):
        rows = _rows(source.dataset)
        return [rows[index] for index in source.indices]
    if hasattr(source, "rows"):
        rows = source.rows
        return rows
    return _rows(source.source)  # of images that are changed as they are read


def _labels(source: Any) -> Tensor:
    """The labels of a stream of rows of an array."""
    if isinstance(source, Subset):
        return _labels(source.dataset)[torch.as_tensor(source.indices)]
    if hasattr(source, "y"):
        y: Tensor = source.y
        return y
    return _labels(source.source)  # of data that are changed as they are read


def _of_rows(split: StreamedSplit) -> str:
    """The checksum that `_of_tensor` gives of the data of a stream, were they in memory."""
    n = len(split)
    first, _ = split.source[0]
    array = first.numpy()
    checksum = hashlib.blake2b(f"{array.dtype} {(n, *array.shape)}".encode(), digest_size=_DIGEST)
    at_once = rows_within(_AT_ONCE, array.size)
    for start in track(range(0, n, at_once), "checking data", shown=n > at_once * _MANY):
        x, _ = rows_of(split.source, range(start, min(n, start + at_once)))
        checksum.update(np.ascontiguousarray(x.numpy()).reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()


def _of_tensor(x: Tensor) -> str:
    """A checksum of the type, shape and bytes of a tensor."""
    array = np.ascontiguousarray(x.detach().cpu().numpy())
    checksum = hashlib.blake2b(f"{array.dtype} {array.shape}".encode(), digest_size=_DIGEST)
    checksum.update(array.reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()


def _of_file(path: Path) -> str:
    """The name and the size of a file, and a checksum of its bytes."""
    try:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, _blake2b)
            return f"{path.name}\0{file.tell()}\0{content.hexdigest()}\n"
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _blake2b() -> Any:
    return hashlib.blake2b(digest_size=_DIGEST)
