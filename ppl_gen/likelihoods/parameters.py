"""How many outputs of a decoder one value of the data takes."""

from __future__ import annotations

__all__ = ["parameters_per_value"]

from ppl_gen.protocols import Conditional


def parameters_per_value(likelihood: Conditional) -> int:
    """P, how many decoder outputs one value of the data takes; 1 unless the likelihood has its own.

    Args:
        likelihood: Any conditional; one that needs more has an attribute `parameters_per_value`.
    """
    return getattr(likelihood, "parameters_per_value", 1)
