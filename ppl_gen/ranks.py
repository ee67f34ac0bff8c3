"""Several processes that fit or judge one model, each on its share of the data.

They are those that `torchrun` has started, and speak through torch.distributed: NCCL between CUDA
devices, gloo between processors.
"""

from __future__ import annotations

__all__ = ["ALONE", "ProcessLost", "Ranks", "Shares", "are_launched", "joined"]

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ppl_gen.contexts import forked, reason

_T = TypeVar("_T")


class ProcessLost(ConnectionError):
    """Another process has ended, or cannot be reached any more."""


@dataclass(frozen=True)
class Ranks:
    """The processes that work together, as one of them sees them.

    What they exchange they have to exchange in the same order: each call below waits for the same
    call of all others.

    Attributes:
        number: Of this process, r from 0 to R − 1.
        count: The number of processes, R.
    """

    number: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which alone writes and speaks."""
        return self.number == 0

    def share(self, n: int) -> slice:
        """The rows, of n, that fall to this process: n / R, rounded up or down.

        Those of all processes, in their order, are all rows.

        Args:
            n: The number of rows.

        Examples:
            >>> [Ranks(r, 3).share(8) for r in range(3)]
            [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(n * self.number // self.count, n * (self.number + 1) // self.count)

    def seed(self, *numbers: int) -> int:
        """A seed of this process's own, the same for the same numbers in any run.

        Args:
            *numbers: What it is made of besides r, such as a run's seed and an epoch; none below 0.
        """
        return _mixed(*numbers, self.number + 1)

    def common_seed(self, *numbers: int) -> int:
        """A seed that all processes share, and that is none of their own.

        Args:
            *numbers: What it is made of, such as a run's seed and an epoch; none below 0.
        """
        return _mixed(*numbers, 0)

    def average(self, tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
        """Σᵣ nᵣ tᵣ / Σᵣ nᵣ for each tensor t, to the same bits in all processes.

        If tᵣ is an average over the nᵣ data of process r, this is that over the data of all.

        Args:
            tensors: t of this process, of the same shapes in all of them.
            rows: nᵣ, at least 1.

        Raises:
            ProcessLost: If another process has ended.
        """
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        wide = torch.promote_types(flat.dtype, torch.float32)
        sums = torch.cat([flat.to(wide), flat.new_ones(1, dtype=wide)]) * rows
        with _losses_named():
            dist.all_reduce(sums)
        means = sums[:-1] / sums[-1]
        averages = []
        for piece, t in zip(means.split([t.numel() for t in tensors]), tensors, strict=True):
            averages.append(piece.view(t.shape).to(t.dtype))
        return averages

    def average_gradients(self, loss: Tensor, parameters: Sequence[Tensor], rows: int) -> Tensor:
        """The loss over the data of all processes; what parameters hold becomes its gradient.

        Args:
            loss: Of this process, an average over its data.
            parameters: Those with a gradient hold that of this loss, in all processes the same.
            rows: The number of its data, at least 1.

        Raises:
            ProcessLost: If another process has ended.
        """
        moved = [p for p in parameters if p.grad is not None]
        own = [p.grad for p in moved if p.grad is not None]
        loss, *gradients = self.average([loss, *own], rows)
        for p, gradient in zip(moved, gradients, strict=True):
            p.grad = gradient
        return loss

    def gather(self, value: _T) -> list[_T]:
        """The values of all processes, in their order, in each of them.

        Args:
            value: Of this process; tensors in it lie on the processor.

        Raises:
            ProcessLost: If another process has ended.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _losses_named():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: _T) -> _T:
        """The value that process 0 has, in each of them.

        Args:
            value: Of process 0; what others give is passed over. Tensors in it lie on the
                processor.

        Raises:
            ProcessLost: If another process has ended.
        """
        if self.count == 1:
            return value
        values = [value]
        with _losses_named():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def equalise(self, tensors: Sequence[Tensor]) -> None:
        """Puts what process 0 has in them into the tensors of all others.

        Args:
            tensors: Of the same shapes in all processes.

        Raises:
            ProcessLost: If another process has ended.
        """
        if self.count == 1:
            return
        with _losses_named(), torch.no_grad():
            for tensor in tensors:
                held = tensor.detach().contiguous()
                dist.broadcast(held, src=0)
                tensor.copy_(held)


# One process by itself.
ALONE = Ranks(0, 1)


class _Batches(Protocol):
    """What can draw the batches of chosen rows, as `data.Batches` does."""

    def __len__(self) -> int: ...

    def order(self) -> Iterable[Tensor]:
        """The rows of each batch of a pass, Long (B,)."""

    def of_rows(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Batches of these rows."""


class Shares:
    """The rows of every batch that fall to this process, epoch after epoch.

    All processes draw one order of the data, by torch's generator at a seed that the epoch and
    `seed` give. Whatever else is drawn in an epoch, noise of pixels and latents, comes from a
    stream of each process's own, which epoch and `seed` give as well: so an epoch has the same
    random numbers wherever a fit goes on.

    Args:
        batches: Of all processes, each of at least as many data as there are processes.
        ranks: The processes.
        seed: Of all streams.
        epoch: The number of the first epoch that is walked through.
        device: Where numbers are drawn.
    """

    def __init__(
        self, batches: _Batches, ranks: Ranks, seed: int, epoch: int, device: torch.device
    ) -> None:
        self._batches = batches
        self._ranks = ranks
        self._seed = seed
        self._epoch = epoch
        self._device = device

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        epoch = self._epoch
        self._epoch += 1
        with forked(self._device, self._ranks.common_seed(self._seed, epoch)):
            order = list(self._batches.order())
        torch.manual_seed(self._ranks.seed(self._seed, epoch))
        own = [rows[self._ranks.share(len(rows))] for rows in order]
        yield from self._batches.of_rows(own)


def are_launched() -> bool:
    """Whether `torchrun` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: torch.device | str = "cpu") -> Iterator[Ranks]:
    """Joins the processes that `torchrun` has started; a process by itself is alone.

    Args:
        device: Where the tensors lie that are exchanged: all on processors, or all on CUDA devices,
            one for each process.

    Raises:
        ValueError: If this torch has no backend for the device.
        ProcessLost: If another process ends before all have joined.

    Examples:
        >>> with joined() as ranks:
        ...     ranks.count
        1
    """
    if not are_launched():
        yield ALONE
        return
    kind = torch.device(device).type
    with _losses_named():
        dist.init_process_group(_backend(kind))
    yield Ranks(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # after an error, this would wait for others


def _backend(kind: str) -> str:
    """The backends that exchange tensors of a kind of device, and objects.

    Raises:
        ValueError: If this torch was built without them.
    """
    if not dist.is_available() or not dist.is_gloo_available():
        raise ValueError(
            "expected a torch that was built with torch.distributed and gloo for several "
            "processes, got one without; install one that has them, or leave torchrun out"
        )
    if kind != "cuda":
        return "gloo"
    if not dist.is_nccl_available():
        raise ValueError(
            "expected a torch that was built with NCCL for several CUDA devices, got one without; "
            "install one that has it, or take --device cpu"
        )
    return "cpu:gloo,cuda:nccl"


@contextmanager
def _losses_named() -> Iterator[None]:
    """Says of what torch.distributed raises that another process is gone."""
    try:
        yield
    except RuntimeError as error:  # what its backends raise are all such
        raise ProcessLost(
            f"another process has ended or cannot be reached ({_reason(error)}); look at what it "
            "said"
        ) from error


def _reason(error: RuntimeError) -> str:
    """The first sentence of an error, without the place in the backend's source."""
    sentence = re.sub(r"^\[[^]]*] ", "", reason(error))
    return sentence.partition(". ")[0]


def _mixed(*numbers: int) -> int:
    """A seed for torch's generators that differs in all bits where one number differs."""
    mixed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))
