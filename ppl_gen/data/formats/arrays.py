"""Data in arrays of one's own, in .npy and .npz files: headers first, then the numbers."""

from __future__ import annotations

__all__ = ["ARRAYS", "KNOWN", "of_arrays", "pixels", "read_array", "read_arrays"]

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ppl_gen.contexts import reason
from ppl_gen.data.splits import Dataset, Split, nine_to_one
from ppl_gen.memory import SINGLE, expect_memory, in_bytes
from ppl_gen.reading import expect_file

ARRAYS = (".npy", ".npz")

_CHANNELS = (1, 3, 4)

_LARGEST = float(np.finfo(np.float32).max)
_EXACT = 2**24  # up to which single precision holds every whole number

# The arrays of a file that are read; others are left where they are.
KNOWN = ("x", "y", "x_train", "y_train", "x_test", "y_test")

# What NumPy and zipfile raise at a file that is no array, or a damaged one.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_arrays(path: Path, missing: bool = False) -> Dataset:
    """Arrays x_train and x_test, with y_train and y_test if labelled; or x, with y, or a .npy file.

    An array y of images, (N, H, W), (N, C, H, W) or (N, H, W, C), makes pairs.

    Bytes are images and divided by 255, unless they are all 0 or 1; other integers are counts and
    left as they are. `stored` of the data set says which.

    Args:
        path: The file.
        missing: Whether entries of the data may be NaN, which are missing.

    Raises:
        ValueError: If it cannot be read, arrays are missing or do not fit into memory, or their
            shapes or numbers are not those of data and labels.
    """
    return of_arrays(_stored(path), path, missing)


def read_array(path: Path) -> tuple[np.ndarray, float]:
    """All data of a file as they are stored, and what bytes among them are divided by.

    Args:
        path: A .npy file, or a .npz file with an array x or x_test.

    Returns:
        The array, (N, ...), and 255 for bytes beyond 0 and 1, else 1.

    Raises:
        ValueError: If it cannot be read, there is no such array, or it does not fit into memory or
            holds no finite numbers.
    """
    if not path.exists():
        raise ValueError(f"no file at {path}; name a data set, or a .npy or .npz file")
    stored = _stored(path)
    for name in ("x", "x_test"):
        if name in stored:
            array = stored[name]
            return array, _reading_of([array], path, missing=False).divisor
    raise ValueError(f"expected an array x, or x_test, in {path}, got {', '.join(sorted(stored))}")


def of_arrays(stored: Mapping[str, np.ndarray], path: Path, missing: bool = False) -> Dataset:
    """A data set of arrays x_train and x_test, with y_train and y_test if labelled; or x, with y.

    Args:
        stored: The arrays, by name.
        path: Of the file that they were read from.
        missing: Whether entries of the data may be NaN, which are missing.

    Raises:
        ValueError: If arrays are missing, or their shapes or numbers are not those of data and
            labels.
    """
    if {"x_train", "x_test"} <= stored.keys():
        reading = _reading_of([stored["x_train"], stored["x_test"]], path, missing)
        train = _array_split(stored["x_train"], stored.get("y_train"), reading, path)
        test = _array_split(stored["x_test"], stored.get("y_test"), reading, path)
    elif "x" in stored:
        reading = _reading_of([stored["x"]], path, missing)
        train, test = _divided(stored["x"], stored.get("y"), reading, path)
    else:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, in {path}, got {', '.join(sorted(stored))}"
        )
    _check_same(train.x, test.x, "data", path)
    _check_same(train.y, test.y, "labels", path)
    made = Dataset.of(path.name, train, test, _classes(train, test, path))
    return replace(made, stored=reading.words)


def pixels(x: Tensor, divisor: float = 255) -> Tensor:
    """Stored arrays as floats (N, D) or (N, C, H, W), divided by a number, colour axes second.

    Args:
        x: (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C).
        divisor: 255 for bytes.
    """
    x = x.float()
    if divisor != 1:
        x = x / divisor
    if x.dim() == 3:
        return x[:, None]
    if x.dim() == 4 and x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS:
        return x.movedim(-1, 1)
    return x


