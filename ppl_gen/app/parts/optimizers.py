"""Optimisers by name."""

from __future__ import annotations

__all__ = ["OPTIMIZERS", "optimizer", "weight_decay"]

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.parts.part import Part, table_of

# Torch is imported when an optimiser is made: the help of the command lists their names.
if TYPE_CHECKING:
    from torch.optim import Optimizer

_DECOUPLED = "adamw"
_DECAY = 0.01  # of the decoupled kind, where none was asked for
_MOMENTUM = 0.9


def _adam(weights: Any, rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    from torch.optim import Adam

    return Adam(weights, rate, betas, weight_decay=decay, fused=True)


def _adamw(weights: Any, rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    from torch.optim import AdamW

    return AdamW(weights, rate, betas, weight_decay=decay, fused=True)


def _rmsprop(weights: Any, rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    from torch.optim import RMSprop

    return RMSprop(weights, rate, weight_decay=decay)


def _sgd(weights: Any, rate: float, betas: tuple[float, float], decay: float) -> Optimizer:
    from torch.optim import SGD

    return SGD(weights, rate, momentum=_MOMENTUM, weight_decay=decay, fused=True)


# `make(weights, rate, betas, decay)`: the weights, the learning rate, Adam's decays of its averages
# of the gradient and of its square, and the weight decay.
OPTIMIZERS = table_of(
    Part(
        name="adam",
        text="Adam, the usual one",
        example="vae --optimizer adam --lr 1e-3",
        make=_adam,
    ),
    Part(
        name=_DECOUPLED,
        text="Adam with decoupled weight decay",
        example=f"vae --optimizer {_DECOUPLED} --weight-decay 0.01",
        make=_adamw,
    ),
    Part(
        name="rmsprop",
        text="the gradient over the root of its mean square",
        example="gan --optimizer rmsprop --lr 5e-5",
        make=_rmsprop,
    ),
    Part(
        name="sgd",
        text="stochastic gradient descent with momentum 0.9",
        example="vae --optimizer sgd --lr 1e-4",
        make=_sgd,
    ),
)


def optimizer(config: Config, weights: Iterable[Any], betas: tuple[float, float]) -> Optimizer:
    """The optimiser of a configuration, at its learning rate.

    Args:
        config: What was asked for.
        weights: What it moves.
        betas: Adam's decays of its averages of the gradient and of its square.
    """
    make = OPTIMIZERS[config.optimizer].make
    made: Optimizer = make(weights, config.lr, betas, weight_decay(config))
    return made


def weight_decay(config: Config) -> float:
    """The weight decay that was asked for; else that of the optimiser, 0 for most."""
    if config.weight_decay is not None:
        return float(config.weight_decay)
    if config.optimizer == _DECOUPLED:
        return _DECAY
    return 0.0
