"""The one-layer rows of Burda, Grosse and Salakhutdinov (2016), table 1, at a chosen fraction of
their 3280 epochs.

`OMP_NUM_THREADS=1 python tests/benchmarks/iwae_table.py --fraction 0.01`; MNIST must lie at hand.
784-200-200-50 tanh, mirrored, dynamic binarisation, batch 20, Adam with ε = 1e-4; stage i = 0, …, 7
has the fraction of 3^i epochs at the rate 10^(−3 − i/7). The test score is the importance-weighted
log evidence, in nats per datum, with its Monte Carlo error.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import torch
from pyro.infer import ELBO, Trace_ELBO

from ppl_gen import data
from ppl_gen.inference import Estimate, elbo, log_evidence, svi_step
from ppl_gen.inference.fitting.objectives import IWAE, DReG
from ppl_gen.models import VAE, vae

STAGES = 8
ROWS: dict[str, Callable[[], ELBO]] = {
    "VAE, k = 1": Trace_ELBO,
    "VAE, k = 5": lambda: Trace_ELBO(
        num_particles=5, vectorize_particles=True, max_plate_nesting=1
    ),
    "VAE, k = 50": lambda: Trace_ELBO(
        num_particles=50, vectorize_particles=True, max_plate_nesting=1
    ),
    "IWAE, k = 5": lambda: IWAE(num_particles=5),
    "IWAE, k = 50": lambda: IWAE(num_particles=50),
    "DReG, k = 5": lambda: DReG(num_particles=5),
    "DReG, k = 50": lambda: DReG(num_particles=50),
}
# negative log-likelihoods at the whole schedule: Burda et al.; of DReG, a public re-implementation
PUBLISHED = {
    "VAE, k = 1": 86.76,
    "VAE, k = 5": 86.47,
    "VAE, k = 50": 86.35,
    "IWAE, k = 5": 85.54,
    "IWAE, k = 50": 84.78,
    "DReG, k = 5": 84.90,
    "DReG, k = 50": 84.32,
}


def forever(batches: data.Batches) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batch after batch, epoch after epoch."""
    while True:
        yield from batches


def trained(objective: ELBO, digits: data.Dataset, fraction: float, batch: int, device: str) -> VAE:
    """A VAE after the fraction of the schedule."""
    torch.manual_seed(0)
    program = vae(digits.shape, 50).to(device)
    optimizer = torch.optim.Adam(program.parameters(), 1e-3, eps=1e-4)
    epoch = len(digits.train) // batch
    stages = [max(round(fraction * 3**i * epoch), 1) for i in range(STAGES)]
    step = svi_step(program, optimizer, objective, steps=sum(stages))
    batches = forever(digits.train.batches(batch))
    for i, count in enumerate(stages):
        for group in optimizer.param_groups:
            group["lr"] = 10 ** (-3 - i / 7)
        for seen in itertools.islice(batches, count):
            step(*seen)
    return program


def scored(
    program: VAE, digits: data.Dataset, limit: int, particles: int
) -> tuple[Estimate, Estimate]:
    """Log evidence and ELBO of the first test digits, under one draw of their pixels."""
    test = digits.test.fixed(0, limit)
    bound = elbo(program, None, test.x, particles=100, seed=0).mean()
    return log_evidence(program, None, test.x, particles=particles, seed=0).mean(), bound


def main() -> None:
    """Trains and scores the rows asked for, one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fraction", type=float, default=0.01, help="of the 3280 epochs")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument(
        "--limit", type=int, default=10_000, help="score the first so many test digits"
    )
    parser.add_argument("--particles", type=int, default=5000, help="importance samples per digit")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    digits = data.load("mnist", binarize="dynamic").to(torch.device(asked.device))
    print(
        f"{asked.fraction:.3%} of 3280 epochs; {asked.limit} test digits, {asked.particles} "
        f"particles; {asked.device}",
        flush=True,
    )
    for row in asked.rows:
        start = time.perf_counter()
        program = trained(ROWS[row](), digits, asked.fraction, 20, asked.device)
        seconds = time.perf_counter() - start
        evidence, bound = scored(program, digits, asked.limit, asked.particles)
        print(
            f"{row:13} NLL {-float(evidence.value):.3f} ± {float(evidence.standard_error):.3f}, "
            f"ELBO {bound}, whole schedule, published {PUBLISHED[row]}; {seconds:.0f} s of "
            "training",
            flush=True,
        )


if __name__ == "__main__":
    main()
