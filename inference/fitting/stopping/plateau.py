"""A rule that halves the learning rate at each plateau, and stops where that gains no more."""

from __future__ import annotations

__all__ = ["Plateau"]

import math
from collections.abc import Mapping
from typing import Any

import torch

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.fitting.loop import Record
from ppl_gen.inference.fitting.stopping.trend import LOOKS, average, settled_end

# What steps call the objective that they ascend.
_OBJECTIVES = ("elbo", "iwae", "objective")


class Plateau:
    """Stops once halving the learning rate no longer raises the objective of training.

    At a fixed learning rate ρ the objective m of the epochs rises to a level, about which it then
    scatters; the level is below the optimum by an amount that falls with ρ. So, in stages: a level
    is reached where the split R̂ of m is below 1.1 over one of five windows, from the shortest to
    0.95 of all epochs of the stage, and the standard error of the window's average m̄ is below a
    third of the tolerance. The fit is over where

        m̄ − m̄′ < tolerance,

    m̄′ being the level of the stage before, of twice the rate. Otherwise ρ is halved. Weights are
    those of the last epoch: with networks, of which the same function has many weights, averages of
    iterates mean nothing, as they do for `Converged`. A rule for `fit(..., stop=...)` and for
    `ppl-gen fit --until converged`:

        optimizer = torch.optim.Adam(program.parameters(), 1e-3)
        step = svi_step(program, optimizer)
        records = fit(step, batches, 5000, stop=Plateau(optimizer))

    It says that training is done, not that it was good for: a bound may rise on training data
    alone, which `Patience` on validation data guards against. A rise that is slow beside the
    scatter is taken for a level: a longer window sees slower ones.

    Args:
        optimizer: Its learning rates are halved from stage to stage.
        metric: The name of what is to rise in `Record.metrics`; if left out "elbo", "iwae" or
            "objective", whichever the step calls its own.
        tolerance: What is taken for no gain, in the unit of the metric (nats per datum).
        window: The fewest epochs that make a level.

    Attributes:
        best: The last epoch, once the fit is over; None before.
        is_over: Whether the fit is to stop.
        reason: Why, in words; empty before.
        levels: m̄ of each stage that came to an end.
        modules: Empty: the weights stay as they are.

    Raises:
        ValueError: If a number is out of range; when it is called, if a record has no such metric,
            or is of an epoch that is not after the last one seen.

    Examples:
        >>> optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], 0.1)
        >>> rule = Plateau(optimizer, window=20)
        >>> records = [Record(i, {"elbo": -20.0 + 0.01 * (i % 2)}, 1, 1.0) for i in range(1, 101)]
        >>> over = [record.epoch for record in records if rule(record)]
        >>> over[0], rule.best, optimizer.param_groups[0]["lr"]
        (50, 50, 0.05)

    Reference:
        Pflug (1983), On the determination of the step size in stochastic quasigradient methods, for
        halving where iterates have become stationary; Welandawe et al. (2022), Robust, automated,
        and accurate black-box variational inference, for R̂ over windows and for stages.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        metric: str | None = None,
        tolerance: float = 0.05,
        window: int = 50,
    ) -> None:
        expect_at_least(2 * LOOKS, window=window)
        expect_number(tolerance=tolerance)
        if not 0 < tolerance < math.inf:
            raise ValueError(f"expected a finite tolerance above 0, got {tolerance}")
        self.optimizer = optimizer
        self.metric = metric
        self.tolerance = tolerance
        self.window = window
        self.modules: list[torch.nn.Module] = []
        self.best: int | None = None
        self.is_over = False
        self.levels: list[float] = []
        self._stage: list[float] = []
        self._last = 0

    def __call__(self, record: Record) -> bool:
        """Sees the record of the next epoch, and says whether the fit is to stop.

        Args:
            record: Of an epoch, with the metric.
        """
        if record.epoch <= self._last:
            raise ValueError(
                f"expected an epoch after {self._last}, which this rule has seen, got "
                f"{record.epoch}; make a new Plateau for a new fit"
            )
        self._last = record.epoch
        self._stage.append(self._objective(record))
        if len(self._stage) % (self.window // LOOKS) == 0:
            self._look()
        if self.is_over and self.best is None:
            self.best = record.epoch
        return self.is_over

    def _objective(self, record: Record) -> float:
        """The metric of an epoch."""
        names: tuple[str, ...] = _OBJECTIVES
        if self.metric is not None:
            names = (self.metric,)
        for name in names:
            if name in record.metrics:
                return record.metrics[name]
        raise ValueError(
            f"expected the metric {' or '.join(names)} in each epoch, got "
            f"{', '.join(sorted(record.metrics))}; name another by metric="
        )

    def _look(self) -> None:
        """Ends the stage where a level is reached that is known well enough."""
        settled = settled_end(torch.tensor(self._stage).double()[:, None], self.window)
        if settled is None:
            return
        level = average(settled[:, 0])
        if not float(level.standard_error) < self.tolerance / 3:
            return
        self._stage = []
        self.levels.append(float(level.value))
        self.is_over = self._gain < self.tolerance
        if not self.is_over:
            self._halve()

    @property
    def _gain(self) -> float:
        """What the last level is above the one before; infinite where there is none before."""
        if len(self.levels) < 2:
            return math.inf
        return self.levels[-1] - self.levels[-2]

    def _halve(self, times: int = 1) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] / 2**times

    @property
    def reason(self) -> str:
        if not self.is_over:
            return ""
        rate = float(self.optimizer.param_groups[0]["lr"])
        return (
            f"converged: halving the learning rate to {rate:.3g} raised the objective by "
            f"{self._gain:.3g} nats, of a tolerance of {self.tolerance:g}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What it has seen: numbers by name, for a fit that goes on elsewhere."""
        return {
            "best": self.best,
            "last": self._last,
            "is_over": self.is_over,
            "levels": list(self.levels),
            "stage": list(self._stage),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where another rule was; rates, as they were first, are halved as often.

        Args:
            state: What its `state_dict()` gave.

        Raises:
            ValueError: If it is the state of something else.
        """
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"expected {', '.join(own)} in the state of a Plateau, got "
                f"{', '.join(map(str, state))}; give what state_dict() of one returned"
            )
        self.best = state["best"]
        self._last = state["last"]
        self.is_over = state["is_over"]
        self.levels = list(state["levels"])
        self._stage = list(state["stage"])
        self._halve(len(self.levels) - self.is_over)
