"""The variational autoencoder: z ~ p(z), x ~ p(x | decoder(z)), with the guide q(z | x)."""

from __future__ import annotations

__all__ = ["VAE", "vae"]

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.nn import Activation, Shape, mlp, mlp_of_data
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class VAE(nn.Module):
    """p(x, z) = p(z) p(x | decoder(z)), with the guide q(z | x) = encoder(x).

    Args:
        prior: `prior()` is p(z).
        decoder: Maps z (*batch, D) to the likelihood's parameters.
        likelihood: `likelihood(decoder(z))` is p(x | z).
        encoder: `encoder(x)` is q(z | x).

    Examples:
        >>> decoder = nn.Linear(2, 4)
        >>> encoder = guides.DiagonalGaussian(nn.Linear(4, 2 * 2))
        >>> program = VAE(priors.StandardNormal(2), decoder, likelihoods.Bernoulli(), encoder)
        >>> program.model(None, n=5).shape
        torch.Size([5, 4])

    Reference:
        Kingma and Welling (2014), Auto-encoding variational Bayes.
    """

    def __init__(
        self, prior: Conditional, decoder: nn.Module, likelihood: Conditional, encoder: Conditional
    ) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.encoder = encoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, *shape) is scored; without x, n data are drawn."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            return pyro.sample(
                "x", per_datum(self.likelihood(self.decoder(z)), z.dim() - prior.event_dim), obs=x
            )

    def guide(self, x: Tensor) -> Tensor:
        """z ~ q(z | x), of shape (*particles, N, D)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.encoder(x))


def vae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (200, 200),
    activation: Activation = nn.Tanh,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> VAE:
    """A VAE of multilayer perceptrons: shape – hidden – latent_dim, mirrored.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        hidden: The widths from data to latent; the decoder has them in reverse. The defaults are
            those of Burda et al. (2016), Importance weighted autoencoders.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: StandardNormal(latent_dim) if left out.
        guide: The family of q(z | x), a function of (net, dim) of `ppl_gen.guides` or one of your
            own.

    Raises:
        ValueError: If a size is below 1, the weights do not fit into memory, or `guide` is no
            family.

    Examples:
        >>> from ppl_gen.program import simulate
        >>> program = models.vae((1, 8, 8), latent_dim=10)
        >>> simulate(program, 5).shape
        torch.Size([5, 1, 8, 8])
        >>> program = models.vae((4,), 2, likelihood=likelihoods.Poisson(), guide=guides.low_rank)
    """
    likelihood = Bernoulli() if likelihood is None else likelihood

    def net(outputs: int) -> nn.Module:
        missing = takes_missing(likelihood)
        return mlp_of_data(shape, [*hidden, outputs], activation, missing=missing)

    encoder = guide_of_family(guide, net, latent_dim)
    last = Shape(shape, parameters_per_value(likelihood), parameters_per_datum(likelihood))
    decoder = mlp([latent_dim, *reversed(hidden), last.inputs], activation)
    return VAE(
        StandardNormal(latent_dim) if prior is None else prior,
        nn.Sequential(decoder, last),
        likelihood,
        encoder,
    )
