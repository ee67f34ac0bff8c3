"""The deep convolutional GAN: a GAN whose decoder is a pile of transposed convolutions with batch
normalisation.
"""

from __future__ import annotations

__all__ = ["dcgan", "dcgan_decoder"]

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ppl_gen.models.gan import GAN
from ppl_gen.nn import Batched, pyramid
from ppl_gen.priors import StandardNormal
from ppl_gen.protocols import Conditional


def dcgan(
    shape: Sequence[int],
    latent_dim: int = 100,
    *,
    width: int = 64,
    prior: Conditional | None = None,
) -> GAN:
    """A GAN of `dcgan_decoder`, for images of 8 to 64 pixels a side with any number of channels.

    Args:
        shape: (C, H, W).
        latent_dim: The dimension of z.
        width: The channels before the last layer; they double with each halving of the image.
        prior: StandardNormal(latent_dim) if left out; Radford et al. take Uniform(100).

    Raises:
        ValueError: If the shape is not that of such an image.

    Reference:
        Radford, Metz and Chintala (2016), Unsupervised representation learning with deep
        convolutional generative adversarial networks, figure 1 and section 3.
    """
    return GAN(
        StandardNormal(latent_dim) if prior is None else prior,
        dcgan_decoder(latent_dim, shape, width=width),
    )


def dcgan_decoder(inputs: int, shape: Sequence[int], *, width: int = 64) -> nn.Sequential:
    """Transposed 4 × 4 convolutions, each doubling the image: (*leading, inputs) → (*leading, C, H,
    W) in [0, 1].

    All layers but the last have batch normalisation and a ReLU. The last is (tanh + 1)/2, that is a
    sigmoid. Weights are drawn from N(0, 0.02²).

    Args:
        inputs: The size of the latent (plus that of its context).
        shape: (C, H, W), each side from 8 to 64.
        width: The channels before the last layer; they double with each halving of the image.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side.
    """
    sides, _ = pyramid(shape, smallest=4, least=2)
    widths = [width * 2**i for i in range(len(sides) - 1)][::-1]
    height, breadth = sides[-1]
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(inputs, widths[0], (height, breadth), bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    for a, b in pairwise(widths):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    layers += [nn.ConvTranspose2d(widths[-1], shape[0], 4, 2, 1), Crop(shape[1:]), nn.Sigmoid()]
    net = nn.Sequential(*layers)
    for layer in net:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return nn.Sequential(nn.Unflatten(-1, (inputs, 1, 1)), Batched(net))


class Crop(nn.Module):
    """Images cut to (H, W) from the top left corner: doubling overshoots sides that are not 2ᵏ
    times the smallest one.
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, images: Tensor) -> Tensor:
        return images[..., : self.height, : self.width]
