"""Regressions with features held fixed: a linear one, exact, and a logistic one, by quadrature."""

from __future__ import annotations

__all__ = ["LinearRegression", "LogisticRegression"]

import math
from typing import ClassVar, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.models.toy.contract import Moments, expect_finite, expect_positive, expect_shape
from ppl_gen.models.toy.quadrature import cast_like, plain, quadrature


class _Regression(nn.Module):
    """β ~ N(0, s²I) and a predictor Xβ, with features X (N, P) and responses y (N,)."""

    features: Tensor
    y: Tensor
    prior_scale: Tensor

    def __init__(self, features: Tensor, y: Tensor, prior_scale: float) -> None:
        super().__init__()
        _check_regression(features, y, prior_scale)
        self.register_buffer("features", features.detach().clone())
        self.register_buffer("y", y.detach().clone())
        self.register_buffer("prior_scale", y.new_tensor(prior_scale))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """(y,): the responses, of shape (N,)."""
        return (self.y,)

    def _sampled_coefficients(self) -> Tensor:
        zeros = self.features.new_zeros(self.features.shape[1])
        return pyro.sample("coefficients", dist.Normal(zeros, self.prior_scale).to_event(1))

    def _predictor(self, coefficients: Tensor) -> Tensor:
        """Xβ, of shape (N,) or (*particles, N).

        Coefficients drawn in plates of particles are of shape (*particles, 1, P).
        """
        product = coefficients @ self.features.T
        if coefficients.dim() == 1:
            return product
        return product.squeeze(-2)


class LinearRegression(_Regression):
    """β ~ N(0, s²I), yᵢ ~ N(xᵢᵀβ, σ²), with σ known or σ ~ HalfCauchy(2.5): conjugate given σ.

    Args:
        features: X, of shape (N, P).
        y: The responses, of shape (N,).
        prior_scale: s, positive.
        noise: σ, positive; None samples it too.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, or a scale is not positive; if
            σ is unknown and N is below 2, since it then has no standard deviation.

    Examples:
        >>> regression = LinearRegression(torch.ones(4, 1), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        >>> regression.reference()["coefficients"]  # Σy/(N + 1), 1/√(N + 1)
        Moments(mean=tensor([2.]), sd=tensor([0.4472]))
    """

    teaches: ClassVar[str] = (
        "A normal prior and normal noise give a normal posterior: a Gaussian guide can be exact."
    )
    noise: Tensor | None

    def __init__(
        self, features: Tensor, y: Tensor, prior_scale: float = 1.0, noise: float | None = 1.0
    ) -> None:
        super().__init__(features, y, prior_scale)
        if noise is None:
            if y.shape[0] < 2:
                raise ValueError(
                    f"expected at least 2 data where the noise is unknown, got {y.shape[0]}"
                )
            self.register_buffer("noise", None)
        else:
            expect_positive("noise", noise)
            self.register_buffer("noise", y.new_tensor(noise))

    @classmethod
    def simulated(
        cls, n: int, p: int, seed: int = 0, *, noise: float | None = 1.0
    ) -> LinearRegression:
        """An instance whose features and β were drawn from N(0, I), and y from the model.

        Args:
            n: N, the number of data.
            p: P, the number of coefficients.
            seed: Seed of the draws.
            noise: σ; None makes it unknown, and draws y with σ = 1.
        """
        features, coefficients, generator = _drawn(n, p, seed)
        error = torch.randn(n, generator=generator)
        if noise is not None:
            error = error * noise
        return cls(features, features @ coefficients + error, noise=noise)

    def model(self, y: Tensor) -> Tensor:
        """Samples "coefficients" (P,) and, where it is unknown, "sigma"; observes "y".

        "y" (N,) is in the plate "data".
        """
        coefficients = self._sampled_coefficients()
        sigma = self.noise
        if sigma is None:
            sigma = pyro.sample("sigma", dist.HalfCauchy(y.new_full((), 2.5)))
        with pyro.plate("data", y.shape[0]):
            return pyro.sample("y", dist.Normal(self._predictor(coefficients), sigma), obs=y)

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """Exact: given σ, β ~ N((XᵀX + σ²/s² I)⁻¹Xᵀy, (XᵀX/σ² + I/s²)⁻¹).

        Where σ is unknown, this is averaged over log σ by quadrature.

        Args:
            points: Nodes of the quadrature, where there is one, odd, at least 5; 2001 if left out.

        Raises:
            ValueError: If there are too few points, so that every other node gives another answer.
        """
        if self.noise is not None:
            given = self._given(self.noise.double()[None])
            return cast_like(self.y, {"coefficients": Moments(given.mean[0], given.sd[0])})

        def log_density(log_sigma: Tensor) -> Tensor:
            log_sigma = log_sigma[:, 0]
            sigma = log_sigma.exp()
            return self._log_evidence(sigma) + dist.HalfCauchy(2.5).log_prob(sigma) + log_sigma

        def conditional(log_sigma: Tensor) -> dict[str, Moments]:
            sigma = log_sigma[:, 0].exp()
            return {"coefficients": self._given(sigma), **plain({"sigma": sigma})}

        mean_square = self.y.double().square().mean()
        centre = (mean_square + 1e-9).sqrt().log()[None]
        moments = quadrature(log_density, conditional, centre - 40, centre + 40, points)
        return cast_like(self.y, moments)

    def _decomposed(self) -> _Decomposed:
        y = self.y.double()
        p = self.features.shape[1]
        u, values, vt = torch.linalg.svd(self.features.double(), full_matrices=True)
        rank = values.shape[0]
        u = u[:, :rank]
        along = u.T @ y
        rest = y - u @ along
        zeros = y.new_zeros(p - rank)
        return _Decomposed(
            v=vt.T,
            values=torch.cat([values, zeros]),
            along=torch.cat([along, zeros]),
            rest=rest.square().sum(),
        )

    def _given(self, sigma: Tensor) -> Moments:
        """The moments of β at each σ, of shape (M, P)."""
        v, values, along, _ = self._decomposed()
        prior = self.prior_scale.double().square()
        noise = sigma.square()[:, None]
        total = noise + prior * values.square()
        mean = (prior * values * along / total) @ v.T
        variance = (prior * noise / total) @ v.T.square()
        return Moments(mean, variance.sqrt())

    def _log_evidence(self, sigma: Tensor) -> Tensor:
        """log N(y; 0, s²XXᵀ + σ²I) at each σ, of shape (M,)."""
        _, values, along, rest = self._decomposed()
        n, p = self.features.shape
        noise = sigma.square()
        total = noise[:, None] + self.prior_scale.double().square() * values.square()
        square = rest / noise + (along.square() / total).sum(-1)
        log_determinant = total.log().sum(-1) + (n - p) * noise.log()
        return -0.5 * (square + log_determinant + n * math.log(2 * math.pi))


