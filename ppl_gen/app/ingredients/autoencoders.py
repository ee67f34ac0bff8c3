"""Autoencoders as programs: what they are fitted by, and the density of their codes."""

from __future__ import annotations

__all__ = [
    "CORRUPTIONS",
    "DENSITIES",
    "Density",
    "as_program",
    "by_reconstruction",
    "complete_codes",
    "corruption_of",
    "layer_by_layer",
    "net_of",
]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.fitting import Fitting, Start
from ppl_gen.app.ingredients.stopping import Stopping
from ppl_gen.corruptions import Corruption, gaussian_noise, masking, salt_and_pepper
from ppl_gen.data import Split
from ppl_gen.flows import coupling_flow
from ppl_gen.guides import SharedScaleGaussian
from ppl_gen.inference import ReconstructionValidation, greedy_step, reconstruction_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.reconstruction import squared_error
from ppl_gen.likelihoods import Gaussian
from ppl_gen.models import VAE, Autoencoder, with_prior
from ppl_gen.penalties import Penalty
from ppl_gen.priors import fitted
from ppl_gen.protocols import Step

_MOST = 10_000  # codes that a density is fitted to
_AT_ONCE = 1000  # data that are encoded in one call
_COMPONENTS = 10
_WIDTHS = (64, 64)  # of the networks of the flow

# By name, from the share of values that are destroyed, or the scale of the noise.
CORRUPTIONS: dict[str, Callable[[float], Corruption]] = {
    "masking": masking,
    "gaussian": gaussian_noise,
    "salt-and-pepper": salt_and_pepper,
}


def corruption_of(config: Config) -> Corruption:
    """The corruption of a configuration.

    Raises:
        ValueError: If its share of values is above 1.
    """
    if config.noise > 1 and config.corruption != "gaussian":
        raise ValueError(
            f"expected --noise from 0 to 1, a share of values, for --corruption "
            f"{config.corruption}, got {config.noise}; --corruption gaussian takes any scale"
        )
    return CORRUPTIONS[config.corruption](config.noise)


@dataclass(frozen=True, kw_only=True)
class Density:
    """A density of codes, by name.

    Attributes:
        least: The fewest codes that it can be fitted to.
        blank: From the number of codes and their dimension to one of its form, not yet fitted.
        fit: From codes (N, D) and a seed to the fitted one.
    """

    least: int
    blank: Callable[[int, int], nn.Module]
    fit: Callable[[Tensor, int], nn.Module]


def _gaussians(count: int) -> Callable[[int, int], nn.Module]:
    """What makes a mixture of so many standard normal distributions."""

    def blank(n: int, dim: int) -> nn.Module:
        tril = torch.eye(dim).repeat(count, 1, 1)
        return fitted.MultivariateMixture(torch.ones(count) / count, torch.zeros(count, dim), tril)

    return blank


def _kernel(n: int, dim: int) -> nn.Module:
    return fitted.KernelDensity(torch.zeros(n, dim), 1.0)


def _flow(n: int, dim: int) -> nn.Module:
    made = coupling_flow(dim, hidden=_WIDTHS)
    return fitted.FittedFlow(made, torch.zeros(dim), torch.ones(dim))


DENSITIES = {
    "factored": Density(
        least=2,
        blank=_gaussians(1),
        fit=lambda codes, seed: fitted.factored_gaussian(codes),
    ),
    "full": Density(
        least=2,
        blank=_gaussians(1),
        fit=lambda codes, seed: fitted.full_gaussian(codes),
    ),
    "mixture": Density(
        least=_COMPONENTS,
        blank=_gaussians(_COMPONENTS),
        fit=lambda codes, seed: fitted.mixture(codes, _COMPONENTS, seed=seed),
    ),
    "kernel": Density(
        least=2,
        blank=_kernel,
        fit=lambda codes, seed: fitted.kernel(codes),
    ),
    "flow": Density(
        least=10,
        blank=_flow,
        fit=lambda codes, seed: fitted.flow(codes, hidden=_WIDTHS, seed=seed),
    ),
}


