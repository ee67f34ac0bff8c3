"""When the fit of a run stops, and the weights of its best epoch."""

from __future__ import annotations

__all__ = ["Stopping"]

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ppl_gen.inference import Patience, Plateau, Record


class Stopping:
    """A rule, and the weights of the epoch that it has found the best, which a run is judged by.

    Args:
        rule: When the fit is over, by the record of each epoch.
        after: The number of epochs that the rule does not see.

    Attributes:
        weights: The state of the program at the best epoch; None before there is one.
    """

    def __init__(self, rule: Patience | Plateau, after: int = 0) -> None:
        self.rule = rule
        self.after = after
        self.weights: dict[str, Tensor] | None = None

    def see(self, record: Record, program: nn.Module) -> None:
        """Has the rule see an epoch, and keeps the weights if it was the best.

        Args:
            record: Of the epoch.
            program: With the weights after it.
        """
        if record.epoch <= self.after:
            return
        self.rule(record)
        if self.rule.best == record.epoch:
            self.keep(program)

    def restore(self, program: nn.Module) -> None:
        """Puts the weights of the best epoch into the program, where there is one."""
        if self.weights is not None:
            program.load_state_dict(self.weights)

    def keep(self, program: nn.Module) -> None:
        """Keeps the weights that a program has now, those of the best epoch made complete.

        Args:
            program: With these weights.
        """
        state = program.state_dict()
        self.weights = {name: tensor.clone() for name, tensor in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it."""
        return {"rule": self.rule.state_dict(), "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a checkpoint was written.

        Args:
            state: What `state_dict()` gave.
        """
        self.rule.load_state_dict(state["rule"])
        self.weights = state["weights"]
