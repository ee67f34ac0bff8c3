"""Test evidence of a VAE fitted to digits by one process and by several, and the time it takes.

    python tests/benchmarks/processes_table.py --processes 2 --seeds 5 --epochs 40

Both make the same number of updates of batches of the same size; noise apart, they are one method.
Seconds are of the wall, starting of processes included: they shrink as N^exponent with N of them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIT = ("fit", "vae", "--batch-size", "50", "--latent-dim", "10", "--device", "cpu")


def fitted(folder: Path, processes: int, seed: int, epochs: int) -> tuple[float, float]:
    """The average log p(x) of test data, in nats per datum, of a new run, and seconds of its fit.

    Args:
        folder: Of the run.
        processes: That fit it.
        seed: Of the run.
        epochs: That it is fitted for.
    """
    words = ["-m", "ppl_gen"]
    if processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        words = [*torchrun, str(processes), *words]
    asked = ["--out", str(folder), "--seed", str(seed), "--epochs", str(epochs)]
    begun = time.perf_counter()
    _call([*words, *FIT, *asked])
    seconds = time.perf_counter() - begun
    _call(["-m", "ppl_gen", "evaluate", str(folder), "--device", "cpu"])
    found = json.loads((folder / "evaluation.json").read_text())
    value: float = found["log_evidence"]["value"]
    return value, seconds


def _call(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    by_count: dict[int, list[float]] = {1: [], asked.processes: []}
    taken: dict[int, list[float]] = {1: [], asked.processes: []}
    with tempfile.TemporaryDirectory() as top:
        for seed in range(asked.seeds):
            for count, values in by_count.items():
                value, seconds = fitted(Path(top) / f"{count}-{seed}", count, seed, asked.epochs)
                values.append(value)
                taken[count].append(seconds)
                said = f"{value:.3f} nats per datum, {seconds:.1f} s"
                print(f"seed {seed}, {count} processes: {said}", flush=True)
    one, several = by_count.values()
    difference = statistics.mean(several) - statistics.mean(one)
    spread = statistics.stdev(one)
    error = (statistics.variance(one) + statistics.variance(several)) ** 0.5 / asked.seeds**0.5
    print(
        f"{asked.processes} processes: {difference:+.3f} ± {error:.3f} nats per datum against one, "
        f"whose seeds have an sd of {spread:.3f}"
    )
    alone, together = (statistics.median(seconds) for seconds in taken.values())
    exponent = math.log(together / alone) / math.log(asked.processes)
    print(f"{together / alone:.2f} times the seconds of one process; exponent {exponent:.2f}")


if __name__ == "__main__":
    main()
