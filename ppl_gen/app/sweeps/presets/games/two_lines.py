"""Two lines and a game: where the generator's line ends, from many beginnings."""

from __future__ import annotations

__all__ = ["PRESET"]

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.models.toy.line_game import game_value, line_game
from ppl_gen.plots.style import GUIDE, MCMC, array, panels, styled

TURNS = 60
DATA = (0.98, 0.2)
BEGINNINGS = (10.0, 40.0, 78.47, 110.0, 140.0, 170.0)  # degrees; 78.47 is the lecture's

_STEPS = ("growing", "constant")
_TAIL = 10  # turns at the end whose worst angle counts


def _constant(size: float) -> Callable[[int], float]:
    return lambda turn: size


def play(folder: Path, *, begin: float, steps: str, turns: int) -> Mapping[str, Any]:
    """The angle between the line of draws and that of data, turn after turn.

    Args:
        folder: Of the cell.
        begin: The angle of the generator's line at first, in degrees.
        steps: "constant", as in the lecture (η = 0.8, κ = 1), or "growing", the critic's as √t and
            the generator's falling as 1/√t.
        turns: Of both players.
    """
    angle = math.radians(begin)
    generator = torch.tensor([math.cos(angle), math.sin(angle)])
    data = torch.tensor(DATA)
    sizes: dict[str, Any] = {}
    if steps == "constant":
        sizes = {"generator_step": _constant(0.8), "critic_step": _constant(1.0)}
    history = line_game(generator, data=data, turns=turns, **sizes)
    angles = torch.stack([_angle(turn.generator, data) for turn in history])
    save_arrays(folder, angles=angles)
    last = history[-1]
    mirrored = torch.minimum(angles, _mirror_angles(history, data))
    return {
        "angle at the end": float(angles[-1]),
        "worst of the last ten turns": float(angles[-_TAIL:].max()),
        "the same, to the line or a mirror image": float(mirrored[-_TAIL:].max()),
        "value of the game": float(game_value(last.generator, last.critic, data.double())),
    }


def _angle(direction: Tensor, data: Tensor) -> Tensor:
    """Degrees between two lines through the origin, from 0 to 90."""
    cosine = (direction.double() @ data.double()).abs()
    cosine = cosine / (direction.norm().double() * data.norm().double())
    return torch.rad2deg(cosine.clamp(max=1.0).acos())


def _mirror_angles(history: Sequence[Any], data: Tensor) -> Tensor:
    mirror = data * torch.tensor([1.0, -1.0])
    return torch.stack([_angle(turn.generator, mirror) for turn in history])


def cells(scope: Scope) -> Sequence[Cell]:
    """Each beginning under constant and under growing steps."""
    turns = scope.count(TURNS, least=_TAIL)
    made = []
    for steps in _STEPS:
        for begin in BEGINNINGS:
            settings = {"steps": steps, "begin": begin, "turns": turns}
            made.append(Cell(measure=play, settings=settings))
    return made


@styled
def draw(results: Results) -> Figure:
    """The angle to the data's line against the turn."""
    figure, axes = panels(len(_STEPS), width=4.6, height=3.2)
    for panel, steps, colour in zip(axes, _STEPS, (MCMC, GUIDE), strict=True):
        for done in results.finished:
            if done.settings["steps"] == steps:
                shade = 0.35 + 0.65 * BEGINNINGS.index(done.settings["begin"]) / len(BEGINNINGS)
                label = f"from {done.settings['begin']:g}°"
                panel.plot(array(done.arrays["angles"]), color=colour, alpha=shade, label=label)
        panel.set_title(f"{steps} steps")
        panel.set_xlabel("turn")
        panel.set_ylabel("angle to the line of the data, degrees")
        panel.set_ylim(-2, 92)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, ncols=2)
    return figure


def say(results: Results) -> Sequence[str]:
    """What the game can tell, and how the lecture calls its players."""
    mirror = math.degrees(2 * math.atan2(DATA[1], DATA[0]))
    return (
        "this critic scores |x₁|w₁ + |x₂|w₂: it cannot tell the data's line from its mirror image, "
        f"{mirror:.1f}° away; with constant steps the generator jumps to and fro "
        "across an axis. All expectations are exact integrals: the angles have no error",
        "the lecture calls the generator's v by w in one place",
    )


PRESET = Preset(
    shows="a generator's line and a critic: where the game ends, from many beginnings",
    figure="L4, two lines",
    cells=cells,
    draw=draw,
    say=say,
    takes_data=False,
)
