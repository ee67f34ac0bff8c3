"""CycleGAN: two translators between unpaired domains, each the pushforward of the other domain's
empirical prior.
"""

from __future__ import annotations

__all__ = ["CycleGAN", "cycle_gan", "translator"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_gen.models.gan import GAN
from ppl_gen.nn import Batched
from ppl_gen.priors import Empirical
from ppl_gen.protocols import Conditional


class CycleGAN(nn.Module):
    """a ~ p̂(a), b = to_b(a) and b ~ p̂(b), a = to_a(b): two programs, `a_to_b` and `b_to_a`, that
    undo each other.

    Each is a GAN whose latents are the images of a domain. Fitted by
    `ppl_gen.inference.cycle_step`.

    Args:
        prior_a: `prior_a()` is p̂(a), over images.
        prior_b: `prior_b()` is p̂(b).
        to_b: Maps a (*batch, C, H, W) to b.
        to_a: Maps b to a.

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
        """The translator from a to b."""
        return self.a_to_b.decoder

    @property
    def to_a(self) -> nn.Module:
        """The translator from b to a."""
        return self.b_to_a.decoder


def cycle_gan(
    a: Tensor, b: Tensor, *, alike: bool = True, width: int | None = None, blocks: int | None = None
) -> CycleGAN:
    """A CycleGAN between two sets of images, with translators of their size.

    Args:
        a: (N, C, H, W) in [0, 1], the first domain; any other prior can be had with `CycleGAN`
            itself.
        b: (M, C, H, W), the second.
        alike: As in `translator`.
        width: As in `translator`.
        blocks: As in `translator`.

    Raises:
        ValueError: If the images of the two differ in shape.
    """
    if a.shape[1:] != b.shape[1:] or a.dim() != 4:
        raise ValueError(
            f"expected images of one shape (C, H, W) in both domains, got {tuple(a.shape[1:])} "
            f"and {tuple(b.shape[1:])}; bring them to one size (image_size=..., --image-size) and "
            "one number of channels"
        )
    to_b, to_a = (
        translator(a.shape[1:], alike=alike, width=width, blocks=blocks) for _ in range(2)
    )
    return CycleGAN(Empirical(a), Empirical(b), to_b, to_a)


def translator(
    shape: Sequence[int], *, alike: bool = True, width: int | None = None, blocks: int | None = None
) -> nn.Module:
    """From images to images, (*leading, C, H, W) → the same, in [0, 1], by residual blocks of
    convolutions.

    From 64 pixels a side on it is the network of Johnson et al. as Zhu et al. take it: two
    halvings, 6 blocks (9 from 256 on), and back, 64 channels, instances normalised. Smaller images
    go through 2 blocks of 32 channels without normalisation, which would take away how bright an
    image is.

    Args:
        shape: (C, H, W); sides from 64 on are divisible by 4.
        alike: Whether a small image is to be retouched, σ(4(2x − 1) + f(x)), which keeps digits
            what they are where both domains look alike; else it is painted anew, σ(f(x)), which
            finds its way where they do not (inverted images).
        width: The channels of the first layer.
        blocks: The number of residual blocks.

    Raises:
        ValueError: If the shape is not that of an image, or its sides cannot be halved.

    Reference:
        Johnson, Alahi and Fei-Fei (2016), Perceptual losses for real-time style transfer and
        super-resolution.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected an image shape (C, H, W), got {tuple(shape)}")
    channels, side = shape[0], min(shape[1:])
    if side < 64:
        return Batched(
            _Retouch(channels, width or 32, 2 if blocks is None else blocks, 4.0 if alike else 0.0)
        )
    if any(s % 4 for s in shape[1:]):
        raise ValueError(
            f"expected sides divisible by 4, got {tuple(shape)}; bring the images to such a size "
            "(image_size=..., --image-size)"
        )
    width = width or 64
    blocks = (9 if side >= 256 else 6) if blocks is None else blocks
    layers = _normalised(_conv(channels, width, 7), width)
    for inputs in (width, 2 * width):
        layers += _normalised(nn.Conv2d(inputs, 2 * inputs, 3, 2, 1), 2 * inputs)
    layers += [
        _Residual(_normalised(_conv(4 * width, 4 * width), 4 * width), 4 * width, True)
        for _ in range(blocks)
    ]
    for inputs in (4 * width, 2 * width):
        layers += _normalised(nn.ConvTranspose2d(inputs, inputs // 2, 4, 2, 1), inputs // 2)
    return Batched(nn.Sequential(*layers, _conv(width, channels, 7), nn.Sigmoid()))


def _conv(inputs: int, outputs: int, reach: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, reach, padding=reach // 2, padding_mode="reflect")


def _normalised(conv: nn.Module, outputs: int) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(outputs), nn.ReLU()]


class _Residual(nn.Module):
    """v + f(v), two convolutions of one width."""

    def __init__(self, first: list[nn.Module], width: int, normalise: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *first, _conv(width, width), *([nn.InstanceNorm2d(width)] if normalise else [])
        )

    def forward(self, v: Tensor) -> Tensor:
        return v + self.net(v)


class _Retouch(nn.Module):
    """σ(k(2x − 1) + f(x)): with k = 4 an image to begin with, in which f changes what it has to."""

    def __init__(self, channels: int, width: int, blocks: int, kept: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(channels, width), nn.ReLU()]
        for _ in range(blocks):
            layers += [_Residual([_conv(width, width), nn.ReLU()], width, False), nn.ReLU()]
        self.net = nn.Sequential(*layers, _conv(width, channels))
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.kept * (2 * x - 1) + self.net(x))
