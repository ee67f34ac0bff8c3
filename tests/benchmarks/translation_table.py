"""CycleGAN between real domains of digits, seed after seed: cycle errors, and how often a target
classifier reads them right.

`OMP_NUM_THREADS=1 python tests/benchmarks/translation_table.py`; PPL_GEN_DATA names the folder of
MNIST. Writes the confusion matrices of the first seed beside the table, if asked for with
--pictures FOLDER.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from translation import READERS, translate

from ppl_gen import plots

UNLIKE = {"identity": 0.0, "cycle": 10.0, "width": 32, "steps": 1000}
GAMES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "digits, MNIST": ("digits", "mnist:8x8", 3, {"steps": 2500}),
    "digits, MNIST, semantic loss on digits": (
        "digits",
        "mnist:8x8",
        3,
        {"steps": 2500, "semantic": 1.0},
    ),
    "digits, inverted": ("digits", "digits:inverted", 3, UNLIKE),
    "digits, coloured": ("digits:colour", "digits:coloured", 3, {"steps": 1000, "width": 32}),
    "digits, rotated": ("digits", "digits:rotated", 3, UNLIKE | {"steps": 1500}),
}


def main() -> None:
    """Prints a line for each game and seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="games whose name begins so")
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    for name, (a, b, seeds, options) in GAMES.items():
        if not name.startswith(asked.only):
            continue
        for seed in range(seeds):
            start = time.perf_counter()
            done = translate(a, b, seed=seed, **options)
            seconds = time.perf_counter() - start
            said = [
                f"{way} by {reader} {read.before:.3f} to {read.after:.3f} (± {read.error:.3f})"
                for way in ("a → b", "b → a")
                for reader in READERS
                for read in [done.read[way, reader]]
            ]
            print(
                f"{name}, seed {seed}: cycle {done.errors.ratio:.3f}; {'; '.join(said)}; "
                f"{seconds:.0f} s",
                flush=True,
            )
            if asked.pictures and seed == 0:
                for way, file in (("a → b", "to_b"), ("b → a", "to_a")):
                    matrix = done.read[way, "network"].confusion
                    figure = plots.games.confusion(
                        matrix, [str(i) for i in range(10)], f"{name}: {way}"
                    )
                    figure.savefig(
                        asked.pictures / f"{name.replace(', ', '_').replace(' ', '_')}_{file}.png"
                    )


if __name__ == "__main__":
    main()
