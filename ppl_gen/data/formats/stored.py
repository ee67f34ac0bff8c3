"""Arrays in .npy files that stay there: their rows are read when they are asked for."""

from __future__ import annotations

__all__ = ["StoredRows", "of_images"]

import io
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


class StoredRows(TorchDataset[Any]):
    """Rows of an array in a .npy file, as floats, with a label or attributes beside each.

    Rows are read, and not mapped into memory: where another program cuts a mapped file short, the
    process that looks at it is killed. The size and the time of the file have to be what they were.
    Nothing but what is asked for is held.

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
        self._shape = array.shape[1:]
        self._dtype = array.dtype
        self._offset = array.offset
        self._divisor = np.float32(divisor)
        self.rows = rows
        self.y = y
        self._stamp = self._now()

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
        x = self._read(self.rows[places]).astype(np.float32)
        if self._divisor != 1:
            x /= self._divisor
        if self.y is None:
            return Rows(of_images(torch.from_numpy(x)), torch.full((len(x),), -1))
        return Rows(of_images(torch.from_numpy(x)), self.y[torch.as_tensor(places)])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Some rows of the file, (B, ...), which is looked at before and after.

        Neighbours of what is read are not read ahead, where the system can be told so.
        """
        self._expect_unchanged()
        found = np.zeros((len(rows), *self._shape), self._dtype)
        flat = found.reshape(len(rows), -1).view(np.uint8)
        with self._opened() as file:
            if hasattr(os, "posix_fadvise"):  # not on macOS and Windows
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for row, there in zip(rows.tolist(), flat, strict=True):
                file.seek(self._offset + row * len(there))
                file.readinto(there.data)
        self._expect_unchanged()
        return found

    def _opened(self) -> io.FileIO:
        try:
            return io.FileIO(self._path)
        except OSError as error:
            raise self._gone(error) from error

    def _now(self) -> tuple[int, int]:
        """The size and the time of the file."""
        try:
            seen = os.stat(self._path)
        except OSError as error:
            raise self._gone(error) from error
        return seen.st_size, seen.st_mtime_ns

    def _gone(self, error: OSError) -> ValueError:
        return ValueError(
            f"expected {self._path} as it was, got none: {error.strerror}; leave it in its place "
            "while it is read, and begin anew"
        )

    def _expect_unchanged(self) -> None:
        now = self._now()
        if now == self._stamp:
            return
        raise ValueError(
            f"expected {self._path} as it was when reading began, of {self._stamp[0]} bytes, got "
            f"another of {now[0]} bytes, written since; leave it alone while it is read, and begin "
            "anew"
        )
