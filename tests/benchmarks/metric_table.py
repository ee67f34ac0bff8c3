"""What the low-rank metric of `hmc` is worth: smallest ESS per gradient with it and without.

`OMP_NUM_THREADS=1 python tests/benchmarks/metric_table.py`, or with the names of rows behind. The
rows are the posteriors of tests/scenarios.py and of tests/demanding.py. Where the switch stays off
the draws are those of the diagonal metric bit for bit, and the run is not repeated: the ratio is 1.
Seconds of tracing and compilation are a column of their own, with the metric and without.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from demanding import DEMANDING
from scenarios import SCENARIOS

from ppl_gen.inference import ConvergenceWarning, Draws, hmc

ROWS = SCENARIOS | DEMANDING
sampler = importlib.import_module("ppl_gen.inference.mcmc.hmc")


def run(name: str, asked: argparse.Namespace, threshold: float) -> Draws:
    """Draws of a row, the metric being diagonal up to this condition number."""
    posterior = ROWS[name]()
    counts = {"draws": asked.draws, "warmup": asked.warmup}
    with (
        patch.object(sampler, "_ILL_CONDITIONED", threshold),
        warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
    ):
        return hmc(posterior.model, *posterior.data, engine=asked.engine, seed=asked.seed, **counts)


def efficiency(draws: Draws) -> float:
    """The smallest bulk ESS for each gradient of a chain."""
    return draws.min_ess / (draws.chains * draws.draws * draws.settings["leapfrogs"])


def row(name: str, asked: argparse.Namespace) -> str:
    """A row of the table, in Markdown."""
    learned = run(name, asked, asked.threshold)
    plain = learned
    if learned.settings["directions"]:
        plain = run(name, asked, math.inf)
    cells = [
        name,
        f"{learned.settings['condition']:.3g}",
        f"{learned.settings['directions']:.0f}",
        f"{plain.settings['leapfrogs']:.1f}",
        f"{learned.settings['leapfrogs']:.1f}",
        f"{plain.max_r_hat:.3f}",
        f"{learned.max_r_hat:.3f}",
        f"{efficiency(plain):.3g}",
        f"{efficiency(learned):.3g}",
        f"{efficiency(learned) / efficiency(plain):.2f}",
        f"{plain.preparation_seconds:.1f}, {learned.preparation_seconds:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADS = (
    "posterior",
    "condition",
    "directions",
    "leapfrogs, diagonal",
    "learned",
    "R̂, diagonal",
    "learned",
    "ESS per gradient, diagonal",
    "learned",
    "ratio",
    "preparation, s",
)


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="all if none are named")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--threshold", type=float, default=sampler._ILL_CONDITIONED)
    parser.add_argument("--engine", default="fx")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |")
    print("|" + "---|" * len(HEADS), flush=True)
    for name in asked.rows or ROWS:
        print(row(name, asked), flush=True)


if __name__ == "__main__":
    main()
