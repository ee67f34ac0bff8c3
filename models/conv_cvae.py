"""The convolutional conditional VAE: a CVAE whose encoder and decoder are strided convolutions."""

from __future__ import annotations

__all__ = ["conv_cvae"]

from collections.abc import Sequence

from torch import nn

from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.models.cvae import CVAE
from ppl_gen.nn import (
    Activation,
    Condition,
    context_width,
    conv_decoder,
    conv_features,
    mlp,
    network_of_data,
)
from ppl_gen.priors import ConditionalNormal
from ppl_gen.protocols import Conditional


def conv_cvae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    hidden: int = 256,
    activation: Activation = nn.ReLU,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> CVAE:
    """A CVAE of strided convolutions, for images of 8 to 64 pixels a side.

    y joins the features of the image in the encoder, and z in the decoder.

    Args:
        shape: (C, H, W), with any number of channels.
        latent_dim: The dimension of z.
        classes: The number of labels, if y is a label (N,), −1 where missing.
        attributes: The length A of an attribute vector (N, A), or of embed(y).
        embed: Turns y, an image or the tokens of a caption, into (N, A); prior, decoder and encoder
            share it.
        hidden: The width of the linear layers beside the latent, and of a learned prior.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: A learned N(z; μ(y), diag σ(y)²) if left out.
        guide: The family of q(z | x, y), a function of (net, dim) of `ppl_gen.guides` or one of
            your own.

    Raises:
        ValueError: If the shape is not that of such an image, the weights do not fit into memory,
            not exactly one of `classes` and `attributes` is given, `embed` without `attributes`, or
            `guide` is no family.

    Examples:
        >>> from ppl_gen.program import reconstruct
        >>> program = models.conv_cvae((1, 16, 16), latent_dim=3, classes=10, hidden=16)
        >>> reconstruct(program, torch.zeros(5, 1, 16, 16), torch.arange(5)).shape
        torch.Size([5, 1, 16, 16])
    """
    width = context_width(classes, attributes, embed, needed=True)
    if likelihood is None:
        likelihood = Bernoulli()

    def net(outputs: int) -> nn.Module:
        def convolutions(seen: Sequence[int]) -> nn.Module:
            features = conv_features(seen, hidden, activation)
            return Condition(mlp([hidden + width, outputs], activation), classes, features, embed)

        return network_of_data(convolutions, shape, missing=takes_missing(likelihood))

    encoder = guide_of_family(guide, net, latent_dim)
    decoder = conv_decoder(
        latent_dim + width,
        shape,
        hidden=hidden,
        parameters=parameters_per_value(likelihood),
        per_datum=parameters_per_datum(likelihood),
        activation=activation,
    )
    if prior is None:
        of_prior = mlp([width, hidden, 2 * latent_dim], activation)
        prior = ConditionalNormal(Condition(of_prior, classes, embed=embed))
    return CVAE(prior, Condition(decoder, classes, embed=embed), likelihood, encoder)
