"""One table of how fast everything is, beside what else does the same.

    make bench                                        # all of it, hours on a busy machine
    make bench BENCH=--quick                          # some minutes
    python tests/benchmarks/bench.py --rows "SVI step" epoch --out FOLDER

Each row is a contest: Pyro, plain PyTorch written by hand and compiled, NumPyro, nutpie, pythae and
torch-fidelity take turns with the library where they are installed (`pip install '.[bench]'`).
Times are those of the processor in one thread, else (OMP_NUM_THREADS=2) of the wall: medians over
turns. "× first" is the median over rounds of the ratio to the first contestant of the row; "first
turn" has all preparation in it, with compilation from a warm cache if there is one; "memory" is the
peak of anonymous memory beyond what was held before; "of matmul" is the share of the rate of large
matrix products in single precision, counting products and convolutions alone. Sweeps end in the
slope of log time on log size. All of it is written to bench.json, and drawn in bench.png.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Two threads on two busy cores can be many times slower than one; before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from speed.contest import Contest, hold
from speed.distances import frechet
from speed.epochs import epoch
from speed.evidence import annealing, importance
from speed.games import GAMES, cycle, game
from speed.machine import one_thread_for_all, speak_of
from speed.posteriors import POSTERIORS, sampling
from speed.scale import SCALES, Scale
from speed.steps import MNIST, SMALL, conv, parts, step_of_perceptrons
from speed.sweeps import SWEEPS, follow
from speed.table import Table

ROWS: dict[str, Callable[[Scale], Contest]] = {
    "SVI step, small": partial(step_of_perceptrons, SMALL),
    "SVI step, MNIST": partial(step_of_perceptrons, MNIST),
    "SVI step, conv": conv,
    "epoch, small": partial(epoch, SMALL),
    "epoch, MNIST": partial(epoch, MNIST),
    "IW evidence": importance,
    "AIS": annealing,
    **{f"posterior, {name}": partial(sampling, name) for name in POSTERIORS},
    **{f"GAN step, {name}": partial(game, name) for name in GAMES},
    **{f"GAN step, {name}, R1": partial(game, name, r1=0.1) for name in GAMES},
    "CycleGAN step": cycle,
    "Fréchet distance": frechet,
    **parts(),
}
SWEPT = {f"sweep, {name}": sweep for name, sweep in SWEEPS.items()}
# What a look of some minutes has.
SOON = (
    "SVI step, small",
    "epoch",
    "IW evidence",
    "AIS",
    "posterior, eight schools",
    "GAN step, digits",
    "CycleGAN step",
    "Fréchet distance",
    "prior vamp",
    "sweep, batch",
    "sweep, particles",
)


def chosen(asked: list[str] | None, scale: Scale) -> list[str]:
    """The names of rows and sweeps that begin as was asked.

    Raises:
        ValueError: If none begins so.
    """
    every = [*ROWS, *SWEPT]
    begin = asked
    if begin is None:
        begin = every
        if scale.name == "quick":
            begin = list(SOON)
    for word in begin:
        if not any(name.startswith(word) for name in every):
            raise ValueError(f"expected rows of {', '.join(every)}, got {word!r}")
    return [name for name in every if name.startswith(tuple(begin))]


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--quick", action="store_true", help="--scale quick")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="names, or how they begin")
    parser.add_argument(
        "--rounds", type=int, help="the most turns of each; fewer where they are long"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="a folder")
    asked = parser.parse_args()
    scale = SCALES[asked.scale]
    if asked.quick:
        scale = SCALES["quick"]
    if asked.rounds:
        scale = Scale(**{**vars(scale), "rounds": asked.rounds})
    try:
        names = chosen(asked.rows, scale)
    except ValueError as error:
        parser.error(str(error))
    one_thread_for_all()
    warnings.simplefilter("ignore")
    begun = time.perf_counter()
    console = Console(width=120)
    table = Table(about={**speak_of(), "scale": scale.name})
    console.print(", ".join([f"{name} {value}" for name, value in table.about.items()]))
    for name in names:
        torch.manual_seed(0)
        if name in SWEPT:
            table.sweeps[name] = (SWEPT[name], follow(SWEPT[name], scale))
            table.print_sweep(name, console)
        else:
            contest = ROWS[name](scale)
            table.rows[name] = (contest, hold(contest))
            table.print_row(name, console)
        table.about["seconds"] = time.perf_counter() - begun
        table.save(asked.out)
    console.print(f"{table.about['seconds']:.0f} s; {asked.out}/bench.json, bench.png")


if __name__ == "__main__":
    main()
