"""L(θ, q) touches log p(x; θ) and climbs it like a staircase: expectation and maximisation."""

from __future__ import annotations

__all__ = ["PRESET"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_gen.app.sweeps.cell import Cell, save_arrays
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.inference import elbo
from ppl_gen.models.toy import PPCA
from ppl_gen.plots.style import EXACT, GUIDE, MCMC, array, panels, styled

DATA = 200  # of p(x) = N(0, 2² + 1)
TRUE = 2.0
START = 0.4
ROUNDS = 4  # of both steps
PARTICLES = 1000
GRID = torch.linspace(0.1, 3.0, 200, dtype=torch.float64)


def climb(folder: Path, *, step: int, particles: int, seed: int) -> Mapping[str, Any]:
    """θ and q after so many steps, each a new q at the same θ or a new θ under the same q.

    The program is z ~ N(0, 1), x ~ N(θz, 1), so that p(x; θ) = N(0, θ² + 1) and the posterior is
    N(θx/(θ² + 1), 1/(θ² + 1)). With q(zᵢ) = N(mᵢ, v) the best θ is Σ xᵢmᵢ / Σ (mᵢ² + v).

    Args:
        folder: Of the cell.
        step: Their number; 0 is q = p(z) at the first θ.
        particles: Draws of q per datum, for the bound.
        seed: Of these draws.
    """
    noise = torch.Generator().manual_seed(0)  # the data are the same in all cells
    spread = (TRUE**2 + 1) ** 0.5
    x = spread * torch.randn(DATA, 1, generator=noise, dtype=torch.float64)
    theta = torch.tensor(START, dtype=torch.float64)
    slope = torch.zeros((), dtype=torch.float64)  # q(z | x) = N(slope x, variance)
    variance = torch.ones((), dtype=torch.float64)
    for number in range(1, step + 1):
        if number % 2:
            slope = theta / (theta**2 + 1)
            variance = 1 / (theta**2 + 1)
        else:
            square = x.square().mean()
            theta = slope * square / (slope**2 * square + variance)
    program = PPCA(theta.reshape(1, 1), torch.zeros(1, dtype=torch.float64), 1.0)

    def propose(x: Tensor) -> Any:
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(slope * x, variance.sqrt()).to_event(1))

    guide: Any = propose  # whose type, a protocol, asks for any context
    evidence = program.exact_log_evidence(x).mean()
    bound = _bound(theta, x, slope * x, variance)
    drawn = elbo(program, guide, x, particles=particles, seed=seed, engine="eager").mean()
    posterior = dist.Normal(theta * x / (theta**2 + 1), (theta**2 + 1) ** -0.5)
    distance = kl_divergence(dist.Normal(slope * x, variance.sqrt()), posterior).mean()
    save_arrays(
        folder,
        theta=GRID,
        evidence=dist.Normal(0.0, (GRID**2 + 1).sqrt()).log_prob(x).mean(0),
        bound=torch.stack([_bound(at, x, slope * x, variance) for at in GRID]),
    )
    return {
        "θ": float(theta),
        "log p(x; θ)": float(evidence),
        "L(θ, q)": float(bound),
        "L by draws": drawn,
        "KL(q ‖ posterior)": float(distance),
    }


def _bound(theta: Tensor, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """E_q[log N(x; θz, 1)] − KL(q ‖ N(0, 1)), averaged over data."""
    fits = dist.Normal(theta * mean, 1.0).log_prob(x) - 0.5 * theta**2 * variance
    divergence = 0.5 * (mean**2 + variance - 1 - variance.log())
    return (fits - divergence).mean()


def cells(scope: Scope) -> Sequence[Cell]:
    """The start, then both steps in turns."""
    particles = scope.count(PARTICLES, least=20)
    made = []
    for step in range(2 * scope.count(ROUNDS, least=2) + 1):
        settings = {"step": step, "particles": particles, "seed": 0}
        made.append(Cell(measure=climb, settings=settings))
    return made


@styled
def draw(results: Results) -> Figure:
    """Bounds that touch the evidence, and the staircase that they are climbed by."""
    figure, (curves, stairs) = panels(2, width=4.6, height=3.4)
    rows = results.rows
    first = rows[0].cells[0].arrays
    grid = array(first["theta"])
    curves.plot(grid, array(first["evidence"]), color=EXACT, label="log p(x; θ)")
    for row in rows[1::2]:
        held = row.cells[0].arrays
        curves.plot(grid, array(held["bound"]), color=GUIDE, lw=0.9)
        at = row.numbers["θ"].mean
        curves.plot([at], [row.numbers["L(θ, q)"].mean], "o", color=GUIDE, markersize=4)
    curves.plot([], [], color=GUIDE, label="L(θ, q), q the posterior at the dot")
    top = float(first["evidence"].max())
    curves.set_ylim(top - 1.2, top + 0.1)
    curves.set_xlabel("θ")
    steps = [row.settings["step"] for row in rows]
    bounds = results.column("L(θ, q)")
    errors = [2 * (spread.error or 0.0) for spread in results.column("L by draws")]
    evidences = [spread.mean for spread in results.column("log p(x; θ)")]
    stairs.step(steps, evidences, where="post", color=EXACT, label="log p(x; θ)")
    stairs.step(
        steps, [spread.mean for spread in bounds], where="post", color=GUIDE, label="L(θ, q)"
    )
    drawn = [spread.mean for spread in results.column("L by draws")]
    stairs.errorbar(
        steps, drawn, errors, fmt="o", color=MCMC, markersize=3, capsize=2, label="L by draws"
    )
    stairs.set_xlabel("step: odd ones move q, even ones θ")
    for panel in (curves, stairs):
        panel.set_ylabel("nats per datum")
        panel.grid(alpha=0.3)
        panel.legend()
    return figure


def say(results: Results) -> Sequence[str]:
    """Where the staircase ends."""
    last = results.rows[-1].numbers
    return (
        f"at step {len(results.rows) - 1}: θ = {last['θ'].mean:.4f}, "
        f"{last['KL(q ‖ posterior)'].mean:.2g} nats below the evidence; each odd step closes that "
        "gap, each even one raises both",
    )


PRESET = Preset(
    shows="L(θ, q) touches log p(x; θ) at each new q, and climbs it like a staircase",
    figure="L4, the bound",
    cells=cells,
    draw=draw,
    say=say,
    takes_data=False,
)
