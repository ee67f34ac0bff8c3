"""Moments of one sample and their sampling variances, of points at hand or that come in parts."""

from __future__ import annotations

__all__ = ["Sampled", "Streamed", "constant", "expect_alike", "sampled_moments"]

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import are_batches, batch_of, expect_tensor
from ppl_gen.inference.samples.vectors import Features, vectors_of

_AT_ONCE = 2**20  # numbers of a tensor that are taken in one go
_MOVED = 1e-9  # of the range of a feature: how far its mean may be another in another pass


class Sampled(NamedTuple):
    """One kind of moment of a sample.

    Attributes:
        value: Of each feature (…, D), or of each pair (…, D, D).
        spread: N times its sampling variance.
    """

    value: Tensor
    spread: Tensor


def sampled_moments(x: Tensor) -> dict[str, Sampled]:
    """All kinds by their names, of features (…, D, N).

    Of constants they are exactly 0, or NaN for skewness and kurtosis.
    """
    n = x.shape[-1]
    mean = torch.where(constant(x), x[..., 0], x.mean(-1))
    centred = x - mean.unsqueeze(-1)
    covariance = centred @ centred.mT / (n - 1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    squares = centred.square()
    # With the biased covariance, since the other would make it negative where c c' is nearly
    # constant.
    biased = covariance * (n - 1) / n
    first = (squares @ squares.mT / n - biased.square()).clamp(min=0)
    products = variance.unsqueeze(-1) * variance.unsqueeze(-2)
    second = (products + covariance.square()) / (n - 1)
    z = centred / squares.mean(-1, keepdim=True).sqrt()
    z_squared = z.square()
    z_cubed = z_squared * z
    z_fourth = z_squared.square()
    g = z_cubed.mean(-1, keepdim=True)
    k = z_fourth.mean(-1, keepdim=True)
    influence_on_skewness = z_cubed - g - 3 * z - 1.5 * g * (z_squared - 1)
    influence_on_kurtosis = z_fourth - k - 4 * g * z - 2 * k * (z_squared - 1)
    return {
        "mean": Sampled(mean, variance),
        "covariance": Sampled(covariance, first + second),
        "skewness": Sampled(g.squeeze(-1), _variance_of_centred(influence_on_skewness)),
        "kurtosis": Sampled(k.squeeze(-1) - 3, _variance_of_centred(influence_on_kurtosis)),
    }


def _variance_of_centred(values: Tensor) -> Tensor:
    """Of values (…, N) whose mean is 0."""
    return values.square().sum(-1) / (values.shape[-1] - 1)


def constant(x: Tensor) -> Tensor:
    """Which features (…, D, N) take one value only, (…, D)."""
    return (x == x[..., :1]).all(-1)


class Streamed:
    """A sample that comes in parts, which are walked through anew in each of three passes.

    Args:
        points: (N, *shape), or batches of them.
        features: From (N, *shape) to (N, D); None flattens.

    Attributes:
        count: N.
        shape: Of the features, by which they are named: that of a datum, or (D,).
        low: The smallest value of each feature, (D,).
        high: The largest one.

    Raises:
        ValueError: If there are none, they are no tensors of one shape, or not finite.
    """

    def __init__(self, points: Any, features: Features | None) -> None:
        if not are_batches(points):
            expect_tensor("samples", points)
        self._points = points
        self._features = features
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self.low = self.high = self._mean = torch.empty(0)
        total = torch.empty(0)
        for x in self._parts():
            if self.count == 0:
                self.low = self.high = x[0]
                total = torch.zeros_like(x[0])
            low, high = x.aminmax(dim=0)
            self.low = torch.minimum(self.low, low)
            self.high = torch.maximum(self.high, high)
            total = total + x.sum(0)
            self.count += len(x)
        if self.count:
            self._mean = torch.where(self.is_constant, self.low, total / self.count)

    @property
    def is_constant(self) -> Tensor:
        """Which features take one value only, (D,)."""
        return self.low == self.high

    def moments(self, low: Tensor, high: Tensor) -> tuple[dict[str, Sampled], Tensor]:
        """What `sampled_moments` gives of all points at once; and which features are two-valued.

        Args:
            low: One value of each feature, (D,).
            high: Another one.

        Returns:
            All kinds of moments by their names; and which features take no value but these two.

        Raises:
            ValueError: If the points are others than they were in the first pass.
        """
        n = self.count
        count = 0
        shift = torch.zeros_like(self._mean)
        third = torch.zeros_like(self._mean)
        fourth = torch.zeros_like(self._mean)
        products = shift.new_zeros(len(shift), len(shift))
        products_of_squares = torch.zeros_like(products)
        is_binary = torch.ones_like(self.is_constant)
        for x in self._parts():
            count += len(x)
            is_binary &= ((x == low) | (x == high)).all(0)
            centred = x - self._mean
            shift += centred.sum(0)
            squares = centred.square()
            third += (squares * centred).sum(0)
            fourth += squares.square().sum(0)
            products.addmm_(centred.T, centred)
            products_of_squares.addmm_(squares.T, squares)
        self._expect_same(count, shift / n)
        biased = products / n
        covariance = products / (n - 1)
        variance = covariance.diag()
        first = (products_of_squares / n - biased.square()).clamp(min=0)
        second = (variance[:, None] * variance + covariance.square()) / (n - 1)
        deviation = biased.diag().sqrt()
        g = third / n / deviation**3
        k = fourth / n / deviation**4
        of_skewness = torch.zeros_like(g)
        of_kurtosis = torch.zeros_like(k)
        for x in self._parts():
            z = (x - self._mean) / deviation
            z_squared = z.square()
            influence = z_squared * z - g - 3 * z - 1.5 * g * (z_squared - 1)
            of_skewness += influence.square().sum(0)
            influence = z_squared.square() - k - 4 * g * z - 2 * k * (z_squared - 1)
            of_kurtosis += influence.square().sum(0)
        found = {
            "mean": Sampled(self._mean, variance),
            "covariance": Sampled(covariance, first + second),
            "skewness": Sampled(g, of_skewness / (n - 1)),
            "kurtosis": Sampled(k - 3, of_kurtosis / (n - 1)),
        }
        return found, is_binary

    def _parts(self) -> Iterator[Tensor]:
        """Features of some points at a time, (n, D), in double precision."""
        for points in self._some():
            x = vectors_of(points, self._features)
            shape = tuple(points.shape[1:])
            if self._features is not None:
                shape = (x.shape[1],)
            if self.count == 0:
                self.shape = shape
            if shape != self.shape:
                raise ValueError(
                    f"expected batches of one shape, got {self.shape} and {shape}; bring them to "
                    "one"
                )
            yield x

    def _some(self) -> Iterator[Tensor]:
        """Some points at a time, (n, *shape)."""
        if are_batches(self._points):
            for batch in self._points:
                yield batch_of(None, batch)[0]
        elif self._points.dim():
            yield from self._points.split(memory.rows(_AT_ONCE, self._points[:1].numel()))

    def _expect_same(self, count: int, shift: Tensor) -> None:
        """Raises ValueError if a pass has other points than the first had."""
        is_moved = shift.abs() > _MOVED * (self.high - self.low)
        if count == self.count and not bool(is_moved.any()):
            return
        raise ValueError(
            f"expected the same points in every pass, got others in the second, {count} after "
            f"{self.count}, with other means of {int(is_moved.sum())} features; take batches that "
            "are not binarised anew in each pass, of a file that nobody writes to"
        )


def expect_alike(y: Streamed, x: Streamed, least: int) -> None:
    """Raises ValueError unless two samples have points enough, of one shape.

    Args:
        y: A sample.
        x: Another one.
        least: How many points each must have.
    """
    if min(x.count, y.count) < least:
        raise ValueError(
            f"expected at least {least} points in each sample, got {y.count} and {x.count}; draw "
            "more"
        )
    if x.shape != y.shape:
        raise ValueError(
            f"expected samples (n, *shape) and (m, *shape) of one shape, got {y.shape} and "
            f"{x.shape}; reshape one"
        )
