"""Whether an adversarial game is still one: a critic that is never wrong, or draws that are all
alike, end it.
"""

from __future__ import annotations

__all__ = ["Watch"]

import warnings

import torch
from torch import Tensor

PATIENCE = 1000  # steps without a contest before it is said
LOST = 1e-3  # of the critic's loss: some 3.5 logits between data and draws, everywhere
VANISHED = 0.05  # of the standard deviation of data
_LOOK = 50  # steps between two looks: a look waits for the device

NO_CONTEST = (
    f"the critic tells all draws from data (its loss has been below {LOST:g} for {PATIENCE} "
    "steps): the generator learns nothing more; penalise the critic's gradient (r1=1), lower its "
    "learning rate, or give it fewer steps"
)
ALIKE = (
    f"the draws are all alike (their standard deviation has been below {VANISHED:.0%} of that of "
    f"data for {PATIENCE} steps): the generator has collapsed; raise r1, lower the generator's "
    "learning rate, or take larger batches"
)


class Watch:
    """Follows the critic's loss and the spread of draws, and warns once of each that has collapsed.

    The spread is the standard deviation over a batch, averaged over the coordinates in which its
    data differ, of draws in units of that of the data. Under a context, draws that differ by their
    context alone have a spread too: that the latents are ignored is not seen here.

    Args:
        perfect: The critic's loss at which no draw is taken for a datum; None where there is none.
    """

    def __init__(self, perfect: float | None) -> None:
        self.perfect = perfect
        self.steps = 0
        self.highest: Tensor | None = (
            None  # of the critic's loss and of the spread since they were last looked at
        )
        self.idle = {NO_CONTEST: 0, ALIKE: 0}  # steps that each has been true for
        self.said: set[str] = set()

    def __call__(self, critic: Tensor, drawn: Tensor, data: Tensor) -> dict[str, Tensor]:
        """The metric "spread" of a step; 1 for a batch of one, or of equal data, which tell
        nothing.
        """
        spread = _spread(drawn.flatten(1), data.flatten(1))
        now = torch.stack([critic.double(), spread.double()])
        self.highest = now if self.highest is None else torch.maximum(self.highest, now)
        self.steps += 1
        if self.steps % _LOOK == 0:
            self._look(*self.highest.tolist())
            self.highest = None
        return {"spread": spread}

    def _look(self, critic: float, spread: float) -> None:
        """Warns, once each, of what has been true for so long."""
        lost = self.perfect is not None and critic < self.perfect + LOST
        for said, bad in ((NO_CONTEST, lost), (ALIKE, spread < VANISHED)):
            self.idle[said] = self.idle[said] + _LOOK if bad else 0
            if self.idle[said] >= PATIENCE and said not in self.said:
                self.said.add(said)
                warnings.warn(said, RuntimeWarning, stacklevel=4)


def _spread(drawn: Tensor, data: Tensor) -> Tensor:
    if len(data) < 2:
        return data.new_ones(())
    ours, theirs = drawn.std(0), data.std(0)
    return torch.where(theirs.sum() > 0, (ours * (theirs > 0)).sum() / theirs.sum(), 1.0)
