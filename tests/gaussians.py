"""Two Gaussians, draws of them, and the distances between them in closed form."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import integrate, linalg
from torch import Tensor

Normal = tuple[Tensor, Tensor]  # mean and covariance


def correlated(dim: int, scale: float = 1.0) -> Tensor:
    """A covariance with correlations 0.6^|i − j|."""
    place = torch.arange(dim, dtype=torch.float64)
    return scale**2 * 0.6 ** (place[:, None] - place).abs()


def pair(dim: int, case: str) -> tuple[Normal, Normal]:
    """Two Gaussians that differ in nothing, in their means, or in means and covariances that do not
    commute.
    """
    zero, eye = torch.zeros(dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)
    tilted = torch.diag(torch.linspace(0.5, 2, dim, dtype=torch.float64))
    return {
        "equal": ((zero, eye), (zero, eye)),
        "shifted": ((zero, correlated(dim)), (zero + 0.5, correlated(dim))),
        "unequal": ((zero, correlated(dim, 1.5)), (zero - 0.4, tilted)),
    }[case]


def draws(normal: Normal, n: int) -> Tensor:
    return torch.distributions.MultivariateNormal(*normal).sample((n,))


def exact_mmd(p: Normal, q: Normal, bandwidth: float) -> float:
    """E exp(−|Z|²/2h²) = |I + Σ/h²|^(−½) exp(−½ μᵀ (h²I + Σ)⁻¹ μ) of Z ~ N(μ, Σ), the difference of
    two draws.
    """

    def average(a: Normal, b: Normal) -> float:
        shift, total = a[0] - b[0], a[1] + b[1]
        eye = torch.eye(len(shift), dtype=torch.float64)
        inner = shift @ torch.linalg.solve(bandwidth**2 * eye + total, shift)
        return float(torch.det(eye + total / bandwidth**2) ** -0.5 * (-inner / 2).exp())

    return average(p, p) + average(q, q) - 2 * average(p, q)


def exact_energy(p: Normal, q: Normal) -> float:
    """E|Z| = (1/2√π) ∫₀^∞ (1 − E exp(−t|Z|²)) t^(−3/2) dt, by quadrature over t = u²."""

    def average(a: Normal, b: Normal) -> float:
        values, vectors = torch.linalg.eigh(a[1] + b[1])
        shift, spread = ((a[0] - b[0]) @ vectors).square().numpy(), values.numpy()

        def rest(u: float) -> float:
            scale = 1 + 2 * u**2 * spread
            return (1 - np.prod(scale) ** -0.5 * math.exp(-(u**2) * (shift / scale).sum())) / u**2

        return integrate.quad(rest, 0, math.inf, limit=200)[0] / math.sqrt(math.pi)

    return 2 * average(p, q) - average(p, p) - average(q, q)


def exact_frechet(p: Normal, q: Normal) -> float:
    root = np.real(linalg.sqrtm((p[1] @ q[1]).numpy()))
    return float((p[0] - q[0]).square().sum() + p[1].trace() + q[1].trace()) - 2 * float(
        np.trace(root)
    )


def exact_sliced(p: Normal, q: Normal) -> float:
    """(θᵀΔ)² + (√θᵀSθ − √θᵀS′θ)², averaged over a million directions: three more digits than the
    estimate has.
    """
    theta = torch.randn(1_000_000, len(p[0]), dtype=torch.float64)
    theta = theta / theta.norm(dim=1, keepdim=True)
    deviations = [((theta @ s) * theta).sum(1).sqrt() for _, s in (p, q)]
    return float(
        ((theta @ (p[0] - q[0])).square() + (deviations[0] - deviations[1]).square()).mean()
    )
