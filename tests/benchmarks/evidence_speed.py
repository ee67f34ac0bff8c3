"""How long annealed importance sampling takes on each rung of the engine, against the same steps
written by hand.

`make benchmarks`, or `OMP_NUM_THREADS=1 python tests/benchmarks/evidence_speed.py`. A decoder of
50-200-200-784, 16 chains of 100 images, in one run, the contestants taking turns; medians of the
ratios to hand-written PyTorch are printed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_gen.inference.evidence.ais import Settings, annealed_log_weights
from ppl_gen.inference.evidence.temperatures import sigmoid
from ppl_gen.models import VAE, vae

ROUNDS, IMAGES, CHAINS, TEMPERATURES, LEAPFROGS = 5, 100, 16, 20, 5
PILOT = 50  # transitions that the library makes before, to learn its steps


def by_hand(program: VAE, x: Tensor) -> Tensor:
    """AIS of a Bernoulli VAE from its prior, as one would write it down: fixed step sizes,
    gradients by autograd.
    """
    decode, betas = program.decoder, sigmoid(TEMPERATURES)
    flat = x.flatten(1)

    def energy(z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        z = z.detach().requires_grad_()
        logits = decode(z).flatten(2)
        likelihood = -F.binary_cross_entropy_with_logits(
            logits, flat.expand_as(logits), reduction="none"
        ).sum(-1)
        total = -(-0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) + beta * likelihood)
        (gradient,) = torch.autograd.grad(total.sum(), z)
        return total.detach(), gradient, likelihood.detach()

    z = torch.randn(CHAINS, len(x), 50)
    log_weight = torch.zeros(CHAINS, len(x), dtype=torch.float64)
    likelihood = energy(z, 0.0)[2]
    for t in range(-PILOT, TEMPERATURES):
        beta = float(betas[max(t, 0) + 1])
        if t >= 0:
            log_weight += (beta - float(betas[t])) * likelihood
        p = torch.randn_like(z)
        before, gradient, likelihood = energy(z, beta)
        new, q = z, p
        for _ in range(LEAPFROGS):
            q = q - 0.025 * gradient
            new = new + 0.05 * q
            after, gradient, fresh = energy(new, beta)
            q = q - 0.025 * gradient
        change = before - after + 0.5 * (p.square().sum(-1) - q.square().sum(-1))
        accepted = torch.rand_like(change).log() < change
        z = torch.where(accepted[..., None], new, z)
        likelihood = torch.where(accepted, fresh, likelihood)
    return log_weight


def by_engine(program: VAE, x: Tensor, engine: str) -> Tensor:
    """The library's."""
    settings = Settings(
        chains=CHAINS,
        temperatures=TEMPERATURES,
        leapfrogs=LEAPFROGS,
        schedule=None,
        target_accept=0.65,
        chunk=None,
        seed=0,
        progress=False,
        engine=engine,  # type: ignore[arg-type]
    )
    return annealed_log_weights(program, None, (x,), settings)


def main() -> None:
    """Prints a line for each contestant."""
    torch.manual_seed(0)
    program, x = vae((1, 28, 28), 50), torch.rand(IMAGES, 1, 28, 28).round()
    contestants: dict[str, Callable[[], Tensor]] = {"hand-written": partial(by_hand, program, x)}
    for engine in ("eager", "fx", "inductor"):
        contestants[engine] = partial(by_engine, program, x, engine)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one warms up; inductor finds its kernels on disk afterwards
                seconds[name].append(time.perf_counter() - start)
    steps = (TEMPERATURES + PILOT) * LEAPFROGS
    for name, taken in seconds.items():
        ratio = statistics.median(
            t / h for t, h in zip(taken, seconds["hand-written"], strict=True)
        )
        print(
            f"{name:13} {1e3 * statistics.median(taken) / steps:7.2f} ms per leapfrog of "
            f"{CHAINS * IMAGES} chains, {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
