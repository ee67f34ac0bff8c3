"""Whether what a fit does has settled: its iterates over a window, its objective at the end."""

from __future__ import annotations

__all__ = ["LOOKS", "average", "gained", "last_tenth", "settled", "settled_end", "tenths"]

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.inference.diagnostics import split_r_hat
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.findings import Finding, Verdict

if TYPE_CHECKING:
    import pandas

_FEWEST = 20  # steps or epochs, of which two tenths can be compared
_LEAST_GAIN = 0.01  # nats, below which nobody goes on

# Windows of iterates that are tried, between the shortest and this share of all.
_WINDOWS = 5
_LARGEST_SHARE = 0.95
# R̂ of the iterates in a window, below which they are taken to have settled.
_SETTLED = 1.1
# How often iterates are looked at, in lengths of the shortest window.
LOOKS = 4


def settled_end(iterates: Tensor, shortest: int) -> Tensor | None:
    """The last iterates, over which all entries have settled; None if they have not.

    Five windows are tried, from the shortest to 0.95 of all; the one of the smallest split R̂ is
    taken, if that is below 1.1 in every entry.

    Args:
        iterates: From the first to the last, (n, P).
        shortest: The fewest of a window.

    Returns:
        Those of the window, (W, P), or None.
    """
    largest = int(_LARGEST_SHARE * len(iterates))
    if largest < shortest:
        return None
    best = math.inf
    chosen = None
    sizes = torch.linspace(shortest, largest, _WINDOWS).int()
    for size in sizes.tolist():
        # Of entries that do not move, NaN.
        by_entry = split_r_hat(iterates[None, -size:])
        r_hat = float(by_entry.nan_to_num(1.0).max())
        if r_hat < best:
            best = r_hat
            chosen = iterates[-size:]
    if best >= _SETTLED:
        return None
    return chosen


def last_tenth(objective: Tensor) -> Estimate:
    """The objective over the last tenth of a fit, with the error of its average.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    return average(objective[-_tenth(objective) :])


def gained(objective: Tensor) -> Estimate | None:
    """What the last tenth of a fit is above the tenth before; None below 20 values.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    if len(objective) < _FEWEST:
        return None
    tenth = _tenth(objective)
    before = objective[-2 * tenth : -tenth]
    return last_tenth(objective) - average(before)


def settled(objective: Tensor, unit: str) -> Verdict:
    """Whether an objective has settled: "rising" or "settled"; nothing below 20 values.

    It is taken to rise where the last tenth has gained more than four standard errors, and more
    than a hundredth of a nat.

    Args:
        objective: At each step or epoch, (n,), in nats.
        unit: Of what there is one each: "steps".
    """
    gain = gained(objective)
    if gain is None:
        return Verdict(())
    value = float(gain.value)
    said = f"the last tenth of the {unit} has gained {gain} nats"
    if value > max(4 * float(gain.standard_error), _LEAST_GAIN):
        finding = Finding("rising", f"the objective still rises: {said}; raise {unit}")
        return Verdict((finding,), passes=False)
    return Verdict((Finding("settled", f"the objective has settled: {said}"),), passes=True)


def tenths(objective: Tensor) -> pandas.DataFrame:
    """The average of each tenth of a fit with its error, in nats.

    Args:
        objective: At each step or epoch, (n,), in nats.
    """
    import pandas

    rows = {}
    for number, part in enumerate(objective.tensor_split(10), start=1):
        if len(part):
            of_part = average(part)
            rows[f"tenth {number}"] = {
                "objective": float(of_part.value),
                "standard error": float(of_part.standard_error),
            }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _tenth(objective: Tensor) -> int:
    return max(1, len(objective) // 10)


def average(values: Tensor) -> Estimate:
    """The average of successive values, its error from ten batches of them.

    Args:
        values: At each step or epoch, (n,).
    """
    batches = [part.mean() for part in values.tensor_split(min(10, len(values)))]
    means = torch.stack(batches)
    error = torch.full_like(means[0], torch.nan)
    if len(means) > 1:
        error = means.std() / len(means) ** 0.5
    return Estimate(values.mean(), error)
