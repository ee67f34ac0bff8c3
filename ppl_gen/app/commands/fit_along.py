"""Fitting in several processes: what process 0 says to the others, and what these do."""

from __future__ import annotations

__all__ = ["Order", "average_statistics", "equalise", "fit_along", "of_all", "shared"]

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import fingerprint
from ppl_gen.app.ingredients.fitting import Fitting
from ppl_gen.app.launched import Told, agree
from ppl_gen.app.parts.slots import check_sources
from ppl_gen.app.recipes import recipe_of
from ppl_gen.app.run.checkpoint import Checkpoint
from ppl_gen.app.run.device import device_of_process
from ppl_gen.app.run.folder import Run
from ppl_gen.app.signals import STOPS, heed_no_more, stopped
from ppl_gen.data import Batches, UnpairedBatches
from ppl_gen.inference import NotFinite, Record, iterate
from ppl_gen.inference.engine.replay import on_device
from ppl_gen.ranks import ProcessLost, Ranks, Shares


@dataclass(frozen=True, kw_only=True)
class Order:
    """What process 0 has the others fit.

    Attributes:
        config: What is asked for, with all that was decided.
        fingerprint: Of each part of the data.
        done: The number of epochs that are done.
        held: The checkpoint that the run goes on from; None where it begins.
    """

    config: Config
    fingerprint: Mapping[str, str]
    done: int
    held: Checkpoint | None


def fit_along(ranks: Ranks, device_name: str, download: bool) -> None:
    """Fits what process 0 says, on this process's share of every batch; nothing is written.

    Args:
        ranks: The processes, of which this is not the first.
        device_name: auto, cpu or cuda.
        download: Whether torchvision may fetch what is missing.

    Raises:
        Told: If another process could not begin, or process 0 could not go on.
        ProcessLost: If another process has ended.
    """
    order: Order | None = ranks.from_first(None)
    if order is None:
        raise Told
    fitting = None
    said = ""
    try:
        device = device_of_process(device_name, ranks)
        fitting = _prepare(order, device, ranks, download)
    except (ValueError, OSError) as error:
        said = str(error)
    agree(ranks, said)
    assert fitting is not None
    equalise(ranks, fitting)
    if order.done < order.config.passes:
        _train_along(order, fitting, device, ranks)


def _prepare(order: Order, device: torch.device, ranks: Ranks, download: bool) -> Fitting:
    """What moves, as process 0 has it.

    Raises:
        ValueError: If the data cannot be read here, or are others than those of process 0.
    """
    config = order.config
    recipe = recipe_of(config)
    check_sources(config)
    data = Run(Path(), config).data(download=download)
    here = fingerprint(data)
    others = [name for name in here if here[name] != order.fingerprint.get(name)]
    if others:
        raise ValueError(
            f"expected the data that process 0 has, got other {', '.join(others)}; put the same "
            "data on every machine"
        )
    fitting = recipe.prepare(config, data.to(device), device, ranks)
    if order.held is not None:
        order.held.resume(fitting, device)
    return fitting


def _train_along(order: Order, fitting: Fitting, device: torch.device, ranks: Ranks) -> None:
    """Runs the epochs that are left, as long as process 0 says so."""
    config = order.config
    done = order.done
    saved = "process 0 has saved the checkpoint of epoch"
    engine = on_device(config.values.get("engine", "auto"), device)
    recipe_of(config).reopen(fitting.program)
    step = fitting.begin(done * len(fitting.batches), engine)
    fitting.pace(done + 1)
    batches = shared(fitting, config, ranks, done, device)
    try:
        for own_record in iterate(step, batches, config.passes, first_epoch=done + 1):
            record = of_all(own_record, ranks)
            average_statistics(ranks, fitting)
            if fitting.stopping is not None and config.values.get("until") is not None:
                fitting.stopping.see(record, fitting.program)  # which moves the learning rate
            is_over: bool | None = ranks.from_first(None)
            if is_over is None:
                raise Told
            if is_over:
                return
            done = record.epoch
            fitting.pace(done + 1)
    except NotFinite:
        raise Told from None  # of which all have the same message
    except STOPS as stop:
        raise stopped(stop, f"; {saved} {done}") from None
    except ProcessLost as error:
        heed_no_more()  # torchrun, too, says that a process is gone
        raise ProcessLost(
            f"{error}. {saved.capitalize()} {done}; go on, with any number of processes, by the "
            "same command with --resume"
        ) from error


def equalise(ranks: Ranks, fitting: Fitting) -> None:
    """Puts the weights and buffers of process 0 into those of all.

    Args:
        ranks: The processes.
        fitting: What is to move.
    """
    tensors: list[Tensor] = []
    for part in (fitting.program, fitting.companions):
        tensors.extend(part.parameters())
        tensors.extend(part.buffers())
    ranks.equalise(tensors)


def shared(
    fitting: Fitting, config: Config, ranks: Ranks, done: int, device: torch.device
) -> Batches | UnpairedBatches | Shares | tuple[()]:
    """This process's share of every batch, from the epoch after those that are done; all, if alone.

    Args:
        fitting: What is to move.
        config: What is asked for.
        ranks: The processes.
        done: The number of epochs that are done.
        device: Where the data lie.
    """
    batches = fitting.batches
    if ranks.count == 1 or not isinstance(batches, Batches):
        return batches
    return Shares(batches, ranks, seed=config.seed, epoch=done + 1, device=device)


def of_all(record: Record, ranks: Ranks) -> Record:
    """The record of an epoch over the data of all processes.

    What this process alone has measured, as process 0 has of data held out, stays as it is.

    Args:
        record: Of this process's share.
        ranks: The processes.
    """
    if ranks.count == 1:
        return record
    records = ranks.gather(record)
    data = sum(each.data for each in records)
    metrics = dict(record.metrics)
    for name in metrics:
        if all(name in each.metrics for each in records):
            metrics[name] = sum(each.metrics[name] * each.data for each in records) / data
    return replace(record, metrics=metrics, data=data)


def average_statistics(ranks: Ranks, fitting: Fitting) -> None:
    """Averages what batch normalisation has seen of the data over all processes.

    Within a step each process normalises by its own share of the batch.

    Args:
        ranks: The processes.
        fitting: What has moved.
    """
    seen: list[Tensor] = []
    for part in (fitting.program, fitting.companions):
        for module in part.modules():
            seen += _statistics(module)
    if ranks.count == 1 or not seen:
        return
    for tensor, average in zip(seen, ranks.average(seen, 1), strict=True):
        tensor.copy_(average)


def _statistics(module: nn.Module) -> list[Tensor]:
    """The running mean and variance of a layer that normalises by batches; empty of others."""
    names = ("running_mean", "running_var")
    found = [getattr(module, name, None) for name in names]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]
