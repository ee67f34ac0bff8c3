"""q(z | x) Gaussian: its covariance diagonal, full, or diagonal but for a few directions."""

from __future__ import annotations

__all__ = [
    "DiagonalGaussian",
    "FullCovarianceGaussian",
    "LowRankGaussian",
    "SharedScaleGaussian",
    "diagonal",
    "full_covariance",
    "low_rank",
]

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.guides.family import NetworkGuide, Networks, expect_outputs
from ppl_gen.protocols import Distribution


class DiagonalGaussian(NetworkGuide):
    """q(z | c) = N(z; μ(c), diag exp(η(c))²), with (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard
            deviations.

    Raises:
        ValueError: When it is called, if the network has an odd number of outputs.

    Examples:
        >>> q = DiagonalGaussian(nn.Linear(4, 2 * 3))
        >>> q(torch.zeros(5, 4)).shape()
        torch.Size([5, 3])
    """

    def distribution(self, outputs: Tensor) -> Distribution:
        """N(μ, diag exp(η)²).

        Args:
            outputs: (μ, η), of shape (*batch, 2D).
        """
        expect_outputs(outputs.shape[-1] % 2 == 0, "2D", outputs)
        loc, log_scale = outputs.chunk(2, -1)
        return LogScaleNormal(loc, log_scale).to_event(1)


class SharedScaleGaussian(nn.Module):
    """q(z | c) = N(z; net(c), diag exp(η)²), with one η for all data.

    The guide of an autoencoder, whose encoder tells a code and no width.

    Args:
        net: Maps the context to codes (*batch, D).
        log_scale: η, of shape (D,), a parameter.

    Examples:
        >>> q = SharedScaleGaussian(nn.Linear(4, 3), log_scale=torch.tensor([0.0, -1.0, -2.0]))
        >>> q(torch.zeros(5, 4)).stddev[0].detach()
        tensor([1.0000, 0.3679, 0.1353])
    """

    def __init__(self, net: nn.Module, log_scale: Tensor) -> None:
        super().__init__()
        self.net = net
        self.log_scale = nn.Parameter(log_scale.detach().clone())

    def forward(self, *context: Tensor) -> Distribution:
        return LogScaleNormal(self.net(*context), self.log_scale).to_event(1)


def diagonal(net: Networks, dim: int) -> DiagonalGaussian:
    """The family N(z; μ(x), diag σ(x)²), of 2D outputs.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.

    Examples:
        >>> q = diagonal(lambda outputs: nn.Linear(4, outputs), dim=3)
        >>> q.net.out_features
        6
    """
    return DiagonalGaussian(net(2 * dim))


class FullCovarianceGaussian(NetworkGuide):
    """q(z | c) = N(z; μ(c), Σ(c)) with Σ = LLᵀ, L = diag(exp η)(I + Λ), (μ, η, Λ) = net(c).

    Λ is strictly lower triangular, so that L is the Cholesky factor of Σ, log det Σ = 2 Σᵢ ηᵢ, and
    a draw is z = μ + Lε with ε ~ N(0, I). Any covariance is of this form. KL(q ‖ N(0, I)) =
    ½ (tr Σ + μᵀμ − D − log det Σ), which `AnalyticELBO` takes.

    Args:
        net: Maps the context to (*batch, D(D + 3)/2): the D means, the D log scales η, and the
            D(D − 1)/2 entries of Λ, row by row.

    Raises:
        ValueError: When it is called, if the network has another number of outputs.

    Examples:
        >>> q = FullCovarianceGaussian(nn.Linear(4, 3 * (3 + 3) // 2))
        >>> q(torch.zeros(5, 4)).covariance_matrix.shape
        torch.Size([5, 3, 3])

    Reference:
        Kingma and Welling (2019), An introduction to variational autoencoders, section 2.5.1.
    """

    def distribution(self, outputs: Tensor) -> Distribution:
        """N(μ, LLᵀ).

        Args:
            outputs: (μ, η, Λ), of shape (*batch, D(D + 3)/2).
        """
        size = outputs.shape[-1]
        dim = (math.isqrt(9 + 8 * size) - 3) // 2
        expect_outputs(dim > 0 and dim * (dim + 3) // 2 == size, "D(D + 3)/2", outputs)
        loc, log_scale, below = outputs.split([dim, dim, size - 2 * dim], -1)
        row, column = torch.tril_indices(dim, dim, -1, device=outputs.device)
        mixing = torch.eye(dim, dtype=outputs.dtype, device=outputs.device)
        mixing = mixing.repeat(*outputs.shape[:-1], 1, 1)
        mixing[..., row, column] = below
        scale_tril = log_scale.exp()[..., None] * mixing
        return dist.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)


