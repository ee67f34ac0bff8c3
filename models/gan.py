"""The generative adversarial network: z ~ p(z), x = decoder(z).

It has draws and no density: an implicit model.
"""

from __future__ import annotations

__all__ = ["GAN", "gan"]

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.nn import Activation, Shape, mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class GAN(nn.Module):
    """p(x, z) = p(z) δ(x − decoder(z)): the same kind of object as a VAE, under a Dirac.

    It is fitted by `ppl_gen.inference.adversarial_step`, with a critic, or by `moment_step`,
    without one. `Observed(gan, Gaussian(ε))` is the density ∫ N(x; decoder(z), ε²I) p(z) dz.

    Args:
        prior: `prior()` is p(z); over vectors, or over anything that the decoder takes.
        decoder: Maps z (*batch, D) to x; the field's generator.

    Examples:
        >>> program = gan((2,), latent_dim=3, hidden=[8])
        >>> program.model(None, n=5).shape
        torch.Size([5, 2])

    Reference:
        Goodfellow et al. (2014), Generative adversarial nets; Mohamed and Lakshminarayanan (2016),
        Learning in implicit generative models.
    """

    def __init__(self, prior: Conditional, decoder: nn.Module) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Without x, n data are drawn; x has a density under `Observed` only."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            point = dist.Delta(self.decoder(z))
            return pyro.sample("x", per_datum(point, z.dim() - prior.event_dim), obs=x)


def gan(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: Activation = nn.ReLU,
    prior: Conditional | None = None,
) -> GAN:
    """A GAN of a multilayer perceptron: latent_dim – hidden – shape.

    Images (C, H, W) end in a sigmoid, in [0, 1].

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        hidden: The widths from latent to data.
        activation: Makes the module between two layers.
        prior: StandardNormal(latent_dim) if left out.

    Examples:
        >>> program = models.gan((1, 8, 8), latent_dim=3, hidden=[16])
        >>> program.model(None, n=5).shape
        torch.Size([5, 1, 8, 8])
    """
    if prior is None:
        prior = StandardNormal(latent_dim)
    layers: list[nn.Module] = [mlp([latent_dim, *hidden, math.prod(shape)], activation)]
    if len(shape) == 3:
        layers.append(nn.Sigmoid())
    return GAN(prior, nn.Sequential(*layers, Shape(shape)))
