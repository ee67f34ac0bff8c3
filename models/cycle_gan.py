"""CycleGAN: two translators between unpaired domains, each the pushforward of the other domain's empirical prior."""

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
    """a ~ p̂(a), b = to_b(a) and b ~ p̂(b), a = to_a(b): two programs, `a_to_b` and `b_to_a`, that undo each other.

    Each is a GAN whose latents are the images of a domain. Fitted by `ppl_gen.inference.cycle_step`.

    Args:
        prior_a: `prior_a()` is p̂(a), over images.
        prior_b: `prior_b()` is p̂(b).
        to_b: Maps a (*batch, C, H, W) to b.
        to_a: Maps b to a.

    Reference:
        Zhu et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial networks.
    """

    def __init__(self, prior_a: Conditional, prior_b: Conditional, to_b: nn.Module, to_a: nn.Module) -> None:
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


def cycle_gan(a: Tensor, b: Tensor, *, width: int | None = None, blocks: int | None = None) -> CycleGAN:
    """A CycleGAN between two sets of images, with translators of their size.

    Args:
        a: (N, C, H, W) in [0, 1], the first domain; any other prior can be had with `CycleGAN` itself.
        b: (M, C, H, W), the second.
        width: As in `translator`.
        blocks: As in `translator`.

    Raises:
        ValueError: If the images of the two differ in shape.
    """
    if a.shape[1:] != b.shape[1:] or a.dim() != 4:
        raise ValueError(
            f"expected images of one shape (C, H, W) in both domains, got {tuple(a.shape[1:])} and {tuple(b.shape[1:])}; bring "
            f"them to one size (image_size=..., --image-size) and one number of channels"
        )
    to_b, to_a = (translator(a.shape[1:], width=width, blocks=blocks) for _ in range(2))
    return CycleGAN(Empirical(a), Empirical(b), to_b, to_a)


def translator(shape: Sequence[int], *, width: int | None = None, blocks: int | None = None) -> nn.Module:
    """From images to images, (*leading, C, H, W) → the same, in [0, 1]: convolutions, residual blocks, and back.

    From 64 pixels a side on it is the network of Johnson et al. as Zhu et al. take it: two halvings, 6 blocks (9 from 256
    on), 64 channels. Smaller images are halved once, or below 16 not at all, with 2 blocks of 32 channels.

    Args:
        shape: (C, H, W), with sides that can be halved so often.
        width: The channels of the first layer.
        blocks: The number of residual blocks.

    Raises:
        ValueError: If the shape is not that of an image, or its sides cannot be halved.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected an image shape (C, H, W), got {tuple(shape)}")
    channels, side = shape[0], min(shape[1:])
    halvings = 2 if side >= 64 else 1 if side >= 16 else 0
    if any(s % 2**halvings for s in shape[1:]):
        raise ValueError(
            f"expected sides divisible by {2**halvings}, got {tuple(shape)}; bring the images to such a size (--image-size)"
        )
    width = width or (64 if side >= 64 else 32)
    blocks = blocks or (9 if side >= 256 else 6 if side >= 64 else 2)
    reach = 7 if side >= 64 else 3
    layers: list[nn.Module] = _convolved(channels, width, reach)
    for i in range(halvings):
        layers += [
            nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 3, 2, 1),
            nn.InstanceNorm2d(width * 2 ** (i + 1)),
            nn.ReLU(),
        ]
    layers += [_Residual(width * 2**halvings) for _ in range(blocks)]
    for i in range(halvings, 0, -1):
        layers += [
            nn.ConvTranspose2d(width * 2**i, width * 2 ** (i - 1), 4, 2, 1),
            nn.InstanceNorm2d(width * 2 ** (i - 1)),
            nn.ReLU(),
        ]
    last = nn.Conv2d(width, channels, reach, padding=reach // 2, padding_mode="reflect")
    return Batched(nn.Sequential(*layers, last, nn.Sigmoid()))


def _convolved(inputs: int, outputs: int, reach: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, reach, padding=reach // 2, padding_mode="reflect")
    return [conv, nn.InstanceNorm2d(outputs), nn.ReLU()]


class _Residual(nn.Module):
    """v + f(v), two convolutions of one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")
        self.net = nn.Sequential(*_convolved(width, width, 3), last, nn.InstanceNorm2d(width))

    def forward(self, v: Tensor) -> Tensor:
        return torch.add(v, self.net(v))
