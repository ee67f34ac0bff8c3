"""The steps of a pass over data in memory, each of them one call of one graph."""

from __future__ import annotations

__all__ = ["AT_ONCE", "Chunk", "Pass"]

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference.engine.graphs import Function, shapes
from ppl_gen.inference.engine.replay import Replay

AT_ONCE = 100  # steps between two looks at whether all went well: a look waits for the device


class Chunk(NamedTuple):
    """What some steps went by.

    Attributes:
        losses: The loss of each step before its update, (S,).
        norms: The norms of the gradients before clipping, (S,).
        failed: The loss of the step after these, if that or its gradient is not finite; then it has
            changed nothing. Else None.
    """

    losses: Tensor
    norms: Tensor
    failed: Tensor | None


@dataclass(frozen=True)
class Log:
    """What the steps of a pass write down, on their device.

    Attributes:
        position: The number of steps written down, Long (); −1 − n once the step after n of them
            has failed, after which none changes anything.
        values: Loss and norm of each step, (2, S).
    """

    position: Tensor
    values: Tensor

    @classmethod
    def beside(cls, parameter: Tensor) -> Log:
        """An empty one, of the type and on the device of a parameter."""
        position = torch.zeros((), dtype=torch.long, device=parameter.device)
        return cls(position, parameter.detach().new_zeros(2, AT_ONCE))

    @property
    def room(self) -> int:
        """The number of steps that it has room for."""
        return self.values.shape[1]

    @property
    def is_going_on(self) -> Tensor:
        """Whether no step has failed."""
        return self.position >= 0

    def write(self, loss: Tensor, norm: Tensor, is_good: Tensor) -> None:
        """Writes a step down in place, unless one before has failed.

        Args:
            loss: Its loss.
            norm: The norm of its gradient.
            is_good: Whether both are finite, and none has failed before.
        """
        places = torch.arange(self.room, device=self.position.device)
        written = torch.stack([loss, norm])[:, None]
        self.values.copy_(torch.where(places == self.position, written, self.values))
        stopped = torch.where(self.is_going_on, -1 - self.position, self.position)
        self.position.copy_(torch.where(is_good, self.position + 1, stopped))

    def read(self) -> Chunk:
        """What has been written since the last look, which begins it anew."""
        position = int(self.position)
        count = position
        if position < 0:
            count = -1 - position
        losses, norms = self.values.clone()
        failed = None
        if position < 0:
            failed = losses[count]
        self.position.zero_()
        return Chunk(losses[:count], norms[:count], failed)


class Pass:
    """Steps over the rows of data in memory, by graphs that draw their batches themselves.

    Nothing but rows, weight and the values of tensors may change within a pass: what else a graph
    takes for granted is looked at once in a pass for each size of batches.

    Args:
        replay: Its graphs.
        function: From all inputs to any tensors; writes to `log`.
        inputs: Its inputs, with anything at the two places below.
        rows: The place of the rows, Long (B,).
        weight: That of the weight, if there is one.
        kept: Those of the data, which are not copied.
        key: Tells its graphs from those of other functions.
        log: Where the function writes what its steps went by.

    Attributes:
        room: The number of steps that are written down between two looks.
    """

    def __init__(
        self,
        replay: Replay,
        function: Function,
        inputs: Sequence[Tensor],
        *,
        rows: int,
        weight: int | None,
        kept: Sequence[int],
        key: Hashable,
        log: Log,
    ) -> None:
        self.log = log
        self.room = log.room
        self._replay = replay
        self._function = function
        self._inputs = list(inputs)
        self._rows = rows
        self._weight = weight
        self._kept = kept
        self._key = key
        self._keys: dict[int, Hashable] = {}
        self._settled: set[int] = set()

    def step(self, rows: Tensor, weight: Tensor | None) -> bool:
        """Makes a step, and says whether there is a graph to make it by.

        Args:
            rows: Of its batch, Long (B,).
            weight: A scalar, or None if there is none.
        """
        self._inputs[self._rows] = rows
        if self._weight is not None and weight is not None:
            self._inputs[self._weight] = weight
        size = rows.shape[0]
        if size in self._settled and self._replay.again(self._keys[size], self._inputs):
            return True
        key = self._keys[size] = (self._key, shapes([rows]))
        result = self._replay(
            self._function,
            *self._inputs,
            eager=_nothing,
            key=key,
            rows=(self._rows,),
            kept=self._kept,
        )
        if self._replay.fits(key, self._inputs):
            self._settled.add(size)
        return result is not None


def _nothing(*inputs: Tensor) -> None:
    """Stands for a function that has no graph yet: the step is then made another way."""
