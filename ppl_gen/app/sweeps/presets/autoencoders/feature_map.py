"""A density on a line or a curve in the plane, as its noise goes to zero."""

from __future__ import annotations

__all__ = ["PRESET"]

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import Number
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.plots.style import array, panels, styled

NOISES = (0.5, 0.1, 0.02)
MAPS = ("line", "curve")
OFF = 0.3  # of the point beside the manifold
DRAWS = 20_000  # of h
SIDE = 90  # points of the plane along each axis
REACH = 2.5
GRID = torch.linspace(-6.0, 6.0, 6001, dtype=torch.float64)  # of h, finer than the least noise


def feature_map(kind: str, h: Tensor) -> Tensor:
    """(h, 0), or (h, ½h² − ½), for each h, (N, 2).

    Args:
        kind: "line" or "curve".
        h: (N,).
    """
    second = torch.zeros_like(h)
    if kind == "curve":
        second = h.square() / 2 - 0.5
    return torch.stack([h, second], -1)


def log_density(kind: str, x: Tensor, noise: float) -> Tensor:
    """log ∫ N(x; f(h), ε²I) N(h; 0, 1) dh, (N,), by the trapezoidal rule.

    Args:
        kind: Of the map f.
        x: (N, 2).
        noise: ε.
    """
    log_prior = -GRID.square() / 2 - math.log(2 * math.pi) / 2
    parts = []
    for some in x.double().split(500):
        distances = torch.cdist(some, feature_map(kind, GRID)).square()
        exponents = log_prior - distances / (2 * noise**2) - math.log(2 * math.pi * noise**2)
        parts.append(exponents.logsumexp(-1) + math.log(float(GRID[1] - GRID[0])))
    return torch.cat(parts)


def measure(
    folder: Path, *, feature: str, noise: float, draws: int, seed: int
) -> Mapping[str, Any]:
    """The density on the manifold at h = 1 and beside it, by quadrature and by draws of h.

    Args:
        folder: Of the cell.
        feature: Of the map.
        noise: ε.
        draws: Of h.
        seed: Of the draws.
    """
    on = feature_map(feature, torch.ones(1, dtype=torch.float64))
    points = torch.cat([on, on + torch.tensor([[0.0, OFF]])])
    exact = log_density(feature, points, noise)
    h = torch.randn(draws, dtype=torch.float64)
    distances = torch.cdist(points, feature_map(feature, h)).square()
    exponents = -distances / (2 * noise**2) - math.log(2 * math.pi * noise**2)
    axis = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    save_arrays(folder, density=log_density(feature, plane, noise).reshape(SIDE, SIDE).T)
    return {
        "log p on it": float(exact[0]),
        "by draws": _log_mean(exponents[0]),
        f"log p {OFF:g} beside": float(exact[1]),
    }


def _log_mean(exponents: Tensor) -> Number:
    """The log of an average, and its standard error by the delta method."""
    highest = exponents.max()
    weights = (exponents - highest).exp()
    error = weights.std() / weights.mean() / math.sqrt(len(weights))
    return Number(float(weights.mean().log() + highest), float(error))


def cells(scope: Scope) -> Sequence[Cell]:
    """Each map under each noise."""
    made = []
    for feature in MAPS:
        for noise in NOISES:
            settings = {
                "feature": feature,
                "noise": noise,
                "draws": scope.count(DRAWS, least=500),
                "seed": 0,
            }
            made.append(Cell(measure=measure, settings=settings))
    return made


@styled
def draw(results: Results) -> Figure:
    """log p over the plane, from white, a hundred times less likely, to black."""
    figure, axes = panels(len(results.finished), width=2.4, height=2.8, most_across=len(NOISES))
    for panel, done in zip(axes, results.finished, strict=True):
        density = done.arrays["density"]
        highest = float(density.max())
        panel.imshow(
            array(density),
            origin="lower",
            extent=(-REACH, REACH, -REACH, REACH),
            cmap="Greys",
            vmin=highest - math.log(100),
            vmax=highest,
        )
        panel.set_title(f"{done.settings['feature']}, ε = {done.settings['noise']:g}")
        panel.plot([1.0], [0.0], "+", color="tab:blue")
        panel.plot([1.0], [OFF], "x", color="tab:red")
        panel.set_xlabel("+ on it, × beside")
    return figure


def say(results: Results) -> Sequence[str]:
    """What the lecture does not say."""
    return (
        "on the manifold log p grows without bound as ε goes to 0, by log 1/ε for the one "
        "direction that is missing, and beside it falls as −distance²/2ε²: without noise there is "
        "no density to score data by",
    )


PRESET = Preset(
    shows="x = f(h) + ε in the plane: log p(x) on the manifold and beside it as ε → 0",
    figure="L0, manifold",
    cells=cells,
    draw=draw,
    say=say,
    takes_data=False,
)
