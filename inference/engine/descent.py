"""A step of gradient descent as a graph: loss, gradient and, where it pays, the update."""

from __future__ import annotations

__all__ = ["Descent", "Indexed", "Stepped"]

import math
import operator
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ppl_gen.inference.engine.adam import Adam
from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.passes import Log, Pass
from ppl_gen.inference.engine.replay import (
    COMPILE_AFTER,
    Engine,
    Replay,
    compiles,
    expect_engine,
    plan,
)
from ppl_gen.pyro_patches import global_norm
from ppl_gen.ranks import Ranks

Batch = tuple[Tensor, ...]
Loss = Callable[..., Tensor]


class Indexed(Protocol):
    """Batches that a graph can draw from memory, such as `data.presentation.InMemory`.

    Attributes:
        stored: The data, and what else a batch has of them, each of N rows.
        present: How data are shown, which tells graphs apart.
    """

    @property
    def stored(self) -> tuple[Tensor, ...]: ...

    @property
    def present(self) -> Hashable: ...

    @property
    def order(self) -> Callable[[], Iterable[Tensor]]:
        """Begins a pass: the rows of each of its batches, Long (B,)."""

    def draw(self, rows: Tensor, *stored: Tensor) -> Batch:
        """The batch of some rows of `stored`."""


class Stepped(NamedTuple):
    """What a step went by.

    Attributes:
        loss: The loss before the update, a scalar.
        norm: The norm of its gradient in all parameters, before clipping.
    """

    loss: Tensor
    norm: Tensor


class _Computed(NamedTuple):
    """The loss and its gradient.

    Attributes:
        loss: The loss, a scalar.
        norm: The norm of its gradient in all parameters.
        updated: Whether the graph has made the update as well, which it leaves out if loss or norm
            is not finite. If False, the gradients are in the parameters.
    """

    loss: Tensor
    norm: Tensor
    updated: bool


class _Constants(NamedTuple):
    """What a graph takes for granted besides shapes: with other constants, another is traced.

    Attributes:
        needed: Whether each parameter needs a gradient.
        numbers: The numbers that the modules hold.
        dtype: The type of the weight.
        weighted: Whether there is a weight.
        adam: The options of Adam, where its update is part of the graph; else None.
    """

    needed: tuple[bool, ...]
    numbers: tuple[Any, ...]
    dtype: torch.dtype
    weighted: bool
    adam: Hashable


class _Inputs(NamedTuple):
    """What a graph of the loss is called with.

    Attributes:
        tensors: Parameters and buffers of the modules, then the batch, then the weight if any.
        held: The number of parameters and buffers.
        width: The number of tensors in the batch.
    """

    tensors: tuple[Tensor, ...]
    held: int
    width: int

    @property
    def rows(self) -> range:
        """The indices of the batch, whose first axis is the data."""
        return range(self.held, self.held + self.width)


