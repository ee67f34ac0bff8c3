"""Regressions with features held fixed: a linear one, exact, and a logistic one, by quadrature."""

from __future__ import annotations

__all__ = ["LinearRegression", "LogisticRegression"]

import math
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.models.toy.contract import Moments, expect_finite, expect_positive, expect_shape
from ppl_gen.models.toy.quadrature import cast_like, plain, quadrature


class LinearRegression(nn.Module):
    """β ~ N(0, s²I), yᵢ ~ N(xᵢᵀβ, σ²), with σ known or σ ~ HalfCauchy(2.5): conjugate given σ.

    Args:
        features: X, of shape (N, P).
        y: The responses, of shape (N,).
        prior_scale: s, positive.
        noise: σ, positive; None samples it too.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, or a scale is not positive; if
            σ is unknown and N is below 2, since it then has no standard deviation.
    """

    teaches: ClassVar[str] = (
        "A normal prior and normal noise give a normal posterior: a Gaussian guide can be exact."
    )
    features: Tensor
    y: Tensor
    prior_scale: Tensor
    noise: Tensor | None

    def __init__(
        self, features: Tensor, y: Tensor, prior_scale: float = 1.0, noise: float | None = 1.0
    ) -> None:
        super().__init__()
        _register(self, features, y, prior_scale)
        if noise is None and y.shape[0] < 2:
            raise ValueError(
                f"expected at least 2 data where the noise is unknown, got {y.shape[0]}"
            )
        if noise is not None:
            expect_positive("noise", noise)
        self.register_buffer("noise", None if noise is None else y.new_tensor(noise))

    @classmethod
    def simulated(
        cls, n: int, p: int, seed: int = 0, *, noise: float | None = 1.0
    ) -> LinearRegression:
        """An instance whose features and β were drawn from N(0, I), and y with σ = noise (1 where
        that is None).
        """
        features, coefficients, generator = _drawn(n, p, seed)
        error = torch.randn(n, generator=generator) * (1.0 if noise is None else noise)
        return cls(features, features @ coefficients + error, noise=noise)

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(y,): the responses, of shape (N,)."""
        return (self.y,)

    def model(self, y: Tensor) -> Tensor:
        """Samples "coefficients" (P,) and, where it is unknown, "sigma"; observes "y" in the plate
        "data".
        """
        coefficients = pyro.sample("coefficients", _prior(self.features, self.prior_scale))
        sigma = (
            pyro.sample("sigma", dist.HalfCauchy(y.new_full((), 2.5)))
            if self.noise is None
            else self.noise
        )
        with pyro.plate("data", y.shape[0]):
            return pyro.sample(
                "y", dist.Normal(_predictor(self.features, coefficients), sigma), obs=y
            )

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """Exact: N((XᵀX + σ²/s² I)⁻¹Xᵀy, (XᵀX/σ² + I/s²)⁻¹), averaged over σ by quadrature where
        that is unknown.

        Args:
            points: Nodes of the quadrature, where there is one.

        Raises:
            ValueError: As `quadrature` says.
        """
        if self.noise is not None:
            given = self._given(self.noise.double()[None])
            return cast_like(self.y, {"coefficients": Moments(given.mean[0], given.sd[0])})
        centre = (self.y.double().square().mean() + 1e-9).sqrt().log()[None]
        moments = quadrature(
            lambda u: (
                self._log_evidence(u[:, 0].exp())
                + dist.HalfCauchy(2.5).log_prob(u[:, 0].exp())
                + u[:, 0]
            ),
            lambda u: {
                "coefficients": self._given(u[:, 0].exp()),
                **plain({"sigma": u[:, 0].exp()}),
            },
            centre - 40,
            centre + 40,
            points,
        )
        return cast_like(self.y, moments)

    def _decomposed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """V (P, P), the singular values of X and Uᵀy, both filled up with zeros to (P,), and |y −
        UUᵀy|².
        """
        y, p = self.y.double(), self.features.shape[1]
        u, values, vt = torch.linalg.svd(self.features.double(), full_matrices=True)
        rank = values.shape[0]
        along = u[:, :rank].T @ y
        fill = y.new_zeros(p - rank)
        return (
            vt.T,
            torch.cat([values, fill]),
            torch.cat([along, fill]),
            (y - u[:, :rank] @ along).square().sum(),
        )

    def _given(self, sigma: Tensor) -> Moments:
        """The moments of β at each σ, of shape (M, P)."""
        v, values, along, _ = self._decomposed()
        prior, noise = self.prior_scale.double().square(), sigma.square()[:, None]
        total = noise + prior * values.square()
        return Moments(
            (prior * values * along / total) @ v.T, ((prior * noise / total) @ v.T.square()).sqrt()
        )

    def _log_evidence(self, sigma: Tensor) -> Tensor:
        """log N(y; 0, s²XXᵀ + σ²I) at each σ, of shape (M,)."""
        _, values, along, rest = self._decomposed()
        noise = sigma.square()
        total = noise[:, None] + self.prior_scale.double().square() * values.square()
        n, p = self.features.shape
        square = rest / noise + (along.square() / total).sum(-1)
        return -0.5 * (
            square + total.log().sum(-1) + (n - p) * noise.log() + n * math.log(2 * math.pi)
        )


class LogisticRegression(nn.Module):
    """β ~ N(0, s²I), yᵢ ~ Bernoulli(σ(xᵢᵀβ)), with the logistic σ(a) = 1 / (1 + exp(−a)).

    Args:
        features: X, of shape (N, P).
        y: The responses, 0 or 1, of shape (N,) and of the features' dtype.
        prior_scale: s, positive.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, s is not positive, or a
            response is not 0 or 1.
    """

    teaches: ClassVar[str] = (
        "Log-concave but not conjugate: a skewed posterior that a Gaussian meets nearly, never "
        "quite."
    )
    features: Tensor
    y: Tensor
    prior_scale: Tensor

    def __init__(self, features: Tensor, y: Tensor, prior_scale: float = 2.5) -> None:
        super().__init__()
        _register(self, features, y, prior_scale)
        if not bool(((y == 0) | (y == 1)).all()):
            raise ValueError(
                f"expected responses of 0 or 1, got values from {float(y.min())} to "
                f"{float(y.max())}"
            )

    @classmethod
    def simulated(cls, n: int, p: int, seed: int = 0) -> LogisticRegression:
        """An instance whose features and β were drawn from N(0, I), and y from the model."""
        features, coefficients, generator = _drawn(n, p, seed)
        chance = (features @ coefficients).sigmoid()
        return cls(features, torch.bernoulli(chance, generator=generator))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(y,): the responses, of shape (N,)."""
        return (self.y,)

    def model(self, y: Tensor) -> Tensor:
        """Samples "coefficients" (P,); observes "y" in the plate "data"."""
        coefficients = pyro.sample("coefficients", _prior(self.features, self.prior_scale))
        with pyro.plate("data", y.shape[0]):
            return pyro.sample(
                "y", dist.Bernoulli(logits=_predictor(self.features, coefficients)), obs=y
            )

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over β, exact to rounding.

        Args:
            points: Nodes along each axis.

        Raises:
            ValueError: If there are more than two coefficients; or as `quadrature` says.
        """
        size = self.features.shape[1]
        if size > 2:
            raise ValueError(
                f"expected at most 2 coefficients for a quadrature, got {size}; compare with long "
                "MCMC instead"
            )
        x, sign, scale = self.features.double(), 2 * self.y.double() - 1, self.prior_scale.double()

        def log_density(beta: Tensor) -> Tensor:
            likelihood = nn.functional.logsigmoid(sign * (beta @ x.T)).sum(-1)
            return likelihood - 0.5 * (beta / scale).square().sum(-1)

        corner = 10 * scale.expand(size)
        moments = quadrature(
            log_density, lambda beta: plain({"coefficients": beta}), -corner, corner, points
        )
        return cast_like(self.y, moments)


def _register(module: nn.Module, features: Tensor, y: Tensor, prior_scale: float) -> None:
    expect_shape(
        "features",
        features,
        "(N, P), both of at least 1",
        features.dim() == 2 and features.numel() > 0,
    )
    expect_shape(
        "y",
        y,
        f"({features.shape[0]},), one response per row of the features",
        y.shape == features.shape[:1],
    )
    expect_finite("features", features)
    expect_finite("y", y)
    if y.dtype != features.dtype:
        raise ValueError(
            f"expected y of the features' dtype {features.dtype}, got {y.dtype}; say y.to(features)"
        )
    expect_positive("prior_scale", prior_scale)
    module.register_buffer("features", features.detach().clone())
    module.register_buffer("y", y.detach().clone())
    module.register_buffer("prior_scale", y.new_tensor(prior_scale))


def _drawn(n: int, p: int, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    if n < 1 or p < 1:
        raise ValueError(
            f"expected at least one datum and one coefficient, got n = {n} and p = {p}"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, p, generator=generator), torch.randn(p, generator=generator), generator


def _prior(features: Tensor, scale: Tensor) -> dist.TorchDistribution:
    return dist.Normal(features.new_zeros(features.shape[1]), scale).to_event(1)


def _predictor(features: Tensor, coefficients: Tensor) -> Tensor:
    """Xβ, of shape (N,), or (*particles, N) of coefficients (*particles, 1, P) drawn in plates of
    particles.
    """
    product = coefficients @ features.T
    return product.squeeze(-2) if coefficients.dim() > 1 else product