def full_covariance(net: Networks, dim: int) -> FullCovarianceGaussian:
    """The family N(z; μ(x), Σ(x)), of D(D + 3)/2 outputs.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.

    Examples:
        >>> q = full_covariance(lambda outputs: nn.Linear(4, outputs), dim=3)
        >>> q.net.out_features  # 3 means, and 6 numbers of a triangular matrix
        9
    """
    expect_at_least(1, **{"a latent dimension": dim})
    return FullCovarianceGaussian(net(dim * (dim + 3) // 2))


class LowRankGaussian(NetworkGuide):
    """q(z | c) = N(z; μ(c), diag exp(η(c))² + U(c)U(c)ᵀ), with (μ, η, U) = net(c).

    A draw is z = μ + exp(η) ε + U ε′. The density takes Woodbury's identity, whose cost is that of
    an R × R matrix. (R + 2)D outputs stand where a full covariance has D(D + 3)/2.

    Args:
        net: Maps the context to (*batch, (R + 2)D): the D means, the D log scales, and U row by
            row.
        rank: R, the number of columns of U, from 1 to D.

    Raises:
        ValueError: If the rank is below 1; when it is called, if the network has another number of
            outputs or the rank is above D.

    Examples:
        >>> q = LowRankGaussian(nn.Linear(4, (1 + 2) * 3), rank=1)
        >>> q(torch.zeros(5, 4)).covariance_matrix.shape
        torch.Size([5, 3, 3])

    Reference:
        Ong, Nott and Smith (2018), Gaussian variational approximation with a factor covariance
        structure.
    """

    def __init__(self, net: nn.Module, rank: int = 2) -> None:
        super().__init__(net)
        expect_at_least(1, rank=rank)
        self.rank = rank

    def distribution(self, outputs: Tensor) -> Distribution:
        """N(μ, diag exp(η)² + UUᵀ).

        Args:
            outputs: (μ, η, U), of shape (*batch, (R + 2)D).
        """
        dim = outputs.shape[-1] // (self.rank + 2)
        expected = f"(R + 2)D = {self.rank + 2}D"
        expect_outputs(dim * (self.rank + 2) == outputs.shape[-1], expected, outputs)
        _expect_rank(self.rank, dim)
        loc, log_scale, factor = outputs.split([dim, dim, self.rank * dim], -1)
        return dist.LowRankMultivariateNormal(
            loc,
            factor.unflatten(-1, (dim, self.rank)),
            (2 * log_scale).exp(),
            validate_args=False,
        )


def low_rank(net: Networks, dim: int, rank: int = 2) -> LowRankGaussian:
    """The family N(z; μ(x), diag σ(x)² + U(x)U(x)ᵀ), of (R + 2)D outputs.

    Args:
        net: Makes a network of (x, *context) with as many outputs as it is given.
        dim: D, the latent dimension.
        rank: R, the number of columns of U, from 1 to D.

    Raises:
        ValueError: If the rank is below 1 or above D.

    Examples:
        >>> from functools import partial
        >>> program = models.vae((4,), latent_dim=3, guide=partial(low_rank, rank=1))
        >>> type(program.encoder).__name__
        'LowRankGaussian'
    """
    expect_at_least(1, rank=rank, **{"a latent dimension": dim})
    _expect_rank(rank, dim)
    return LowRankGaussian(net((rank + 2) * dim), rank)


def _expect_rank(rank: int, dim: int) -> None:
    """Raises ValueError if a rank is above the dimension, where it says nothing more."""
    if rank > dim:
        raise ValueError(
            f"expected a rank from 1 to D = {dim}, the latent dimension, got {rank}; take "
            "full_covariance, which has every covariance"
        )
