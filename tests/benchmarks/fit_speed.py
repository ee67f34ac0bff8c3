"""What an epoch of `fit` costs a step: beside the compiled step by itself, the loop without a
compiler, and Pyro's own loop, on the same VAE and data, in one run.

`make benchmarks`, or `OMP_NUM_THREADS=1 python tests/benchmarks/fit_speed.py`. Data are binarised
anew at every presentation. The contestants take turns; the median of each one's ratio to the
compiled step is printed, and the least time of each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from ppl_gen.data import Split
from ppl_gen.inference import svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.fitting.loop import iterate
from ppl_gen.models import vae

ROUNDS = 15
STEP = "compiled step, one batch again and again"


class Size(NamedTuple):
    """A VAE, its batches, and the steps of an epoch."""

    pixels: int
    hidden: tuple[int, ...]
    latent: int
    batch: int
    steps: int


SIZES = {
    "64-64-8, batch 50": Size(64, (64,), 8, 50, 100),
    "784-200-200-10, batch 100": Size(784, (200, 200), 10, 100, 50),
}


def program_of(size: Size) -> nn.Module:
    return vae((size.pixels,), size.latent, hidden=size.hidden)


def fitting(size: Size, split: Split, engine: Engine) -> Callable[[], object]:
    """An epoch of `fit`."""
    program = program_of(size)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine=engine)
    batches = split.batches(size.batch)
    return lambda: list(iterate(step, batches, 1))


def stepping(size: Size, split: Split) -> Callable[[], object]:
    """As many compiled steps, on one batch."""
    program = program_of(size)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, fused=True)
    step = svi_step(program, optimizer, engine="inductor")
    batch = next(iter(split.batches(size.batch)))
    return lambda: [step(*batch) for _ in range(size.steps)]


def looping(size: Size, split: Split) -> Callable[[], object]:
    """An epoch of Pyro's SVI over the same batches."""
    program = program_of(size)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    batches = split.batches(size.batch)
    return lambda: [svi.step(x) for (x,) in batches]


def seconds(epoch: Callable[[], object]) -> float:
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {ROUNDS} rounds")
    for name, size in SIZES.items():
        torch.manual_seed(0)
        split = Split(torch.rand(size.batch * size.steps, size.pixels), binarize="dynamic")
        contestants = {
            STEP: stepping(size, split),
            "fit, compiled": fitting(size, split, "inductor"),
            "fit, eager": fitting(size, split, "eager"),
            "Pyro's SVI in a loop": looping(size, split),
        }
        for epoch in contestants.values():
            epoch()
        times: dict[str, list[float]] = {who: [] for who in contestants}
        for _ in range(ROUNDS):
            for who, epoch in contestants.items():
                times[who].append(seconds(epoch))
        print(f"\n{name:42s} {'least µs a step':>16s} {'× the step':>11s}")
        for who, taken in times.items():
            ratios = [a / b for a, b in zip(taken, times[STEP], strict=True)]
            least = 1e6 * min(taken) / size.steps
            print(f"{who:42s} {least:16.0f} {statistics.median(ratios):11.2f}")


if __name__ == "__main__":
    main()
