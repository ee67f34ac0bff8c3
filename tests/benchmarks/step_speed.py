"""How long `fit` takes against a hand-written PyTorch loop and Pyro's own SVI, on the same VAE and data, in one run.

`make benchmarks`, or `OMP_NUM_THREADS=1 python tests/benchmarks/step_speed.py`. The contestants take turns, pass by pass, and
the median of the ratios to plain PyTorch is printed. MNIST is used where it lies at hand, else random pixels of its shape.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.nn import functional as F

from ppl_gen import data
from ppl_gen.data import Split
from ppl_gen.inference import fit, svi_step
from ppl_gen.models import vae

DATA, BATCH, ROUNDS = 6000, 100, 9
SIZES = {"784-200-200-50 tanh": (50, (200, 200), nn.Tanh), "784-400-20 relu": (20, (400,), nn.ReLU)}


def images() -> Split:
    """The first MNIST images, dynamically binarised, or random ones."""
    try:
        x = data.load("mnist").train.fixed(limit=DATA).x
    except ValueError:
        x = torch.rand(DATA, 1, 28, 28)
    return Split(x, None, "dynamic")


def hand_written(split: Split, latent: int, hidden: tuple[int, ...], activation: type[nn.Module]) -> Callable[[], None]:
    """A VAE as one would write it in plain PyTorch: analytic KL, one fused Adam."""

    def net(*sizes: int) -> nn.Sequential:
        layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
        return nn.Sequential(*layers[:-1])

    encoder, decoder = net(784, *hidden, 2 * latent), net(latent, *reversed(hidden), 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)

    def one_pass() -> None:
        total = torch.zeros(())
        for index in torch.randperm(DATA).split(BATCH):
            grey = split.x[index].flatten(1)
            x = (torch.rand_like(grey) < grey).to(grey.dtype)
            loc, log_scale = encoder(x).chunk(2, -1)
            scale = log_scale.exp()
            logits = decoder(loc + scale * torch.randn_like(loc))
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * log_scale).sum()
            loss = (reconstruction + divergence) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()

    return one_pass


def library(split: Split, latent: int, hidden: tuple[int, ...], activation: type[nn.Module]) -> Callable[[], None]:
    """The library's VAE under `fit`."""
    program = vae(split.x.shape[1:], latent, hidden=hidden, activation=activation)
    step = svi_step(program, torch.optim.Adam(program.parameters(), 1e-3, fused=True))
    return lambda: void(fit(step, split.batches(BATCH), 1, progress=False))


def pyro_svi(split: Split, latent: int, hidden: tuple[int, ...], activation: type[nn.Module]) -> Callable[[], None]:
    """The same VAE under pyro.infer.SVI and pyro.optim.Adam, as Pyro ships them."""
    program = vae(split.x.shape[1:], latent, hidden=hidden, activation=activation)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    return lambda: void([svi.step(x) for (x,) in split.batches(BATCH)])


def void(_: object) -> None:
    """Drops a value."""


def seconds(one_pass: Callable[[], None]) -> float:
    start = time.perf_counter()
    one_pass()
    return time.perf_counter() - start


def main() -> None:
    split: Split = images()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), batch {BATCH}, medians of {ROUNDS} interleaved passes"
    )
    for name, shape in SIZES.items():
        torch.manual_seed(0)
        contestants = {f.__name__: f(split, *shape) for f in (hand_written, library, pyro_svi)}
        for one_pass in contestants.values():
            one_pass()
        times: dict[str, list[float]] = {key: [] for key in contestants}
        for _ in range(ROUNDS):
            for key, one_pass in contestants.items():
                times[key].append(seconds(one_pass))
        for key, taken in times.items():
            ratios = [a / b for a, b in zip(taken, times["hand_written"], strict=True)]
            step = 1e3 * statistics.median(taken) / (DATA // BATCH)
            print(
                f"{name:22s} {key:13s} {step:6.2f} ms a step, {statistics.median(ratios):.2f} times hand-written PyTorch"
            )


if __name__ == "__main__":
    main()