def as_program(autoencoder: Autoencoder, config: Config, data: Any) -> VAE:
    """The program that an autoencoder becomes once it is fitted, and its codes have a density.

    Args:
        autoencoder: A new one.
        config: What was asked for.
        data: What it is to be fitted to.

    Raises:
        ValueError: If there are too few data for the density of codes.
    """
    density = DENSITIES[config.codes]
    count = len(data.train)
    if count < density.least:
        raise ValueError(
            f"expected at least {density.least} data for --codes {config.codes}, got {count}; take "
            "--codes full, or more data"
        )
    prior = density.blank(min(count, _MOST), config.latent_dim)
    guide = SharedScaleGaussian(autoencoder.encoder, torch.zeros(config.latent_dim))
    return VAE(prior, autoencoder.decoder, Gaussian(initial_scale=1.0), guide)


def net_of(program: Any) -> Autoencoder:
    """The autoencoder of such a program, with the same weights."""
    return Autoencoder(program.encoder.net, program.decoder)


def complete_codes(config: Config, program: Any, data: Any) -> None:
    """Puts the density of codes, the noise of data and the width of the guide into a program.

    Args:
        config: What was asked for.
        program: With the weights of a fitted autoencoder.
        data: What it was fitted to, of which at most 10,000 data are taken, drawn by the seed.
    """
    x = _some(data.train, config.seed)
    net = net_of(program)
    codes = torch.cat([net.encoder(rows) for rows in x.split(_AT_ONCE)])
    prior = DENSITIES[config.codes].fit(codes, config.seed)
    made: Any = with_prior(net, prior, x)
    program.prior.load_state_dict(prior.state_dict())
    program.likelihood.load_state_dict(made.likelihood.state_dict())
    program.encoder.log_scale.copy_(made.encoder.log_scale)


def _some(train: Any, seed: int) -> Tensor:
    """Training data, all or as many as a density is fitted to."""
    if isinstance(train, Split) and len(train) > _MOST:
        _, train = train.divided(_MOST, seed)
    return train.fixed(seed, _MOST).x


def by_reconstruction(
    start: Start, corruption: Corruption | None = None, penalty: Penalty | None = None
) -> Fitting:
    """By the error of reconstruction, under a corruption of what is seen and a penalty.

    Args:
        start: What every fitting begins with.
        corruption: From data to what the encoder sees.
        penalty: Of the encoder, for each datum.
    """
    net = net_of(start.program)
    optimizer = start.optimizer(net)

    def begin(first_step: int, engine: Engine) -> Step:
        return reconstruction_step(
            net,
            optimizer,
            corruption=corruption,
            penalty=penalty,
            engine=engine,
            first_step=first_step,
            across=start.across,
        )

    return _fitting(start, net, (optimizer,), begin)


def layer_by_layer(start: Start, epochs: int) -> Fitting:
    """Layer by layer, each for some epochs, and then the whole stack.

    Args:
        start: What every fitting begins with; the stack has a part for each layer.
        epochs: Of each layer.
    """
    net = net_of(start.program)
    encoders = list(net.encoder)  # type: ignore[call-overload]
    decoders = list(net.decoder)[::-1]  # type: ignore[call-overload]
    layers = [Autoencoder(*parts) for parts in zip(encoders, decoders, strict=True)]
    optimizers = tuple([start.optimizer(part) for part in (*layers, net)])
    steps = epochs * len(start.batches())

    def begin(first_step: int, engine: Engine) -> Step:
        return greedy_step(
            layers,
            optimizers,
            steps,
            first_step=first_step,
            engine=engine,
            across=start.across,
        )

    return _fitting(start, net, optimizers, begin, after=epochs * len(layers))


def _fitting(
    start: Start,
    net: Autoencoder,
    optimizers: tuple[torch.optim.Optimizer, ...],
    begin: Callable[[int, Engine], Step],
    after: int = 0,
) -> Fitting:
    """What moves while an autoencoder is fitted.

    Args:
        start: What every fitting begins with.
        net: The autoencoder of the program.
        optimizers: Of its weights.
        begin: From the number of steps done and an engine to the step.
        after: The number of epochs after which the error of held-out data may stop the fit.
    """
    x = start.probed()[0]
    patience = start.stopping(metric=ReconstructionValidation.METRIC, falls=True)
    stopping = None
    if patience is not None:
        stopping = Stopping(patience.rule, after)

    def probe() -> Tensor:
        return squared_error(net(x), x)

    return Fitting(
        program=start.program,
        condition=start.condition,
        companions=nn.ModuleDict(),
        optimizers=optimizers,
        batches=start.batches(),
        begin=begin,
        probe=probe,
        validation=start.validation_of(net),
        stopping=stopping,
        is_shared=True,
    )
