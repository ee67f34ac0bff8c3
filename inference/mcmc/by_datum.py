"""Independent posteriors in chunks of data that stay in the cache: as one call, as one result."""

from __future__ import annotations

__all__ = ["data_at_once", "equal_chunks", "in_chunks"]

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.inference.mcmc.draws import Draws, Progress

Report = Callable[[Progress], None]

_LEAST_WIDTH = 64  # entries of a layer, for data that are smaller


def data_at_once(x: Tensor, chains: int, chunk: int | None = None) -> int:
    """How many data to take at once: `chunk`, or as many as the memory budget holds.

    The budget is that of one layer of the size of the data, for all chains.

    Args:
        x: The data, (N, *shape).
        chains: The number of chains of each datum.
        chunk: The number of data that the user asked for, if any.
    """
    if chunk is not None:
        return chunk
    width = max(math.prod(x.shape[1:]), _LEAST_WIDTH)
    return memory.rows(memory.SAMPLED.on(x.device), chains * width)


def equal_chunks(n: int, size: int, device: torch.device) -> list[Tensor]:
    """The indices 0, …, N − 1 in chunks of equal length, so that one graph serves them all.

    The last is filled up with the last index.

    Args:
        n: N, the number of data.
        size: The most data of a chunk.
        device: Where the indices lie.
    """
    count = math.ceil(n / size)
    size = math.ceil(n / count)
    chunks = []
    for start in range(0, n, size):
        chunks.append(torch.arange(start, start + size, device=device).clamp(max=n - 1))
    return chunks


def in_chunks(
    sample: Callable[[list[Any], Report], Draws], args: Sequence[Any], size: int, tell: Report
) -> Draws:
    """The draws of every chunk of the data, side by side.

    An interrupt leaves the chunks that are done; in the first of them, the draws that are made.

    Args:
        sample: From the arguments of a chunk, and a function to call with its progress, to the
            draws of each datum.
        args: Tensors with a row for each datum, and anything else.
        size: The most data of a chunk.
        tell: Called with the progress of the whole.
    """
    n = args[0].shape[0]
    chunks = equal_chunks(n, size, args[0].device)
    parts: list[Draws] = []
    remarks: list[str] = []
    for k, rows in enumerate(chunks):
        try:
            part = sample(_rows_of(args, rows), _as_share(tell, k, len(chunks)))
            interrupted = part.interrupted
        except KeyboardInterrupt:
            if not parts:
                raise
            interrupted = True
        if interrupted and parts:
            remarks.append(f"interrupted: the draws are of the first {k * len(rows)} of {n} data")
            warnings.warn(f"hmc was {remarks[-1]}", RuntimeWarning, stacklevel=3)
            break
        parts.append(part)
        remarks += part.remarks
        if interrupted:
            break
    return _side_by_side(parts, n, tuple(dict.fromkeys(remarks)))


def _rows_of(args: Sequence[Any], rows: Tensor) -> list[Any]:
    """The arguments, of the tensors among them only some rows."""
    taken = []
    for argument in args:
        if torch.is_tensor(argument):
            argument = argument[rows]
        taken.append(argument)
    return taken


def _as_share(tell: Report, k: int, count: int) -> Report:
    """Reports the progress of the k-th of `count` chunks as that of the whole."""

    def tell_share(now: Progress) -> None:
        tell(now._replace(done=k * now.total + now.done, total=count * now.total))

    return tell_share


def _side_by_side(parts: Sequence[Draws], n: int, remarks: tuple[str, ...]) -> Draws:
    """Draws of some data each, along the axis of the data; what filled up the last chunk is cut."""

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors), 2)[:, :, :n]

    first = parts[0]
    samples = {name: joined([p.samples[name] for p in parts]) for name in first.samples}
    settings = {name: sum(p.settings[name] for p in parts) / len(parts) for name in first.settings}
    return Draws(
        samples=samples,
        log_density=joined([p.log_density for p in parts]),
        divergent=joined([p.divergent for p in parts]),
        acceptance=joined([p.acceptance for p in parts]),
        seconds=sum(p.seconds for p in parts),
        preparation_seconds=sum(p.preparation_seconds for p in parts),
        dims=first.dims,
        sampler=first.sampler,
        settings=settings,
        remarks=remarks,
    )
