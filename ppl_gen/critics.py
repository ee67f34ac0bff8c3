"""Critics: to adversarial inference what a guide is to variational inference."""

from __future__ import annotations

__all__ = ["Critic", "conv_critic", "mlp_critic", "patch_critic", "spectral"]

import math
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ppl_gen.counts import expect_at_least
from ppl_gen.memory import expect_weights
from ppl_gen.nn import Batched, Condition, context_width, mlp, pyramid

Net = TypeVar("Net", bound=nn.Module)


class Critic(nn.Module):
    """s(x, y) = head(features(x), y): a score for each datum, without a unit.

    Under the minimax loss σ(s) is P(x is a datum).

    Args:
        features: From x (N, *shape) to vectors (N, F). After training they serve other ends, such
            as a linear classifier on top.
        head: From vectors (N, F), and the context if there is one, to (N, 1).

    Examples:
        >>> critic = Critic(features=nn.Linear(2, 16), head=nn.Linear(16, 1))
        >>> critic(torch.zeros(5, 2)).shape
        torch.Size([5])
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
    """A critic of linear layers with leaky ReLUs; a context joins x before the first of them.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        classes: The number of labels, if the context is a label (N,), −1 where missing.
        attributes: A, if the context is an attribute vector (N, A); or the length of embed(y).
        embed: Turns a context y of any other kind, an image or the tokens of a caption, into
            vectors (N, A).
        hidden: The widths of the hidden layers.
        slope: The slope of the leaky ReLU below zero.

    Raises:
        ValueError: If both classes and attributes are given, or an embedding without its size A.

    Examples:
        >>> critic = mlp_critic((2,), hidden=[16])
        >>> critic(torch.zeros(5, 2)).shape
        torch.Size([5])
    """
    context = context_width(classes, attributes, embed)
    flatten = nn.Flatten(-len(shape))
    sizes = [math.prod(shape), *hidden]

    def leaky() -> nn.Module:
        return nn.LeakyReLU(slope)

    if context is None:
        features = nn.Sequential(flatten, mlp(sizes, leaky), leaky())
        return Critic(features, nn.Linear(sizes[-1], 1))
    net = mlp([sizes[0] + context, *hidden, 1], leaky)
    return Critic(flatten, Condition(net, classes, embed=embed))


def conv_critic(
    shape: Sequence[int],
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    width: int = 64,
    normalise: bool = False,
) -> Critic:
    """The critic of a DCGAN: strided 4 × 4 convolutions with leaky ReLUs, for images.

    Args:
        shape: (C, H, W), each side from 8 to 64.
        classes: The number of labels, if the context is a label (N,), −1 where missing. The context
            joins the features of the image.
        attributes: A, if the context is an attribute vector (N, A); or the length of embed(y).
        embed: Turns a context y of any other kind, an image or the tokens of a caption, into
            vectors (N, A).
        width: The channels after the first layer; they double with each halving of the image.
        normalise: Whether to normalise over the batch in all layers but the first, as Radford et
            al. do; scores then depend on the batch, and so does a gradient penalty.

    Raises:
        ValueError: If the shape is not that of such an image; if both classes and attributes are
            given, or an embedding without its size A.

    Examples:
        >>> critic = conv_critic((1, 8, 8), classes=10, width=8)
        >>> critic(torch.zeros(5, 1, 8, 8), torch.arange(5)).shape
        torch.Size([5])

    Reference:
        Radford, Metz and Chintala (2016), section 3.
    """
    sides, _ = pyramid(shape, smallest=4, least=2)
    channels = shape[0]
    expect_at_least(1, width=width)
    widest = width * 2 ** (len(sides) - 2)
    expect_weights((widest // 2, widest, 4, 4), (widest, *sides[-1]))
    layers: list[nn.Module] = []
    for level, (height, breadth) in enumerate(sides[:-1]):
        outputs = width * 2**level
        layers.append(nn.ZeroPad2d((0, breadth % 2, 0, height % 2)))  # to even sides
        layers.append(nn.Conv2d(channels, outputs, 4, stride=2, padding=1))
        if normalise and level > 0:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(0.2))
        channels = outputs
    features = nn.Sequential(Batched(nn.Sequential(*layers)), nn.Flatten(-3))
    size = channels * math.prod(sides[-1])
    context = context_width(classes, attributes, embed)
    if context is None:
        return Critic(features, nn.Linear(size, 1))
    hidden = nn.Sequential(
        nn.Linear(size + context, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 1)
    )
    return Critic(features, Condition(hidden, classes, embed=embed))


def patch_critic(channels: int, *, width: int = 64, layers: int = 3) -> nn.Sequential:
    """The PatchGAN critic, (N, C, H, W) → (N, patches): a score for each of many patches.

    The patches overlap; each score sees its own patch only.

    Args:
        channels: C.
        width: The channels after the first layer; they double, up to eightfold.
        layers: The number of halvings; 3 make patches of 70 pixels a side, 1 of 16, for images of 8
            to 16.

    Examples:
        >>> patch_critic(3, width=8)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 4])

    Reference:
        Isola et al. (2017), Image-to-image translation with conditional adversarial networks,
        section 3.2.2.
    """
    expect_at_least(1, channels=channels, width=width, layers=layers)
    widest = width * min(2**layers, 8)
    expect_weights((widest, max(channels, widest // 2), 4, 4))
    net: list[nn.Module] = []
    for i in range(layers + 1):
        outputs = width * min(2**i, 8)
        stride = 2 if i < layers else 1
        net.append(nn.Conv2d(channels, outputs, 4, stride, padding=1))
        if i > 0:
            net.append(nn.InstanceNorm2d(outputs))
        net.append(nn.LeakyReLU(0.2))
        channels = outputs
    return nn.Sequential(*net, nn.Conv2d(channels, 1, 4, 1, padding=1), nn.Flatten())


def spectral(net: Net) -> Net:
    """The same network, each layer's matrix W divided by its largest singular value.

    This is done to linear and convolutional layers. A linear layer is 1-Lipschitz then. The matrix
    of a convolution is its kernel with input channels and places side by side: its Lipschitz
    constant is of the order of one, but not bounded by it. Other layers, embeddings and recurrent
    ones among them, are left as they are.

    Args:
        net: Any network; it is changed in place.

    Examples:
        >>> critic = spectral(nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)))
        >>> [name for name, _ in critic[0].named_parameters()]
        ['bias', 'parametrizations.weight.original']

    Reference:
        Miyato et al. (2018), Spectral normalization for generative adversarial networks.
    """
    for layer in list(net.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            spectral_norm(layer)
    return net
