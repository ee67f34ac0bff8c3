"""How long a step takes with each prior, likelihood, guide and program, against the same written by
hand in PyTorch.

`OMP_NUM_THREADS=1 python tests/benchmarks/parts_speed.py`; `--kinds priors --rows vamp flow` for
some, `--engines eager fx` without the minutes of compilation. What is written by hand is in
`by_hand/`. The contestants take turns over one batch, a few steps each; printed are processor time,
and the ratios to eager PyTorch: the median of those of the turns, and that of the fastest turns.
What an engine warned of, as where it gives way to another, is printed beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from by_hand.guides import GUIDES
from by_hand.likelihoods import LIKELIHOODS
from by_hand.priors import PRIORS
from by_hand.programs import PROGRAMS
from by_hand.rivals import Rival
from torch import nn

from ppl_gen.inference import svi_step

Step = Callable[[], object]

KINDS = {
    "priors": PRIORS,
    "likelihoods": LIKELIHOODS,
    "guides": GUIDES,
    "programs": PROGRAMS,
}
# The library compares its graphs with the program at calls 2, 4, 8, 16: such are no steps to time.
WARM = 17


def by_hand(rival: Rival) -> Step:
    """A step of fused Adam down the loss."""
    parameters = nn.ModuleList(rival.parts).parameters()
    optimizer = torch.optim.Adam(parameters, 1e-4, fused=True)

    def step() -> None:
        loss = rival.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_library(rival: Rival, engine: Any) -> Step:
    """A step of the library's program."""
    optimizer = torch.optim.Adam(rival.program.parameters(), 1e-4, fused=True)
    step = svi_step(rival.program, optimizer, rival.elbo, engine=engine)
    return lambda: step(*rival.batch)


def warmed(step: Step) -> str:
    """What is warned of engines in the first steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(WARM):
            step()
    return "; ".join([str(w.message) for w in caught if "the " in str(w.message)])


def turn(step: Step, steps: int) -> float:
    """Seconds of the processor for a step."""
    begun = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - begun) / steps


def compare(name: str, make: Callable[[], Rival], asked: argparse.Namespace) -> None:
    """Times a row and prints a line for each contestant."""
    torch.manual_seed(0)
    contestants = {"by hand": by_hand(make())}
    for engine in asked.engines:
        contestants[engine] = by_library(make(), engine)
    said = {who: warmed(step) for who, step in contestants.items()}
    times: dict[str, list[float]] = {who: [] for who in contestants}
    for _ in range(asked.rounds):
        for who, step in contestants.items():
            times[who].append(turn(step, asked.steps))
    plain = times["by hand"]
    for who, taken in times.items():
        pairs = zip(taken, plain, strict=True)
        median = statistics.median([a / b for a, b in pairs])
        fastest = min(taken) / min(plain)
        print(
            f"{name:32}{who:9}{1e6 * min(taken):9.0f} µs{median:7.2f}{fastest:7.2f}  {said[who]}",
            flush=True,
        )


def main() -> None:
    """Times the rows asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines = ["eager", "fx", "inductor"]
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rows", nargs="+", help="names of parts; all if left out")
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="of each contestant in a turn")
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)", flush=True)
    for kind in asked.kinds:
        for name, make in KINDS[kind].items():
            if asked.rows is None or name in asked.rows:
                compare(f"{kind[:-1]} {name}", make, asked)


if __name__ == "__main__":
    main()