class Descent:
    """θ ← θ − update(∇ loss(θ)), the gradient by an engine, the update by a torch optimiser.

    The update of Adam and AdamW is compiled together with the gradient, where that pays.

    Args:
        loss: From (batch, weight) to a scalar; weight is a tensor or None.
        backward: From (batch, weight) to the same scalar, adding its gradient to those in the
            parameters: what the engine "eager" calls.
        parts: The programs, guides and objectives whose modules hold the parameters.
        optimizer: The optimiser of the parameters θ to train.
        engine: How loss and gradient are computed: "auto", "cuda-graph", "inductor", "fx" or
            "eager".
        steps: How many steps are to come, if known: "auto" compiles when they pay for it.
        first_step: How many steps were made in another process, by whose engines this one goes on.
        clip: The largest norm of the gradient; longer ones are scaled down to it. None clips none.
        across: The processes that each have a share of every batch: loss and gradient are averaged
            over their data before the update, which torch makes. None for one process.

    Attributes:
        parameters: Those of the optimiser, θ.

    Raises:
        ValueError: If the engine is unknown, or none for the device of the parameters.
    """

    def __init__(
        self,
        loss: Loss,
        backward: Loss,
        parts: Sequence[Any],
        optimizer: torch.optim.Optimizer,
        *,
        engine: Engine = "auto",
        steps: int | None = None,
        first_step: int = 0,
        clip: float | None = None,
        across: Ranks | None = None,
    ) -> None:
        self.parameters = _parameters_of(optimizer)
        self._pure = Functional(loss, *parts)
        self._backward = backward
        self._optimizer = optimizer
        self._clip = clip
        self._across = across
        self._steps_done = first_step
        self._gradient = Replay(engine, steps, what="objective", begun=first_step)
        self._device = self.parameters[0].device
        expect_engine(engine, self._device)
        fastest = plan(COMPILE_AFTER, engine, self._device)
        self._whole = Replay(fastest, what="descent step", begun=first_step)
        self._drawn = Replay(fastest, what="descent step", begun=first_step)
        self._log: Log | None = None
        self._adam = Adam.of(optimizer)
        # Where each parameter is among the tensors of the modules.
        place = {id(tensor): i for i, tensor in enumerate(self._pure.tensors)}
        self._places = [place[id(p)] for p in self.parameters if id(p) in place]
        self._traceable = len(self._places) == len(self.parameters)
        if not self._traceable:
            self._gradient.lower("eager")
            if engine == "fx" or compiles(engine):
                warnings.warn(
                    "the optimiser holds parameters that no module of program and guide has: eager",
                    stacklevel=3,
                )

    def step(
        self, batch: Batch, weight: float | None, failure: Callable[[Tensor], Exception]
    ) -> Stepped:
        """Makes one step, unless the loss or its gradient is not finite.

        Args:
            batch: The data of the loss, each tensor with the data on its first axis.
            weight: The weight that the loss takes, or None.
            failure: From the loss to the exception to raise where the step cannot be made. It finds
                the gradients in the parameters.

        Raises:
            ValueError: If the optimiser or a module has other parameters than at construction, or
                if no parameter gets a gradient.
            Exception: What `failure` returns; no parameter has been changed then.
        """
        self._steps_done += 1
        loss, norm, updated = self._compute(batch, weight)
        own_loss = loss
        if self._across is not None:
            loss, norm = self._average(self._across, loss, batch[0].shape[0])
        if not math.isfinite(float(loss + norm)):
            if updated:
                self.gradients_anew(batch, weight)
            raise self._agreed(failure(own_loss), own_loss)
        if not updated:
            if self._clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self._clip, norm)
            self._optimizer.step()
        return Stepped(loss, norm)

    def _average(self, across: Ranks, loss: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Loss and norm over the data of all processes; so are the gradients left in parameters.

        Args:
            across: The processes.
            loss: Of this process.
            rows: The number of its data.
        """
        loss = across.average_gradients(loss, self.parameters, rows)
        return loss, global_norm(_expect_some([p.grad for p in self.parameters]))

    def _agreed(self, error: Exception, own_loss: Tensor) -> Exception:
        """The same error in all processes: that of one whose own loss is not finite, if any is."""
        if self._across is None:
            return error
        said = self._across.gather((bool(torch.isfinite(own_loss)), str(error)))
        _, message = min(said, key=operator.itemgetter(0))
        return type(error)(message)

    def _compute(self, batch: Batch, weight: float | None) -> _Computed:
        """The loss and its gradient; with them the update, where that is compiled."""
        held = self._pure.tensors
        self._expect_same_parameters(held)
        weights: Batch = ()
        if weight is not None:
            weights = (self.weight(weight),)
        inputs = _Inputs((*held, *batch, *weights), len(held), len(batch))

        # What cannot be traced or compiled with the draw of its batch cannot be without it.
        self._gradient.lower(self._drawn.highest)
        adam = self._adam_to_compile()
        constants = self._constants(adam, is_weighted=weight is not None)
        key = (constants, shapes(batch))

        if adam is not None and self._gradient.highest != "eager":
            computed = self._step_by_graph(adam, constants.needed, inputs, key)
            if computed is not None:
                return computed
        eager = partial(self._differentiate_eagerly, batch, weight)
        return self._differentiate_by_engine(constants.needed, inputs, key, eager)

    def weight(self, value: float) -> Tensor:
        """A weight as a scalar of the parameters' type, on their device."""
        first = self.parameters[0]
        return torch.as_tensor(value, dtype=first.dtype, device=first.device)

    def gradients_anew(self, batch: Batch, weight: float | None) -> Tensor:
        """The loss, its gradient put in the place of those in the parameters, without a graph.

        Args:
            batch: The data of the loss.
            weight: The weight that the loss takes, or None.
        """
        for p in self.parameters:
            p.grad = None
        return self._backward(batch, weight)

    def begin_pass(self, batches: Indexed, width: int | None, is_weighted: bool) -> Pass | None:
        """Steps whose graphs draw their batches from memory; None where none are to be compiled.

        Args:
            batches: Draws a batch of some rows.
            width: How many tensors of a batch the loss takes; all if None.
            is_weighted: Whether the loss takes a weight.

        Raises:
            ValueError: If the optimiser or a module has other parameters than at construction.
        """
        held = self._pure.tensors
        self._expect_same_parameters(held)
        adam = self._adam_to_compile()
        # Data that are shared along an axis would be copied for every call.
        if adam is None or any(0 in t.stride() for t in batches.stored):
            return None
        constants = self._constants(adam, is_weighted)
        if self._gradient.highest == "eager":
            return None
        log = self._log = self._log or Log.beside(self.parameters[0])
        log.position.zero_()
        rows = len(held) + len(batches.stored)
        weights: tuple[Tensor, ...] = ()
        weight = None
        if is_weighted:
            weights = (log.values[0, 0],)
            weight = rows + 1
        state = adam.prepared_inputs(constants.needed)
        function = partial(
            self._descend_drawn, adam, constants.needed, batches, width, len(weights)
        )
        return Pass(
            self._drawn,
            function,
            [*held, *batches.stored, log.position, *weights, *state, log.position, log.values],
            rows=rows,
            weight=weight,
            kept=range(len(held), rows),
            key=(constants, batches.present, width, shapes(batches.stored)),
            log=log,
        )

    def _constants(self, adam: Adam | None, is_weighted: bool) -> _Constants:
        """What the graph of the next step takes for granted, which is noted."""
        options = None
        if adam is not None:
            options = adam.settings
        constants = _Constants(
            needed=tuple([p.requires_grad for p in self.parameters]),
            numbers=self._pure.numbers,
            dtype=self.parameters[0].dtype,
            weighted=is_weighted,
            adam=options,
        )
        self._gradient.note(constants)
        return constants

    def _expect_same_parameters(self, held: Sequence[Tensor]) -> None:
        """Raises ValueError if optimiser or modules hold other parameters than at construction."""
        now = _parameters_of(self._optimizer)
        same = len(now) == len(self.parameters) and all(map(operator.is_, now, self.parameters))
        if self._traceable:
            for p, place in zip(self.parameters, self._places, strict=True):
                if held[place] is not p:
                    same = False
        if not same:
            raise ValueError(
                "expected the parameters that the step was built with, got others, in the "
                "optimiser or in the program; build the optimiser and the step anew"
            )

    def _adam_to_compile(self) -> Adam | None:
        """Adam, if its update is to be compiled with the gradient: where that pays and can be."""
        calls = max(self._steps_done, self._gradient.calls or 0)
        pays = compiles(plan(calls, self._gradient.engine, self._device))
        if not pays or not compiles(self._gradient.highest):
            return None
        if self._adam is None or not self._adam.usable or self._across is not None:
            return None
        return self._adam

    def _step_by_graph(
        self, adam: Adam, needed: tuple[bool, ...], inputs: _Inputs, key: Hashable
    ) -> _Computed | None:
        """The whole step, by one graph; None, with nothing done, where there is no such graph."""
        result = self._whole(
            partial(self._descend, adam, needed, inputs.width, len(inputs.tensors)),
            *inputs.tensors,
            *adam.prepared_inputs(needed),
            eager=_nothing,
            key=key,
            rows=inputs.rows,
        )
        # What cannot be traced or compiled with the update cannot be without it.
        self._gradient.lower(self._whole.highest)
        if result is None:
            return None
        loss, norm = result
        return _Computed(loss, norm, updated=True)

    def _differentiate_by_engine(
        self, needed: tuple[bool, ...], inputs: _Inputs, key: Hashable, eager: Callable[..., Any]
    ) -> _Computed:
        """The loss, its gradient left in the parameters."""
        loss, norm, *gradients = self._gradient(
            partial(self._differentiate, needed, inputs.width),
            *inputs.tensors,
            eager=eager,
            key=key,
            rows=inputs.rows,
        )
        for p, gradient in zip(self.parameters, _each_its_own(gradients), strict=True):
            p.grad = gradient
        return _Computed(loss, norm, updated=False)

    def _differentiate(
        self, needed: Sequence[bool], width: int, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """(loss, norm, *gradients) as a pure function of the inputs of a graph.

        A gradient is None where none is needed, or where the loss does not depend on the parameter.
        """
        held = len(self._pure.tensors)
        tensors = list(inputs[:held])
        batch = inputs[held : held + width]
        weight = None
        if len(inputs) > held + width:
            weight = inputs[-1]
        leaves = []
        for place, need in zip(self._places, needed, strict=True):
            if need:
                leaf = tensors[place].detach().requires_grad_()
                tensors[place] = leaf
                leaves.append(leaf)
        with torch.enable_grad():
            loss = self._pure(tensors, batch, weight)
            found = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
        gradients = []
        for need in needed:
            gradient = None
            if need:
                gradient = next(found)
            gradients.append(gradient)
        norms = list(map(torch.linalg.vector_norm, _expect_some(gradients)))
        return loss.detach(), torch.stack(norms).norm(), *gradients

    def _descend(
        self,
        adam: Adam,
        needed: Sequence[bool],
        width: int,
        count: int,
        *inputs: Tensor,
        only_if: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(loss, norm), with Adam's update made in place where both are finite.

        The first `count` inputs are those of the loss, the others those of Adam.
        """
        loss, norm, *gradients = self._differentiate(needed, width, *inputs[:count])
        assert loss is not None
        assert norm is not None
        scale = None
        if self._clip is not None:
            scale = (self._clip / (norm + 1e-6)).clamp(max=1.0)
        finite = torch.isfinite(loss + norm)
        if only_if is not None:
            finite = finite & only_if
        for i, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if scale is not None:
                gradient = gradient * scale
            parameter = inputs[self._places[i]]
            adam.update(i, parameter, gradient, inputs[count:], finite)
        return loss, norm

    def _descend_drawn(
        self,
        adam: Adam,
        needed: Sequence[bool],
        batches: Indexed,
        width: int | None,
        weights: int,
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The same on the batch of some rows, written down.

        The inputs: those of the modules, the data, the rows, `weights` of them, those of Adam, and
        the log.
        """
        *before, position, values = inputs
        log = Log(position, values)
        held = len(self._pure.tensors)
        first = held + len(batches.stored)
        own, stored, rows = before[:held], before[held:first], before[first]
        rest = before[first + 1 :]
        batch = batches.draw(rows, *stored)[:width]
        count = held + len(batch) + weights
        given = (*own, *batch, *rest)
        loss, norm = self._descend(adam, needed, len(batch), count, *given, only_if=log.is_going_on)
        log.write(loss, norm, torch.isfinite(loss + norm) & log.is_going_on)
        return loss, norm

    def _differentiate_eagerly(
        self, batch: Batch, weight: float | None, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """(loss, norm, *gradients), without a graph."""
        loss = self.gradients_anew(batch, weight)
        gradients = [p.grad for p in self.parameters]
        return loss, global_norm(_expect_some(gradients)), *gradients


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters.extend(group["params"])
    return parameters


def _each_its_own(gradients: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
    """Gradients that can be changed in place: a graph gives one tensor for two of them, or one
    number for all entries, where these are equal."""
    taken: set[int] = set()
    for gradient in gradients:
        if gradient is None:
            yield None
        elif id(gradient) in taken or 0 in gradient.stride():
            yield gradient.clone(memory_format=torch.contiguous_format)
        else:
            taken.add(id(gradient))
            yield gradient


def _expect_some(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients that are there; raises ValueError if there are none."""
    found = [gradient for gradient in gradients if gradient is not None]
    if not found:
        raise ValueError(
            "expected a gradient for the optimiser's parameters, got none: they are not those of "
            "this program and guide; build the optimiser from program.parameters()"
        )
    return found


def _nothing(*inputs: Tensor) -> None:
    """Stands in for a step that is not computed."""
