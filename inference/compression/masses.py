"""Masses of symbols as whole numbers, which an entropy coder takes alike in both directions."""

from __future__ import annotations

__all__ = ["COUNTED", "Coder", "whole_masses"]

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of this many shares a symbol gets its own, rounded, and one more: no symbol is without any. The
# coder has 2²⁴.
COUNTED = 2**22


class Coder:
    """A stack of bits, on which symbols are pushed, and from which they are popped.

    What was popped and is pushed again under the same masses leaves the stack as it was, whatever
    lies on it: asymmetric numeral systems, of the package `constriction`.

    Args:
        words: What lies on it from the beginning, of 32 bits each.
        sealed: Whether `words` are what another coder gave back.

    Reference:
        Duda (2009), Asymmetric numeral systems; Bamler (2022), Understanding entropy coding with
        asymmetric numeral systems.
    """

    def __init__(self, words: np.ndarray, *, sealed: bool) -> None:
        from constriction import stream

        self._coder = stream.stack.AnsCoder(words.astype(np.uint32), seal=not sealed)
        self._tables = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform

    @property
    def bits(self) -> int:
        """How many bits lie on the stack."""
        return int(self._coder.num_valid_bits())

    def push(self, symbols: np.ndarray, masses: np.ndarray) -> None:
        """Pushes symbols, so that they are popped in their order.

        Args:
            symbols: From 0 to K − 1, (M,).
            masses: Of all symbols at each place, by `whole_masses`, (M, K).
        """
        self._coder.encode_reverse(_plain(symbols), self._tables, masses)

    def pop(self, masses: np.ndarray) -> np.ndarray:
        """Pops a symbol for each row of masses.

        Args:
            masses: Of all symbols at each place, by `whole_masses`, (M, K).

        Returns:
            The symbols, (M,).
        """
        return np.asarray(self._coder.decode(self._tables, masses), dtype=np.int64)

    def push_uniform(self, symbols: np.ndarray, size: int) -> None:
        """Pushes symbols that are all as likely.

        Args:
            symbols: From 0 to size − 1, (M,).
            size: How many there are, from 1 to 2²³.
        """
        if size > 1:
            self._coder.encode_reverse(_plain(symbols), self._uniform(size))

    def pop_uniform(self, count: int, size: int) -> np.ndarray:
        """Pops symbols that are all as likely, (count,).

        Args:
            count: How many are popped.
            size: How many kinds there are, from 1 to 2²³.
        """
        if size == 1:
            return np.zeros(count, dtype=np.int64)
        return np.asarray(self._coder.decode(self._uniform(size), count), dtype=np.int64)

    def words(self) -> np.ndarray:
        """All that lies on the stack, in words of 32 bits."""
        return np.asarray(self._coder.get_compressed(), dtype=np.uint32)

    def unsealed(self) -> np.ndarray | None:
        """What lay on the stack of the first coder from the beginning; None if something else."""
        try:
            return np.asarray(self._coder.get_compressed(unseal=True), dtype=np.uint32)
        except Exception:  # constriction raises an exception of pyo3 where the seal is broken
            return None


def whole_masses(masses: Tensor) -> Any:
    """1 + ⌊2²² m + ½⌋ with m the masses, normalised, of the symbols at each place.

    This costs log₂(1 + K/2²²) bits of a symbol at most, less than 0.0001 for K = 256.

    Args:
        masses: (..., K) in double precision, not normalised; where all are 0, all are as likely.

    Returns:
        A NumPy array (M, K) of whole numbers in double precision.

    Raises:
        ValueError: If one is not finite.
    """
    if not bool(torch.isfinite(masses).all()):
        raise ValueError(
            "expected finite masses of latents and data, got NaN or infinite ones: weights of the "
            "program, or its outputs for these data, have run away; fit it anew"
        )
    total = masses.sum(-1, keepdim=True).clamp(min=torch.finfo(masses.dtype).tiny)
    shares = (masses / total * COUNTED).round() + 1
    rows = shares.reshape(-1, masses.shape[-1])
    return rows.contiguous().numpy()


def _plain(symbols: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(symbols.reshape(-1), dtype=np.int32)
