"""IDX files, as MNIST and its relatives are published, packed by gzip or not."""

from __future__ import annotations

__all__ = ["holds_idx", "is_idx", "read_idx"]

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ppl_gen.contexts import reason
from ppl_gen.data.formats.arrays import of_arrays
from ppl_gen.data.splits import Dataset
from ppl_gen.memory import SINGLE, expect_memory, in_bytes
from ppl_gen.reading import expect_file

# train-images-idx3-ubyte.gz: of a set (without a name, for MNIST), a part of it, and what it holds.
_NAME = re.compile(
    r"(?P<set>.*?)(?P<part>train|t10k|test)?[-_.]?(?P<kind>images|labels)[-.]idx\d(-\w+)?(\.gz)?",
    re.IGNORECASE,
)
_ARRAYS = {"images": "x", "labels": "y"}
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_ON_THEIR_SIDE = "emnist"  # the images of this set are stored with rows and columns exchanged


def is_idx(path: Path) -> bool:
    """Whether a file is called as one of images or labels in IDX format is.

    Args:
        path: Of the file.
    """
    return _NAME.fullmatch(path.name) is not None


def holds_idx(path: Path) -> bool:
    """Whether a folder holds files in IDX format.

    Args:
        path: The folder.
    """
    return any(is_idx(file) and file.is_file() for file in path.iterdir())


def read_idx(path: Path) -> Dataset:
    """Images of train-images-idx3-ubyte and the labels beside it; those of t10k are to test on.

    Without images to test on, those to train on are split nine to one. Of a file that is there
    twice, the one that is not packed is read. EMNIST's images are set upright.

    Args:
        path: The file of the images, with others beside it; or the folder that holds all of them.

    Raises:
        ValueError: If there are no images, or those of several sets in a folder; or a file is no
            IDX file, is cut off, or does not fit into memory.
    """
    files = _files(path)
    upright = not _set_of(next(iter(files.values()))).startswith(_ON_THEIR_SIDE)
    stored = {}
    for name, file in files.items():
        array = _array(file)
        if name.startswith("x") and array.ndim == 3 and not upright:
            array = array.swapaxes(1, 2)
        stored[name] = array
    return of_arrays(stored, path)


def _files(path: Path) -> dict[str, Path]:
    """The file of each array of a set: of x_train, y_train, x_test and y_test, or of x and y."""
    if path.is_dir():
        named = None
        beside = sorted(file for file in path.iterdir() if is_idx(file))
        sets = sorted({_set_of(file) for file in beside})
        if len(sets) > 1:
            raise ValueError(
                f"expected the IDX files of one data set in {path}, got those of "
                f"{', '.join(name or 'MNIST' for name in sets)}; name a file of images, such as "
                f"{beside[0].name}"
            )
    else:
        named = _parts_of(path)
        if named[1] == "y":
            raise ValueError(
                f"expected a file of images, got one of labels, {path}; name the images beside it"
            )
        beside = sorted(f for f in path.parent.iterdir() if is_idx(f) and _is_beside(f, path))
    found: dict[str, Path] = {}
    for file in beside:
        part, array = _parts_of(file)
        if named is not None and named[0] != "train" and part != named[0]:
            continue
        # Sorted by name, so that a packed file comes after the same one unpacked.
        found.setdefault(f"{array}_{part}", file)
    if named is not None:
        found[f"x_{named[0]}"] = path
    if {"x_train", "x_test"} <= found.keys():
        return found
    for part in ("train", "test", ""):
        if f"x_{part}" in found:
            held = {"x": found[f"x_{part}"], "y": found.get(f"y_{part}")}
            return {name: file for name, file in held.items() if file is not None}
    raise ValueError(
        f"expected images in {path}, as train-images-idx3-ubyte, got "
        f"{', '.join(file.name for file in beside)}; put them beside"
    )


def _match(path: Path) -> re.Match[str]:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return found


def _set_of(path: Path) -> str:
    """The name of the data set that a file is of, empty for MNIST."""
    return _match(path)["set"].lower().strip("-_.")


def _parts_of(path: Path) -> tuple[str, str]:
    """The part that a file is of, train, test or none, and the array that it holds, x or y."""
    found = _match(path)
    part = (found["part"] or "").lower().replace("t10k", "test")
    return part, _ARRAYS[found["kind"].lower()]


def _is_beside(file: Path, path: Path) -> bool:
    """Whether two files in a folder are of one data set."""
    return file.is_file() and _set_of(file) == _set_of(path)


def _array(path: Path) -> np.ndarray:
    """The numbers of a file, (N, ...)."""
    expect_file(path)
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rb") as packed:
                return _numbers(packed)
        with open(path, "rb") as file:
            return _numbers(file)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {reason(error)}; fetch it anew") from error
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}; fetch it anew") from error


def _numbers(file: IO[bytes] | gzip.GzipFile) -> np.ndarray:
    """What a header says to come: two zeros, a type, a number of axes, and the length of each."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= 4:
        raise ValueError(f"expected the header of an IDX file, got the bytes {head.hex(' ')!r}")
    lengths = file.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise ValueError("expected the length of each axis, got an end: it is cut off")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    dtype = np.dtype(_TYPES[head[2]])
    size = math.prod(shape)
    needed = size * (dtype.itemsize + 2 * SINGLE)
    expect_memory(f"an array of shape {shape}", needed, "name a smaller file")
    expected = size * dtype.itemsize
    held = file.read(expected + 1)
    if len(held) != expected:
        got = in_bytes(len(held))
        if len(held) > expected:
            got = "more"
        raise ValueError(
            f"expected {in_bytes(expected)} of an array of shape {shape}, got {got}: it is damaged"
        )
    return np.frombuffer(held, dtype).reshape(shape).astype(dtype.newbyteorder("="))
