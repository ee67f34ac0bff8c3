"""One descent step as a graph: loss, gradients and, where it pays to compile, the optimiser's
update with them.
"""

from __future__ import annotations

__all__ = ["Adam", "Descent"]

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppl_gen.inference.engine.graphs import Functional, shapes
from ppl_gen.inference.engine.replay import COMPILE_AFTER, Replay
from ppl_gen.pyro_patches import global_norm, mark_as_stepped, step_hooks

Loss = Callable[..., Tensor]


class Descent:
    """θ ← θ − update(∇ loss(θ)): the gradient by an engine, the update by torch's optimiser, or by
    the same graph.

    Args:
        loss: From (batch, weight) to a scalar; weight is a tensor or None.
        parts: The programs, guides and objectives whose modules hold the parameters.
        optimizer: A torch optimiser. The update of Adam and AdamW is compiled together with the
            gradient.
        replay: The engine of loss and gradient.
        clip: The largest norm of the gradient.
        eager: From (batch, weight) to the loss, leaving gradients in the parameters; the lowest
            rung.
    """

    def __init__(
        self,
        loss: Loss,
        parts: Sequence[Any],
        optimizer: torch.optim.Optimizer,
        replay: Replay,
        clip: float | None,
        eager: Loss,
    ) -> None:
        self.pure, self.optimizer, self.replay, self.clip, self.eager = (
            Functional(loss, *parts),
            optimizer,
            replay,
            clip,
            eager,
        )
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        place = {id(t): i for i, t in enumerate(self.pure.tensors)}
        self.places = [place[id(p)] for p in self.parameters if id(p) in place]
        if len(self.places) < len(self.parameters):
            if replay.engine not in ("auto", "eager"):
                warnings.warn(
                    "the optimiser holds parameters that no module of program and guide has: eager",
                    stacklevel=4,
                )
            replay.engine = "eager"
        self.adam = Adam.of(optimizer)
        self.compiled = Replay("inductor", what="descent step")
        self.used: list[int] = []
        self.calls = 0
        self.pending = False
        self._statics: dict[Hashable, int] = {}
        self._last_static: Hashable = None
        self._number = 0

    @property
    def rung(self) -> str:
        """Where the last step was computed: "eager", "fx" or "inductor"."""
        return self.compiled.rung if self.compiled.rung != "eager" else self.replay.rung

    def gradients(self, batch: tuple[Tensor, ...], weight: float | None) -> tuple[Tensor, Tensor]:
        """The loss and the norm of its gradient; in the compiled case the update has been made, if
        both are finite.

        Raises:
            ValueError: If the optimiser has other parameters than when this was made.
        """
        self.calls += 1
        held = self.pure.tensors
        self._expect_the_same_parameters(held)
        kind: dict[str, Any] = {
            "dtype": self.parameters[0].dtype,
            "device": self.parameters[0].device,
        }
        weights = () if weight is None else (torch.as_tensor(weight, **kind),)
        needed = tuple([p.requires_grad for p in self.parameters])
        compiles = self._compiles()
        settings = self.adam.settings if compiles and self.adam is not None else None
        static = self._numbered((needed, self.pure.numbers, kind["dtype"], len(weights), settings))
        rows = range(len(held), len(held) + len(batch))
        inputs = (*held, *batch, *weights)
        self.pending = True
        if compiles and self.replay.engine != "eager" and self.adam is not None:
            self.compiled.rows = rows
            step = partial(self._descend, needed, len(batch), len(inputs))
            tensors = self.adam.inputs(needed)
            found = self.compiled(
                step, *inputs, *tensors, eager=lambda *_: (), key=(static, shapes(batch))
            )
            if (
                self.compiled.highest != "inductor"
            ):  # what it could not do, the gradient alone could not do either
                self.replay.engine = self.compiled.highest
            if found:
                self.pending = False
                return found
        self.replay.rows = rows
        loss, norm, *gradients = self.replay(
            partial(self._differentiate, needed, len(batch)),
            *inputs,
            eager=partial(self._eager, batch, weight),
            key=(static, shapes(batch)),
        )
        if gradients:
            for p in self.parameters:
                p.grad = None
            for i, gradient in zip(self.used, gradients, strict=True):
                self.parameters[i].grad = gradient
        return loss, norm

    def _expect_the_same_parameters(self, held: list[Tensor]) -> None:
        now = [p for group in self.optimizer.param_groups for p in group["params"]]
        same = len(now) == len(self.parameters) and all(
            p is q for p, q in zip(now, self.parameters, strict=True)
        )
        traceable = len(self.places) == len(self.parameters)
        if not same or (
            traceable and any(held[i] is not p for i, p in zip(self.places, now, strict=True))
        ):
            raise ValueError(
                "expected the parameters that the step was built with, got others, in the "
                "optimiser or in the program; build the optimiser and the step anew"
            )

    def _numbered(self, static: Hashable) -> int:
        """A number for what a graph takes for granted, so that it is hashed where it changes and
        not at every step.

        Where it changes at every step, as a temperature in Python does, the steps run eagerly.
        """
        if static == self._last_static:
            return self._number
        self._last_static, self._number = (
            static,
            self._statics.setdefault(static, len(self._statics)),
        )
        if len(self._statics) > 8 and self.replay.engine != "eager":
            self.replay.engine = "eager"
            warnings.warn(
                "numbers of the program or the optimiser change all the time, and each would "
                "need a graph of its own: the steps run eagerly; hold what is annealed in a "
                "tensor (a buffer) to keep the engine",
                RuntimeWarning,
                stacklevel=4,
            )
        return self._number

    def show_gradients(self, batch: tuple[Tensor, ...], weight: float | None) -> None:
        """Leaves gradients in the parameters where the compiled step has not, to say which are not
        finite.
        """
        if not self.pending:
            self.eager(batch, weight)

    def update(self, norm: Tensor) -> None:
        """The optimiser's step, clipped, where the graph has not made it already."""
        if self.pending:
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
            self.optimizer.step()

    def _compiles(self) -> bool:
        """Whether the whole step is to be compiled: the engine is to, pays, can, and the optimiser
        is one that is known.
        """
        replay = self.replay
        due = replay.engine == "inductor" or max(self.calls, replay.calls or 0) >= COMPILE_AFTER
        return (
            due
            and replay.engine in ("auto", "inductor")
            and self.adam is not None
            and self.adam.usable
        )

    def _differentiate(
        self, needed: Sequence[bool], width: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """(loss, norm, *gradients) as a pure function of parameters, buffers, batch and weight."""
        first = len(self.pure.tensors)
        tensors, rest = list(inputs[:first]), inputs[first:]
        trained = [i for i, need in enumerate(needed) if need]
        leaves = [tensors[self.places[i]].detach().requires_grad_() for i in trained]
        for i, leaf in zip(trained, leaves, strict=True):
            tensors[self.places[i]] = leaf
        with torch.enable_grad():
            loss = self.pure(tensors, rest[:width], *(rest[width:] or (None,)))
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
        self.used = [i for i, g in zip(trained, found, strict=True) if g is not None]
        gradients = [g for g in found if g is not None]
        if not gradients:
            raise _NoGradient
        return (
            loss.detach(),
            torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm(),
            *gradients,
        )

    def _descend(
        self, needed: Sequence[bool], width: int, count: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """(loss, norm), with Adam's update made in place; nothing is changed where either is not
        finite.
        """
        loss, norm, *gradients = self._differentiate(needed, width, *inputs[:count])
        if self.clip is not None:
            gradients = [g * (self.clip / (norm + 1e-6)).clamp(max=1.0) for g in gradients]
        assert self.adam is not None
        parameters = [inputs[self.places[i]] for i in self.used]
        self.adam.apply(
            self.used, parameters, gradients, inputs[count:], torch.isfinite(loss + norm)
        )
        return loss, norm

    def _eager(
        self, batch: tuple[Tensor, ...], weight: float | None, *_: Tensor
    ) -> tuple[Tensor, ...]:
        for p in self.parameters:
            p.grad = None
        loss = self.eager(batch, weight)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            raise _NoGradient
        return loss, global_norm(gradients)


class _NoGradient(ValueError):
    def __init__(self) -> None:
        super().__init__(
            "expected a gradient for the optimiser's parameters, got none: they are not those of "
            "this program and guide; build the optimiser from program.parameters()"
        )


class Adam:
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← θ − η m̂ / (√v̂ + ε), on the state of a
    `torch.optim.Adam` or AdamW.

    Reference:
        Kingma and Ba (2015), Adam, algorithm 1; Loshchilov and Hutter (2019), Decoupled weight
        decay regularization.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self.optimizer = optimizer
        self.members = [(p, group) for group in optimizer.param_groups for p in group["params"]]
        self._known: Hashable = None
        self._inputs: list[Tensor] = []
        self._moments: list[Tensor | None] = []

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """None where the optimiser is another one."""
        if isinstance(optimizer, torch.optim.Adam) and type(optimizer) in (
            torch.optim.Adam,
            torch.optim.AdamW,
        ):
            return cls(optimizer)
        return None

    @property
    def usable(self) -> bool:
        """Whether the optimiser has no option or hook that this formula leaves out."""
        options = ("amsgrad", "maximize", "capturable", "differentiable")
        odd = any(group.get(option) for group in self.optimizer.param_groups for option in options)
        return not (odd or step_hooks(self.optimizer))

    @property
    def settings(self) -> Hashable:
        """What a graph takes from the optimiser as constants."""
        return tuple(
            (
                group["betas"],
                group["eps"],
                group["weight_decay"],
                group.get("decoupled_weight_decay"),
            )
            for group in self.optimizer.param_groups
        )

    def inputs(self, needed: Sequence[bool]) -> list[Tensor]:
        """Step, m and v of each parameter and its learning rate, made where they are missing, as
        torch makes them.
        """
        mark_as_stepped(self.optimizer)
        state = self.optimizer.state
        known = (needed, tuple([float(group["lr"]) for group in self.optimizer.param_groups]))
        moved = any(
            state[p].get("exp_avg") is not m
            for (p, _), m in zip(self.members, self._moments, strict=False)
        )
        if moved or known != self._known:
            self._known, self._inputs = (
                known,
                [t for p, g in self.members for t in self._tensors(p, g)],
            )
            self._moments = [state[p].get("exp_avg") for p, _ in self.members]
        return self._inputs

    def _tensors(self, p: Tensor, group: dict[str, Any]) -> list[Tensor]:
        state = self.optimizer.state[p]
        rate = torch.tensor(float(group["lr"]), dtype=p.dtype, device=p.device)
        if p.requires_grad and not state:
            state["step"] = torch.zeros(
                (), dtype=torch.float32, device=p.device if group["fused"] else None
            )
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        return [
            state.get("step", rate),
            state.get("exp_avg", rate),
            state.get("exp_avg_sq", rate),
            rate,
        ]

    def apply(
        self,
        used: Sequence[int],
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        inputs: Sequence[Tensor],
        good: Tensor,
    ) -> None:
        """Updates state and parameters in place, where `good`."""
        for i, p, g in zip(used, parameters, gradients, strict=True):
            group = self.members[i][1]
            step, m, v, rate = inputs[4 * i : 4 * i + 4]
            (b1, b2), decay = group["betas"], group["weight_decay"]
            before = p
            if decay and group.get("decoupled_weight_decay"):
                before = p * (1 - rate * decay)
            elif decay:
                g = g + decay * p
            count = (step + 1).to(p)
            mean, square = m.lerp(g, 1 - b1), v * b2 + (1 - b2) * g * g
            scale = (square / (1 - b2**count)).sqrt() + group["eps"]
            after = before - rate / (1 - b1**count) * mean / scale
            for old, new in ((step, step + 1), (m, mean), (v, square), (p, after)):
                old.copy_(torch.where(good.to(old.device), new, old))