class _Header(NamedTuple):
    """What the header of an array says: its shape, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """The number of its entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its entries."""
        return self.size * self.dtype.itemsize


def _stored(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of a .npy file is x.

    Their headers are looked at first: an array that does not fit into memory is not begun.

    Raises:
        ValueError: If the file is none that NumPy has written, is shorter than its headers say, or
            its arrays do not fit into memory or hold anything but numbers.
    """
    expect_file(path)
    try:
        headers, others = _headers(path)
    except (*_UNREADABLE, MemoryError) as error:
        raise ValueError(f"cannot read {path}: {reason(error)}") from error
    if not headers:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, in {path}, got "
            f"{', '.join(sorted(others)) or 'none'}"
        )
    needed = 0
    for header in headers.values():
        _check_type(header, path)
        # As they are stored, in single precision, and that divided or split.
        needed += header.nbytes + 2 * SINGLE * header.size
    remedy = "store fewer or smaller data, or a folder of images, which may be streamed"
    expect_memory(f"the arrays of {path}", needed, remedy)
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return {"x": stored}
        with stored:
            return {name: stored[name] for name in headers}
    except _UNREADABLE as error:
        raise ValueError(f"cannot read {path}: {reason(error)}") from error


def _headers(path: Path) -> tuple[dict[str, _Header], list[str]]:
    """The header of each array that is read, x of a .npy file; and the names of all others."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            return {"x": _header(file, path.stat().st_size)}, []
    found = {}
    others = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in KNOWN:
                others.append(name)
                continue
            with archive.open(member) as file:
                found[name] = _header(file, member.file_size)
    return found, others


def _header(file: IO[bytes], length: int) -> _Header:
    """The header of an array.

    Args:
        file: Where the array begins.
        length: How many bytes are there, header included.

    Raises:
        ValueError: If there is none, or it says more than the file holds.
    """
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array of format {version[0]}.{version[1]}, which is of no numbers")
    header = _Header(shape, dtype)
    held = length - file.tell()
    if min(shape, default=0) < 0 or (header.nbytes > held and not dtype.hasobject):
        raise ValueError(
            f"its header says shape {shape} of {dtype}, {in_bytes(header.nbytes)}, and it holds "
            f"{in_bytes(held)}: it is cut off, or damaged"
        )
    return header


def _check_type(header: _Header, path: Path) -> None:
    """Raises ValueError unless an array holds numbers: whole ones, floating point ones or bools."""
    if header.dtype.kind in "buif":
        return
    kinds = {"O": "Python objects", "c": "complex numbers", "V": "records", "U": "text"}
    got = kinds.get(header.dtype.kind, str(header.dtype))
    raise ValueError(
        f"expected numbers of shape (N, *shape) in {path}, got {got} of shape {header.shape}; "
        "store whole or floating point numbers"
    )


class _Reading(NamedTuple):
    """What is done to stored numbers: they are divided by `divisor`, which `words` say."""

    divisor: float
    words: str


def _reading_of(parts: list[np.ndarray], path: Path, missing: bool) -> _Reading:
    """What is done to the numbers of all parts of a file alike.

    Raises:
        ValueError: If they are no data, or bytes in one part and other numbers in another.
    """
    for x in parts:
        _check_numbers(x, path, missing)
    dtypes = {str(x.dtype) for x in parts}
    names = " and ".join(sorted(dtypes))
    is_bytes = "uint8" in dtypes
    if is_bytes and len(dtypes) > 1:
        raise ValueError(
            f"expected numbers of one type to train and to test in {path}, got {names}: bytes are "
            "divided by 255, other numbers are not; store both alike"
        )
    least = min(np.nanmin(x) for x in parts)
    most = max(np.nanmax(x) for x in parts)
    if is_bytes and most > 1:
        return _Reading(255, f"bytes from {least} to {most}, divided by 255")
    if is_bytes or "bool" in dtypes:
        return _Reading(1, "pixels that are 0 or 1")
    if {x.dtype.kind for x in parts} <= {"i", "u"}:
        return _Reading(1, f"counts ({names}) from {least} to {most}, as they are")
    words = f"numbers from {least:.3g} to {most:.3g}, as they are"
    return _Reading(1, words + _said_of_missing(parts))


def _said_of_missing(parts: list[np.ndarray]) -> str:
    """How many entries of all parts are missing, in words; empty if none are.

    Args:
        parts: The arrays of a file, the one that is fitted to being first.
    """
    count = sum(x.size for x in parts)
    lacking = sum(map(_lacking, parts))
    if lacking == 0:
        return ""
    said = f", {lacking / count:.1%} missing"
    never = np.isnan(parts[0]).all(0)
    if never.any():
        said += f" ({never.sum()} of {never.size} entries in every datum: nothing tells of them)"
    return said


def _lacking(x: np.ndarray) -> int:
    """How many entries are NaN."""
    return int(np.isnan(x).sum())


def _divided(
    x: np.ndarray, y: np.ndarray | None, reading: _Reading, path: Path
) -> tuple[Split, Split]:
    """x, with y if there is one, split nine to one."""
    count = len(x)
    rows = nine_to_one(count, str(path))
    if y is not None and y.shape[:1] != (count,):
        raise ValueError(
            f"expected one label for each of {count} data in {path}, got labels of shape {y.shape}"
        )
    splits = []
    for part in rows:
        labels = None if y is None else y[part]
        splits.append(_array_split(x[part], labels, reading, path))
    return splits[0], splits[1]


def _array_split(x: np.ndarray, y: np.ndarray | None, reading: _Reading, path: Path) -> Split:
    data = pixels(torch.as_tensor(x.astype(np.float32)), reading.divisor)
    if y is None:
        return Split(data)
    if y.ndim >= 3:
        return Split(data, _images_beside(y, data, path))
    _check_labels(y, len(x), path)
    kind = np.float32 if y.dtype.kind == "f" else np.int64
    return Split(data, torch.as_tensor(y.astype(kind)))


def _images_beside(y: np.ndarray, x: Tensor, path: Path) -> Tensor:
    """An array of images that lie beside the data, (N, C, H, W), bytes divided by 255."""
    _check_numbers(y, path, missing=False)
    divisor = 1
    if y.dtype == np.uint8 and y.max() > 1:
        divisor = 255
    images = pixels(torch.as_tensor(y.astype(np.float32)), divisor)
    if x.dim() != 4 or images.dim() != 4 or len(images) != len(x):
        raise ValueError(
            f"expected images y beside images x in {path}, got x of shape (N, "
            f"{', '.join(map(str, x.shape[1:]))}) and y of shape (N, "
            f"{', '.join(map(str, y.shape[1:]))}); labels are of shape (N,)"
        )
    return images


def _check_numbers(x: np.ndarray, path: Path, missing: bool) -> None:
    if x.ndim < 2 or x.dtype.kind not in "buif" or x.size == 0:
        raise ValueError(
            f"expected numbers of shape (N, *shape) in {path}, got {x.dtype} of shape {x.shape}"
        )
    if np.isinf(x).any():
        raise ValueError(
            f"expected finite numbers in {path}, got infinite ones; remove or replace them"
        )
    lacking = _lacking(x)
    if lacking == x.size:
        raise ValueError(
            f"expected finite numbers in {path}, got NaN alone; store what is observed of the data"
        )
    if lacking and not missing:
        raise ValueError(
            f"expected finite numbers in {path}, got {lacking} of {x.size} that are NaN; remove or "
            "replace them, or, if they are what is missing, say data.load(..., missing=True), or "
            "--likelihood masked to ppl-gen fit"
        )
    if max(-float(np.nanmin(x)), float(np.nanmax(x))) > _LARGEST:
        raise ValueError(
            f"expected numbers up to {_LARGEST:.2g} in {path}, as single precision has them, got "
            f"{np.nanmin(x):.3g} to {np.nanmax(x):.3g}; store them in a larger unit"
        )
    if x.dtype.kind in "ui" and max(-int(x.min()), int(x.max())) > _EXACT:
        raise ValueError(
            f"expected counts up to {_EXACT:,} in {path}, which single precision has exactly, got "
            f"{x.min()} to {x.max()}; store them as floats, in a larger unit"
        )


def _check_labels(y: np.ndarray, n: int, path: Path) -> None:
    if y.dtype.kind == "f":
        right = y.ndim == 2 and y.size > 0 and bool((np.abs(y) <= _LARGEST).all())
    else:
        right = y.dtype.kind in "ui" and y.ndim == 1 and bool((y >= -1).all())
        right = right and bool((y < 2**63).all())
    if right and len(y) == n:
        return
    least = ""
    if y.size and y.dtype.kind in "ui":
        least = f" from {y.min()}"
    raise ValueError(
        f"expected {n} integer labels, −1 where missing, or attribute vectors of floats (N, A), in "
        f"{path}, got {y.dtype} of shape {y.shape}{least}"
    )


def _check_same(train: Tensor | None, test: Tensor | None, what: str, path: Path) -> None:
    shapes = []
    for each in (train, test):
        shapes.append(None if each is None else tuple(each.shape[1:]))
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"expected one shape of {what} in {path}, got {shapes[0]} to train and {shapes[1]} to "
            "test"
        )


def _classes(train: Split, test: Split, path: Path) -> int | None:
    """The number of labels; None without labels, or with attribute vectors."""
    if train.y is None or test.y is None or train.y.is_floating_point():
        return None
    classes = int(max(train.y.max(), test.y.max())) + 1
    if not 1 <= classes <= len(train):
        raise ValueError(
            f"expected labels numbered from 0, fewer than data, in {path}, got them up to "
            f"{classes - 1}"
        )
    return classes
