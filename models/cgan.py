"""The conditional GAN: z ~ p(z | y), x = decoder(z, y); y: label, attributes, image or caption."""

from __future__ import annotations

__all__ = ["CGAN", "cgan"]

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_gen.nn import Activation, Condition, Shape, context_width, mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class CGAN(nn.Module):
    """p(x, z | y) = p(z | y) δ(x − decoder(z, y)).

    Args:
        prior: `prior(y)` is p(z | y); one that ignores y makes z and y independent.
        decoder: Maps z (*batch, D) and y (N, ...) to x.

    Examples:
        >>> program = cgan((2,), latent_dim=3, classes=10, hidden=[8])
        >>> program.model(None, torch.arange(5), n=5).shape
        torch.Size([5, 2])

    Reference:
        Mirza and Osindero (2014), Conditional generative adversarial nets; for y an image or a
        text, Isola et al. (2017) and Reed et al. (2016).
    """

    def __init__(self, prior: Conditional, decoder: nn.Module) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder

    def model(self, x: Tensor | None, y: Tensor, *, n: int | None = None) -> Tensor:
        """With x = None, one datum is drawn per row of y; x has a density under `Observed` only.

        Args:
            x: None, or data (N, *shape).
            y: What is conditioned on, N rows of whatever the decoder takes.
            n: The number of rows of y; may be left out.
        """
        register(self)
        prior = self.prior(y)
        with pyro.plate("data", y.shape[0]):
            z = pyro.sample("z", prior)
            point = dist.Delta(self.decoder(z, y))
            return pyro.sample("x", per_datum(point, z.dim() - prior.event_dim), obs=x)


def cgan(
    shape: Sequence[int],
    latent_dim: int,
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    hidden: Sequence[int] = (256, 256),
    activation: Activation = nn.ReLU,
    prior: Conditional | None = None,
) -> CGAN:
    """A CGAN of a multilayer perceptron; images (C, H, W) end in a sigmoid, in [0, 1].

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        classes: The number of labels, if y is a label (N,), −1 where missing.
        attributes: The length A of an attribute vector (N, A), or of embed(y).
        embed: Turns y, an image or the tokens of a caption, into (N, A).
        hidden: The widths from latent to data.
        activation: Makes the module between two layers.
        prior: StandardNormal(latent_dim) if left out.

    Raises:
        ValueError: If not exactly one of `classes` and `attributes` is given, or `embed` without
            `attributes`.

    Examples:
        >>> program = models.cgan((1, 8, 8), latent_dim=3, classes=10, hidden=[16])
        >>> program.model(None, torch.arange(10), n=10).shape
        torch.Size([10, 1, 8, 8])
    """
    width = context_width(classes, attributes, embed, needed=True)
    if prior is None:
        prior = StandardNormal(latent_dim)
    layers: list[nn.Module] = [mlp([latent_dim + width, *hidden, math.prod(shape)], activation)]
    if len(shape) == 3:
        layers.append(nn.Sigmoid())
    decoder = nn.Sequential(*layers, Shape(shape))
    return CGAN(prior, Condition(decoder, classes, embed=embed))
