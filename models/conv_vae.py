"""The convolutional VAE: a VAE whose encoder and decoder are strided convolutions."""

from __future__ import annotations

__all__ = ["conv_vae"]

from collections.abc import Sequence

from torch import nn

from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.memory import expect_weights
from ppl_gen.models.vae import VAE
from ppl_gen.nn import Activation, conv_decoder, conv_features, network_of_data
from ppl_gen.priors import StandardNormal
from ppl_gen.protocols import Conditional


def conv_vae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: int = 256,
    activation: Activation = nn.ReLU,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> VAE:
    """A VAE of strided convolutions, for images of 8 to 64 pixels a side.

    Args:
        shape: (C, H, W), with any number of channels.
        latent_dim: The dimension of z.
        hidden: The width of the linear layers beside the latent.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: StandardNormal(latent_dim) if left out.
        guide: The family of q(z | x), a function of (net, dim) of `ppl_gen.guides` or one of your
            own.

    Raises:
        ValueError: If the shape is not that of such an image, the weights do not fit into memory,
            or `guide` is no family.

    Examples:
        >>> from ppl_gen.program import reconstruct
        >>> program = models.conv_vae((3, 32, 32), 8, hidden=16, likelihood=likelihoods.Gaussian())
        >>> reconstruct(program, torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """
    if likelihood is None:
        likelihood = Bernoulli()
    if prior is None:
        prior = StandardNormal(latent_dim)

    def net(outputs: int) -> nn.Module:
        expect_weights((hidden, outputs))

        def convolutions(seen: Sequence[int]) -> nn.Module:
            features = conv_features(seen, hidden, activation)
            return nn.Sequential(features, nn.Linear(hidden, outputs))

        return network_of_data(convolutions, shape, missing=takes_missing(likelihood))

    encoder = guide_of_family(guide, net, latent_dim)
    decoder = conv_decoder(
        latent_dim,
        shape,
        hidden=hidden,
        parameters=parameters_per_value(likelihood),
        per_datum=parameters_per_datum(likelihood),
        activation=activation,
    )
    return VAE(prior, decoder, likelihood, encoder)
