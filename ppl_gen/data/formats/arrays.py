"""Data in arrays of one's own, in .npy and .npz files: headers first, then the numbers.

Arrays of .npy files that are too many for memory stay there, and are read by rows: a file x.npy,
or a folder of x.npy and y.npy, or of x_train.npy, x_test.npy, y_train.npy and y_test.npy. To make
such a file without ever holding it:

    x = np.lib.format.open_memmap("x.npy", mode="w+", dtype=np.uint8, shape=(1_000_000, 28, 28))
    x[:1000] = ...
    x.flush()
"""

from __future__ import annotations

__all__ = [
    "ARRAYS",
    "KNOWN",
    "holds_arrays",
    "named_arrays",
    "of_arrays",
    "pixels",
    "read_array",
    "read_arrays",
]

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import reason
from ppl_gen.data.formats.stored import StoredRows, of_images
from ppl_gen.data.splits import Dataset, Split, StreamedSplit, nine_to_one
from ppl_gen.memory import SINGLE, expect_memory, in_bytes
from ppl_gen.reading import expect_file

ARRAYS = (".npy", ".npz")

_ARCHIVE = b"PK"
_LARGEST = float(np.finfo(np.float32).max)
_AT_ONCE = 2**22  # numbers that are looked at in one go
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


def holds_arrays(path: Path) -> bool:
    """Whether a folder holds arrays x.npy, or x_train.npy and x_test.npy.

    Args:
        path: The folder.
    """
    names = {name for name in KNOWN if (path / f"{name}.npy").exists()}
    return "x" in names or {"x_train", "x_test"} <= names


def read_arrays(path: Path, missing: bool = False, stream: bool | None = None) -> Dataset:
    """Arrays x_train and x_test, with y_train and y_test if labelled; or x, with y, or a .npy file.

    An array y of images, (N, H, W), (N, C, H, W) or (N, H, W, C), makes pairs.

    Bytes are images and divided by 255, unless they are all 0 or 1; other integers are counts and
    left as they are. `stored` of the data set says which.

    Data that are streamed are mapped: labels are held, all numbers are looked at once, chunk by
    chunk, and rows are then read as they are asked for, several at once.

    Args:
        path: The file; or a folder that holds each of these arrays in a .npy file of its name.
        missing: Whether entries of the data may be NaN, which are missing; of data in memory.
        stream: Whether data stay in their .npy files; None leaves them there above 2 GiB in single
            precision. Those of .npz files are held.

    Raises:
        ValueError: If it cannot be read, arrays are missing or do not fit into memory, or their
            shapes or numbers are not those of data and labels.
    """
    return of_arrays(_stored(path, stream), path, missing)


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


def named_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file by their names; of a .npy file one, named "".

    Args:
        path: The file.

    Raises:
        ValueError: If it cannot be read, or holds objects.
    """
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return {"": held}
        with held:
            return {name: held[name] for name in held.files}
    except _UNREADABLE as error:
        raise ValueError(f"cannot read {path}: {reason(error)}") from error


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
    _check_same(_shape(train), _shape(test), "data", path)
    labels = _labels(train)
    others = _labels(test)
    _check_same(_shape_of(labels), _shape_of(others), "labels", path)
    made = Dataset.of(path.name, train, test, _classes(labels, others, path))
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
    return of_images(x)


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


def _stored(path: Path, stream: bool | None = False) -> dict[str, np.ndarray]:
    """The arrays of a file or folder by name, data mapped if they stay there; that of .npy is x.

    Their headers are looked at first: an array that does not fit into memory is not begun.

    Raises:
        ValueError: If a file is none that NumPy has written, is shorter than its headers say, its
            arrays do not fit into memory or hold anything but numbers, or data that are to be
            streamed are in a .npz file.
    """
    files = _files(path)
    headers: dict[str, _Header] = {}
    for name, file in files.items():
        headers |= _headers_in(file, name)
    for header in headers.values():
        _check_type(header, path)
    kept = _stay(headers, files, path, stream)
    needed = 0
    for name, header in headers.items():
        if name not in kept:
            # As they are stored, in single precision, and that divided or split.
            needed += header.nbytes + 2 * SINGLE * header.size
    expect_memory(
        f"the arrays of {path}",
        needed,
        "store fewer or smaller data, a .npy file, or a folder of x.npy and y.npy, or of images, "
        "which may be streamed",
    )
    stored: dict[str, np.ndarray] = {}
    for name, file in files.items():
        try:
            if name in kept:
                stored[name] = _mapped(file)
                continue
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                stored[name] = held
                continue
            with held:
                stored |= {each: held[each] for each in headers}
        except _UNREADABLE as error:
            raise ValueError(f"cannot read {file}: {reason(error)}") from error
    return stored


def _mapped(path: Path) -> np.memmap[Any, Any]:
    """The array of a .npy file, which stays there.

    Raises:
        ValueError: If it cannot be read, or is in Fortran order, in which a row is spread over all
            of the file.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.flags.c_contiguous:
        return array
    raise ValueError(
        "expected an array in C order, to be read row by row, got one in Fortran order, in which a "
        "row is spread over all of the file; store np.ascontiguousarray(x), or hold it in memory "
        "(stream=False)"
    )


