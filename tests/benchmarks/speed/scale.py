"""How much is measured: all, a look of some minutes, or as little as a test can wait for."""

from __future__ import annotations

__all__ = ["SCALES", "Scale"]

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        name: Its name.
        rounds: How often each contestant has its turn.
        share: The share of work done in a turn, of that of a full run.
        compiles: Whether what takes seconds to compile takes part in every row.
        sizes: How many sizes a sweep has.
    """

    name: str
    rounds: int
    share: float
    compiles: bool
    sizes: int

    def count(self, full: int, least: int = 1) -> int:
        """How many of something there are, where a full run has `full`."""
        return max(least, round(self.share * full))


FULL = Scale(name="full", rounds=15, share=1.0, compiles=True, sizes=4)
QUICK = Scale(name="quick", rounds=5, share=0.1, compiles=False, sizes=2)
TINY = Scale(name="tiny", rounds=2, share=0.01, compiles=False, sizes=2)
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}
