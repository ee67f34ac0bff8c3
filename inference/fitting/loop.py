"""The only loop: a step, batches, epochs.

Logging, checkpoints and early stopping are plain Python around `iterate`.
"""

from __future__ import annotations

__all__ = ["Measure", "NotFinite", "Record", "Rule", "by_epoch", "fit", "iterate"]

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ppl_gen.progress import track
from ppl_gen.protocols import Step

if TYPE_CHECKING:
    import pandas

# Called with the index of a step, from 0, and its metrics.
AfterStep = Callable[[int, Mapping[str, Tensor]], Any]


class NotFinite(FloatingPointError):
    """A loss or gradient is NaN or infinite.

    Raised before the update, so that the parameters are still good.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), lr=1e30), engine="eager")
        >>> try:
        ...     fit(step, [(torch.ones(5, 4),)], epochs=5, progress=False)
        ... except NotFinite as error:
        ...     print("lower the learning rate")
        lower the learning rate
    """


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Attributes:
        epoch: Counted from 1.
        metrics: The step's metrics, averaged over the data of the epoch, and those of validation
            after it.
        data: The number of data seen in it.
        seconds: How long its steps took, in seconds.
        stopped: Why a rule ended the fit with this epoch; empty where none did.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-3), engine="eager")
        >>> record = next(iterate(step, [(torch.zeros(5, 4),)], epochs=1))
        >>> record.epoch, record.data, sorted(record.metrics)
        (1, 5, ['elbo', 'gradient_norm'])
    """

    epoch: int
    metrics: dict[str, float]
    data: int
    seconds: float
    stopped: str = ""


def by_epoch(records: Iterable[Record]) -> pandas.DataFrame:
    """A row for each epoch: every metric, and seconds.

    Args:
        records: Of a fit.
    """
    import pandas

    rows = {}
    for record in records:
        rows[record.epoch] = {**record.metrics, "seconds": record.seconds}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("epoch")


class Measure(Protocol):
    """What is measured after each epoch, such as `Validation`.

    Attributes:
        modules: Those that are fitted, whose weights a rule keeps.
    """

    modules: list[nn.Module]

    def __call__(self) -> dict[str, float]:
        """Metrics by name, as the weights are now."""


class Rule(Protocol):
    """What says when a fit stops, and which of its epochs is kept.

    A rule that needs no validation has `modules`, those whose weights are kept; one that says why
    it stopped has a `reason`, a sentence that goes into the last record.

    Attributes:
        best: The best epoch so far; None before there is one.

    Examples:
        >>> class AfterThree:
        ...     best = None
        ...     def __call__(self, record):
        ...         self.best = record.epoch
        ...         return record.epoch == 3
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-3), engine="eager")
        >>> x = torch.zeros(5, 4)
        >>> rules = {"stop": AfterThree(), "validation": Validation(vae, (x,))}
        >>> records = fit(step, [(x,)], epochs=10, progress=False, **rules)
        >>> len(records)
        3
    """

    best: int | None

    def __call__(self, record: Record) -> bool:
        """Sees the record of the next epoch, and says whether the fit is to stop.

        Args:
            record: Of an epoch.
        """


def iterate(
    step: Step,
    batches: Iterable[tuple[Tensor, ...]],
    epochs: int,
    *,
    first_epoch: int = 1,
    scheduler: LRScheduler | Sequence[LRScheduler] = (),
    after_step: AfterStep | None = None,
    validation: Measure | None = None,
) -> Iterator[Record]:
    """Runs `step` over all batches, epoch after epoch, and yields a record after each.

    Args:
        step: One update on one batch, which returns metrics: scalar tensors by name.
        batches: Any re-iterable of tuples (x, *context).
        epochs: The number of the last epoch.
        first_epoch: The number of the first epoch, above 1 where a run goes on.
        scheduler: One or more of torch.optim.lr_scheduler, moved on after each epoch, before its
            record is yielded. One that counts steps, such as OneCycleLR, is moved on by
            `after_step=lambda index, metrics: scheduler.step()`.
        after_step: Called after each step, with its index, counted from 0 in this call, and its
            metrics. What it raises ends the fit.
        validation: Called after each epoch; its metrics are among those of the record.

    Raises:
        ValueError: At once, if epochs is below 1, the batches can only be walked through once, or a
            scheduler needs a metric; in the first epoch, if there are no batches.

    Examples:
        >>> from ppl_gen.inference import svi_step
        >>> from ppl_gen.models import vae
        >>> program = vae((2,), 1)
        >>> optimizer = torch.optim.Adam(program.parameters(), lr=0.1)
        >>> halved = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> records = iterate(
        ...     svi_step(program, optimizer), [(torch.zeros(3, 2),)], epochs=2, scheduler=halved
        ... )
        >>> [round(optimizer.param_groups[0]["lr"], 3) for record in records]
        [0.05, 0.025]
    """
    if epochs < 1:
        raise ValueError(f"expected at least 1 epoch, got {epochs}")
    if isinstance(batches, Iterator):
        raise ValueError(
            "expected batches that can be walked through anew in each epoch, got a "
            f"{type(batches).__name__}; give a list, a DataLoader or split.batches(size)"
        )
    schedulers = [scheduler] if isinstance(scheduler, LRScheduler) else list(scheduler)
    for each in schedulers:
        if isinstance(each, ReduceLROnPlateau):
            raise ValueError(
                "expected a scheduler that counts epochs, got a ReduceLROnPlateau, which needs a "
                "metric; in `for record in iterate(...)` say "
                "scheduler.step(record.metrics[...])"
            )
    numbers = range(first_epoch, epochs + 1)
    return _epochs(step, batches, numbers, schedulers, after_step, validation)


def _epochs(
    step: Step,
    batches: Iterable[tuple[Tensor, ...]],
    epochs: range,
    schedulers: list[LRScheduler],
    after_step: AfterStep | None,
    validation: Measure | None,
) -> Iterator[Record]:
    index = 0
    for epoch in epochs:
        start = time.perf_counter()
        sizes: list[int] = []
        history: dict[str, list[Tensor]] = {}
        for seen, metrics in _steps(step, batches, is_watched=after_step is not None):
            sizes.extend(seen)
            for name, value in metrics.items():
                history.setdefault(name, []).append(value.reshape(-1))
            if after_step is not None:
                after_step(index, metrics)
            index += len(seen)
        if not sizes:
            raise ValueError("expected at least one batch, got none")
        for scheduler in schedulers:
            scheduler.step()
        count = sum(sizes)
        averages = _averages(history, sizes)  # which waits for the device
        seconds = time.perf_counter() - start
        if validation is not None:
            averages |= validation()
        yield Record(epoch, averages, count, seconds)


def _steps(
    step: Step, batches: Iterable[tuple[Tensor, ...]], is_watched: bool
) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
    """The steps of an epoch, one by one or many at once: their sizes, and the metrics of each.

    Args:
        step: One that can sweep over data in memory does so.
        batches: Of the epoch.
        is_watched: Whether every step is looked at, so that they are made one by one.
    """
    held = getattr(batches, "in_memory", None)
    sweep = getattr(step, "sweep", None)
    if held is not None and sweep is not None and not is_watched:
        yield from sweep(held)
        return
    for batch in batches:
        yield [batch[0].shape[0]], step(*batch)


def _averages(history: Mapping[str, list[Tensor]], sizes: list[int]) -> dict[str, float]:
    """The metrics of an epoch, averaged over its data."""
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    averages = {}
    for name, values in history.items():
        by_batch = torch.cat(values).double().cpu()
        averages[name] = float(by_batch @ weights)
    return averages


def fit(
    step: Step,
    batches: Iterable[tuple[Tensor, ...]],
    epochs: int,
    *,
    progress: bool = True,
    scheduler: LRScheduler | Sequence[LRScheduler] = (),
    after_step: AfterStep | None = None,
    validation: Measure | None = None,
    stop: Rule | None = None,
) -> list[Record]:
    """Runs `iterate` to its end with a progress bar, and returns all records.

    Args:
        step: One update on one batch, which returns metrics: scalar tensors by name.
        batches: Any re-iterable of tuples (x, *context).
        epochs: The number of epochs; the most there are, where a rule may stop the fit.
        progress: Whether to show the bar; lines, where there is neither a terminal nor a notebook.
        scheduler: One or more of torch.optim.lr_scheduler, moved on after each epoch.
        after_step: Called after each step, with its index, from 0, and its metrics.
        validation: Called after each epoch; its metrics are among those of the record.
        stop: A rule that sees each record and says when the fit is over: `Patience(5)` by a metric
            of validation, `Converged(guide, optimizer)` by the iterates themselves, or one of your
            own. The program then has the weights and buffers of the rule's best epoch, also where
            all epochs were run; the optimiser stays where it is. The last record says why the fit
            stopped, in `stopped`.

    Raises:
        ValueError: If epochs is below 1, the batches can only be walked through once or are none,
            a scheduler needs a metric, or there is a rule that needs validation without it.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> step = svi_step(vae, torch.optim.Adam(vae.parameters(), 1e-2), engine="eager")
        >>> records = fit(step, [(torch.zeros(5, 4),)], epochs=20, progress=False)
        >>> len(records), records[0].metrics["elbo"] < records[-1].metrics["elbo"]
        (20, True)
    """
    records = iterate(
        step,
        batches,
        epochs,
        scheduler=scheduler,
        after_step=after_step,
        validation=validation,
    )
    if stop is not None:
        modules = getattr(stop, "modules", None)
        if modules is None and validation is not None:
            modules = validation.modules
        if modules is None:
            raise ValueError(
                "expected data to stop on, got stop= without validation=; hold some out: kept, "
                "held_out = split.divided(0.1), and validation=Validation(program, "
                "(held_out.fixed().x,))"
            )
        records = _until(records, stop, modules)
    return list(track(records, "fitting", total=epochs, shown=progress, transient=False))


def _until(records: Iterator[Record], stop: Rule, modules: Sequence[nn.Module]) -> Iterator[Record]:
    """The records up to that at which a rule stops; then modules have the weights of its best."""
    kept: list[Tensor] = []
    for record in records:
        is_over = stop(record)
        if stop.best == record.epoch:
            kept = [tensor.detach().clone() for tensor in _state(modules)]
        if is_over:
            reason = getattr(stop, "reason", "") or f"{type(stop).__name__} said so"
            record = replace(record, stopped=reason)
        yield record
        if is_over:
            break
    if kept:
        with torch.no_grad():
            for tensor, best in zip(_state(modules), kept, strict=True):
                tensor.copy_(best)


def _state(modules: Sequence[nn.Module]) -> list[Tensor]:
    """All parameters and buffers of modules, each once."""
    found: dict[int, Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            found.setdefault(id(tensor), tensor)
    return list(found.values())
