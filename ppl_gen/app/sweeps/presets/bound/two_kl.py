"""KL both ways: between Gaussians, and from one Gaussian to two modes."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.numbers import average
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.plots.style import EXACT, GUIDE, MCMC, array, panels, styled

DRAWS = 100_000
MODES = (-2.5, 2.5)  # of two modes of the same weight
WIDTH = 0.6  # their standard deviation
START = 2.0  # of the mean of q: nearer to one mode
GRID = torch.linspace(-12.0, 12.0, 2001, dtype=torch.float64)
_DECIMALS = 4  # to which L-BFGS comes to its end
STEPS = 200  # of L-BFGS, at most

_TOWARDS = {"KL(q ‖ p)": "seeks a mode", "KL(p ‖ q)": "covers both"}


def two_modes() -> Distribution:
    """p(x) = ½ N(x; −2.5, 0.6²) + ½ N(x; 2.5, 0.6²)."""
    means = torch.tensor(MODES, dtype=torch.float64)
    halves = dist.Categorical(logits=torch.zeros(2, dtype=torch.float64))
    return dist.MixtureSameFamily(halves, dist.Normal(means, WIDTH))


def between_gaussians(folder: Path, *, loc: float, scale: float, draws: int, seed: int) -> Any:
    """KL of q = N(0, σ²) and p = N(μ, σ²): in closed form, and by draws of q.

    Args:
        folder: Of the cell.
        loc: μ.
        scale: σ.
        draws: Their number.
        seed: Of the draws.
    """
    q = dist.Normal(torch.tensor(0.0), scale)
    p = dist.Normal(torch.tensor(loc), scale)
    x = q.sample((draws,))
    return {
        "KL(q ‖ p)": float(kl_divergence(q, p)),
        "by draws": average(q.log_prob(x) - p.log_prob(x)),
        "KL(p ‖ q)": float(kl_divergence(p, q)),
    }


def to_two_modes(folder: Path, *, minimised: str, draws: int, seed: int) -> Any:
    """The Gaussian q that minimises KL(q ‖ p), or KL(p ‖ q), to a p of two modes.

    Args:
        folder: Of the cell.
        minimised: Which of the two.
        draws: Of q, to hold the integral against.
        seed: Of the draws.
    """
    p = two_modes()
    loc = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([loc, log_scale], max_iter=STEPS, line_search_fn="strong_wolfe")

    def divergences() -> dict[str, Tensor]:
        q = dist.Normal(loc, log_scale.exp())
        return {"KL(q ‖ p)": _integrated(q, p), "KL(p ‖ q)": _integrated(p, q)}

    def loss() -> Any:
        optimizer.zero_grad()
        value = divergences()[minimised]
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        found = divergences()
        q = dist.Normal(loc, log_scale.exp())
        x = q.sample((draws,))
        save_arrays(folder, x=GRID, p=p.log_prob(GRID).exp(), q=q.log_prob(GRID).exp())
        return {
            "KL(q ‖ p)": float(found["KL(q ‖ p)"]),
            "by draws": average(q.log_prob(x) - p.log_prob(x)),
            "KL(p ‖ q)": float(found["KL(p ‖ q)"]),
            "mean of q": round(float(loc), _DECIMALS),
            "sd of q": round(float(log_scale.exp()), _DECIMALS),
        }


def _integrated(one: Any, other: Any) -> Tensor:
    """∫ one log(one/other) dx, by the trapezoidal rule."""
    density = one.log_prob(GRID)
    return torch.trapezoid(density.exp() * (density - other.log_prob(GRID)), GRID)


def cells(scope: Scope) -> Sequence[Cell]:
    """Two pairs of Gaussians, then the best Gaussian by either divergence."""
    draws = scope.count(DRAWS, least=1000)
    made = []
    for loc, scale in ((1.0, 1.0), (1.0, 10.0)):
        settings: dict[str, Any] = {"loc": loc, "scale": scale, "draws": draws, "seed": 0}
        made.append(Cell(measure=between_gaussians, settings=settings))
    for minimised in _TOWARDS:
        settings = {"minimised": minimised, "draws": draws, "seed": 0}
        made.append(Cell(measure=to_two_modes, settings=settings))
    return made


@styled
def draw(results: Results) -> Figure:
    """p of two modes, and the best q by either divergence."""
    figure, axes = panels(2, width=4.0, height=2.8)
    for panel, minimised, colour in zip(axes, _TOWARDS, (GUIDE, MCMC), strict=True):
        row = results.row(minimised=minimised)
        held = row.cells[0].arrays
        panel.fill_between(array(held["x"]), array(held["p"]), color=EXACT, alpha=0.15, label="p")
        panel.plot(array(held["x"]), array(held["q"]), color=colour, label="q")
        value = row.numbers[minimised].mean
        panel.set_title(f"least {minimised} = {value:.3f} nats: {_TOWARDS[minimised]}")
        panel.set_xlim(-7, 7)
        panel.set_xlabel("x")
        panel.set_ylabel("density")
        panel.legend()
    return figure


def say(results: Results) -> Sequence[str]:
    """The lectures' pairs, in the order in which they mean them."""
    return (
        "q = N(0, σ²) and p = N(μ, σ²), μ being loc and σ scale: KL = μ²/2σ² nats, 0.5 and 0.005. "
        "The lectures' density of KL is of p to q in one place and −KL in another: the sign here "
        "is that of KL, at least 0",
    )


PRESET = Preset(
    shows="KL both ways: equal shifts of Gaussians, and one Gaussian to two modes",
    figure="L3 and L4, KL",
    cells=cells,
    draw=draw,
    say=say,
    takes_data=False,
)
