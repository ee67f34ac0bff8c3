"""How much is computed at once. Every budget is a number of tensor entries, here and nowhere else.

Where a program is run on many data or at many draws, they are taken in chunks, so that memory stays
bounded and, on a processor, what is worked on stays in its cache.
"""

from __future__ import annotations

__all__ = [
    "DIAGNOSED",
    "FEATURES",
    "INNER_AVERAGES",
    "KERNEL_VALUES",
    "MIXTURE_VALUES",
    "PERMUTED",
    "POSTERIOR_PAIRS",
    "SAMPLED",
    "SCORED",
    "STREAMED",
    "VECTORISED",
    "Budget",
    "pairs",
    "rows",
]

from typing import NamedTuple

import torch


class Budget(NamedTuple):
    """Entries that may be in work at once on a processor and on a CUDA device."""

    cpu: int
    cuda: int

    def on(self, device: torch.device) -> int:
        """The budget of a device."""
        if device.type == "cuda":
            return self.cuda
        return self.cpu


# One pass of model and guide over (draw, datum) pairs: evidence, calibration, collapse.
SCORED = Budget(cpu=2**21, cuda=2**26)
# One layer of a program for all chains of some data: HMC and annealing, datum by datum.
SAMPLED = Budget(cpu=2**20, cuda=2**26)
# A function of one draw, followed by vmap over many.
VECTORISED = 2**22
# Draws whose effective sample size or R̂ is computed in one go.
DIAGNOSED = 2**24
# Values computed in all for the inner averages of a predictive density, before their error is
# taken as it is.
INNER_AVERAGES = 2**28
# Values of a kernel between two samples.
KERNEL_VALUES = 2**23
# Features of permuted points whose moments are taken in one go.
PERMUTED = 2**18
# Densities of the draws of one posterior under the posteriors of all data.
POSTERIOR_PAIRS = 2**26
MIXTURE_VALUES = 2**22
# Pixels whose features are computed in one go.
FEATURES = 2**20
# Pixels of a data set that are held in memory; a larger one is streamed.
STREAMED = 2**29


# Entries of a pass for a pair of a draw and a datum, for data that are smaller.
_LEAST_WIDTH = 256


def pairs(width: int, device: torch.device) -> int:
    """How many (draw, datum) pairs are scored at once: the default of `chunk` where it counts them.

    Args:
        width: How many numbers the scoring of one datum takes.
        device: Where it is done.
    """
    return rows(SCORED.on(device), max(width, _LEAST_WIDTH))


def rows(budget: int, width: int) -> int:
    """How many rows of `width` entries fit into a budget; at least one."""
    return max(1, budget // max(width, 1))
