"""Seconds of an adversarial step in units of the same game written by hand in PyTorch: interleaved
passes, medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_gen.critics import conv_critic, mlp_critic
from ppl_gen.inference import adversarial_step
from ppl_gen.models import dcgan, gan

PASSES, STEPS = 9, 40
Step = Callable[[Tensor], Any]
GAMES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...], int]] = {
    "2-128-128-2, batch 256, ring": (
        lambda: gan((2,), 2, hidden=(128, 128)),
        lambda: mlp_critic((2,), hidden=(128, 128)),
        (2,),
        256,
    ),
    "10-256-256-64, batch 50, digits": (
        lambda: gan((1, 8, 8), 10),
        lambda: mlp_critic((1, 8, 8)),
        (1, 8, 8),
        50,
    ),
    "DCGAN of 28 × 28, width 16, batch 64": (
        lambda: dcgan((1, 28, 28), 50, width=16),
        lambda: conv_critic((1, 28, 28), width=16),
        (1, 28, 28),
        64,
    ),
}


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), 5e-4, betas=(0.0, 0.9), fused=True)


def by_hand(program: Any, critic: nn.Module, r1: float) -> Step:
    """What one writes without a library: draws shared by both sides, the penalty on data."""
    generator, inputs = program.decoder, program.prior.loc.shape[0]
    of_generator, of_critic = adam(generator), adam(critic)

    def step(x: Tensor) -> None:
        drawn = generator(torch.randn(len(x), inputs))
        real = x.detach().requires_grad_(bool(r1))
        scores = critic(real)
        loss = F.softplus(-scores).mean() + F.softplus(critic(drawn.detach())).mean()
        if r1:
            (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
            loss = loss + r1 / 2 * gradient.square().flatten(1).sum(-1).mean()
        of_critic.zero_grad(set_to_none=True)
        loss.backward()
        of_critic.step()
        of_generator.zero_grad(set_to_none=True)
        F.softplus(-critic(drawn)).mean().backward()
        of_generator.step()

    return step


def contestants(name: str, r1: float) -> dict[str, Step]:
    generator, critic, _, _ = GAMES[name]
    pairs = [(generator(), critic()) for _ in range(2)]
    program, judge = pairs[1]
    return {
        "by hand": by_hand(*pairs[0], r1),
        "ppl-gen": adversarial_step(program, judge, adam(program), adam(judge), r1=r1),
    }


def seconds(step: Step, batches: list[Tensor]) -> float:
    start = time.perf_counter()
    for x in batches:
        step(x)
    return (time.perf_counter() - start) / len(batches)


def main() -> None:
    torch.manual_seed(0)
    for name, (_, _, shape, size) in GAMES.items():
        batches = [torch.rand(size, *shape) for _ in range(STEPS)]
        for r1 in (0.0, 0.1):
            steps = contestants(name, r1)
            for step in steps.values():
                seconds(step, batches[:10])
            times = {key: [] for key in steps}
            for _ in range(PASSES):
                for key, step in steps.items():
                    times[key].append(seconds(step, batches))
            median = {key: statistics.median(t) for key, t in times.items()}
            ratio = median["ppl-gen"] / median["by hand"]
            print(
                f"{name}, R1 = {r1}: by hand {1000 * median['by hand']:.2f} ms, ppl-gen "
                f"{ratio:.2f} times that"
            )


if __name__ == "__main__":
    main()
