"""The hierarchical VAE: zL ~ p(zL), zₗ ~ p(zₗ | zₗ₊₁) down to z1, x ~ p(x | decoder(z1))."""

from __future__ import annotations

__all__ = ["HierarchicalVAE", "hierarchical_vae", "with_layer_above"]

from collections.abc import Callable, Sequence

import pyro
from torch import Tensor, nn

from ppl_gen.guides import BottomUp, DiagonalGaussian, Family, TopDown, diagonal, guide_of_family
from ppl_gen.guides.family import as_module
from ppl_gen.likelihoods import (
    Bernoulli,
    parameters_per_datum,
    parameters_per_value,
    takes_missing,
)
from ppl_gen.models.vae import VAE
from ppl_gen.nn import Activation, Shape, mlp, mlp_of_data
from ppl_gen.priors import ConditionalNormal, StandardNormal
from ppl_gen.program import per_datum, register
from ppl_gen.protocols import Conditional
from ppl_gen.sharing import shared

# From the widths of its layers to a network that sees data.
_NetworkOfData = Callable[[Sequence[int]], nn.Module]


class HierarchicalVAE(nn.Module):
    """p(x, z1, …, zL) = p(zL) p(zL−1 | zL) … p(z1 | z2) p(x | decoder(z1)).

    The latents are the sites "z1", next to the data, to "zL". All but the decoder and likelihood
    are together a prior of z1 that is learned, and no Gaussian.

    Args:
        prior: `prior()` is p(zL), that of the top layer.
        layers: L − 1 modules, from the data up; `layers[l − 1](z)` is p(zₗ | zₗ₊₁ = z).
        decoder: Maps z1 (*batch, D₁) to the likelihood's parameters.
        likelihood: `likelihood(decoder(z1))` is p(x | z1).
        encoder: `encoder(x, layers)` samples z1, …, zL from q given x (N, *shape) and the layers of
            the model: `ppl_gen.guides.BottomUp`, `ppl_gen.guides.TopDown` or a function of your
            own.

    Raises:
        ValueError: If there are no layers.

    Examples:
        >>> from ppl_gen.program import simulate_sites
        >>> program = hierarchical_vae((4,), latent_dims=[3, 2], hidden=[8])
        >>> {name: site["value"].shape for name, site in simulate_sites(program, 5).items()}
        {'z2': torch.Size([5, 2]), 'z1': torch.Size([5, 3]), 'x': torch.Size([5, 4])}

    Reference:
        Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference
        in deep generative models; Burda, Grosse and Salakhutdinov (2016), Importance weighted
        autoencoders.
    """

    def __init__(
        self,
        prior: Conditional,
        layers: Sequence[nn.Module],
        decoder: nn.Module,
        likelihood: Conditional,
        encoder: Callable[..., Tensor],
    ) -> None:
        super().__init__()
        if len(layers) == 0:
            raise ValueError(
                "expected a layer p(z1 | z2) or more, got none; a program of one layer of latents "
                "is ppl_gen.models.VAE"
            )
        self.prior = prior
        self.layers = nn.ModuleList(layers)
        self.decoder = decoder
        self.likelihood = likelihood
        self.encoder = encoder

    def model(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """x of shape (N, *shape) is scored; without x, n data are drawn."""
        register(self)
        given_above = self.prior()
        with pyro.plate("data", n if x is None else x.shape[0]):
            z = pyro.sample(f"z{len(self.layers) + 1}", given_above)
            for layer in range(len(self.layers), 0, -1):
                given_above = shared(self.layers[layer - 1], z)
                z = pyro.sample(f"z{layer}", given_above)
            likelihood = self.likelihood(self.decoder(z))
            return pyro.sample("x", per_datum(likelihood, z.dim() - given_above.event_dim), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """z1, …, zL ~ q(z1, …, zL | x); returns that which is drawn last."""
        register(self)
        with pyro.plate("data", x.shape[0]):
            drawn: Tensor = self.encoder(x, self.layers)
            return drawn


def hierarchical_vae(
    shape: Sequence[int],
    latent_dims: Sequence[int] = (100, 50),
    *,
    hidden: Sequence[int] = (200, 200),
    activation: Activation = nn.Tanh,
    likelihood: Conditional | None = None,
    prior: Conditional | None = None,
    guide: Family = diagonal,
    top_down: bool = False,
) -> HierarchicalVAE:
    """A hierarchical VAE of multilayer perceptrons: shape – hidden – z1 – hidden / 2 – z2 – ….

    The defaults are the two layers of Burda et al. (2016), Importance weighted autoencoders:
    784–200–200–100–100–100–50 for MNIST, mirrored.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        latent_dims: The dimensions of z1, …, zL, from the data up.
        hidden: The widths of the networks between data and z1, from the data up; between z1 and z2
            they have half of these, and so on. The decoder has them in reverse.
        activation: Makes the module between two layers.
        likelihood: Bernoulli() if left out.
        prior: p(zL); StandardNormal(latent_dims[-1]) if left out.
        guide: The family of each q(zₗ | zₗ₋₁), or, top down, of q(zL | x): a function of (net, dim)
            of `ppl_gen.guides` or one of your own.
        top_down: Whether the guide goes from the top down, as the ladder does (`TopDown`), and not
            from the data up (`BottomUp`).

    Raises:
        ValueError: If there are fewer than two layers, a size is below 1, the weights do not fit
            into memory, or `guide` is no family.

    Examples:
        >>> from ppl_gen.inference import elbo
        >>> program = hierarchical_vae((4,), latent_dims=[3, 2], hidden=[8], top_down=True)
        >>> elbo(program, program.guide, torch.zeros(5, 4)).value.shape
        torch.Size([5])
    """
    dims = _dims(latent_dims)
    if likelihood is None:
        likelihood = Bernoulli()
    if prior is None:
        prior = StandardNormal(dims[-1])
    widths = [_narrowed(hidden, layer) for layer in range(len(dims))]

    def of_data(layers: Sequence[int]) -> nn.Module:
        return mlp_of_data(shape, layers, activation, missing=takes_missing(likelihood))

    if top_down:
        encoder: nn.Module = _ladder(of_data, dims, widths, activation, guide)
    else:
        encoder = _chain(of_data, dims, widths, activation, guide)
    layers = []
    for layer in range(len(dims) - 1):
        sizes = [dims[layer + 1], *reversed(widths[layer + 1]), 2 * dims[layer]]
        layers.append(ConditionalNormal(mlp(sizes, activation)))
    last = Shape(shape, parameters_per_value(likelihood), parameters_per_datum(likelihood))
    decoder = mlp([dims[0], *reversed(widths[0]), last.inputs], activation)
    return HierarchicalVAE(prior, layers, nn.Sequential(decoder, last), likelihood, encoder)


def with_layer_above(
    vae: VAE, latent_dim: int, *, hidden: Sequence[int] = (100,)
) -> HierarchicalVAE:
    """A VAE whose prior is learned as a layer of latents: z2 ~ p(z2), z1 ~ N(z1; μ(z2), σ(z2)²).

    The parts of the VAE are shared: its prior is that of z2, and its encoder q(z1 | x).

    Args:
        vae: Any VAE whose latents are vectors, a convolutional one for example, with a prior of
            dimension D.
        latent_dim: D, the dimension of z1 and of z2.
        hidden: The widths of the networks from z1 to z2; those from z2 to z1 have them in reverse.

    Raises:
        ValueError: If a size is below 1, or the weights do not fit into memory.

    Examples:
        >>> below = models.vae((4,), latent_dim=2, hidden=[8])
        >>> program = with_layer_above(below, latent_dim=2)
        >>> program.model(None, n=5).shape
        torch.Size([5, 4])
    """
    down = mlp([latent_dim, *reversed(hidden), 2 * latent_dim], nn.Tanh)
    up = mlp([latent_dim, *hidden, 2 * latent_dim], nn.Tanh)
    encoder = BottomUp([as_module(vae.encoder), DiagonalGaussian(up)])
    layers = [ConditionalNormal(down)]
    return HierarchicalVAE(vae.prior, layers, vae.decoder, vae.likelihood, encoder)


def _dims(latent_dims: Sequence[int]) -> list[int]:
    """The dimensions of two layers or more; raises ValueError if there are fewer."""
    if not isinstance(latent_dims, Sequence) or len(latent_dims) < 2:
        raise ValueError(
            "expected the dimensions of two layers of latents or more, from the data up, such as "
            f"(100, 50), got {latent_dims}; one layer is what ppl_gen.models.vae has"
        )
    return list(latent_dims)


def _narrowed(hidden: Sequence[int], layer: int) -> list[int]:
    """The widths of networks between layers `layer` and `layer` + 1 of latents; 0 are the data."""
    return [max(width // 2**layer, 1) for width in hidden]


def _chain(
    of_data: _NetworkOfData,
    dims: Sequence[int],
    widths: Sequence[Sequence[int]],
    activation: Activation,
    guide: Family,
) -> BottomUp:
    """A guide from the data up, the networks of each layer its own.

    Args:
        of_data: Makes the network next to the data, of the widths of its layers.
        dims: The dimensions of the latents, from the data up.
        widths: The widths of the network below each layer of latents.
        activation: Makes the module between two layers.
        guide: The family of every layer.
    """
    encoders = []
    for layer, dim in enumerate(dims):

        def net(outputs: int, layer: int = layer) -> nn.Module:
            if layer == 0:
                return of_data([*widths[0], outputs])
            return mlp([dims[layer - 1], *widths[layer], outputs], activation)

        encoders.append(guide_of_family(guide, net, dim))
    return BottomUp(encoders)


def _ladder(
    of_data: _NetworkOfData,
    dims: Sequence[int],
    widths: Sequence[Sequence[int]],
    activation: Activation,
    guide: Family,
) -> TopDown:
    """A guide from the top down.

    Args:
        of_data: Makes the network next to the data, of the widths of its layers.
        dims: The dimensions of the latents, from the data up.
        widths: The widths of the network below each layer of latents; the last is the number of
            features.
        activation: Makes the module between two layers.
        guide: The family of the top layer.
    """
    features = []
    encoders: list[nn.Module] = []
    net = of_data(widths[0])
    for layer, dim in enumerate(dims):
        below = widths[layer][-1]
        if layer > 0:
            net = mlp([widths[layer - 1][-1], *widths[layer]], activation)
        features.append(nn.Sequential(net, activation()))
        if layer < len(dims) - 1:
            encoders.append(DiagonalGaussian(nn.Linear(below, 2 * dim)))
    encoders.append(guide_of_family(guide, lambda outputs: nn.Linear(below, outputs), dims[-1]))
    return TopDown(features, encoders)
