"""A step that descends one loss: on a batch, or on all batches of a pass."""

from __future__ import annotations

__all__ = ["GradientStep", "Objective", "Swept"]

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ppl_gen.contexts import ONE_THREAD, forked
from ppl_gen.inference.engine.descent import Batch, Descent, Indexed
from ppl_gen.inference.engine.passes import Pass
from ppl_gen.precision import Precision, tf32


class Objective(Protocol):
    """What a step knows of its loss besides the loss.

    Attributes:
        width: How many tensors of a batch the loss takes; all if None.
    """

    @property
    def width(self) -> int | None: ...

    def begin(self, batch: Batch) -> None:
        """Raises ValueError if the first batch does not fit; leaves the random state as found."""

    def expect(self, batch: Batch) -> None:
        """Raises ValueError if any batch does not fit; also given all data of a pass at once."""

    def weight(self, index: int) -> float | None:
        """The weight that the loss takes at a step; None if it takes none."""

    def failure(self, index: int, loss: Tensor, batch: Batch) -> Exception:
        """What to raise where a step cannot be made; the gradients are in the parameters.

        Args:
            index: Of the step.
            loss: Its loss, which is finite if the gradient is not.
            batch: Its data, their binarisation perhaps drawn anew.
        """

    def metrics(self, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor]:
        """The metrics of a step, or of many.

        Args:
            loss: () or (S,).
            norm: Of the gradient, before clipping; of the same shape.
        """


class Swept(NamedTuple):
    """Some steps of a pass.

    Attributes:
        sizes: The number of data of each.
        metrics: Those of each by name, (S,) or, of one step, ().
    """

    sizes: list[int]
    metrics: Mapping[str, Tensor]


class GradientStep:
    """θ ← θ − update(∇ loss(θ)) on a batch, or on all batches of a pass.

    Args:
        descent: Makes the steps.
        objective: What is known of their loss.
        first_step: The index of the first step, above 0 where a fit goes on.
        precision: Of networks; what is rounded to bfloat16 is so in the descent's loss already.
    """

    def __init__(
        self,
        descent: Descent,
        objective: Objective,
        first_step: int,
        precision: Precision = "float32",
    ) -> None:
        self._precision = precision
        self._descent = descent
        self._objective = objective
        self._first = first_step
        self._index = first_step

    def __call__(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """One step, for which other threads that evaluate or fit anything wait.

        Args:
            *batch: Data and what they are conditioned on, each with the data on its first axis.
        """
        with ONE_THREAD, tf32(self._precision):
            batch = batch[: self._objective.width]
            if self._index == self._first:
                self._objective.begin(batch)
            self._objective.expect(batch)

            def failure(loss: Tensor) -> Exception:
                return self._objective.failure(self._index, loss, batch)

            weight = self._objective.weight(self._index)
            loss, norm = self._descent.step(batch, weight, failure)
            self._index += 1
            return self._objective.metrics(loss, norm)

    def sweep(self, batches: Indexed) -> Iterator[Swept]:
        """The steps of one pass over data in memory, as quick as their graphs are.

        Where a graph is compiled, rows, draw, step and metrics are one call of it, and whether all
        went well is looked at every hundred steps; a step that goes wrong changes nothing, nor does
        any after it.

        Args:
            batches: The data, and how batches are drawn of them.

        Raises:
            ValueError: If the data do not fit.
            NotFinite: If a loss or gradient is not finite, with the index of its step.
        """
        compiled: Pass | None = None
        made: list[Tensor] = []
        for number, rows in enumerate(batches.order()):
            if number == 0:
                compiled = self._begin_pass(batches, rows)
            if compiled is not None and self._step_by_graph(compiled, rows):
                made.append(rows)
                if len(made) == compiled.room:
                    yield self._read(compiled, batches, made)
                    made = []
                continue
            if compiled is not None and made:
                yield self._read(compiled, batches, made)
                made = []
            yield Swept([rows.shape[0]], self(*batches.draw(rows, *batches.stored)))
        if made and compiled is not None:
            yield self._read(compiled, batches, made)

    def _step_by_graph(self, compiled: Pass, rows: Tensor) -> bool:
        """Makes the next step, and says whether there is a graph to make it by."""
        with ONE_THREAD, tf32(self._precision):
            weight = self._objective.weight(self._index)
            scalar = None
            if weight is not None:
                scalar = self._descent.weight(weight)
            is_made = compiled.step(rows, scalar)
        self._index += is_made
        return is_made

    def _begin_pass(self, batches: Indexed, rows: Tensor) -> Pass | None:
        """The graphs of a pass, once it is clear that its data fit."""
        width = self._objective.width
        with ONE_THREAD:
            if self._index == self._first:
                with forked(rows.device, None):
                    self._objective.begin(batches.draw(rows, *batches.stored)[:width])
            self._objective.expect(batches.stored[:width])
            is_weighted = self._objective.weight(self._index) is not None
            return self._descent.begin_pass(batches, width, is_weighted)

    def _read(self, compiled: Pass, batches: Indexed, made: list[Tensor]) -> Swept:
        """What the last steps went by.

        Args:
            compiled: Has made them.
            batches: The data.
            made: The rows of each.
        """
        chunk = compiled.log.read()
        if chunk.failed is not None:
            good = len(chunk.losses)
            self._index += good - len(made)
            batch = batches.draw(made[good], *batches.stored)[: self._objective.width]
            with ONE_THREAD:
                with torch.enable_grad():
                    self._descent.gradients_anew(batch, self._objective.weight(self._index))
                raise self._objective.failure(self._index, chunk.failed, batch)
        sizes = [rows.shape[0] for rows in made]
        return Swept(sizes, self._objective.metrics(chunk.losses, chunk.norms))
