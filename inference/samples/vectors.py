"""Two samples as rows of vectors, checked before any work starts."""

from __future__ import annotations

__all__ = ["Features", "as_vectors", "expect_permutations", "vectors_of"]

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_gen.arguments import expect_devices, expect_tensor
from ppl_gen.contexts import evaluating
from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_memory

Features = Callable[[Tensor], Tensor]

_DOUBLE = 8  # bytes of a number in double precision
_PER_PLACE = 16  # bytes of a place in a permutation: its number, and what it was sorted by
_FEWEST = 19  # permutations, with which p can reach 0.05


def as_vectors(
    x: Tensor, y: Tensor, features: Features | None = None, least: int = 2
) -> tuple[Tensor, Tensor]:
    """φ(x) and φ(y) of shape (n, D) and (m, D), in double precision and without gradients.

    Args:
        x: A sample (n, *shape).
        y: Another one (m, *shape).
        features: φ, from (N, *shape) to (N, D), in evaluation mode; None flattens.
        least: How many points each sample must have.

    Raises:
        ValueError: If the samples differ in shape, are too small or not finite, or features does
            not keep their length.
    """
    expect_tensor("samples", x)
    expect_tensor("samples", y)
    expect_devices((features,), (x, y))
    if min(x.dim(), y.dim()) < 1 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"expected samples (n, *shape) and (m, *shape) of one shape, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}; reshape one"
        )
    if min(len(x), len(y)) < least:
        raise ValueError(
            f"expected at least {least} points in each sample, got {len(x)} and {len(y)}; draw more"
        )
    if features is None:
        expect_memory(
            f"{len(x) + len(y)} points in double precision",
            _DOUBLE * (x.numel() + y.numel()),
            "take fewer; moments(..., permutations=0) has some of them at a time",
            x.device,
        )
    _expect_finite_points("samples", x, y)
    if features is not None:
        with evaluating(features):
            of_x = features(x)
            of_y = features(y)
        _expect_row_for_each(of_x, x)
        _expect_row_for_each(of_y, y)
        _expect_finite_points("features", of_x, of_y)
        return _flattened(of_x), _flattened(of_y)
    return _flattened(x), _flattened(y)


def vectors_of(x: Tensor, features: Features | None = None) -> Tensor:
    """φ(x) of shape (n, D), in double precision and without gradients, of some points of a sample.

    Args:
        x: (n, *shape).
        features: φ, from (N, *shape) to (N, D), in evaluation mode; None flattens.

    Raises:
        ValueError: If points or features are not finite, or features does not keep their length.
    """
    expect_tensor("samples", x)
    _expect_finite_points("samples", x)
    if features is None:
        return _flattened(x)
    with evaluating(features):
        of_x = features(x)
    _expect_row_for_each(of_x, x)
    _expect_finite_points("features", of_x)
    return _flattened(of_x)


def _flattened(x: Tensor) -> Tensor:
    return x.detach().reshape(len(x), -1).double()


def expect_permutations(count: int, points: int = 0) -> None:
    """Raises ValueError if permutations are too few for p = 0.05, or do not fit into memory.

    Args:
        count: Their number; the least is 19.
        points: How many points each of them orders; 0 where that is not known yet.
    """
    expect_at_least(1, permutations=count)
    if count < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} permutations, for a p-value of 0.05, got {count}"
        )
    needed = _PER_PLACE * count * points
    expect_memory(f"{count} permutations of {points} points", needed, "take fewer permutations")


def _expect_row_for_each(vectors: Tensor, sample: Tensor) -> None:
    if vectors.shape[:1] != sample.shape[:1]:
        raise ValueError(
            f"expected features of shape ({len(sample)}, D), one row for each point, got "
            f"{tuple(vectors.shape)}"
        )


def _expect_finite_points(what: str, *samples: Tensor) -> None:
    """Raises ValueError, with the number of points to remove, if any is not finite."""
    counts = []
    for sample in samples:
        is_bad = ~torch.isfinite(sample).reshape(len(sample), -1)
        counts.append(is_bad.any(1).sum())
    bad = int(torch.stack(counts).sum())  # one look for all: a look waits for the device
    if bad:
        raise ValueError(
            f"expected finite {what}, got NaN or infinite values in {bad} points; remove them"
        )
