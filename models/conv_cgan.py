"""The convolutional conditional GAN: a CGAN whose decoder is that of a DCGAN."""

from __future__ import annotations

__all__ = ["conv_cgan"]

from collections.abc import Sequence

from torch import nn

from ppl_gen.models.cgan import CGAN
from ppl_gen.models.dcgan import dcgan_decoder
from ppl_gen.nn import Condition, context_width
from ppl_gen.priors import StandardNormal
from ppl_gen.protocols import Conditional


def conv_cgan(
    shape: Sequence[int],
    latent_dim: int,
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    width: int = 64,
    prior: Conditional | None = None,
) -> CGAN:
    """A CGAN of `dcgan_decoder`, for images of 8 to 64 pixels a side; y joins z.

    Its critic is `ppl_gen.critics.conv_critic`, with the same context.

    Args:
        shape: (C, H, W), with any number of channels.
        latent_dim: The dimension of z.
        classes: The number of labels, if y is a label (N,), −1 where missing.
        attributes: The length A of an attribute vector (N, A), or of embed(y).
        embed: Turns y, an image or the tokens of a caption, into (N, A).
        width: The channels before the last layer; they double with each halving of the image.
        prior: StandardNormal(latent_dim) if left out.

    Raises:
        ValueError: If the shape is not that of such an image, the weights do not fit into memory,
            not exactly one of `classes` and `attributes` is given, or `embed` without `attributes`.

    Examples:
        >>> program = models.conv_cgan((1, 16, 16), latent_dim=3, classes=10, width=8)
        >>> program.model(None, torch.arange(10), n=10).shape
        torch.Size([10, 1, 16, 16])

    Reference:
        Mirza and Osindero (2014), Conditional generative adversarial nets; Radford, Metz and
        Chintala (2016), section 3.
    """
    context = context_width(classes, attributes, embed, needed=True)
    if prior is None:
        prior = StandardNormal(latent_dim)
    decoder = dcgan_decoder(latent_dim + context, shape, width=width)
    return CGAN(prior, Condition(decoder, classes, embed=embed))
