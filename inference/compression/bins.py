"""Continuous latents as whole numbers: the bins of equal prior mass that they lie in."""

from __future__ import annotations

__all__ = ["Bins", "Gaussian"]

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.inference.compression.masses import Coder, whole_masses

_DIGIT = 4  # bits of a bin's number that are coded at once: a table has 2⁴ masses


class Gaussian(NamedTuple):
    """q(z | x) = N(z; μ, diag σ²), in double precision.

    Attributes:
        loc: μ, (n, D).
        scale: σ, (n, D).
    """

    loc: Tensor
    scale: Tensor


class Bins:
    """2ᴾ bins of each latent, [F⁻¹(i/2ᴾ), F⁻¹((i + 1)/2ᴾ)), of the prior's mass 2⁻ᴾ each.

    A latent stands for the middle of its bin, F⁻¹((i + ½)/2ᴾ), with F the distribution function of
    p(z). Under q its bin has the mass Φ((upper − μ)/σ) − Φ((lower − μ)/σ). The number of a bin is
    coded in digits of four bits, the highest first, each given those before it.

    Args:
        prior: p(z) of independent entries, of batch shape (1, D), with quantiles.
        precision: P, the bits of a latent.

    Raises:
        ValueError: If the ends of all bins do not fit into memory.
    """

    def __init__(self, prior: Any, precision: int) -> None:
        self._prior = prior
        self.precision = precision
        self.width = prior.batch_shape[-1]
        memory.expect_memory(
            f"2^{precision} bins of each of {self.width} latents",
            3 * 8 * 2**precision * self.width,
            "take a smaller precision",
        )
        # In one table: quantiles take longer than all else.
        shares = torch.arange(2**precision + 1, dtype=torch.float64) / 2**precision
        self._ends = prior.icdf(shares.reshape(-1, 1)).expand(-1, self.width).contiguous()

    def centres(self, index: Tensor) -> Tensor:
        """The latents that numbers of bins stand for, in double precision.

        Args:
            index: i, whole numbers (n, D).
        """
        return self._prior.icdf((index.double() + 0.5) / 2**self.precision)

    def push(self, coder: Coder, index: Tensor) -> None:
        """Pushes numbers of bins under the prior, where each takes P bits.

        Args:
            coder: The stack.
            index: Whole numbers (n, D).
        """
        coder.push_uniform(index.numpy(), 2**self.precision)

    def pop(self, coder: Coder, count: int) -> Tensor:
        """Pops numbers of bins under the prior, (count, D).

        Args:
            coder: The stack.
            count: Of how many data.
        """
        popped = coder.pop_uniform(count * self.width, 2**self.precision)
        return torch.as_tensor(popped).reshape(count, -1)

    def push_posterior(self, coder: Coder, posterior: Gaussian, index: Tensor) -> None:
        """Pushes numbers of bins under q(z | x).

        Args:
            coder: The stack.
            posterior: q(z | x) of n data.
            index: Whole numbers (n, D).
        """
        for start, stop in reversed([*self._digits()]):
            before = index >> (self.precision - start)
            digit = (index >> (self.precision - stop)) % 2 ** (stop - start)
            masses = self.masses(posterior, before, start, stop)
            coder.push(digit.numpy(), whole_masses(masses))

    def pop_posterior(self, coder: Coder, posterior: Gaussian) -> Tensor:
        """Pops numbers of bins under q(z | x), (n, D).

        Args:
            coder: The stack.
            posterior: q(z | x) of n data.
        """
        index = torch.zeros(posterior.loc.shape, dtype=torch.int64)
        for start, stop in self._digits():
            masses = self.masses(posterior, index, start, stop)
            digit = torch.as_tensor(coder.pop(whole_masses(masses)))
            index = index * 2 ** (stop - start) + digit.reshape(index.shape)
        return index

    def masses(self, posterior: Gaussian, before: Tensor, start: int, stop: int) -> Tensor:
        """Of all values of a digit, given those before it, (n, D, 2^(stop − start)).

        Args:
            posterior: q(z | x) of n data.
            before: The digits before as one number, (n, D).
            start: How many bits these have.
            stop: How many bits they have with this digit.
        """
        first = before << (self.precision - start)
        step = 2 ** (self.precision - stop)
        within = torch.arange(2 ** (stop - start) + 1) * step
        places = first[..., None] + within
        latent = torch.arange(self.width)[:, None]
        ends = self._ends[places, latent]
        standardised = (ends - posterior.loc[..., None]) / posterior.scale[..., None]
        return torch.special.ndtr(standardised).diff().clamp(min=0)

    def _digits(self) -> Iterator[tuple[int, int]]:
        """Where each digit begins and ends, in bits from the highest."""
        for start in range(0, self.precision, _DIGIT):
            yield start, min(start + _DIGIT, self.precision)
