"""One layer of latents against two, at the same number of epochs: evidence, ELBO, nats of each.

`OMP_NUM_THREADS=1 python tests/benchmarks/layers_table.py --data mnist --epochs 20`, with MNIST
under PPL_GEN_DATA; `--data digits --epochs 100 --batch 50` takes a minute. Widths of Burda, Grosse
and Salakhutdinov (2016): 784–200–200–50, and 784–200–200–100–100–100–50 for two layers. They report
86.76 and 85.33 nats (k = 1), 84.78 and 82.90 (k = 50) after 3280 epochs. Dynamic binarisation, Adam
whose rate falls tenfold on a cosine; the test score is the importance-weighted log evidence of one
draw of the pixels, in nats per datum.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from pyro.infer import Trace_ELBO
from torch import nn

from ppl_gen import data
from ppl_gen.inference import collapse, elbo, log_evidence, svi_step
from ppl_gen.inference.fitting.objectives import IWAE, annealed
from ppl_gen.models import hierarchical_vae, vae

# By name, from the shape of a datum and the divisor of all sizes.
ROWS: dict[str, Callable[..., nn.Module]] = {
    "one": lambda shape, hidden, wide, narrow: vae(shape, narrow, hidden=hidden),
    "one-wide": lambda shape, hidden, wide, narrow: vae(shape, wide, hidden=hidden),
    "two": lambda shape, hidden, wide, narrow: hierarchical_vae(
        shape, (wide, narrow), hidden=hidden
    ),
    "two-top-down": lambda shape, hidden, wide, narrow: hierarchical_vae(
        shape, (wide, narrow), hidden=hidden, top_down=True
    ),
}


def trained(row: str, asked: argparse.Namespace, images: data.Dataset) -> nn.Module:
    """A program after the epochs asked for."""
    torch.manual_seed(asked.seed)
    small = 1
    if math.prod(images.shape) < 100:
        small = 2
    sizes = (100 // small, 50 // small)
    program = ROWS[row](images.shape, (200 // small, 200 // small), *sizes)
    optimizer = torch.optim.Adam(program.parameters(), asked.rate, fused=True)
    batches = images.train.batches(asked.batch)
    steps = asked.epochs * len(batches)
    bound = Trace_ELBO()
    if asked.k > 1:
        bound = IWAE(asked.k)
    beta = 1.0
    if asked.anneal:
        beta = annealed(asked.anneal * len(batches))
    step = svi_step(program, optimizer, bound, beta=beta, engine="fx")
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, asked.rate / 10)
    for _ in range(asked.epochs):
        for batch in batches:
            step(*batch)
            rate.step()
    return program


def main() -> None:
    """Trains and scores the rows asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="mnist")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam, at the beginning")
    parser.add_argument("--k", type=int, default=1, help="particles of the bound ascended (IWAE)")
    parser.add_argument("--anneal", type=int, default=0, help="epochs in which β rises from 0 to 1")
    parser.add_argument("--limit", type=int, default=1000, help="score the first so many test data")
    parser.add_argument("--particles", type=int, default=5000, help="importance samples per datum")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images = data.load(asked.data, binarize="dynamic")
    test = images.test.fixed(0, asked.limit)
    print(
        f"{asked.data}, {asked.epochs} epochs, k = {asked.k}, {len(test.x)} test data", flush=True
    )
    for row in asked.rows:
        start = time.process_time()
        program = trained(row, asked, images)
        seconds = time.process_time() - start
        evidence = log_evidence(program, None, test.x, particles=asked.particles, seed=0).mean()
        bound = elbo(program, None, test.x, particles=100, seed=0).mean()
        told = collapse(program, None, test.x, seed=0)
        layers = []
        for layer in told.layers:
            active = int(told.active[layer.latents].sum())
            layers.append(f"{layer.name} {active} active, {layer.rate.mean()}")
        print(
            f"{row:13} log p(x) {evidence}, ELBO {bound}; KL by layer: {'; '.join(layers)}; "
            f"{seconds:.0f} CPU s",
            flush=True,
        )


if __name__ == "__main__":
    main()
