"""A rule that waits for a gain on validation data."""

from __future__ import annotations

__all__ = ["Patience"]

import math
from collections.abc import Mapping
from typing import Any

from ppl_gen.counts import expect_at_least, expect_number
from ppl_gen.inference.fitting.loop import Record


class Patience:
    """Stops once `epochs` in a row have not raised a validation metric above its best by `gain`.

    With mₑ the metric of epoch e, an epoch is the best so far, b = e, where mₑ > m_b + gain; of a
    metric that is to fall, where mₑ < m_b − gain. The fit is over at the first epoch
    e ≥ b + epochs. A rule for `fit(..., stop=...)`, which keeps the weights of epoch b; in a loop
    of one's own:

        for record in iterate(step, batches, epochs=1000, validation=validation):
            if patience(record):
                break
            if patience.best == record.epoch:
                ...  # the weights are those of the best epoch so far

    The metric is of data held out of the training data: `kept, held_out = train.divided(0.1)`. The
    command holds them out of the training data alone, so that a test set cannot stop its fits. A
    score on data that have chosen the epoch is too good by an unknown amount: numbers of lectures
    and papers that stopped on test data are such.

    Args:
        epochs: How many epochs in a row may pass without a gain.
        metric: The name of the metric in `Record.metrics`.
        gain: The least rise that counts, in the unit of the metric (nats per datum).
        falls: Whether a lower metric is the better one, as an error is.

    Attributes:
        best: The best epoch so far; None before the first that has a number.
        is_over: Whether the fit is to stop.
        reason: Why, in words; empty before.

    Raises:
        ValueError: If epochs is below 1 or gain below 0; when it is called, if a record has no such
            metric, or is of an epoch that is not after the last one seen.

    Examples:
        >>> patience = Patience(2)
        >>> bounds = [-30.0, -28.0, -28.5, -29.0]
        >>> records = [Record(i, {"validation_elbo": b}, 1, 1.0) for i, b in enumerate(bounds, 1)]
        >>> [patience(record) for record in records], patience.best
        ([False, False, False, True], 2)

    Reference:
        Prechelt (1998), Early stopping - but when?
    """

    def __init__(
        self,
        epochs: int,
        *,
        metric: str = "validation_elbo",
        gain: float = 0.0,
        falls: bool = False,
    ) -> None:
        expect_at_least(1, epochs=epochs)
        expect_number(gain=gain)
        if not 0 <= gain < math.inf:
            raise ValueError(f"expected a finite gain of at least 0, got {gain}")
        self.epochs = epochs
        self.metric = metric
        self.gain = gain
        self.falls = falls
        self.best: int | None = None
        self.is_over = False
        self._highest = -math.inf
        self._last = 0

    def __call__(self, record: Record) -> bool:
        """Sees the record of the next epoch, and says whether the fit is to stop.

        Args:
            record: Of an epoch, with the metric.
        """
        if self.metric not in record.metrics:
            raise ValueError(
                f"expected the metric {self.metric!r} in each epoch, got "
                f"{', '.join(sorted(record.metrics))}; say fit(..., validation=Validation(...)), "
                "or name another metric"
            )
        if record.epoch <= self._last:
            raise ValueError(
                f"expected an epoch after {self._last}, which this rule has seen, got "
                f"{record.epoch}; make a new Patience for a new fit"
            )
        self._last = record.epoch
        value = record.metrics[self.metric]
        if self.falls:
            value = -value
        if value > self._highest + self.gain:
            self.best = record.epoch
            self._highest = value
        self.is_over = record.epoch - (self.best or 0) >= self.epochs
        return self.is_over

    @property
    def reason(self) -> str:
        if not self.is_over:
            return ""
        return (
            f"{self.epochs} epochs without a gain of {self.metric} above {self.gain:g}; the best "
            f"is epoch {self.best}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What it has seen: numbers by name, for a fit that goes on elsewhere."""
        return {
            "best": self.best,
            "highest": self._highest,
            "last": self._last,
            "is_over": self.is_over,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where another rule was.

        Args:
            state: What its `state_dict()` gave.

        Raises:
            ValueError: If it is the state of something else.
        """
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"expected {', '.join(own)} in the state of a Patience, got "
                f"{', '.join(map(str, state))}; give what state_dict() of one returned"
            )
        self.best = state["best"]
        self._highest = state["highest"]
        self._last = state["last"]
        self.is_over = state["is_over"]
