"""What a likelihood asks of the networks around it: how many outputs, and what data."""

from __future__ import annotations

__all__ = ["columns_of", "parameters_per_datum", "parameters_per_value", "takes_missing"]

from typing import Any

from torch import Tensor

from ppl_gen.protocols import Conditional


def parameters_per_value(likelihood: Conditional) -> int:
    """P, how many decoder outputs one value of the data takes; 1 unless the likelihood has its own.

    Args:
        likelihood: Any conditional; one that needs more has an attribute `parameters_per_value`.

    Examples:
        >>> parameters_per_value(Bernoulli()), parameters_per_value(HeteroscedasticGaussian())
        (1, 2)
    """
    return getattr(likelihood, "parameters_per_value", 1)


def parameters_per_datum(likelihood: Conditional) -> int:
    """Q, how many decoder outputs a datum takes besides; 0 unless the likelihood has its own.

    They come last in (*batch, *shape, P + Q), the same for all values of a datum, as
    `ppl_gen.nn.Shape(shape, P, Q)` puts them there.

    Args:
        likelihood: Any conditional; one that needs some has an attribute `parameters_per_datum`.

    Examples:
        >>> parameters_per_datum(Bernoulli()), parameters_per_datum(IsotropicGaussian())
        (0, 1)
    """
    return getattr(likelihood, "parameters_per_datum", 0)


def takes_missing(likelihood: Any) -> bool:
    """Whether entries of the data may be missing (NaN): encoders have to be told so.

    Args:
        likelihood: Any conditional; one that scores such data has a true attribute
            `takes_missing`.

    Examples:
        >>> takes_missing(Bernoulli()), takes_missing(Masked(Bernoulli()))
        (False, True)
    """
    return bool(getattr(likelihood, "takes_missing", False))


def columns_of(parameters: Tensor) -> tuple[Tensor, ...]:
    """The P numbers of a value apart, each of shape (*batch, *shape).

    Their gradients are put together column by column, as `ppl_gen.nn.Shape` has them in memory.

    Args:
        parameters: A decoder's output, (*batch, *shape, P).
    """
    return parameters.movedim(-1, 0).unbind(0)
