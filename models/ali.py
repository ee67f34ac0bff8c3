"""ALI, or BiGAN: a GAN with a guide; z ~ p(z), x = decoder(z), and q(z | x) = encoder(x)."""

from __future__ import annotations

__all__ = ["ALI", "ali"]

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.nn import Activation, Shape, mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class ALI(nn.Module):
    """p(x, z) = p(z) δ(x − decoder(z)), with the guide q(z | x) = encoder(x).

    It is fitted by `ppl_gen.inference.bidirectional_step`, with a critic of pairs (x, z): where the
    critic is fooled, q(x) q(z | x) = p(x, z), and the guide is the posterior. It is judged as a GAN
    is; under `Observed(ali, Gaussian(ε))` it has a density, with its own guide.

    Args:
        prior: `prior()` is p(z).
        decoder: Maps z (*batch, D) to x; the field's generator.
        encoder: `encoder(x)` is q(z | x), whose draws have a gradient.

    Examples:
        >>> from ppl_gen.inference import encode
        >>> program = models.ali((2,), latent_dim=3, hidden=[8])
        >>> encode(program, torch.zeros(5, 2)).mean.shape  # q(z | x), though p(x | z) is a point
        torch.Size([5, 3])

    Reference:
        Dumoulin et al. (2017), Adversarially learned inference; Donahue, Krähenbühl and Darrell
        (2017), Adversarial feature learning.
    """

    def __init__(self, prior: Conditional, decoder: nn.Module, encoder: Conditional) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.encoder = encoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Without x, n data are drawn; x has a density under `Observed` only."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            point = dist.Delta(self.decoder(z))
            return pyro.sample("x", per_datum(point, z.dim() - prior.event_dim), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """z ~ q(z | x), of shape (*particles, N, D)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.encoder(x))


def ali(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: Activation = nn.ReLU,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> ALI:
    """An ALI of multilayer perceptrons: latent_dim – hidden – shape, and back.

    Images (C, H, W) end in a sigmoid, in [0, 1]. `critics.mlp_critic(shape, attributes=latent_dim)`
    scores its pairs.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        hidden: The widths from latent to data; the encoder has them in reverse.
        activation: Makes the module between two layers.
        prior: StandardNormal(latent_dim) if left out.
        guide: The family of q(z | x), a function of (net, dim) of `ppl_gen.guides` or one of your
            own.

    Raises:
        ValueError: If a size is below 1, the weights do not fit into memory, or `guide` is no
            family.

    Examples:
        >>> program = models.ali((1, 8, 8), latent_dim=3, hidden=[16])
        >>> program.model(None, n=5).shape
        torch.Size([5, 1, 8, 8])
    """
    size = math.prod(shape)
    if prior is None:
        prior = StandardNormal(latent_dim)

    def net(outputs: int) -> nn.Module:
        layers = mlp([size, *reversed(hidden), outputs], activation)
        return nn.Sequential(nn.Flatten(-len(shape)), layers)

    layers: list[nn.Module] = [mlp([latent_dim, *hidden, size], activation)]
    if len(shape) == 3:
        layers.append(nn.Sigmoid())
    encoder = guide_of_family(guide, net, latent_dim)
    return ALI(prior, nn.Sequential(*layers, Shape(shape)), encoder)
