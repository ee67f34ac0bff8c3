"""The networks of a configuration: activations by name, and widths of layers."""

from __future__ import annotations

__all__ = [
    "ACTIVATIONS",
    "check_hidden",
    "from_latent",
    "network_arguments",
    "of_critic",
    "one_width",
    "widths",
]

from collections.abc import Callable, Sequence
from typing import Any

from ppl_gen.app.config import Config
from ppl_gen.app.parts.part import Part, table_of

_NONE = "none"  # of hidden layers: a network is one linear layer
_SMALL = 32  # pixels a side below which images are small


def _of_torch(name: str) -> Callable[[], Any]:
    """What gives the class of this name of `torch.nn`, which makes the layer."""

    def make() -> Any:
        from torch import nn

        return getattr(nn, name)

    return make


def _activation(name: str, text: str, kind: str) -> Part:
    return Part(name=name, text=text, example=f"vae --activation {name}", make=_of_torch(kind))


# `make()` gives what makes the layer.
ACTIVATIONS = table_of(
    _activation("tanh", "tanh(h), that of fully connected VAEs", "Tanh"),
    _activation("relu", "max(h, 0), that of convolutions and GANs", "ReLU"),
    _activation("leaky-relu", "max(h, h / 100)", "LeakyReLU"),
    _activation("elu", "h above zero, exp(h) - 1 below", "ELU"),
    _activation("softplus", "log(1 + exp(h))", "Softplus"),
    _activation("gelu", "h times the normal distribution function at h", "GELU"),
    _activation("silu", "h sigmoid(h), also known as swish", "SiLU"),
)


def widths(config: Config) -> tuple[int, ...] | None:
    """The widths of hidden layers that were asked for; None where they were left out."""
    if config.hidden is None:
        return None
    if config.hidden == _NONE:
        return ()
    return tuple(map(int, config.hidden.split(",")))


def check_hidden(flag: str, value: str) -> None:
    """Raises ValueError unless a value is whole numbers from 1 on, with commas, or none."""
    if value == _NONE:
        return
    for width in value.split(","):
        if not width.strip().isdecimal() or int(width) < 1:
            raise ValueError(
                f"expected {flag} as whole numbers from 1 on with commas between, such as "
                f"200,200, or none for a linear network, got {value!r}"
            )


def network_arguments(config: Config) -> dict[str, Any]:
    """The arguments `hidden` and `activation` of a builder, as far as they were asked for."""
    arguments: dict[str, Any] = {}
    if "hidden" in config and config.hidden is not None:
        arguments["hidden"] = widths(config)
    if "activation" in config and config.activation is not None:
        arguments["activation"] = ACTIVATIONS[config.activation].make()
    return arguments


def one_width(config: Config) -> dict[str, Any]:
    """The argument `hidden` of a builder of convolutions, if it was asked for.

    Raises:
        ValueError: If several widths were.
    """
    asked = widths(config)
    if asked is None:
        return {}
    if len(asked) != 1:
        raise ValueError(
            f"expected one number with --hidden for {config.model}, the width of its layers beside "
            f"the latent, got {config.hidden}"
        )
    return {"hidden": asked[0]}


def from_latent(config: Config) -> dict[str, Any]:
    """The argument `hidden` of a builder that takes widths from latent to data, if asked for."""
    asked = widths(config)
    if asked is None:
        return {}
    return {"hidden": asked[::-1]}


def of_critic(config: Config) -> dict[str, Any]:
    """The argument `hidden` of a critic of linear layers, from data to score, if asked for."""
    asked = widths(config)
    if asked is None:
        return {}
    return {"hidden": asked}


def width_of_convolutions(config: Config, shape: Sequence[int]) -> int:
    """The channels of a generator and its critic: those asked for, else 64, or 32 for small images.

    Args:
        config: With an option `width`.
        shape: Of one datum, (C, H, W).
    """
    if config.width is not None:
        return int(config.width)
    if max(shape[1:], default=0) < _SMALL:
        return 32
    return 64
