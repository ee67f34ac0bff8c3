"""InfoGAN: z ~ p(z), c ~ p(c), x = decoder(z, c), with heads q(c | x) that read the codes off x."""

from __future__ import annotations

__all__ = ["InfoGAN", "infogan"]

import math
from collections.abc import Mapping, Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.guides import DiagonalGaussian
from ppl_gen.memory import expect_weights
from ppl_gen.nn import Activation, Condition, Shape, mlp
from ppl_gen.priors import OneHot, StandardNormal, Uniform
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional, Distribution


class InfoGAN(nn.Module):
    """p(x, z, c) = p(z) Πₖ p(cₖ) δ(x − decoder(z, c)), with heads q(cₖ | x).

    Args:
        prior: `prior()` is p(z), the noise.
        codes: By the names of their sites, the priors p(cₖ) over vectors.
        decoder: Maps z (*batch, D) and the codes side by side (*batch, C) to x.
        heads: By the same names, the conditionals q(cₖ | features(x)).
        features: From x (N, *shape) to vectors that all heads see.

    Examples:
        >>> from ppl_gen.program import simulate_sites
        >>> program = infogan((2,), latent_dim=3, categories=4, continuous=1, hidden=[8])
        >>> {name: site["value"].shape[-1] for name, site in simulate_sites(program, 5).items()}
        {'z': 3, 'c': 4, 'u': 1, 'x': 2}

    Reference:
        Chen et al. (2016), InfoGAN: interpretable representation learning by information maximizing
        generative adversarial nets.
    """

    def __init__(
        self,
        prior: Conditional,
        codes: Mapping[str, nn.Module],
        decoder: nn.Module,
        heads: Mapping[str, nn.Module],
        features: nn.Module,
    ) -> None:
        super().__init__()
        if codes.keys() != heads.keys():
            raise ValueError(f"expected a head for each code {sorted(codes)}, got {sorted(heads)}")
        self.prior = prior
        self.codes = nn.ModuleDict(codes)
        self.decoder = decoder
        self.heads = nn.ModuleDict(heads)
        self.features = features

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Without x, n data are drawn; x has a density under `Observed` only."""
        register(self)
        prior = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample("z", prior)
            codes = [pyro.sample(name, code()) for name, code in self.codes.items()]
            point = dist.Delta(self.decoder(z, torch.cat(codes, -1)))
            return pyro.sample("x", per_datum(point, z.dim() - prior.event_dim), obs=x)

    def posterior(self, x: Tensor) -> None:
        """cₖ ~ q(cₖ | x), the codes alone; x of shape (N, *shape)."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            features = self.features(x)
            for name, head in self.heads.items():
                pyro.sample(name, head(features))


class _OneHotHead(nn.Module):
    """q(c | x) over unit vectors, its logits linear in the features."""

    def __init__(self, inputs: int, categories: int) -> None:
        super().__init__()
        self.net = nn.Linear(inputs, categories)

    def forward(self, features: Tensor) -> Distribution:
        return dist.OneHotCategorical(logits=self.net(features))


def infogan(
    shape: Sequence[int],
    latent_dim: int,
    *,
    categories: int = 10,
    continuous: int = 0,
    hidden: Sequence[int] = (256, 256),
    activation: Activation = nn.ReLU,
    prior: Conditional | None = None,
) -> InfoGAN:
    """An InfoGAN of multilayer perceptrons, with a discrete code "c" and a continuous one "u".

    Images (C, H, W) end in a sigmoid, in [0, 1].

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dim: The dimension of the noise z.
        categories: The number of values of c.
        continuous: U; "u" is uniform on [−1, 1]ᵁ, and its head is a diagonal Gaussian. With 0 there
            is no "u".
        hidden: The widths from latent to data; the heads' features have them in reverse.
        activation: Makes the module between two layers.
        prior: StandardNormal(latent_dim) if left out.

    Examples:
        >>> program = models.infogan((2,), latent_dim=3, categories=4, hidden=[8])
        >>> program.model(None, n=5).shape
        torch.Size([5, 2])
    """
    expect_at_least(1, latent_dim=latent_dim)
    expect_weights((hidden[0], categories), (hidden[0], 2 * continuous))
    codes: dict[str, nn.Module] = {"c": OneHot(categories)}
    heads: dict[str, nn.Module] = {"c": _OneHotHead(hidden[0], categories)}
    if continuous:
        codes["u"] = Uniform(continuous)
        heads["u"] = DiagonalGaussian(nn.Linear(hidden[0], 2 * continuous))
    if prior is None:
        prior = StandardNormal(latent_dim)
    size = math.prod(shape)
    inputs = latent_dim + categories + continuous
    layers: list[nn.Module] = [mlp([inputs, *hidden, size], activation)]
    if len(shape) == 3:
        layers.append(nn.Sigmoid())
    decoder = nn.Sequential(*layers, Shape(shape))
    features = nn.Sequential(
        nn.Flatten(-len(shape)), mlp([size, *reversed(hidden)], activation), activation()
    )
    return InfoGAN(prior, codes, Condition(decoder), heads, features)
