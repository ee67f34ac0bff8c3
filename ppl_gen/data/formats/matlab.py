"""Arrays in MATLAB's .mat files, the Frey faces among them."""

from __future__ import annotations

__all__ = ["MATLAB", "read_matlab"]

import math
from pathlib import Path

import numpy as np

from ppl_gen.contexts import reason
from ppl_gen.data.formats.arrays import KNOWN, of_arrays
from ppl_gen.data.splits import Dataset
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.reading import expect_file

MATLAB = (".mat",)

_FACES = "ff"  # of frey_rawface.mat, a face in each column
_FACE = (28, 20)
_DOUBLE = 8  # bytes


def read_matlab(path: Path, missing: bool = False) -> Dataset:
    """The faces `ff` of frey_rawface.mat, 28 × 20; else x, y, x_train, ..., as .npz files have.

    Args:
        path: The file.
        missing: Whether entries of the data may be NaN, which are missing.

    Raises:
        ValueError: If it cannot be read, has no such arrays, or they do not fit into memory or are
            no data.
    """
    import scipy.io

    expect_file(path)
    try:
        headers = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        wanted = [name for name in (*KNOWN, _FACES) if name in headers]
        size = sum(math.prod(headers[name]) for name in wanted)
        expect_memory(
            f"the arrays of {path}", size * (_DOUBLE + 2 * SINGLE), "store fewer data in it"
        )
        stored = scipy.io.loadmat(path, variable_names=wanted)
    except NotImplementedError as error:
        raise ValueError(
            f"expected a .mat file of version 7 or before, got version 7.3, {path}; save it by "
            "save(..., '-v7')"
        ) from error
    except Exception as error:  # SciPy has no class of error for files that are damaged
        raise ValueError(f"cannot read {path}: {reason(error)}") from error
    if not wanted:
        raise ValueError(
            f"expected arrays x_train and x_test, or x, or Frey's faces ff in {path}, got "
            f"{', '.join(sorted(headers)) or 'none'}; rename one, or store it as .npz"
        )
    if _FACES in wanted:
        return of_arrays({"x": _faces(stored[_FACES], path)}, path)
    arrays = {}
    for name in wanted:
        arrays[name] = stored[name]
        if name.startswith("y"):
            arrays[name] = _as_labels(stored[name])
    return of_arrays(arrays, path, missing)


def _faces(columns: np.ndarray, path: Path) -> np.ndarray:
    """Frey's faces (N, 28, 20), of which each is a column, row by row."""
    if columns.ndim != 2 or len(columns) != math.prod(_FACE):
        raise ValueError(
            f"expected an array ff of {math.prod(_FACE)} rows in {path}, got shape "
            f"{columns.shape}; rename it x if it is other data"
        )
    return np.ascontiguousarray(columns.T).reshape(-1, *_FACE)


def _as_labels(y: np.ndarray) -> np.ndarray:
    """Labels (N,), which MATLAB has as doubles in a row or a column; other arrays as they are."""
    if y.ndim != 2 or 1 not in y.shape or y.dtype.kind not in "buif":
        return y
    flat = y.ravel()
    if (flat != np.floor(flat)).any():
        return y
    return flat.astype(np.int64)
