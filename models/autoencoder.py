"""Autoencoders: an encoder and a decoder, without a distribution of what lies between them."""

from __future__ import annotations

__all__ = [
    "Autoencoder",
    "autoencoder",
    "autoencoder_layers",
    "classifier",
    "conv_autoencoder",
    "pca",
    "stacked",
    "with_prior",
]

import itertools
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_gen.counts import expect_at_least
from ppl_gen.guides import SharedScaleGaussian
from ppl_gen.likelihoods import Gaussian
from ppl_gen.memory import expect_weights
from ppl_gen.models.vae import VAE
from ppl_gen.nn import Activation, Shape, conv_decoder, conv_features, mlp
from ppl_gen.protocols import Conditional

_TALL = 20  # rows for each column above which XᵀX is decomposed, which takes less time
_AT_ONCE = 1000  # data that are reconstructed in one call
_RIDGE = 1e-6  # a share of the mean variance of codes
_FEW = 200  # data at which the decoder's slopes are looked at


class Autoencoder(nn.Module):
    """x ↦ decoder(encoder(x)).

    It has no likelihood: `inference.reconstruction_step` fits it, and `with_prior` makes it a
    program.

    Args:
        encoder: Maps data (*batch, *shape) to codes (*batch, d).
        decoder: Maps codes (*batch, d) to data.

    Examples:
        >>> program = Autoencoder(nn.Linear(4, 2), nn.Linear(2, 4))
        >>> program(torch.zeros(5, 4)).shape
        torch.Size([5, 4])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(self.encoder(x))
        return reconstruction


def autoencoder(
    shape: Sequence[int],
    code_dim: int,
    *,
    hidden: Sequence[int] = (500,),
    activation: Activation = nn.ReLU,
    of_code: Activation | None = None,
) -> Autoencoder:
    """An autoencoder of multilayer perceptrons; with hidden=() a linear one.

    A code may be wider than the data (overcomplete) where a corruption or a penalty keeps it from
    learning the identity.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        code_dim: d, the dimension of the code.
        hidden: The widths from data to code; the decoder has them in reverse.
        activation: Makes the module between two layers.
        of_code: Makes a module that the code passes, such as nn.Sigmoid; none if left out.

    Raises:
        ValueError: If a size is below 1, or the weights do not fit into memory.

    Examples:
        >>> program = models.autoencoder((1, 8, 8), code_dim=3, hidden=[16])
        >>> program.encoder(torch.zeros(5, 1, 8, 8)).shape, program(torch.zeros(5, 1, 8, 8)).shape
        (torch.Size([5, 3]), torch.Size([5, 1, 8, 8]))
    """
    size = math.prod(shape)
    layers = [nn.Flatten(-len(shape)), *mlp([size, *hidden, code_dim], activation)]
    if of_code is not None:
        layers.append(of_code())
    decoder = mlp([code_dim, *reversed(hidden), size], activation)
    return Autoencoder(nn.Sequential(*layers), nn.Sequential(decoder, Shape(shape)))


def conv_autoencoder(
    shape: Sequence[int], code_dim: int, *, hidden: int = 256, activation: Activation = nn.ReLU
) -> Autoencoder:
    """An autoencoder of strided convolutions and transposed ones, for images of 8 to 64 pixels.

    Args:
        shape: (C, H, W), with any number of channels.
        code_dim: d, the dimension of the code.
        hidden: The width of the linear layers beside the code.
        activation: Makes the module between two layers.

    Raises:
        ValueError: If the shape is not that of such an image, or the weights do not fit into
            memory.

    Examples:
        >>> program = conv_autoencoder((3, 16, 16), code_dim=4, hidden=16)
        >>> program.encoder(torch.zeros(5, 3, 16, 16)).shape
        torch.Size([5, 4])
    """
    expect_at_least(1, code_dim=code_dim)
    expect_weights((hidden, code_dim))
    features = conv_features(shape, hidden, activation)
    encoder = nn.Sequential(features, nn.Linear(hidden, code_dim))
    decoder = conv_decoder(code_dim, shape, hidden=hidden, activation=activation)
    return Autoencoder(encoder, decoder)


def pca(x: Tensor, code_dim: int) -> Autoencoder:
    """The linear autoencoder of the least squared error: x ↦ x̄ + V Vᵀ(x − x̄).

    The columns of V are the first right singular vectors of the centred data, so that codes have
    the principal components for coordinates, uncorrelated and by falling variance.

    Args:
        x: Data (N, *shape).
        code_dim: d, at most the size of a datum and the number of data.

    Raises:
        ValueError: If d is out of range.

    Examples:
        >>> x = data.load("digits").train.x
        >>> program = pca(x, code_dim=10)
        >>> left = (program(x) - x).square().sum() / (x - x.mean(0)).square().sum()
        >>> round(left.item(), 2)  # of the variance, by ten components
        0.26

    Reference:
        Baldi and Hornik (1989), Neural networks and principal component analysis.
    """
    flat = x.flatten(1)
    most = min(flat.shape)
    if not 1 <= code_dim <= most:
        raise ValueError(
            f"expected a code_dim from 1 to {most}, as {len(x)} data of {flat.shape[1]} values "
            f"have principal components, got {code_dim}"
        )
    mean = flat.mean(0)
    components = _right_singular_vectors(flat - mean)[:code_dim]
    shape = x.shape[1:]
    encode = nn.Linear(flat.shape[1], code_dim).to(x)
    decode = nn.Linear(code_dim, flat.shape[1]).to(x)
    with torch.no_grad():
        encode.weight.copy_(components)
        encode.bias.copy_(-components @ mean)
        decode.weight.copy_(components.T)
        decode.bias.copy_(mean)
    encoder = nn.Sequential(nn.Flatten(-len(shape)), encode)
    return Autoencoder(encoder, nn.Sequential(nn.Sequential(decode), Shape(shape)))


def _right_singular_vectors(centred: Tensor) -> Tensor:
    """Vᵀ of U S Vᵀ, row by row by falling singular value; of XᵀX where X has many more rows."""
    rows, columns = centred.shape
    if rows < _TALL * columns:
        return torch.linalg.svd(centred, full_matrices=False)[2]
    wide = centred.double()
    vectors = torch.linalg.eigh(wide.T @ wide)[1]
    return vectors.flip(1).T.to(centred)


def autoencoder_layers(
    shape: Sequence[int], widths: Sequence[int], *, activation: Activation = nn.ReLU
) -> list[Autoencoder]:
    """Autoencoders of one layer each way, each of the codes of that before it, for a stack.

    The k-th has the encoder φ(W x + b) and the decoder φ(V h + c). φ, the activation, is left out
    where data and the code of the whole begin and end: of the first decoder and the last encoder.

    Args:
        shape: The shape of one datum, (C, H, W) or (D,).
        widths: Of the codes, from the data up; the last is that of the stack.
        activation: Makes φ.

    Raises:
        ValueError: If there are no widths, a size is below 1, or the weights do not fit into
            memory.

    Examples:
        >>> layers = autoencoder_layers((1, 8, 8), (32, 10))
        >>> stacked(layers).encoder(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """
    if not len(widths):
        raise ValueError("expected the width of one layer or more, got none; give widths=(200, 10)")
    of_codes: list[Activation | None] = [activation] * len(widths)
    of_codes[-1] = None
    layers = [autoencoder(shape, widths[0], hidden=(), of_code=of_codes[0])]
    for sizes, of_code in zip(itertools.pairwise(widths), of_codes[1:], strict=True):
        inputs, width = sizes
        made = autoencoder((inputs,), width, hidden=(), of_code=of_code)
        layers.append(Autoencoder(made.encoder, nn.Sequential(made.decoder, activation())))
    return layers


def classifier(encoder: nn.Module, code_dim: int, classes: int) -> nn.Sequential:
    """x ↦ W encoder(x) + b, the logits of K classes: for a fit from what an encoder has learned.

    Args:
        encoder: Maps data (N, *shape) to codes (N, d), such as that of a fitted autoencoder, whose
            weights are shared: `inference.classification_step` moves them too.
        code_dim: d.
        classes: K.

    Raises:
        ValueError: If a size is below 1.

    Examples:
        >>> learned = models.autoencoder((4,), code_dim=3, hidden=[8])
        >>> net = classifier(learned.encoder, code_dim=3, classes=10)
        >>> net(torch.zeros(5, 4)).shape
        torch.Size([5, 10])
    """
    expect_at_least(1, code_dim=code_dim, classes=classes)
    return nn.Sequential(encoder, nn.Linear(code_dim, classes))


def stacked(autoencoders: Sequence[Autoencoder]) -> Autoencoder:
    """Autoencoders, each of the codes of that before it, as one deep autoencoder.

    They share their weights with it. Greedy training fits the first to data, the second to its
    codes, and so on, then the whole.

    Args:
        autoencoders: From the data up.

    Raises:
        ValueError: If there are none.

    Examples:
        >>> layers = autoencoder_layers((4,), (3, 2))  # 4 – 3 – 2, to be fitted one by one
        >>> stacked(layers).encoder(torch.zeros(5, 4)).shape
        torch.Size([5, 2])

    Reference:
        Bengio, Lamblin, Popovici and Larochelle (2007), Greedy layer-wise training of deep
        networks.
    """
    if len(autoencoders) == 0:
        raise ValueError("expected one autoencoder or more to stack, got none")
    encoders = [each.encoder for each in autoencoders]
    decoders = [each.decoder for each in reversed(autoencoders)]
    return Autoencoder(nn.Sequential(*encoders), nn.Sequential(*decoders))


def with_prior(autoencoder: Autoencoder, prior: Conditional, x: Tensor) -> VAE:
    """The program of an autoencoder and a density of its codes: drawn from, and judged in nats.

    p(z) = prior(), p(x | z) = N(decoder(z), σ²I), q(z | x) = N(encoder(x), diag s²). σ² is the mean
    squared error of x per value. s is that of the posterior where the decoder is linear between
    codes, 1/s² = E(∂log p(z)/∂zⱼ)² + ‖∂decoder/∂zⱼ‖²/σ², averaged over some data; it is a
    parameter, which `svi_step` makes better. The first term, of a Gaussian the diagonal of Σ⁻¹, is
    at least one over the variance of the code.

    Args:
        autoencoder: A fitted one; its parts become the program's.
        prior: A density of its codes: `priors.fitted.full_gaussian(autoencoder.encoder(x))`, a
            mixture, a kernel density, or any other.
        x: Data (N, *shape), those that it was fitted to.

    Raises:
        ValueError: If nothing is left to be explained by noise, since x is reconstructed exactly.

    Examples:
        >>> from ppl_gen.inference import log_evidence
        >>> from ppl_gen.priors.fitted import full_gaussian
        >>> x = data.load("digits").train.x
        >>> plain = pca(x, code_dim=10)
        >>> program = with_prior(plain, full_gaussian(plain.encoder(x)), x)
        >>> bound = log_evidence(program, program.guide, x[:5], particles=100)
        >>> bound.value.shape
        torch.Size([5])
    """
    with torch.no_grad():
        codes, variance = _codes_and_error(autoencoder, x)
        if not float(variance) > 0:
            raise ValueError(
                "expected an autoencoder with an error, got one that gives x back exactly, whose "
                "noise would have no width; take a narrower code, or data it was not fitted to"
            )
        some = codes[:_FEW]
        slopes = _squared_slopes(autoencoder.decoder, some)
        spread = codes.var(0)
        spread = spread + _RIDGE * spread.mean() + 1e-12  # a code may have a dimension that is dead
        of_prior = torch.maximum(1 / spread, _squared_scores(prior, codes))
        precision = of_prior + slopes / variance
        log_scale = -precision.mean(0).log() / 2
    guide = SharedScaleGaussian(autoencoder.encoder, log_scale)
    return VAE(prior, autoencoder.decoder, Gaussian(initial_scale=float(variance.sqrt())), guide)


def _squared_scores(prior: Conditional, codes: Tensor) -> Tensor:
    """(∂log p(z)/∂zⱼ)², averaged over codes, (D,)."""
    total = torch.zeros_like(codes[0])
    for rows in codes.split(_AT_ONCE):
        with torch.enable_grad():
            z = rows.detach().requires_grad_()
            (score,) = torch.autograd.grad(prior().log_prob(z).sum(), z)
        total += score.square().sum(0)
    return total / len(codes)


def _codes_and_error(autoencoder: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of data, and the mean squared error of their values, some rows at a time."""
    codes = []
    errors = []
    for rows in x.split(_AT_ONCE):
        codes.append(autoencoder.encoder(rows))
        made = autoencoder.decoder(codes[-1])
        errors.append((made - rows).square().flatten(1).mean(1))
    return torch.cat(codes), torch.cat(errors).mean()


def _squared_slopes(decoder: nn.Module, codes: Tensor) -> Tensor:
    """‖∂decoder/∂zⱼ‖² at each code, (N, D)."""
    slopes = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated")  # torch's own use
        for direction in torch.eye(codes.shape[1]).to(codes):
            moved: Tensor = torch.func.jvp(decoder, (codes,), (direction.expand_as(codes),))[1]
            slopes.append(moved.flatten(1).square().sum(1))
    return torch.stack(slopes, -1)
