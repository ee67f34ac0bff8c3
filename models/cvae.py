"""The conditional VAE: z ~ p(z | y), x ~ p(x | decoder(z, y)), with the guide q(z | x, y)."""

from __future__ import annotations

__all__ = ["CVAE", "cvae"]

import math
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
from ppl_gen.nn import Activation, Condition, Shape, context_width, mlp, network_of_data
from ppl_gen.priors import ConditionalNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class CVAE(nn.Module):
    """p(x, z | y) = p(z | y) p(x | decoder(z, y)), with the guide q(z | x, y) = encoder(x, y).

    Args:
        prior: `prior(y)` is p(z | y); one that ignores y makes z and y independent.
        decoder: Maps z (*batch, D) and y (N, ...) to the likelihood's parameters.
        likelihood: `likelihood(decoder(z, y))` is p(x | z, y).
        encoder: `encoder(x, y)` is q(z | x, y).

    Examples:
        >>> from ppl_gen.program import simulate
        >>> program = cvae((4,), latent_dim=2, classes=10, hidden=[8])
        >>> simulate(program, 5, torch.full((5,), 7)).shape  # five sevens
        torch.Size([5, 4])

    Reference:
        Sohn, Lee and Yan (2015), Learning structured output representation using deep conditional
        generative models.
    """

    def __init__(
        self, prior: Conditional, decoder: nn.Module, likelihood: Conditional, encoder: Conditional
    ) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.encoder = encoder

    def model(self, x: Tensor | None, y: Tensor, *, n: int | None = None) -> Tensor:
        """x of shape (N, *shape) is scored given y; with x = None, one datum is drawn per row of y.

        Args:
            x: Data (N, *shape), or None.
            y: Labels (N,), attribute vectors (N, A), or N rows of whatever the networks embed.
            n: The number of rows of y; may be left out.
        """
        register(self)
        prior = self.prior(y)
        with pyro.plate("data", y.shape[0]):
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(self.decoder(z, y))
            return pyro.sample("x", per_datum(likelihood, z.dim() - prior.event_dim), obs=x)

    def guide(self, x: Tensor, y: Tensor) -> Tensor:
        """z ~ q(z | x, y), of shape (*particles, N, D)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.encoder(x, y))


def cvae(
    shape: Sequence[int],
    latent_dim: int,
    *,
    classes: int | None = None,
    attributes: int | None = None,
    embed: nn.Module | None = None,
    hidden: Sequence[int] = (200, 200),
    activation: Activation = nn.Tanh,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> CVAE:
    """A CVAE of multilayer perceptrons, with y in prior, decoder and encoder.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of z.
        classes: The number of labels, if y is a label (N,), −1 where missing.
        attributes: The length A of an attribute vector (N, A), or of embed(y).
        embed: Turns y, an image or the tokens of a caption, into (N, A); prior, decoder and encoder
            share it.
        hidden: The widths from data to latent; the decoder has them in reverse, a learned prior
            the last of them.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: A learned N(z; μ(y), diag σ(y)²) if left out.
        guide: The family of q(z | x, y), a function of (net, dim) of `ppl_gen.guides` or one of
            your own.

    Raises:
        ValueError: If not exactly one of `classes` and `attributes` is given, `embed` without
            `attributes`, or `guide` is no family.

    Examples:
        >>> from ppl_gen.inference import elbo
        >>> program = models.cvae((4,), latent_dim=2, classes=10, hidden=[8])
        >>> elbo(program, program.guide, torch.zeros(5, 4), torch.arange(5)).value.shape
        torch.Size([5])
    """
    width = context_width(classes, attributes, embed, needed=True)
    if likelihood is None:
        likelihood = Bernoulli()

    def net(outputs: int) -> nn.Module:
        def perceptron(seen: Sequence[int]) -> nn.Module:
            layers = mlp([math.prod(seen) + width, *hidden, outputs], activation)
            return Condition(layers, classes, nn.Flatten(-len(seen)), embed)

        return network_of_data(perceptron, shape, missing=takes_missing(likelihood))

    encoder = guide_of_family(guide, net, latent_dim)
    last = Shape(shape, parameters_per_value(likelihood), parameters_per_datum(likelihood))
    decoder = nn.Sequential(
        mlp([latent_dim + width, *reversed(hidden), last.inputs], activation), last
    )
    if prior is None:
        of_prior = mlp([width, *hidden[-1:], 2 * latent_dim], activation)
        prior = ConditionalNormal(Condition(of_prior, classes, embed=embed))
    return CVAE(prior, Condition(decoder, classes, embed=embed), likelihood, encoder)
