"""Independent posteriors in chunks of data that stay in the cache: as one call, as one result."""

from __future__ import annotations

__all__ = ["in_chunks", "rows_at_once"]

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ppl_gen.inference.mcmc.draws import Draws, Progress


def rows_at_once(x: Tensor, chains: int) -> int:
    """How many data to take at once: as many as keep a layer of the size of the data, for all
    chains, near the processor.
    """
    numbers = 2**26 if x.is_cuda else 2**20
    return max(1, numbers // (chains * max(math.prod(x.shape[1:]), 64)))


def in_chunks(
    sample: Callable[..., Draws],
    args: Sequence[Any],
    size: int,
    tell: Callable[[Progress], None],
) -> Draws:
    """The draws of `sample(*args_of_a_chunk, on_draw=...)` for each chunk of the data, side by
    side.

    Chunks are of one size, the last one filled up with its last datum, so that one graph serves
    them all. An interrupt leaves the data that are done.

    Args:
        sample: Gives the draws of each datum of its arguments.
        args: Tensors with a row for each datum, and anything else.
        size: The number of data in a chunk, at most.
        tell: Called with the progress of the whole.
    """
    n = args[0].shape[0]
    count = -(-n // size)
    size = -(-n // count)
    parts: list[Draws] = []
    remarks: list[str] = []
    for k in range(count):
        rows = torch.arange(k * size, (k + 1) * size, device=args[0].device).clamp(max=n - 1)

        def on_draw(now: Progress, k: int = k) -> None:
            tell(now._replace(done=k * now.total + now.done, total=count * now.total))

        try:
            part = sample(*(a[rows] if torch.is_tensor(a) else a for a in args), on_draw=on_draw)
            interrupted = any(remark.startswith("interrupted") for remark in part.remarks)
        except KeyboardInterrupt:
            if not parts:
                raise
            interrupted = True
        if interrupted and parts:
            remarks.append(f"interrupted: the draws are of the first {k * size} of {n} data")
            warnings.warn(f"hmc was {remarks[-1]}", RuntimeWarning, stacklevel=3)
            break
        parts.append(part)
        remarks += [remark for remark in part.remarks if remark not in remarks]
        if interrupted:
            break
    return replace(_side_by_side(parts, n), remarks=tuple(remarks))


def _side_by_side(parts: Sequence[Draws], n: int) -> Draws:
    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors), 2)[:, :, :n]

    settings = {k: sum(p.settings[k] for p in parts) / len(parts) for k in parts[0].settings}
    return Draws(
        {name: joined([p.samples[name] for p in parts]) for name in parts[0].samples},
        joined([p.log_density for p in parts]),
        joined([p.divergent for p in parts]),
        joined([p.acceptance for p in parts]),
        sum(p.seconds for p in parts),
        sum(p.preparation_seconds for p in parts),
        dims=parts[0].dims,
        sampler=parts[0].sampler,
        settings=settings,
    )
