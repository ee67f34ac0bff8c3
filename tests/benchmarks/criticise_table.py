"""How often `criticise` names a class whose strokes are too thick, and how often it is wrong.

`OMP_NUM_THREADS=1 python tests/benchmarks/criticise_table.py`. Programs draw scikit-learn's digits
anew from a pool of 1500 of them, by class; 297 others are held out, divided anew with every seed.
A defect is planted in the draws, or in the data, of one class: each pixel half of the way to the
largest of its neighbours. In null runs data are taken from the pool too, as the program does.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from planted import Redrawn, digits, thickened

from ppl_gen.inference import Criticism, criticise
from ppl_gen.program import simulate


def planted(seed: int, where: str, draws: int, permutations: int) -> tuple[int, Criticism]:
    """The class that is spoilt, and what is found."""
    pool, held = digits(seed)
    thick = seed % 10
    x, y = held.x.clone(), held.y
    assert y is not None
    program = Redrawn(pool)
    if where == "draws":
        program = Redrawn(pool, thick)
    else:
        x[y == thick] = thickened(x[y == thick])
    found = criticise(program, x, y, draws=draws, permutations=permutations, seed=seed)
    return thick, found


def of_nothing(seed: int, draws: int, permutations: int) -> Criticism:
    """What is found where data are draws of the program."""
    pool, held = digits(seed)
    assert held.y is not None
    program = Redrawn(pool)
    torch.manual_seed(1000 + seed)
    x = simulate(program, len(held.y), held.y)
    return criticise(program, x, held.y, draws=draws, permutations=permutations, seed=seed)


def main() -> None:
    """Prints the share of defects that are named, and of false alarms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--nulls", type=int, default=200)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--permutations", type=int, default=199)
    asked = parser.parse_args()
    for where in ("draws", "data"):
        first, alone = 0, 0
        for seed in range(asked.seeds):
            thick, found = planted(seed, where, asked.draws, asked.permutations)
            first += found.named[:1] == (f"class {thick}",)
            alone += set(found.named) <= {f"class {thick}", "all"}
            print(f"  thick {thick} in {where}: {', '.join(found.named)}", flush=True)
        print(
            f"one class thick in {where}: named first in {first} of {asked.seeds}, no other class "
            f"named in {alone}",
            flush=True,
        )
    start = time.perf_counter()
    alarms = 0
    for seed in range(asked.nulls):
        alarms += not of_nothing(seed, asked.draws, asked.permutations).verdict.passes
    share = alarms / asked.nulls
    error = (0.05 * 0.95 / asked.nulls) ** 0.5
    print(
        f"false alarms: {alarms} of {asked.nulls}, {share:.1%} (5 % ± {error:.1%}); "
        f"{(time.perf_counter() - start) / asked.nulls:.2f} s each"
    )


if __name__ == "__main__":
    main()
