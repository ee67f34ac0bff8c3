"""The only loop: a step, batches, epochs.

Logging, checkpoints and early stopping are plain Python around `iterate`.
"""

from __future__ import annotations

__all__ = ["NotFinite", "Record", "fit", "iterate"]

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor

from ppl_gen.protocols import Step


class NotFinite(FloatingPointError):
    """A loss or gradient is NaN or infinite.

    Raised before the update, so that the parameters are still good.
    """


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Attributes:
        epoch: Counted from 1.
        metrics: The step's metrics, averaged over the data of the epoch.
        data: The number of data seen in it.
        seconds: How long it took, in seconds.
    """

    epoch: int
    metrics: dict[str, float]
    data: int
    seconds: float


def iterate(
    step: Step, batches: Iterable[tuple[Tensor, ...]], epochs: int, *, first_epoch: int = 1
) -> Iterator[Record]:
    """Runs `step` over all batches, epoch after epoch, and yields a record after each.

    Args:
        step: One update on one batch, which returns metrics: scalar tensors by name.
        batches: Any re-iterable of tuples (x, *context).
        epochs: The number of the last epoch.
        first_epoch: The number of the first epoch, above 1 where a run goes on.

    Raises:
        ValueError: At once, if epochs is below 1 or the batches can only be walked through once;
            in the first epoch, if there are none.
    """
    if epochs < 1:
        raise ValueError(f"expected at least 1 epoch, got {epochs}")
    if isinstance(batches, Iterator):
        raise ValueError(
            "expected batches that can be walked through anew in each epoch, got a "
            f"{type(batches).__name__}; give a list, a DataLoader or split.batches(size)"
        )
    return _epochs(step, batches, range(first_epoch, epochs + 1))


def _epochs(step: Step, batches: Iterable[tuple[Tensor, ...]], epochs: range) -> Iterator[Record]:
    for epoch in epochs:
        start = time.perf_counter()
        sizes: list[int] = []
        history: dict[str, list[Tensor]] = {}
        for batch in batches:
            sizes.append(batch[0].shape[0])
            for name, value in step(*batch).items():
                history.setdefault(name, []).append(value)
        if not sizes:
            raise ValueError("expected at least one batch, got none")
        count = sum(sizes)
        weights = torch.tensor(sizes, dtype=torch.float64) / count
        metrics = {}
        for name, values in history.items():
            by_batch = torch.stack(values).double().cpu()
            metrics[name] = float(by_batch @ weights)
        yield Record(epoch, metrics, count, time.perf_counter() - start)


def fit(
    step: Step, batches: Iterable[tuple[Tensor, ...]], epochs: int, *, progress: bool = True
) -> list[Record]:
    """Runs `iterate` to its end with a progress bar, and returns all records.

    Args:
        step: One update on one batch, which returns metrics: scalar tensors by name.
        batches: Any re-iterable of tuples (x, *context).
        epochs: The number of epochs.
        progress: Whether to show the bar.

    Raises:
        ValueError: If epochs is below 1, or the batches can only be walked through once or are
            none.
    """
    records = iterate(step, batches, epochs)
    return list(track(records, "fitting", total=epochs, disable=not progress))
