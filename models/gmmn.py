"""The generative moment matching network: a GAN's program, fitted without an adversary."""

from __future__ import annotations

__all__ = ["gmmn"]

from collections.abc import Sequence

from torch import nn

from ppl_gen.models.gan import GAN, gan
from ppl_gen.nn import Activation
from ppl_gen.priors import Uniform
from ppl_gen.protocols import Conditional


def gmmn(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: Activation = nn.ReLU,
    prior: Conditional | None = None,
) -> GAN:
    """z ~ U[−1, 1]ᴰ, x = decoder(z): the perceptron of `gan` with a uniform prior.

    It is fitted by `ppl_gen.inference.moment_step`.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: D, the dimension of z.
        hidden: The widths from latent to data.
        activation: Makes the module between two layers.
        prior: Uniform(latent_dim) if left out.

    Examples:
        >>> program = models.gmmn((2,), latent_dim=3, hidden=[16])
        >>> type(program.prior).__name__, program.model(None, n=5).shape
        ('Uniform', torch.Size([5, 2]))

    Reference:
        Li, Swersky and Zemel (2015), Generative moment matching networks, section 3.
    """
    if prior is None:
        prior = Uniform(latent_dim)
    return gan(shape, latent_dim, hidden=hidden, activation=activation, prior=prior)
