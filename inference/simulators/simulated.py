"""Features of what a simulator draws: their means, and how these move with its parameters."""

from __future__ import annotations

__all__ = ["Linearised", "Simulated", "Simulator"]

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from ppl_gen.contexts import explained, forked, in_evaluation_mode
from ppl_gen.inference.samples.vectors import Features
from ppl_gen.protocols import Distribution

Simulator = Callable[[Tensor], Any]
Derivatives = Literal["pathwise", "differences"]

_WIDTH = 0.1  # of the first differences, in units of u or of 1
_ENOUGH = 100_000  # simulated data, whose slopes are averaged in the end
_NOISE = 0.1  # of a difference, in standard errors to its size, above which it is widened
_AGREES = 0.05  # how far derivatives of the two kinds may lie apart, as a share of the larger
_ERRORS = 5.0  # and in standard errors of their difference
_REMEDY = "run it by itself on theta of shape (n, D)"


class Linearised(NamedTuple):
    """m(θ) about a point.

    Attributes:
        mean: The mean features, (K,).
        jacobian: Their derivatives by u, (K, D).
    """

    mean: Tensor
    jacobian: Tensor


class Simulated:
    """The mean features m(u) = (1/M) Σⱼ f(xⱼ) of xⱼ ~ simulator(T(u)), from the same noise always.

    Args:
        simulator: From θ (M, D) to data (M, *shape), or to their distribution.
        features: f, from (M, *shape) to (M, K).
        supports: Of each of the D parameters, which the map T leads to from the whole line.
        count: M.
        like: Data, of whose shape, dtype and device the simulated ones are to be.
        seed: Of the noise.

    Attributes:
        derivatives: How m is differentiated: "pathwise", through the simulator, or by "differences"
            of two runs; decided by `begin`.
    """

    def __init__(
        self,
        simulator: Simulator,
        features: Features,
        supports: Sequence[Any],
        count: int,
        like: Tensor,
        seed: int,
    ) -> None:
        self._simulator = simulator
        self._features = features
        self._count = count
        self._like = like
        self._seed = seed
        self.transform = biject_to(constraints.stack(list(supports), dim=-1))
        self.derivatives: Derivatives = "differences"
        self.runs = 0

    def begin(self, u: Tensor) -> None:
        """Runs the simulator once, and decides how it is differentiated.

        Pathwise, where all that moves the features goes through gradients: where these agree, datum
        by datum and within errors, with differences of runs on the same noise. Draws of a discrete
        distribution have no gradient, or one of zero.

        Args:
            u: (D,).

        Raises:
            ValueError: If the simulator fails, or gives what cannot be compared with the data.
        """
        widths = _WIDTH * u.abs().clamp(min=1.0)
        by_differences = self._differences(u, widths)
        by_paths = self._paths(u)
        if by_paths is None:
            return
        _, gradients = by_paths
        apart = gradients - by_differences
        error = apart.std(0) / self._count**0.5
        largest = torch.maximum(gradients.mean(0).abs(), by_differences.mean(0).abs())
        if bool((apart.mean(0).abs() <= _ERRORS * error + _AGREES * largest).all()):
            self.derivatives = "pathwise"

    def mean(self, u: Tensor) -> Tensor:
        """m(u), (K,).

        Args:
            u: (D,).
        """
        with torch.no_grad():
            return self._rows(self._repeated(u)).mean(0)

    def covariance(self, u: Tensor) -> Tensor:
        """Of the features of single data at u, (K, K).

        Args:
            u: (D,).
        """
        with torch.no_grad():
            rows = self._rows(self._repeated(u))
        return rows.T.cov().reshape(rows.shape[1], rows.shape[1])

    def linearised(self, u: Tensor, widths: Tensor | None = None) -> Linearised:
        """m(u) and its derivatives.

        Args:
            u: (D,).
            widths: Of the differences, (D,), where they are taken; a tenth of u, or of 1, if None.
        """
        if self.derivatives == "pathwise":
            found = self._paths(u)
            assert found is not None
            rows, gradients = found
            return Linearised(rows.mean(0), gradients.mean(0))
        if widths is None:
            widths = _WIDTH * u.abs().clamp(min=1.0)
        return Linearised(self.mean(u), self._slopes(u, widths))

    def averaged_slopes(self, u: Tensor, widths: Tensor) -> Tensor:
        """∂m/∂u (K, D) by differences, averaged over runs on other noise, for errors to stand on.

        Parameters that features hardly tell apart ask for slopes that are known well.

        Args:
            u: (D,).
            widths: Of the differences, (D,).
        """
        own = self._seed
        found = []
        for i in range(max(4, math.ceil(_ENOUGH / self._count))):
            self._seed = own + 1 + i
            found.append(self._differences(u, widths).mean(0))
        self._seed = own
        return torch.stack(found).mean(0)

    def _slopes(self, u: Tensor, widths: Tensor) -> Tensor:
        """∂m/∂u (K, D) by differences, as wide as the noise of the draws asks for."""
        columns = []
        for i, width in enumerate(widths):
            most = u[i].abs().clamp(min=1.0) / 5
            rows = self._difference(u, i, width)
            while self._noise(rows) > _NOISE and width < most:
                width = torch.minimum(2 * width, most)
                rows = self._difference(u, i, width)
            columns.append(rows.mean(0))
        return torch.stack(columns, -1)

    def _noise(self, rows: Tensor) -> float:
        """The standard error of a mean difference (M, K), as a share of the difference."""
        spread = rows.std(0).clamp(min=1e-300)
        signal = (rows.mean(0) / spread).abs().amax()
        return float(1 / (signal * self._count**0.5).clamp(min=1e-300))

    def theta(self, u: Tensor) -> Tensor:
        """T(u), of the shape of u."""
        mapped: Tensor = self.transform(u)
        return mapped

    def slopes(self, u: Tensor) -> Tensor:
        """∂θᵢ / ∂uᵢ, (D,): each parameter has a map of its own.

        Args:
            u: (D,).
        """
        with torch.enable_grad():
            point = u.clone().requires_grad_(True)
            (slopes,) = torch.autograd.grad(self.theta(point).sum(), point)
        return slopes

    def _repeated(self, u: Tensor) -> Tensor:
        return u.expand(self._count, len(u))

    def _rows(self, u: Tensor) -> Tensor:
        """f(xⱼ) of each row of u (M, D), (M, K), in double precision."""
        self.runs += 1
        theta = self.theta(u).to(self._like.dtype)
        with (
            forked(self._like.device, self._seed),
            in_evaluation_mode(self._features),
            explained("a simulator of parameters (n, D)", _REMEDY),
        ):
            x = self._simulator(theta)
            if isinstance(x, Distribution):
                x = _drawn(x)
            self._expect_like_data(x)
            features = self._features(x.to(self._like.dtype))
        return features.reshape(len(features), -1).double()

    def _expect_like_data(self, x: Any) -> None:
        expected = (self._count, *self._like.shape[1:])
        if not torch.is_tensor(x):
            raise ValueError(
                f"expected a simulator that gives a tensor or a distribution, got "
                f"{type(x).__name__}; {_REMEDY}"
            )
        if x.shape != expected:
            raise ValueError(
                f"expected a simulator that gives {expected[0]} data of the shape of those at "
                f"hand, {expected}, got {tuple(x.shape)}; draw one datum for each row of theta"
            )

    def _paths(self, u: Tensor) -> tuple[Tensor, Tensor] | None:
        """Features (M, K) and their derivatives by each row's u, (M, K, D); None without any."""
        with torch.enable_grad():
            points = self._repeated(u).clone().requires_grad_(True)
            rows = self._rows(points)
            if not rows.requires_grad:
                return None
            # Σ over K of w times the derivatives is linear in w: its own derivatives by w are those
            # of all K features in one direction. So D passes do, not K.
            weights = torch.ones_like(rows, requires_grad=True)
            (weighted,) = torch.autograd.grad(
                (weights * rows).sum(), points, create_graph=True, materialize_grads=True
            )
            gradients = []
            for direction in weighted.sum(0):
                (gradient,) = torch.autograd.grad(
                    direction, weights, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                gradients.append(gradient)
        return rows.detach(), torch.stack(gradients, -1).detach()

    def _differences(self, u: Tensor, widths: Tensor) -> Tensor:
        """(f(u + h) − f(u − h)) / 2h for each datum and each direction, (M, K, D)."""
        found = [self._difference(u, i, width) for i, width in enumerate(widths)]
        return torch.stack(found, -1)

    def _difference(self, u: Tensor, i: int, width: Tensor) -> Tensor:
        """The same in one direction, (M, K)."""
        shift = torch.zeros_like(u)
        shift[i] = width
        with torch.no_grad():
            ahead = self._rows(self._repeated(u + shift))
            behind = self._rows(self._repeated(u - shift))
        return (ahead - behind) / (2 * width)


def _drawn(x: Any) -> Tensor:
    """One draw of a distribution, with a gradient where it has one."""
    drawn: Tensor = x.rsample() if x.has_rsample else x.sample()
    return drawn
