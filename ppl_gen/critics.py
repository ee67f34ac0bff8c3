"""Critics: what adversarial inference is given beside a program, as variational inference is given
a guide.
"""

from __future__ import annotations

__all__ = ["Critic", "conv_critic", "mlp_critic", "patch_critic", "spectral"]

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ppl_gen.nn import Batched, Condition, context_width, mlp, pyramid

Net = TypeVar("Net", bound=nn.Module)


class Critic(nn.Module):
    """s(x, y) = head(features(x), y), a score without a unit; its sigmoid, under the minimax loss,
    is P(x is a datum).

    Args:
        features: From x (N, *shape) to vectors (N, F). After training they serve other ends: a
            linear classifier on top.
        head: From vectors (N, F), and the context if there is one, to (N, 1).
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Scores of shape (N,)."""
        return self.head(self.features(x), *context).squeeze(-1)


def mlp_critic(
    shape: Sequence[int],
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    hidden: Sequence[int] = (256, 256),
    slope: float = 0.2,
) -> Critic:
    """A critic of linear layers with leaky ReLUs; the context, as `models.cgan` takes it, joins x
    before the first of them.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        classes: The number of labels, if the context is a label (N,).
        attributes: The length A, if it is an attribute vector (N, A), or of embed(y).
        embed: Turns any other context into (N, A).
        hidden: The widths.
        slope: Of the leaky ReLU below zero.

    Raises:
        ValueError: As `nn.context_width` does.
    """
    context, sizes = context_width(classes, attributes, embed), [math.prod(shape), *hidden]

    def leaky() -> nn.Module:
        return nn.LeakyReLU(slope)

    if context is None:
        features = nn.Sequential(nn.Flatten(-len(shape)), mlp(sizes, leaky), leaky())
        return Critic(features, nn.Linear(sizes[-1], 1))
    net = mlp([sizes[0] + context, *sizes[1:], 1], leaky)
    return Critic(nn.Flatten(-len(shape)), Condition(net, classes, embed=embed))


def conv_critic(
    shape: Sequence[int],
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    width: int = 64,
    normalise: bool = False,
) -> Critic:
    """The critic of a DCGAN: strided 4 × 4 convolutions with leaky ReLUs, for images of 8 to 64
    pixels a side.

    Args:
        shape: (C, H, W).
        classes: As in `mlp_critic`; the context joins the features of the image.
        attributes: As in `mlp_critic`.
        embed: As in `mlp_critic`.
        width: The channels after the first layer; they double with each halving of the image.
        normalise: Whether to normalise batches, as Radford et al. do; a gradient penalty then is
            not one of single data.

    Raises:
        ValueError: If the shape is not that of such an image; as `nn.context_width` does.

    Reference:
        Radford, Metz and Chintala (2016), section 3.
    """
    sides, _ = pyramid(shape, smallest=4, least=2)
    widths = [shape[0], *(width * 2**i for i in range(len(sides) - 1))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        odd = [side % 2 for side in sides[i]]
        normalised = [nn.BatchNorm2d(b)] if normalise and i else []
        layers += [
            nn.ZeroPad2d((0, odd[1], 0, odd[0])),
            nn.Conv2d(a, b, 4, 2, 1),
            *normalised,
            nn.LeakyReLU(0.2),
        ]
    features = nn.Sequential(Batched(nn.Sequential(*layers)), nn.Flatten(-3))
    size, context = widths[-1] * math.prod(sides[-1]), context_width(classes, attributes, embed)
    if context is None:
        return Critic(features, nn.Linear(size, 1))
    hidden = nn.Sequential(
        nn.Linear(size + context, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 1)
    )
    return Critic(features, Condition(hidden, classes, embed=embed))


def patch_critic(channels: int, *, width: int = 64, layers: int = 3) -> nn.Sequential:
    """The PatchGAN critic: a score for each of many overlapping patches of an image, (N, C, H, W) →
    (N, patches).

    Args:
        channels: C.
        width: The channels after the first layer; they double, up to eightfold.
        layers: The number of halvings; 3 make patches of 70 pixels a side, 1 of 16, for images of 8
            to 16.

    Reference:
        Isola et al. (2017), Image-to-image translation with conditional adversarial networks,
        section 3.2.2.
    """
    widths = [channels, *(width * min(2**i, 8) for i in range(layers + 1))]
    net: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        normalised = [nn.InstanceNorm2d(b)] if i else []
        net += [nn.Conv2d(a, b, 4, 2 if i < layers else 1, 1), *normalised, nn.LeakyReLU(0.2)]
    return nn.Sequential(*net, nn.Conv2d(widths[-1], 1, 4, 1, 1), nn.Flatten())


def spectral(net: Net) -> Net:
    """The same network, the matrix of each linear and convolutional layer divided by its largest
    singular value.

    A linear layer is 1-Lipschitz then. A convolution's matrix is its kernel with the input channels
    and places side by side: its own constant is of the order of one, not bounded by it. Other
    layers, embeddings and recurrent ones among them, are left as they are.

    Reference:
        Miyato et al. (2018), Spectral normalization for generative adversarial networks.
    """
    for layer in list(net.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            spectral_norm(layer)
    return net
