"""Seconds to posterior means of equal error, by variational inference and by MCMC, against N."""

from __future__ import annotations

__all__ = ["PRESET"]

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ppl_gen.app.sweeps.cell import Cell
from ppl_gen.app.sweeps.picture import against
from ppl_gen.app.sweeps.preset import Preset, Scope
from ppl_gen.app.sweeps.sweep import Results
from ppl_gen.autoguides import automatic
from ppl_gen.inference import hmc, svi_step
from ppl_gen.models.toy import LinearRegression

COEFFICIENTS = 5
SIZES = (100, 1000, 10_000)  # N
SEEDS = 2
ERROR = 0.1  # root mean square over coefficients, in posterior standard deviations
CHAINS = 4
FIRST_RATE = 0.1
LAST_RATE = 0.01  # in units of the posterior's width
FIRST = {"VI": 125, "HMC": 25}  # steps, or draws of each chain after as many to warm up
MOST = 6  # doublings


def measure(folder: Path, *, method: str, N: int, seed: int) -> Mapping[str, Any]:
    """How long the shortest run takes whose posterior means are right to a tenth of their sd.

    The posterior is that of a linear regression, known exactly. Runs are doubled until one is good
    enough; its CPU seconds count alone, those of compiling its graph included.

    Args:
        folder: Of the cell.
        method: "VI", mean field, or "HMC", four chains.
        N: The number of data.
        seed: Of data and draws.
    """
    posterior = LinearRegression.simulated(N, COEFFICIENTS, seed)
    exact = posterior.reference()["coefficients"]
    means: dict[str, Callable[..., Tensor]] = {"VI": _by_vi, "HMC": _by_hmc}
    length = FIRST[method]
    for _ in range(MOST):
        start = time.process_time()
        mean = means[method](posterior, length, seed)
        seconds = time.process_time() - start
        error = float(((mean - exact.mean) / exact.sd).square().mean().sqrt())
        if error < ERROR:
            return {"seconds": seconds, "error": error, "steps or draws": length}
        length *= 2
    raise ValueError(f"{method} comes to an error of {error:.2f} sd, not to {ERROR}")


def _by_vi(posterior: LinearRegression, steps: int, seed: int) -> Tensor:
    """Adam, whose rate falls to a hundredth of the posterior's width, about 1/√N."""
    data = posterior.data
    model: Any = posterior.model  # a plain Pyro model
    guide = automatic(AutoNormal, model, *data, seed=seed)
    optimizer = torch.optim.Adam(guide.parameters(), FIRST_RATE, fused=True)
    last = LAST_RATE / math.sqrt(len(data[0]))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, (last / FIRST_RATE) ** (1 / steps))
    step = svi_step(model, optimizer, guide=guide, engine="fx")
    for _ in range(steps):
        step(*data)
        schedule.step()
    found: Tensor = guide.median()["coefficients"].detach()
    return found


def _by_hmc(posterior: LinearRegression, draws: int, seed: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains that are short on purpose
        found = hmc(
            posterior.model,
            *posterior.data,
            draws=draws,
            warmup=draws,
            chains=CHAINS,
            engine="fx",
            seed=seed,
        )
    return found.samples["coefficients"].mean((0, 1))


def cells(scope: Scope) -> Sequence[Cell]:
    """Either method for each N; at a smaller scale, for the smaller ones."""
    most = scope.count(SIZES[-1], least=SIZES[0])
    made = []
    for method in FIRST:
        for size in SIZES:
            for seed in range(SEEDS):
                settings = {"method": method, "N": size, "seed": seed}
                if size <= most:
                    made.append(Cell(measure=measure, settings=settings))
    return made


def draw(results: Results) -> Figure:
    """Seconds against N, both in logarithms."""
    figure = against(results, "N", ["seconds", "steps or draws"])
    for panel in figure.axes:
        panel.set_xscale("log")
        panel.set_yscale("log")
    figure.axes[0].set_ylabel(f"CPU seconds to an error of {ERROR} sd")
    return figure


def say(results: Results) -> Sequence[str]:
    """What is compared, and what is not."""
    return (
        "both take all data in each step. VI's mean field has the right means here, and too small "
        "variances where coefficients are correlated, which no number of steps mends",
        f"the lectures claim that VI is faster and scales better; this is {COEFFICIENTS} latents "
        "and all data in each step alone, and does not tell of batches or of many latents",
        "seconds are of this machine, and move from run to run",
    )


PRESET = Preset(
    shows="CPU seconds to posterior means of equal error against N: VI and HMC",
    figure="L3 and L4, VI and MCMC",
    cells=cells,
    draw=draw,
    say=say,
    takes_data=False,
)
