"""q(z1, …, zL | x) of several layers of latents, z1 next to the data: from the data up, or down."""

from __future__ import annotations

__all__ = ["BottomUp", "TopDown", "precision_weighted"]

from collections.abc import Sequence

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.distributions import LogScaleNormal
from ppl_gen.protocols import Conditional, Distribution
from ppl_gen.sharing import shared


class BottomUp(nn.Module):
    """q(z1, …, zL | x) = q(z1 | x) q(z2 | z1) … q(zL | zL−1).

    It is called inside of the plate of the data, and samples the sites "z1", …, "zL".

    Args:
        encoders: L modules; the first takes x to q(z1 | x), the next z1 to q(z2 | z1), and so on.

    Examples:
        >>> program = models.hierarchical_vae((4,), latent_dims=[3, 2], hidden=[8])
        >>> type(program.encoder).__name__
        'BottomUp'
        >>> with pyro.plate("data", 5):
        ...     program.encoder(torch.zeros(5, 4), program.layers).shape  # z2, the last
        torch.Size([5, 2])

    Reference:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, eq. 5.
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, x: Tensor, layers: Sequence[Conditional]) -> Tensor:
        """zL, of shape (*particles, N, D_L).

        Args:
            x: Data (N, *shape).
            layers: Those of the model, which the guide has no use for.
        """
        below = x
        for layer, encoder in enumerate(self.encoders, start=1):
            below = pyro.sample(f"z{layer}", encoder(below))
        return below


class TopDown(nn.Module):
    """q(z1, …, zL | x) = q(zL | x) q(zL−1 | zL, x) … q(z1 | z2, x), the ladder.

    Features dₗ of x are computed from the data up, without noise. The top layer is q(zL | x) =
    encoderL(dL); each layer below joins what the data say to what the model says of it:
    q(zₗ | zₗ₊₁, x) ∝ encoderₗ(dₗ) p(zₗ | zₗ₊₁), both taken for Gaussians.

    It is called inside of the plate of the data, and samples the sites "zL", …, "z1".

    Args:
        features: L networks; the first takes x to d₁, the next d₁ to d₂, and so on.
        encoders: L modules, from dₗ to a distribution of zₗ; those below the top with a mean and a
            variance.

    Examples:
        >>> program = models.hierarchical_vae((4,), latent_dims=[3, 2], hidden=[8], top_down=True)
        >>> type(program.encoder).__name__
        'TopDown'
        >>> with pyro.plate("data", 5):
        ...     program.encoder(torch.zeros(5, 4), program.layers).shape  # z1, the last
        torch.Size([5, 3])

    Reference:
        Sønderby, Raiko, Maaløe, Sønderby and Winther (2016), Ladder variational autoencoders, eq.
        9 to 11.
    """

    def __init__(self, features: Sequence[nn.Module], encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.features = nn.ModuleList(features)
        self.encoders = nn.ModuleList(encoders)

    def forward(self, x: Tensor, layers: Sequence[Conditional]) -> Tensor:
        """z1, of shape (*particles, N, D₁).

        Args:
            x: Data (N, *shape).
            layers: Those of the model; `layers[l − 1](z)` is p(zₗ | zₗ₊₁ = z).
        """
        said = []
        below = x
        for net, encoder in zip(self.features, self.encoders, strict=True):
            below = net(below)
            said.append(encoder(below))
        top = len(said)
        z = pyro.sample(f"z{top}", said[-1])
        for layer in range(top - 1, 0, -1):
            joined = precision_weighted(said[layer - 1], shared(layers[layer - 1], z))
            z = pyro.sample(f"z{layer}", joined)
        return z


def precision_weighted(q: Distribution, p: Distribution) -> Distribution:
    """N(z; μ, diag σ²) ∝ N(z; μ_q, diag σ_q²) N(z; μ_p, diag σ_p²).

    1/σ² = 1/σ_q² + 1/σ_p², and μ = σ² (μ_q/σ_q² + μ_p/σ_p²): the mean leans to the surer of both.

    Args:
        q: A distribution of vectors (*batch, D), of which mean and variance are taken.
        p: Another.
    """
    log_variance = q.variance.log()
    weight = torch.sigmoid(p.variance.log() - log_variance)
    loc = weight * q.mean + (1 - weight) * p.mean
    return LogScaleNormal(loc, 0.5 * (log_variance + weight.log())).to_event(1)
