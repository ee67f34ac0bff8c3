"""CycleGAN: two translators between domains of images that come without pairs.

Each is a GAN whose prior is the empirical distribution of the other domain's images.
"""

from __future__ import annotations

__all__ = ["CycleGAN", "cycle_gan", "translator"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.models.gan import GAN
from ppl_gen.nn import Batched
from ppl_gen.priors import Empirical
from ppl_gen.protocols import Conditional


class CycleGAN(nn.Module):
    """a ~ p̂(a), b = to_b(a) and b ~ p̂(b), a = to_a(b): two programs that are to undo each other.

    The programs are `a_to_b` and `b_to_a`. Each is a GAN whose latents are the images of a domain.
    They are fitted by `ppl_gen.inference.cycle_step`.

    Args:
        prior_a: `prior_a()` is p̂(a), over images.
        prior_b: `prior_b()` is p̂(b), over images.
        to_b: Maps a (*batch, C, H, W) to b.
        to_a: Maps b (*batch, C, H, W) to a.

    Examples:
        >>> a = torch.rand(20, 1, 8, 8)
        >>> program = cycle_gan(a, 1 - a, width=4, blocks=1)
        >>> program.to_a(program.to_b(a)).shape
        torch.Size([20, 1, 8, 8])

    Reference:
        Zhu et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial
        networks.
    """

    def __init__(
        self, prior_a: Conditional, prior_b: Conditional, to_b: nn.Module, to_a: nn.Module
    ) -> None:
        super().__init__()
        self.a_to_b = GAN(prior_a, to_b)
        self.b_to_a = GAN(prior_b, to_a)

    @property
    def to_b(self) -> nn.Module:
        """The translator from a to b, a network."""
        return self.a_to_b.decoder

    @property
    def to_a(self) -> nn.Module:
        """The translator from b to a, a network."""
        return self.b_to_a.decoder


def cycle_gan(
    a: Tensor, b: Tensor, *, alike: bool = True, width: int | None = None, blocks: int | None = None
) -> CycleGAN:
    """A CycleGAN between two sets of images, with translators of their size.

    Args:
        a: The images of the first domain, (N, C, H, W) in [0, 1]; for any other prior use
            `CycleGAN` itself.
        b: The images of the second domain, (M, C, H, W) in [0, 1].
        alike: Whether both domains look alike, so that images below 64 pixels a side are retouched;
            else they are painted anew.
        width: The channels of a translator's first layer; 32, or 64 from 64 pixels a side on, if
            left out.
        blocks: The number of a translator's residual blocks; 2, or from 64 pixels a side on 6, or
            from 256 on 9, if left out.

    Raises:
        ValueError: If the images of the two differ in shape, or have sides from 64 pixels on that
            are not divisible by 4.

    Examples:
        >>> a = torch.rand(20, 3, 16, 16)
        >>> b = torch.rand(30, 3, 16, 16)  # without pairs
        >>> program = models.cycle_gan(a, b, width=4, blocks=1)
        >>> program.to_b(a).shape
        torch.Size([20, 3, 16, 16])
    """
    if a.shape[1:] != b.shape[1:] or a.dim() != 4:
        raise ValueError(
            f"expected images of one shape (C, H, W) in both domains, got {tuple(a.shape[1:])} "
            f"and {tuple(b.shape[1:])}; bring them to one size (image_size=..., --image-size) and "
            "one number of channels"
        )
    to_b = translator(a.shape[1:], alike=alike, width=width, blocks=blocks)
    to_a = translator(a.shape[1:], alike=alike, width=width, blocks=blocks)
    return CycleGAN(Empirical(a), Empirical(b), to_b, to_a)


def translator(
    shape: Sequence[int], *, alike: bool = True, width: int | None = None, blocks: int | None = None
) -> nn.Module:
    """(*leading, C, H, W) → the same, in [0, 1]: from images to images by residual blocks.

    From 64 pixels a side on it is the network of Johnson et al. as Zhu et al. take it: two
    halvings, 6 blocks (9 from 256 on), and two doublings, with 64 channels to begin with and
    instances normalised. Smaller images go through 2 blocks of 32 channels without normalisation,
    which would take away how bright an image is.

    Args:
        shape: (C, H, W); sides from 64 on are divisible by 4.
        alike: Whether both domains look alike. If so, an image below 64 pixels a side is retouched,
            σ(4(2x − 1) + f(x)), which keeps digits what they are. If not (inverted images), it is
            painted anew, σ(f(x)), since retouching would not get there. Larger images do not
            depend on it.
        width: The channels of the first layer; 32, or 64 from 64 pixels a side on, if left out.
        blocks: The number of residual blocks; 2, or from 64 pixels a side on 6, or from 256 on 9,
            if left out.

    Raises:
        ValueError: If the shape is not that of an image, or its sides cannot be halved.

    Examples:
        >>> translator((3, 16, 16), width=4, blocks=1)(torch.rand(5, 3, 16, 16)).shape
        torch.Size([5, 3, 16, 16])

    Reference:
        Johnson, Alahi and Fei-Fei (2016), Perceptual losses for real-time style transfer and
        super-resolution.
    """
    expect_at_least(1, width=width)
    expect_at_least(0, blocks=blocks)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected an image shape (C, H, W), got {tuple(shape)}")
    channels, *sides = shape
    if min(sides) < 64:
        if blocks is None:
            blocks = 2
        return Batched(_Retouch(channels, width or 32, blocks, alike=alike))
    if any(side % 4 for side in sides):
        raise ValueError(
            f"expected sides divisible by 4, got {tuple(shape)}; bring the images to such a size "
            "(image_size=..., --image-size)"
        )
    if blocks is None:
        blocks = 9 if min(sides) >= 256 else 6
    return Batched(_halved_and_doubled(channels, width or 64, blocks))


def _halved_and_doubled(channels: int, width: int, blocks: int) -> nn.Sequential:
    """Residual blocks of 4 · width channels on images of a quarter of their sides, and back."""
    expect_weights((2 * blocks, 4 * width, 4 * width, 3, 3))
    layers = _normalised(_conv(channels, width, 7), width)
    for inputs in (width, 2 * width):
        halving = nn.Conv2d(inputs, 2 * inputs, 3, stride=2, padding=1)
        layers += _normalised(halving, 2 * inputs)
    for _ in range(blocks):
        layers.append(_Residual(4 * width, normalise=True))
    for inputs in (4 * width, 2 * width):
        doubling = nn.ConvTranspose2d(inputs, inputs // 2, 4, stride=2, padding=1)
        layers += _normalised(doubling, inputs // 2)
    return nn.Sequential(*layers, _conv(width, channels, 7), nn.Sigmoid())


def _conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the sides of an image, mirrored at its border."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect")


def _normalised(conv: nn.Module, outputs: int) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(outputs), nn.ReLU()]


class _Residual(nn.Module):
    """v + f(v), with f of two convolutions of one width."""

    def __init__(self, width: int, *, normalise: bool) -> None:
        super().__init__()
        first, second = _conv(width, width), _conv(width, width)
        if normalise:
            layers = [*_normalised(first, width), second, nn.InstanceNorm2d(width)]
        else:
            layers = [first, nn.ReLU(), second]
        self.net = nn.Sequential(*layers)

    def forward(self, v: Tensor) -> Tensor:
        return v + self.net(v)


class _Retouch(nn.Module):
    """σ(k(2x − 1) + f(x)): with k = 4 nearly x to begin with, and f changes what it has to.

    With `alike` false k is 0: the image is painted anew.
    """

    def __init__(self, channels: int, width: int, blocks: int, *, alike: bool) -> None:
        super().__init__()
        expect_weights((2 * blocks, width, width, 3, 3))
        layers: list[nn.Module] = [_conv(channels, width), nn.ReLU()]
        for _ in range(blocks):
            layers += [_Residual(width, normalise=False), nn.ReLU()]
        self.net = nn.Sequential(*layers, _conv(width, channels))
        self.kept = 4.0 if alike else 0.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.kept * (2 * x - 1) + self.net(x))