class _Decomposed(NamedTuple):
    """X = U diag(d) Vᵀ and y in its coordinates, in float64.

    Attributes:
        v: V, of shape (P, P).
        values: d, filled up with zeros to (P,).
        along: Uᵀy, filled up with zeros to (P,).
        rest: |y − UUᵀy|², the part of y that no coefficients explain.
    """

    v: Tensor
    values: Tensor
    along: Tensor
    rest: Tensor


class LogisticRegression(_Regression):
    """β ~ N(0, s²I), yᵢ ~ Bernoulli(σ(xᵢᵀβ)), with the logistic σ(a) = 1 / (1 + exp(−a)).

    Args:
        features: X, of shape (N, P).
        y: The responses, 0 or 1, of shape (N,) and of the features' dtype.
        prior_scale: s, positive.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, s is not positive, or a
            response is not 0 or 1.

    Examples:
        >>> regression = LogisticRegression(torch.ones(3, 1), torch.tensor([1.0, 1.0, 0.0]))
        >>> regression.reference()["coefficients"].mean.round(decimals=3)
        tensor([0.6920])
    """

    teaches: ClassVar[str] = (
        "Log-concave but not conjugate: a skewed posterior that a Gaussian meets nearly, never "
        "quite."
    )

    def __init__(self, features: Tensor, y: Tensor, prior_scale: float = 2.5) -> None:
        super().__init__(features, y, prior_scale)
        if not bool(((y == 0) | (y == 1)).all()):
            raise ValueError(
                f"expected responses of 0 or 1, got values from {float(y.min())} to "
                f"{float(y.max())}"
            )

    @classmethod
    def simulated(cls, n: int, p: int, seed: int = 0) -> LogisticRegression:
        """An instance whose features and β were drawn from N(0, I), and y from the model.

        Args:
            n: N, the number of data.
            p: P, the number of coefficients.
            seed: Seed of the draws.
        """
        features, coefficients, generator = _drawn(n, p, seed)
        probs = (features @ coefficients).sigmoid()
        return cls(features, torch.bernoulli(probs, generator=generator))

    def model(self, y: Tensor) -> Tensor:
        """Samples "coefficients" (P,); observes "y" (N,) in the plate "data"."""
        coefficients = self._sampled_coefficients()
        with pyro.plate("data", y.shape[0]):
            likelihood = dist.Bernoulli(logits=self._predictor(coefficients))
            return pyro.sample("y", likelihood, obs=y)

    def reference(self, points: int | None = None) -> dict[str, Moments]:
        """By quadrature over β, exact to rounding.

        Args:
            points: Nodes along each axis, odd, at least 5; 2001 for one coefficient or 301 for two
                if left out.

        Raises:
            ValueError: If there are more than two coefficients, too few points, so that every other
                node gives another answer, or the posterior reaches further than ten standard
                deviations of the prior.
        """
        p = self.features.shape[1]
        if p > 2:
            raise ValueError(
                f"expected at most 2 coefficients for a quadrature, got {p}; compare with long "
                "MCMC instead"
            )
        x = self.features.double()
        sign = 2 * self.y.double() - 1
        scale = self.prior_scale.double()

        def log_density(beta: Tensor) -> Tensor:
            likelihood = nn.functional.logsigmoid(sign * (beta @ x.T)).sum(-1)
            return likelihood - 0.5 * (beta / scale).square().sum(-1)

        def conditional(beta: Tensor) -> dict[str, Moments]:
            return plain({"coefficients": beta})

        corner = 10 * scale.expand(p)
        return cast_like(self.y, quadrature(log_density, conditional, -corner, corner, points))


def _check_regression(features: Tensor, y: Tensor, prior_scale: float) -> None:
    """Raises ValueError unless shapes and dtypes fit, and all values are usable."""
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


def _drawn(n: int, p: int, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """Features (N, P) and coefficients (P,) from N(0, I), and the generator to go on with."""
    if n < 1 or p < 1:
        raise ValueError(
            f"expected at least one datum and one coefficient, got n = {n} and p = {p}"
        )
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, p, generator=generator)
    coefficients = torch.randn(p, generator=generator)
    return features, coefficients, generator
