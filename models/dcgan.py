"""The deep convolutional GAN: its decoder is a pile of transposed convolutions, normalised."""

from __future__ import annotations

__all__ = ["dcgan", "dcgan_decoder"]

from collections.abc import Sequence

from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
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
    """A GAN of `dcgan_decoder`, for images of 8 to 64 pixels a side.

    Args:
        shape: (C, H, W), with any number of channels.
        latent_dim: The dimension of z.
        width: The channels before the last layer; they double with each halving of the image.
        prior: StandardNormal(latent_dim) if left out; Radford et al. take Uniform(100).

    Raises:
        ValueError: If the shape is not that of such an image.

    Examples:
        >>> program = models.dcgan((1, 16, 16), latent_dim=8, width=8)
        >>> program.model(None, n=5).shape
        torch.Size([5, 1, 16, 16])

    Reference:
        Radford, Metz and Chintala (2016), Unsupervised representation learning with deep
        convolutional generative adversarial networks, figure 1 and section 3.
    """
    if prior is None:
        prior = StandardNormal(latent_dim)
    return GAN(prior, dcgan_decoder(latent_dim, shape, width=width))


def dcgan_decoder(inputs: int, shape: Sequence[int], *, width: int = 64) -> nn.Sequential:
    """(*leading, inputs) → (*leading, C, H, W) in [0, 1]: transposed 4 × 4 convolutions.

    Each of them but the first doubles the image. All layers but the last have batch normalisation
    and a ReLU. The last is (tanh + 1)/2, that is a sigmoid. Weights are drawn from N(0, 0.02²).

    Args:
        inputs: The size of the latent (plus that of its context).
        shape: (C, H, W), each side from 8 to 64.
        width: The channels before the last layer; they double with each halving of the image.

    Raises:
        ValueError: If the shape is not that of an image of 8 to 64 pixels a side.

    Examples:
        >>> dcgan_decoder(8, (3, 16, 16), width=8)(torch.zeros(5, 8)).shape
        torch.Size([5, 3, 16, 16])
    """
    expect_at_least(1, inputs=inputs, width=width)
    sides, _ = pyramid(shape, smallest=4, least=2)
    doublings = len(sides) - 1
    channels = width * 2 ** (doublings - 1)
    expect_weights((inputs, channels, *sides[-1]), (channels, channels // 2, 4, 4))
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(inputs, channels, sides[-1], bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    for _ in range(doublings - 1):
        layers += [
            nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
        ]
        channels //= 2
    layers += [
        nn.ConvTranspose2d(channels, shape[0], 4, stride=2, padding=1),
        Crop(shape[1:]),
        nn.Sigmoid(),
    ]
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return nn.Sequential(nn.Unflatten(-1, (inputs, 1, 1)), Batched(nn.Sequential(*layers)))


class Crop(nn.Module):
    """(*batch, H′, W′) → (*batch, H, W): images cut to a size, from their top left corner.

    Doubling overshoots sides that are not 2ᵏ times the smallest one.

    Args:
        size: (H, W).
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, images: Tensor) -> Tensor:
        return images[..., : self.height, : self.width]