def _files(path: Path) -> dict[str, Path]:
    """The files of arrays by the names of these; one file is that of x, whatever it holds."""
    if not path.is_dir():
        return {"x": path}
    found = {name: path / f"{name}.npy" for name in KNOWN}
    return {name: file for name, file in found.items() if file.exists()}


def _headers_in(file: Path, name: str) -> dict[str, _Header]:
    """The header of each array that is read of a file, that of a .npy file under a given name.

    Raises:
        ValueError: If it cannot be read, or holds no array of a known name.
    """
    expect_file(file)
    try:
        headers, others = _headers(file, name)
    except (*_UNREADABLE, MemoryError) as error:
        raise ValueError(f"cannot read {file}: {reason(error)}") from error
    if not headers:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, in {file}, got "
            f"{', '.join(sorted(others)) or 'none'}"
        )
    return headers


def _stay(
    headers: Mapping[str, _Header], files: Mapping[str, Path], path: Path, stream: bool | None
) -> list[str]:
    """The names of the arrays that stay in their files: all data, or none.

    Raises:
        ValueError: If data are to be streamed, and are in a .npz file.
    """
    data = [name for name in headers if name.startswith("x")]
    may_stay = path.is_dir() or not _is_archive(path)
    if stream is None:
        stream = may_stay and sum(headers[name].size for name in data) > memory.STREAMED
    if not stream:
        return []
    if not may_stay:
        raise ValueError(
            f"expected .npy files of arrays that are streamed, got {path}, which is packed; store "
            "x.npy and y.npy in a folder, or leave stream=True out"
        )
    return data


