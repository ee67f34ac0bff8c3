"""How long a training step takes against hand-written PyTorch and Pyro's own SVI, on the same VAE
and batches, in one run.

`make benchmarks`, or `OMP_NUM_THREADS=1 python tests/benchmarks/step_speed.py`. The contestants
take turns, pass by pass, over the same batches; medians of the ratios to plain PyTorch are printed.
MNIST is used where it lies at hand, else random pixels.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen import data
from ppl_gen.inference import svi_step
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.models import vae

ROUNDS = 9
OnePass = Callable[[], object]


class Size(NamedTuple):
    """A VAE and its batches."""

    pixels: int
    hidden: tuple[int, ...]
    latent: int
    activation: type[nn.Module]
    batch: int
    steps: int


SIZES = {
    "64-64-8 tanh, batch 64": Size(64, (64,), 8, nn.Tanh, 64, 200),
    "784-200-200-50 tanh, batch 100": Size(784, (200, 200), 50, nn.Tanh, 100, 40),
    "784-400-20 relu, batch 128": Size(784, (400,), 20, nn.ReLU, 128, 40),
}


def batches(size: Size) -> list[tuple[Tensor]]:
    """Binary images: real ones where they are at hand, else random."""
    count = size.batch * size.steps
    try:
        grey = (
            data.load("digits" if size.pixels == 64 else "mnist")
            .train.fixed(limit=count)
            .x.flatten(1)
        )
    except ValueError:
        grey = torch.rand(count, size.pixels)
    grey = grey[torch.arange(count) % len(grey)]
    return [(x,) for x in torch.bernoulli(grey).split(size.batch)]


def hand_written(size: Size, seen: list[tuple[Tensor]], compiled: bool = False) -> OnePass:
    """A VAE as one would write it in plain PyTorch: analytic KL, one fused Adam."""

    def net(*sizes: int) -> nn.Sequential:
        layers = [
            part
            for a, b in itertools.pairwise(sizes)
            for part in (nn.Linear(a, b), size.activation())
        ]
        return nn.Sequential(*layers[:-1])

    encoder = net(size.pixels, *size.hidden, 2 * size.latent)
    decoder = net(size.latent, *reversed(size.hidden), size.pixels)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)

    def objective(x: Tensor) -> Tensor:
        loc, log_scale = encoder(x).chunk(2, -1)
        scale = log_scale.exp()
        logits = decoder(loc + scale * torch.randn_like(loc))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * log_scale).sum()
        return (reconstruction + divergence) / len(x)

    loss_of = torch.compile(objective) if compiled else objective

    def one_pass() -> None:
        total = torch.zeros(())
        for (x,) in seen:
            loss = loss_of(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()

    return one_pass


def library(engine: Engine, size: Size, seen: list[tuple[Tensor]]) -> OnePass:
    """The library's VAE and its step."""
    program = vae((size.pixels,), size.latent, hidden=size.hidden, activation=size.activation)
    step = svi_step(
        program, torch.optim.Adam(program.parameters(), 1e-3, fused=True), engine=engine
    )
    return lambda: [step(*batch) for batch in seen]


def pyro_svi(size: Size, seen: list[tuple[Tensor]]) -> OnePass:
    """The same VAE under pyro.infer.SVI and pyro.optim.Adam, as Pyro ships them."""
    program = vae((size.pixels,), size.latent, hidden=size.hidden, activation=size.activation)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    return lambda: [svi.step(x) for (x,) in seen]


CONTESTANTS: dict[str, Callable[[Size, list[tuple[Tensor]]], OnePass]] = {
    "plain PyTorch": hand_written,
    "plain PyTorch, compiled": partial(hand_written, compiled=True),
    "Pyro's SVI": pyro_svi,
    "ppl-gen, eager": partial(library, "eager"),
    "ppl-gen, fx": partial(library, "fx"),
    "ppl-gen, inductor": partial(library, "inductor"),
}


def seconds(one_pass: OnePass) -> float:
    start = time.perf_counter()
    one_pass()
    return time.perf_counter() - start


def main() -> None:
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), medians of {ROUNDS} "
        "interleaved passes"
    )
    for name, size in SIZES.items():
        torch.manual_seed(0)
        seen = batches(size)
        passes = {who: make(size, seen) for who, make in CONTESTANTS.items()}
        for one_pass in passes.values():
            one_pass()
        times: dict[str, list[float]] = {who: [] for who in passes}
        for _ in range(ROUNDS):
            for who, one_pass in passes.items():
                times[who].append(seconds(one_pass))
        print(f"\n{name:32s} {'µs a step':>10s} {'× plain PyTorch':>16s} {'Pyro′s SVI ÷':>14s}")
        for who, taken in times.items():
            plain = statistics.median(
                a / b for a, b in zip(taken, times["plain PyTorch"], strict=True)
            )
            svi = statistics.median(b / a for a, b in zip(taken, times["Pyro's SVI"], strict=True))
            print(
                f"{who:32s} {1e6 * statistics.median(taken) / size.steps:10.0f} {plain:16.2f} "
                f"{svi:14.1f}"
            )


if __name__ == "__main__":
    main()
