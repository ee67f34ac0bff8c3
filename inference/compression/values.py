"""Data as whole numbers: the values that a likelihood lists, and their masses."""

from __future__ import annotations

__all__ = ["Values"]

import math
from typing import Any

import torch
from torch import Tensor

from ppl_gen.distributions import DiscretizedMixture
from ppl_gen.distributions.grid import OnGrid
from ppl_gen.enumeration import is_enumerable
from ppl_gen.inference.compression.masses import Coder, whole_masses
from ppl_gen.supports import described_support, support_of


class Values:
    """The K values that every entry of a datum may have, in ascending order, and their masses.

    Entries are independent given the latents; those of a mixture of discretised logistics channel
    by channel, each given the channels before.

    Args:
        likelihood: p(x | z) of single entries, of batch shape (rows, *shape), which lists its
            values; or a `DiscretizedMixture` of batch shape (rows,).
        dtype: Of the data.

    Attributes:
        count: K.
        values: All of them, (K,).

    Raises:
        ValueError: If it lists none.
    """

    def __init__(self, likelihood: Any, dtype: torch.dtype) -> None:
        self._listed = None
        if isinstance(likelihood, DiscretizedMixture):
            self.count = likelihood.levels
            self.values = _grid(self.count, dtype)
            return
        if likelihood.event_shape or not is_enumerable(likelihood):
            raise ValueError(
                "expected a likelihood of independent entries that lists its values, such as "
                f"Bernoulli, Categorical or DiscretizedLogistic, got {type(likelihood).__name__} "
                f"({described_support(support_of(likelihood))}), which does not; fit binarised "
                "images with the likelihood bernoulli, or 8-bit images with categorical"
            )
        self._listed = likelihood.enumerate_support(expand=False)
        self.count = len(self._listed)
        self.values = self._listed.flatten().to(dtype)
        if isinstance(support_of(likelihood), OnGrid):
            self.values = _grid(self.count, dtype)

    def rows(self, likelihood: Any, masses: int) -> int:
        """How many data have so many masses, at least 1.

        Args:
            likelihood: p(x | z) of one datum.
            masses: How many there may be.
        """
        entries = math.prod(likelihood.shape())
        return max(masses // (entries * self.count), 1)

    def symbols(self, x: Tensor) -> Tensor:
        """The number of each value, from 0 to K − 1, of the shape of x.

        Args:
            x: Data (N, *shape).

        Raises:
            ValueError: If a value is none of the K, to the last digit: it would not come back.
        """
        symbols = torch.searchsorted(self.values, x.contiguous()).clamp(max=self.count - 1)
        is_other = self.values[symbols] != x
        if bool(is_other.any()):
            got = float(x[is_other][0])
            near = int((self.values - got).abs().argmin())
            raise ValueError(
                f"expected data of the {self.count} values from {float(self.values[0]):g} to "
                f"{float(self.values[-1]):g} that the likelihood lists, got {got:.9g}, near "
                f"{float(self.values[near]):.9g}: it would not come back as it is; round the data "
                "to these values"
            )
        return symbols

    def push(self, coder: Coder, likelihood: Any, symbols: Tensor) -> None:
        """Pushes data under the likelihood.

        Args:
            coder: The stack.
            likelihood: p(x | z) of at least n data.
            symbols: Numbers of values, (n, *shape).
        """
        for start, stop in reversed(self._parts(likelihood, symbols.shape[1:])):
            part = symbols[:, start:stop]
            coder.push(part.numpy(), self._masses(likelihood, symbols[:, :start]))

    def pop(self, coder: Coder, likelihood: Any, blank: Tensor) -> Tensor:
        """Pops data under the likelihood.

        Args:
            coder: The stack.
            likelihood: p(x | z) of at least n data.
            blank: Whole numbers (n, *shape), which are not looked at.

        Returns:
            Numbers of values, (n, *shape).
        """
        symbols = torch.zeros_like(blank)
        for start, stop in self._parts(likelihood, blank.shape[1:]):
            popped = coder.pop(self._masses(likelihood, symbols[:, :start]))
            part = symbols[:, start:stop]
            part.copy_(torch.as_tensor(popped).reshape(part.shape))
        return symbols

    def log_masses(self, likelihood: Any, before: Tensor) -> Tensor:
        """log p(value | z, values before) of all values at each entry of a part, (K, rows, …).

        Args:
            likelihood: p(x | z) of some data.
            before: Numbers of the values before, (n, channels before, …), n of at most so many.
        """
        if self._listed is not None:
            return likelihood.log_prob(self._listed)
        rows = likelihood.batch_shape[0]
        filled = self.values.new_zeros(rows, *before.shape[1:])
        filled[: len(before)] = self.values[before]
        return likelihood.log_masses(filled)

    def _parts(self, likelihood: Any, shape: torch.Size) -> list[tuple[int, int]]:
        """Where each part of a datum begins and ends on its first axis, one given another."""
        if isinstance(likelihood, DiscretizedMixture):
            return [(c, c + 1) for c in range(shape[0])]
        return [(0, shape[0])]

    def _masses(self, likelihood: Any, before: Tensor) -> Any:
        log_masses = self.log_masses(likelihood, before)[:, : len(before)]
        return whole_masses(log_masses.movedim(0, -1).double().exp())


def _grid(levels: int, dtype: torch.dtype) -> Tensor:
    """K evenly spaced values in [0, 1] as images have them; torch.linspace is off by a digit."""
    return torch.arange(levels, dtype=dtype) / (levels - 1)