def _is_archive(path: Path) -> bool:
    """Whether a file begins as an archive does; an array may end like one by chance."""
    with open(path, "rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _headers(path: Path, name: str) -> tuple[dict[str, _Header], list[str]]:
    """The header of each array that is read, by name; and the names of all others."""
    if not _is_archive(path):
        with open(path, "rb") as file:
            return {name: _header(file, path.stat().st_size)}, []
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
    """What is done to stored numbers: they are divided by `divisor`, which `words` say.

    Attributes:
        divisor: 255 of bytes beyond 0 and 1, else 1.
        words: What is done, for people.
        extremes: The least and the largest number that comes out.
    """

    divisor: float
    words: str
    extremes: tuple[float, float]


class _Seen(NamedTuple):
    """What all numbers of an array say together.

    Attributes:
        least: The smallest of them, but for NaN.
        most: The largest of them, but for NaN.
        lacking: How many are NaN.
        never: How many entries of a datum are NaN in all of them.
    """

    least: Any
    most: Any
    lacking: int
    never: int

    @classmethod
    def of(cls, x: np.ndarray) -> _Seen:
        """Of an array of at least one number, some rows at a time, wherever it lies."""
        least = most = x.reshape(-1)[0]
        lacking = 0
        never = np.full(x.shape[1:], x.dtype.kind == "f")
        at_once = memory.rows(_AT_ONCE, x[0].size)
        for start in range(0, len(x), at_once):
            some = np.asarray(x[start : start + at_once])
            least = np.fmin(least, np.fmin.reduce(some, axis=None))
            most = np.fmax(most, np.fmax.reduce(some, axis=None))
            if some.dtype.kind == "f":
                is_lacking = np.isnan(some)
                lacking += int(is_lacking.sum())
                never &= is_lacking.all(0)
        return cls(least, most, lacking, int(never.sum()))


def _reading_of(parts: list[np.ndarray], path: Path, missing: bool) -> _Reading:
    """What is done to the numbers of all parts of a file alike.

    Args:
        parts: The arrays of a file, the one that is fitted to being first.
        path: Where they lie.
        missing: Whether entries may be NaN.

    Raises:
        ValueError: If they are no data, or bytes in one part and other numbers in another.
    """
    seen = [_check_numbers(x, path, missing) for x in parts]
    dtypes = {str(x.dtype) for x in parts}
    names = " and ".join(sorted(dtypes))
    is_bytes = "uint8" in dtypes
    if is_bytes and len(dtypes) > 1:
        raise ValueError(
            f"expected numbers of one type to train and to test in {path}, got {names}: bytes are "
            "divided by 255, other numbers are not; store both alike"
        )
    least = min(each.least for each in seen)
    most = max(each.most for each in seen)
    if is_bytes and most > 1:
        words = f"bytes from {least} to {most}, divided by 255"
        return _Reading(255, words, (least / 255, most / 255))
    extremes = (float(least), float(most))
    if is_bytes or "bool" in dtypes:
        return _Reading(1, "pixels that are 0 or 1", extremes)
    if {x.dtype.kind for x in parts} <= {"i", "u"}:
        words = f"counts ({names}) from {least} to {most}, as they are"
        return _Reading(1, words, extremes)
    words = f"numbers from {least:.3g} to {most:.3g}, as they are"
    return _Reading(1, words + _said_of_missing(parts, seen), extremes)


def _said_of_missing(parts: list[np.ndarray], seen: list[_Seen]) -> str:
    """How many entries of all parts are missing, in words; empty if none are.

    Args:
        parts: The arrays of a file, the one that is fitted to being first.
        seen: What their numbers say.
    """
    lacking = sum(each.lacking for each in seen)
    if lacking == 0:
        return ""
    said = f", {lacking / sum(x.size for x in parts):.1%} missing"
    never = seen[0].never
    if never:
        entries = parts[0][0].size
        said += f" ({never} of {entries} entries in every datum: nothing tells of them)"
    return said


def _divided(
    x: np.ndarray, y: np.ndarray | None, reading: _Reading, path: Path
) -> tuple[Split | StreamedSplit, Split | StreamedSplit]:
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
        splits.append(_array_split(x, labels, reading, path, part))
    return splits[0], splits[1]


def _array_split(
    x: np.ndarray,
    y: np.ndarray | None,
    reading: _Reading,
    path: Path,
    rows: np.ndarray | None = None,
) -> Split | StreamedSplit:
    """Some rows of the data in an array, a stream of them where it is mapped.

    Args:
        x: The array.
        y: What lies beside each of the rows.
        reading: What is done to the numbers of x.
        path: Where they lie.
        rows: Which rows; all if None.
    """
    if isinstance(x, np.memmap):
        if rows is None:
            rows = np.arange(len(x))
        if y is not None and y.ndim >= 3:
            raise ValueError(
                f"expected images y beside images x in {path} to be held in memory, got some that "
                "are to be streamed; leave stream=True out, or store fewer or smaller images"
            )
        labels = _beside(y, len(rows), path)
        source = StoredRows(x, rows, reading.divisor, labels)
        return StreamedSplit(
            source, labelled=y is not None, by_threads=True, extremes=reading.extremes
        )
    if rows is not None:
        x = x[rows]
    data = pixels(torch.as_tensor(x.astype(np.float32)), reading.divisor)
    if y is not None and y.ndim >= 3:
        return Split(data, _images_beside(y, data, path))
    return Split(data, _beside(y, len(x), path))


def _beside(y: np.ndarray | None, n: int, path: Path) -> Tensor | None:
    """The labels or attributes of n data; None if they have none.

    Raises:
        ValueError: If they are neither.
    """
    if y is None:
        return None
    _check_labels(y, n, path)
    kind = np.float32 if y.dtype.kind == "f" else np.int64
    return torch.as_tensor(y.astype(kind))


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


def _check_numbers(x: np.ndarray, path: Path, missing: bool) -> _Seen:
    """What all numbers of data say.

    Raises:
        ValueError: If they are no data, or beyond what single precision has.
    """
    if x.ndim < 2 or x.dtype.kind not in "buif" or x.size == 0:
        raise ValueError(
            f"expected numbers of shape (N, *shape) in {path}, got {x.dtype} of shape {x.shape}"
        )
    seen = _Seen.of(x)
    if np.isinf(seen.least) or np.isinf(seen.most):
        raise ValueError(
            f"expected finite numbers in {path}, got infinite ones; remove or replace them"
        )
    if seen.lacking == x.size:
        raise ValueError(
            f"expected finite numbers in {path}, got NaN alone; store what is observed of the data"
        )
    if seen.lacking and not missing:
        raise ValueError(
            f"expected finite numbers in {path}, got {seen.lacking} of {x.size} that are NaN; "
            "remove or replace them, or, if they are what is missing, say data.load(..., "
            "missing=True), or --likelihood masked to ppl-gen fit"
        )
    if seen.lacking and isinstance(x, np.memmap):
        raise ValueError(
            f"expected data without missing entries to be streamed from {path}, got {seen.lacking} "
            f"of {x.size} that are NaN; hold them in memory (stream=False), or store fewer data"
        )
    if max(-float(seen.least), float(seen.most)) > _LARGEST:
        raise ValueError(
            f"expected numbers up to {_LARGEST:.2g} in {path}, as single precision has them, got "
            f"{seen.least:.3g} to {seen.most:.3g}; store them in a larger unit"
        )
    if x.dtype.kind in "ui" and max(-int(seen.least), int(seen.most)) > _EXACT:
        raise ValueError(
            f"expected counts up to {_EXACT:,} in {path}, which single precision has exactly, got "
            f"{seen.least} to {seen.most}; store them as floats, in a larger unit"
        )
    return seen


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


def _shape(split: Split | StreamedSplit) -> tuple[int, ...]:
    """The shape of one datum."""
    if isinstance(split, StreamedSplit):
        return tuple(split.source[0][0].shape)
    return tuple(split.x.shape[1:])


def _shape_of(labels: Tensor | None) -> tuple[int, ...] | None:
    """The shape of one label; None if there are none."""
    if labels is None:
        return None
    return tuple(labels.shape[1:])


def _labels(split: Split | StreamedSplit) -> Tensor | None:
    """What lies beside the data, all of it."""
    if isinstance(split, StreamedSplit):
        return split.source.y
    return split.y


def _check_same(
    train: tuple[int, ...] | None, test: tuple[int, ...] | None, what: str, path: Path
) -> None:
    if train != test:
        raise ValueError(
            f"expected one shape of {what} in {path}, got {train} to train and {test} to test"
        )


def _classes(train: Tensor | None, test: Tensor | None, path: Path) -> int | None:
    """The number of labels; None without labels, or with attribute vectors."""
    if train is None or test is None or train.is_floating_point():
        return None
    classes = int(max(train.max(), test.max())) + 1
    if not 1 <= classes <= len(train):
        raise ValueError(
            f"expected labels numbered from 0, fewer than data, in {path}, got them up to "
            f"{classes - 1}"
        )
    return classes
