"""Arrays in .npy files that stay there: their rows are read when they are asked for."""

from __future__ import annotations

__all__ = ["MappedRows", "of_images"]

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ppl_gen.data.reader import Rows

_CHANNELS = (1, 3, 4)


def of_images(x: Tensor) -> Tensor:
    """Arrays (N, D) or (N, C, H, W), colour axes second, of images (N, H, W) or (N, H, W, C) too.

    Args:
        x: (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C).
    """
    if x.dim() == 3:
        return x[:, None]
    if x.dim() == 4 and x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS:
        return x.movedim(-1, 1)
    return x


class MappedRows(TorchDataset[Any]):
    """Rows of a memory-mapped array, as floats, with a label or attributes beside each.

    The file is looked at before each reading: its size and its time have to be what they were.
    Nothing but what is asked for is held; a copy in another process maps the file anew.

    Args:
        array: Of a .npy file, as NumPy maps it, (N, ...), in C order.
        rows: Which rows, (n,).
        divisor: What the numbers are divided by; 255 for bytes.
        y: What lies beside each row of `rows`, (n, ...); None if nothing does.

    Raises:
        ValueError: On reading, if the file has changed since, or is gone.
    """

    def __init__(
        self, array: np.memmap[Any, Any], rows: np.ndarray, divisor: float, y: Tensor | None
    ) -> None:
        self._path = Path(str(array.filename))
        self._shape = array.shape
        self._dtype = array.dtype
        self._offset = array.offset
        self._divisor = np.float32(divisor)
        self.rows = rows
        self.y = y
        self._stamp = self._now()
        self._array = self._mapped()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        x, y = self.__getitems__([place])
        return x[0], y[0]

    def __getitems__(self, places: Sequence[int]) -> Rows:
        """Several rows at once.

        Args:
            places: Which of `rows`.
        """
        self._expect_unchanged()
        x = self._array[self.rows[places]].astype(np.float32)
        if self._divisor != 1:
            x /= self._divisor
        if self.y is None:
            return Rows(of_images(torch.from_numpy(x)), torch.full((len(x),), -1))
        return Rows(of_images(torch.from_numpy(x)), self.y[torch.as_tensor(places)])

    def __getstate__(self) -> dict[str, Any]:
        """All but the mapping, which belongs to a process."""
        return {name: held for name, held in vars(self).items() if name != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._expect_unchanged()
        self._array = self._mapped()

    def _mapped(self) -> np.ndarray:
        """The array in the file, of which neighbours of what is read are not read ahead."""
        with open(self._path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):  # not on Windows
            mapped.madvise(mmap.MADV_RANDOM)
        return np.ndarray(self._shape, self._dtype, mapped, self._offset)

    def _now(self) -> tuple[int, int]:
        """The size and the time of the file."""
        try:
            seen = os.stat(self._path)
        except OSError as error:
            raise ValueError(
                f"expected {self._path} as it was, got none: {error.strerror}; leave it in its "
                "place while it is read, and begin anew"
            ) from error
        return seen.st_size, seen.st_mtime_ns

    def _expect_unchanged(self) -> None:
        now = self._now()
        if now == self._stamp:
            return
        raise ValueError(
            f"expected {self._path} as it was when reading began, of {self._stamp[0]} bytes, got "
            f"another of {now[0]} bytes, written since; leave it alone while it is read, and begin "
            "anew"
        )
