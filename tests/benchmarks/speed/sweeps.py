"""How time grows with a size: log time against log size."""

from __future__ import annotations

__all__ = ["SWEEPS", "Curve", "Sweep", "follow"]

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from by_hand.rivals import Rival

from ppl_gen.models import conv_vae
from speed.contest import Contest, hold
from speed.evidence import importance_of
from speed.posteriors import chains_of
from speed.scale import Scale
from speed.steps import MNIST, by_library, step_of_perceptrons


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A contest at several sizes.

    Attributes:
        of: What is timed.
        over: What grows.
        sizes: It takes these.
        contest: At a size. Its unit is a call, or one that does not grow with the size.
    """

    of: str
    over: str
    sizes: tuple[int, ...]
    contest: Callable[[Scale, int], Contest]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How the time of a contestant grows.

    Attributes:
        sizes: Where it was timed.
        seconds: Of a unit at each.
        exponent: The slope of log seconds on log size: 1 where time is proportional to size.
    """

    sizes: list[int]
    seconds: list[float]
    exponent: float


def _by_batch(scale: Scale, size: int) -> Contest:
    return step_of_perceptrons(MNIST._replace(batch=size), _without_compilers(scale))


def _by_latents(scale: Scale, size: int) -> Contest:
    return step_of_perceptrons(MNIST._replace(latent=size), _without_compilers(scale))


def _without_compilers(scale: Scale) -> Scale:
    """A compiler would take seconds at every size."""
    return Scale(**{**vars(scale), "compiles": False})


def _convolutions(side: int) -> Rival:
    x = torch.rand(16, 1, side, side).round()
    program = conv_vae((1, side, side), 10)
    return Rival(lambda: torch.zeros(()), [], program, (x,))


def _by_side(scale: Scale, size: int) -> Contest:
    way = partial(by_library, partial(_convolutions, size), 3, "fx")
    return Contest(
        what=f"{size} × {size}", unit="step", ways={"ppl-gen, fx": way}, rounds=min(scale.rounds, 5)
    )


SWEEPS = {
    "batch": Sweep(
        of="SVI step, 784-200-200-10", over="batch", sizes=(25, 100, 400, 1600), contest=_by_batch
    ),
    "latents": Sweep(
        of="SVI step, 784-200-200-L", over="latents", sizes=(4, 16, 64, 256), contest=_by_latents
    ),
    "image side": Sweep(
        of="SVI step, convolutions", over="side", sizes=(8, 16, 32, 64), contest=_by_side
    ),
    "particles": Sweep(
        of="IW evidence of 10 images",
        over="particles",
        sizes=(100, 400, 1600, 6400),
        contest=importance_of,
    ),
    "chains": Sweep(
        of="hmc, MLP posterior", over="chains", sizes=(8, 32, 128, 512), contest=chains_of
    ),
}


def follow(sweep: Sweep, scale: Scale) -> dict[str, Curve]:
    """A curve for each contestant that takes part at every size, by name."""
    sizes = sweep.sizes[: scale.sizes]
    seconds: dict[str, list[float]] = {}
    for size in sizes:
        for who, score in hold(sweep.contest(scale, size)).items():
            if score.seconds is not None:
                seconds.setdefault(who, []).append(score.seconds)
    logs = [math.log(size) for size in sizes]
    curves = {}
    for who, taken in seconds.items():
        if len(taken) == len(sizes):
            slope = statistics.linear_regression(logs, [math.log(each) for each in taken]).slope
            curves[who] = Curve(sizes=list(sizes), seconds=taken, exponent=slope)
    return curves
