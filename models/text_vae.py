"""The VAE of text: z ~ p(z), x ~ Πₜ p(xₜ | x₁, …, xₜ₋₁, decoder(z)), with the guide q(z | x)."""

from __future__ import annotations

__all__ = ["LanguageModel", "TextVAE", "language_model", "text_vae"]

import pyro
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.data import TextEncoder
from ppl_gen.guides import Family, diagonal, guide_of_family
from ppl_gen.likelihoods import Lines
from ppl_gen.memory import expect_weights
from ppl_gen.nn import mlp
from ppl_gen.priors import StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional


class TextVAE(nn.Module):
    """p(x, z) = p(z) Πₜ p(xₜ | x₁, …, xₜ₋₁, decoder(z)), with the guide q(z | x) = encoder(x).

    Lines x are Long (N, L), whole numbers with 0 behind the last token; `ppl_gen.data.load` makes
    them of a text file, and `ppl_gen.data.Vocabulary` of any lines.

    Args:
        prior: `prior()` is p(z).
        decoder: Maps z (*batch, D) to what the likelihood is given of it, (*batch, H).
        likelihood: `likelihood(decoder(z))` is p(x | z); `ppl_gen.likelihoods.Lines` is one.
        encoder: `encoder(x)` is q(z | x).

    Examples:
        >>> program = text_vae(vocabulary=5, length=7, latent_dim=2, hidden=8, embedding=4)
        >>> program.model(None, n=3).shape  # three lines of up to seven tokens
        torch.Size([3, 7])

    Reference:
        Bowman et al. (2016), Generating sentences from a continuous space.
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
        """Lines x (N, L) are scored; without x, n lines are drawn."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(self.decoder(z))
            return pyro.sample("x", per_datum(likelihood, z.dim() - prior.event_dim), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """z ~ q(z | x), of shape (*particles, N, D)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", self.encoder(x))


class LanguageModel(nn.Module):
    """p(x) = Πₜ p(xₜ | x₁, …, xₜ₋₁): the decoder of a `TextVAE` without a latent, its baseline.

    Its ELBO, of a guide that samples nothing, is its evidence.

    Args:
        likelihood: `likelihood(s)` is p(x) at a vector s that is learned.
        hidden: The size of s.

    Examples:
        >>> program = language_model(vocabulary=5, length=7, hidden=8, embedding=4)
        >>> program.model(None, n=3).shape
        torch.Size([3, 7])
    """

    def __init__(self, likelihood: Conditional, hidden: int) -> None:
        super().__init__()
        expect_weights((hidden,))
        self.likelihood = likelihood
        self.start = nn.Parameter(torch.zeros(hidden))

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Lines x (N, L) are scored; without x, n lines are drawn."""
        register(self)
        count = n if x is None else x.shape[0]
        with pyro.plate("data", count):
            return pyro.sample("x", self.likelihood(self.start.expand(count, -1)), obs=x)

    def guide(self, x: Tensor) -> None:
        """Nothing: there is no latent."""
        register(self)


def text_vae(
    vocabulary: int,
    length: int,
    latent_dim: int,
    *,
    hidden: int = 256,
    embedding: int = 64,
    word_dropout: float = 0.0,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
) -> TextVAE:
    """A VAE of lines, whose encoder and decoder are GRUs.

    Args:
        vocabulary: The number of tokens, the end of a line included: `len(data.vocabulary)`.
        length: L, the most tokens of a line.
        latent_dim: The dimension of z.
        hidden: The size of both GRUs.
        embedding: The size of a token's vector in the decoder.
        word_dropout: The probability with which, in training mode, the decoder reads a token that
            tells nothing; what is missing has to come from z.
        likelihood: p(x | s) at vectors s of `hidden` numbers; `Lines` of these sizes if left out.
        prior: StandardNormal(latent_dim) if left out.
        guide: The family of q(z | x), a function of (net, dim) of `ppl_gen.guides` or one of your
            own.

    Raises:
        ValueError: If there are fewer than two tokens, a size is below 1, the weights do not fit
            into memory, or the probability is not from 0 to below 1.

    Examples:
        >>> from ppl_gen.inference import elbo
        >>> program = models.text_vae(vocabulary=5, length=7, latent_dim=2, hidden=8, embedding=4)
        >>> lines = torch.tensor([[1, 2, 0, 0, 0, 0, 0]])
        >>> elbo(program, program.guide, lines, particles=10).value.shape
        torch.Size([1])
    """
    expect_at_least(1, latent_dim=latent_dim, **{"hidden units": hidden})
    if likelihood is None:
        likelihood = Lines(
            vocabulary, length, hidden=hidden, embedding=embedding, word_dropout=word_dropout
        )
    if prior is None:
        prior = StandardNormal(latent_dim)

    def net(outputs: int) -> nn.Module:
        expect_weights((vocabulary + 6 * hidden + outputs, hidden))
        return TextEncoder(vocabulary, outputs, hidden)

    return TextVAE(
        prior, mlp([latent_dim, hidden]), likelihood, guide_of_family(guide, net, latent_dim)
    )


def language_model(
    vocabulary: int,
    length: int,
    *,
    hidden: int = 256,
    embedding: int = 64,
    word_dropout: float = 0.0,
) -> LanguageModel:
    """The decoder of `text_vae` without a latent.

    Args:
        vocabulary: The number of tokens, the end of a line included: `len(data.vocabulary)`.
        length: L, the most tokens of a line.
        hidden: The size of the GRU.
        embedding: The size of a token's vector.
        word_dropout: The probability with which, in training mode, a token that tells nothing is
            read.

    Raises:
        ValueError: If there are fewer than two tokens, a size is below 1, the weights do not fit
            into memory, or the probability is not from 0 to below 1.

    Examples:
        >>> from ppl_gen.inference import log_evidence
        >>> program = language_model(vocabulary=5, length=7, hidden=8, embedding=4)
        >>> lines = torch.tensor([[1, 2, 0, 0, 0, 0, 0]])
        >>> log_evidence(program, program.guide, lines).value.shape  # without latents, it is exact
        torch.Size([1])
    """
    net = Lines(vocabulary, length, hidden=hidden, embedding=embedding, word_dropout=word_dropout)
    return LanguageModel(net, hidden)
