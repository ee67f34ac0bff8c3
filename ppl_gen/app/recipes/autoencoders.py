"""`ppl-gen fit ae`, `denoising-ae`, `sparse-ae`, `contractive-ae`, `stacked-ae` and `pca`."""

from __future__ import annotations

__all__ = ["RECIPES"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.options import (
    DATA_SET,
    ENGINE,
    LATENT_DIM,
    NETWORK,
    SEED,
    STOPPING,
    TRAINING,
    Option,
    at_least,
    one_of,
)

# Torch and Pyro are imported when a recipe is used: the help of the command is made of recipes.
if TYPE_CHECKING:
    from ppl_gen.app.ingredients.fitting import Fitting, Start


def _densities() -> Iterable[str]:
    from ppl_gen.app.ingredients.autoencoders import DENSITIES

    return DENSITIES


def _corruptions() -> Iterable[str]:
    from ppl_gen.app.ingredients.autoencoders import CORRUPTIONS

    return CORRUPTIONS


CODES = Option(
    name="codes",
    kind=str,
    default="full",
    help=(
        "The density fitted to the codes, by which the model is sampled and judged in nats: "
        "factored or full (Gaussian), mixture (of ten), kernel or flow."
    ),
    check=one_of("density of codes", _densities),
)
CONV = Option(
    name="conv",
    kind=bool,
    default=False,
    help="Convolutions, for images of 8 to 64 pixels a side; --hidden is one width then.",
)
CORRUPTION = Option(
    name="corruption",
    kind=str,
    default="masking",
    help="What is done to data before the encoder sees them: masking, gaussian, salt-and-pepper.",
    check=one_of("corruption", _corruptions),
)
NOISE = Option(
    name="noise",
    kind=float,
    default=0.3,
    help="The share of values that --corruption destroys, or the scale of gaussian noise.",
    check=at_least(0),
)
SPARSITY = Option(
    name="sparsity",
    kind=float,
    default=0.1,
    help="Weight of the sum of absolute values of a code, beside the squared error of a datum.",
    check=at_least(0),
)
CONTRACTION = Option(
    name="contraction",
    kind=float,
    default=0.1,
    help="Weight of the encoder's squared Jacobian norm, beside the squared error of a datum.",
    check=at_least(0),
)
PRETRAINING = Option(
    name="pretraining",
    kind=int,
    default=None,
    help=(
        "Epochs of each layer on the codes of those before it; the rest of --epochs is of the "
        "whole. If left out, half of --epochs are spread over the layers."
    ),
    check=at_least(1),
)


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """What one autoencoder has that another has not.

    Attributes:
        name: What the user calls it.
        own: The options of its own.
        program: Makes it.
        fitting: Makes what moves while it is fitted.
        complete: What is computed once it is fitted.
        check: Raises ValueError if options do not go together.
        has_epochs: Whether it is fitted by steps.
    """

    name: str
    own: tuple[Option, ...]
    program: Callable[[Config, Any, Any], Any]
    fitting: Callable[[Start], Fitting]
    complete: Callable[[Config, Any, Any], None]
    check: Callable[[Config], None] = lambda config: None
    has_epochs: bool = True


def _network(config: Config, data: Any, condition: Any) -> Any:
    """A program of perceptrons, or of convolutions."""
    from ppl_gen import models
    from ppl_gen.app.ingredients.autoencoders import as_program
    from ppl_gen.app.parts.networks import network_arguments, one_width

    arguments = network_arguments(config)
    build: Callable[..., Any] = models.autoencoder
    if config.conv:
        if len(data.shape) != 3:
            raise ValueError(
                f"expected images for --conv, got data of shape {tuple(data.shape)}; leave it out"
            )
        build = models.conv_autoencoder
        arguments |= one_width(config)
    return as_program(build(data.shape, config.latent_dim, **arguments), config, data)


def _stack(config: Config, data: Any, condition: Any) -> Any:
    """A program whose encoder and decoder have a part for each layer."""
    from ppl_gen import models
    from ppl_gen.app.ingredients.autoencoders import as_program
    from ppl_gen.app.parts.networks import network_arguments

    arguments = network_arguments(config)
    hidden = arguments.pop("hidden", _HIDDEN)
    layers = models.autoencoder_layers(data.shape, (*hidden, config.latent_dim), **arguments)
    return as_program(models.stacked(layers), config, data)


_HIDDEN = (500, 250)  # of a stack


def _linear(config: Config, data: Any, condition: Any) -> Any:
    """A program of one layer each way, which principal components are put into."""
    import math

    from ppl_gen import models
    from ppl_gen.app.ingredients.autoencoders import as_program

    size = math.prod(data.shape)
    most = min(size, len(data.train))
    if config.latent_dim > most:
        raise ValueError(
            f"expected --latent-dim from 1 to {most}, as {len(data.train)} data of {size} values "
            f"have principal components, got {config.latent_dim}; take fewer"
        )
    return as_program(models.autoencoder(data.shape, config.latent_dim, hidden=()), config, data)


def _plain(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.autoencoders import by_reconstruction

    return by_reconstruction(start)


def _denoising(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.autoencoders import by_reconstruction, corruption_of

    return by_reconstruction(start, corruption=corruption_of(start.config))


def _sparse(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.autoencoders import by_reconstruction
    from ppl_gen.penalties import Sparse

    return by_reconstruction(start, penalty=Sparse(start.config.sparsity))


def _contractive(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.autoencoders import by_reconstruction
    from ppl_gen.penalties import Contractive

    return by_reconstruction(start, penalty=Contractive(start.config.contraction))


def _greedy(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.autoencoders import layer_by_layer

    config = start.config
    layers = len(start.program.encoder.net)
    epochs = config.pretraining
    if epochs is None:
        epochs = max(1, config.passes // (2 * layers))
    if epochs * layers > config.passes:
        raise ValueError(
            f"expected --epochs of at least {epochs * layers}, {epochs} for each of {layers} "
            f"layers, got {config.passes}; raise it, or lower --pretraining"
        )
    return layer_by_layer(start, epochs)


def _at_once(start: Start) -> Fitting:
    from ppl_gen.app.ingredients.fitting import at_once

    return at_once(start)


def _density_of_codes(config: Config, program: Any, data: Any) -> None:
    from ppl_gen.app.ingredients.autoencoders import complete_codes

    complete_codes(config, program, data)


def _components(config: Config, program: Any, data: Any) -> None:
    from ppl_gen import models
    from ppl_gen.app.ingredients.autoencoders import complete_codes, net_of

    x = data.train.fixed(config.seed).x
    found = models.pca(x, config.latent_dim)
    net_of(program).load_state_dict(found.state_dict())
    complete_codes(config, program, data)


def _check_noise(config: Config) -> None:
    """Raises ValueError if a share of values is above 1."""
    from ppl_gen.app.ingredients.autoencoders import corruption_of

    corruption_of(config)


_of_network = partial(_Variant, program=_network, complete=_density_of_codes)
_VARIANTS = (
    _of_network(name="ae", own=(*NETWORK, CONV), fitting=_plain),
    _of_network(
        name="denoising-ae",
        own=(*NETWORK, CONV, CORRUPTION, NOISE),
        fitting=_denoising,
        check=_check_noise,
    ),
    _of_network(name="sparse-ae", own=(*NETWORK, CONV, SPARSITY), fitting=_sparse),
    _of_network(name="contractive-ae", own=(*NETWORK, CONV, CONTRACTION), fitting=_contractive),
    _Variant(
        name="stacked-ae",
        own=(*NETWORK, PRETRAINING),
        program=_stack,
        fitting=_greedy,
        complete=_density_of_codes,
    ),
    _Variant(
        name="pca",
        own=(),
        program=_linear,
        fitting=_at_once,
        complete=_components,
        has_epochs=False,
    ),
)


def _recipe(place: int, variant: _Variant) -> Recipe:
    """The recipe of a variant, which becomes a program once it is fitted."""
    steps: tuple[Option, ...] = ()
    last: tuple[Option, ...] = (SEED,)
    if variant.has_epochs:
        steps = (*TRAINING, *STOPPING)
        last = (SEED, ENGINE)
    return Recipe(
        name=variant.name,
        place=place,
        options=(*DATA_SET, LATENT_DIM, *variant.own, CODES, *steps, *last),
        program=variant.program,
        fitting=variant.fitting,
        complete=variant.complete,
        check=variant.check,
        explicit=True,
        autoencodes=True,
        learning_rate=1e-3,
    )


RECIPES = tuple([_recipe(50, variant) for variant in _VARIANTS])
