"""Adam's update as tensor operations that a graph can hold, on the state of torch's own optimiser.

torch's functional Adam is of no use here: on a processor it reads the step as a Python number,
which a graph would keep for good, and it cannot leave out a step whose gradient is not finite.
"""

from __future__ import annotations

__all__ = ["Adam"]

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.pyro_patches import mark_as_stepped, step_hooks


class _State(NamedTuple):
    """What Adam keeps of one parameter: steps made, m, v, and its learning rate η."""

    step: Tensor
    mean: Tensor
    square: Tensor
    rate: Tensor


class Adam:
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← θ − η m̂ / (√v̂ + ε).

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t. AdamW multiplies
    θ by 1 − ηλ first; Adam with weight decay λ adds λθ to g. State and options are those of a
    `torch.optim.Adam` or `AdamW`, so that either may go on where the other stopped.

    Args:
        optimizer: The optimiser whose state is updated.

    Reference:
        Kingma and Ba (2015), Adam, algorithm 1; Loshchilov and Hutter (2019), Decoupled weight
        decay regularization.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self._optimizer = optimizer
        self._parameters: list[Tensor] = []
        self._groups: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                self._parameters.append(p)
                self._groups.append(group)
        self._known: Hashable = None
        self._inputs: list[Tensor] = []
        self._means: list[Tensor | None] = []
        self._rates: dict[int, Tensor] = {}

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """Adam on the state of this optimiser; None if it is neither Adam nor AdamW."""
        if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
            assert isinstance(optimizer, torch.optim.Adam)
            return cls(optimizer)
        return None

    @property
    def width(self) -> int:
        """The number of inputs that a graph of its updates has."""
        return len(_State._fields) * len(self._parameters)

    @property
    def usable(self) -> bool:
        """Whether the optimiser has no option or hook that this formula leaves out."""
        for group in self._optimizer.param_groups:
            for option in ("amsgrad", "maximize", "capturable", "differentiable"):
                if group.get(option):
                    return False
        return not step_hooks(self._optimizer)

    @property
    def settings(self) -> Hashable:
        """The options that a graph takes as constants, of each group."""
        found = []
        for group in self._optimizer.param_groups:
            decoupled = group.get("decoupled_weight_decay")
            found.append((group["betas"], group["eps"], group["weight_decay"], decoupled))
        return tuple(found)

    def prepared_inputs(self, needed: Sequence[bool]) -> list[Tensor]:
        """Step, m, v and learning rate of each parameter, one after the other, as a graph's inputs.

        State that is missing is made, as torch makes it. Schedules are told that a step is made.

        Args:
            needed: Whether each parameter needs a gradient.
        """
        mark_as_stepped(self._optimizer)
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        known = (tuple(needed), tuple(rates))
        if known != self._known or self._is_replaced():
            self._known = known
            self._inputs = []
            self._means = []
            for p, group in zip(self._parameters, self._groups, strict=True):
                self._inputs.extend(self._state_of(p, group))
                self._means.append(self._optimizer.state[p].get("exp_avg"))
        return self._inputs

    def _is_replaced(self) -> bool:
        """Whether the optimiser holds other state than at the last call, as one restored."""
        state = self._optimizer.state
        for p, mean in zip(self._parameters, self._means, strict=False):
            if state[p].get("exp_avg") is not mean:
                return True
        return False

    def _state_of(self, p: Tensor, group: dict[str, Any]) -> _State:
        state = self._optimizer.state[p]
        # One tensor for good, which a graph may know by its place in memory.
        rate = self._rates.setdefault(id(p), torch.empty((), dtype=p.dtype, device=p.device))
        rate.fill_(float(group["lr"]))
        if p.requires_grad and not state:
            device = None
            if group["fused"]:
                device = p.device
            state["step"] = torch.zeros((), dtype=torch.float32, device=device)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        # torch leaves the step on the processor, for which a graph of the device would wait.
        if "step" in state and state["step"].device != p.device:
            state["step"] = state["step"].to(p.device)
        # A parameter that was never trained has none; the rate stands in, and is not looked at.
        return _State(
            step=state.get("step", rate),
            mean=state.get("exp_avg", rate),
            square=state.get("exp_avg_sq", rate),
            rate=rate,
        )

    def update(
        self, i: int, p: Tensor, gradient: Tensor, inputs: Sequence[Tensor], finite: Tensor
    ) -> None:
        """Updates a parameter and its state in place, where `finite` is true; else changes nothing.

        Args:
            i: The place of the parameter in the optimiser.
            p: θ, the parameter.
            gradient: g, of the shape of θ.
            inputs: What `inputs` returned, or copies.
            finite: A boolean scalar.
        """
        group = self._groups[i]
        beta1, beta2 = group["betas"]
        decay = group["weight_decay"]
        width = len(_State._fields)
        state = _State(*inputs[width * i : width * (i + 1)])
        decayed = p
        if decay and group.get("decoupled_weight_decay"):
            decayed = p * (1 - state.rate * decay)
        elif decay:
            gradient = gradient + decay * p
        step = state.step + 1
        count = step.to(p)
        mean = state.mean.lerp(gradient, 1 - beta1)
        square = state.square * beta2 + (1 - beta2) * gradient * gradient
        scale = (square / (1 - beta2**count)).sqrt() + group["eps"]
        updated = decayed - state.rate / (1 - beta1**count) * mean / scale
        for old, new in (
            (state.step, step),
            (state.mean, mean),
            (state.square, square),
            (p, updated),
        ):
            old.copy_(torch.where(finite.to(old.device), new, old))
