"""Optimisers by name, and schedules by name: how their learning rates move."""

from __future__ import annotations

__all__ = ["OPTIMIZERS", "SCHEDULES", "optimizer", "paced", "weight_decay"]

import math
from collections.abc import Callable, Iterable, Sequence
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


def _constant(epoch: int, epochs: int) -> float:
    return 1.0


def _cosine(epoch: int, epochs: int) -> float:
    return (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


def _linear(epoch: int, epochs: int) -> float:
    return (epochs - epoch + 1) / epochs


def _late_linear(epoch: int, epochs: int) -> float:
    return min(1.0, 2 * (epochs - epoch + 1) / epochs)


def _step(epoch: int, epochs: int) -> float:
    done = (epoch - 1) / epochs
    passed = sum(done >= share for share in _STEPS)
    return _FACTOR**passed


_STEPS = (0.5, 0.75)  # of the epochs, after which a rate falls
_FACTOR = 0.1

# `make(epoch, epochs)`: what the learning rate is multiplied by in an epoch, counted from 1, of so
# many. It depends on nothing else, so that a run that goes on has the rates of one that was left
# alone.
SCHEDULES = table_of(
    Part(
        name="constant",
        text="the learning rate as it is, the usual one",
        example="vae --schedule constant",
        make=_constant,
    ),
    Part(
        name="cosine",
        text="falls as half a cosine, towards zero after the last epoch",
        example="vae --schedule cosine --lr 3e-3",
        make=_cosine,
    ),
    Part(
        name="linear",
        text="falls by the same amount in each epoch, towards zero",
        example="vae --schedule linear --lr 3e-3",
        make=_linear,
    ),
    Part(
        name="late-linear",
        text="constant over half of the epochs, then linear; cycle-gan's own",
        example="gan --schedule late-linear",
        make=_late_linear,
    ),
    Part(
        name="step",
        text="a tenth of it after half of the epochs, again after three quarters",
        example="vae --schedule step --lr 3e-3",
        make=_step,
    ),
)


def paced(optimizers: Sequence[Optimizer], config: Config) -> Callable[[int], None]:
    """What sets the learning rates of an epoch, counted from 1, by the configuration's schedule.

    Args:
        optimizers: Whose rates are moved; what they are now is multiplied.
        config: What was asked for: a schedule, and how many epochs it is spread over.
    """
    share = SCHEDULES[config.schedule].make
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def pace(epoch: int) -> None:
        for optimizer, own in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate * share(epoch, config.passes)

    return pace


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
