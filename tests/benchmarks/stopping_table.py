"""Does `Converged` stop in time, and not too soon? SVI on five toys from many seeds.

`OMP_NUM_THREADS=1 python tests/benchmarks/stopping_table.py --seeds 20`, or with names of toys
behind. Each fit is AutoNormal by Adam from a rate of 0.1. Its error is the largest distance of a
mean or a log sd from those of the best AutoNormal, in standard deviations of that one, which is
the average of a long fit at a small rate with many draws for each gradient. Steps needed are those
after which the average of the last half of all iterates so far is within 0.1 for good.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scenarios import SCENARIOS
from torch import Tensor

from ppl_gen.autoguides import automatic
from ppl_gen.inference import Converged, Record, svi_step
from ppl_gen.inference.engine.replay import Engine

TOYS = (
    "linear regression",
    "logistic regression",
    "linear regression, noise unknown",
    "eight schools",
    "ordered mixture",
)
QUANTILES = [0.15865525, 0.5, 0.84134475]
ENOUGH = 0.1
MOST = 100_000
RATE = 0.1


class Fit:
    """A fit of AutoNormal to a toy, step by step.

    Args:
        name: Of the toy.
        rate: Adam's first.
        seed: Of the draws; the generator goes on from it.
        engine: How steps are computed.
        particles: Draws for each gradient.
    """

    def __init__(
        self, name: str, rate: float, seed: int, engine: Engine, particles: int = 1
    ) -> None:
        torch.manual_seed(seed)
        posterior = SCENARIOS[name]()
        self.data = posterior.data
        self.guide = automatic(AutoNormal, posterior.model, *self.data)
        self.optimizer = torch.optim.Adam(self.guide.parameters(), rate)
        objective = Trace_ELBO(num_particles=particles)
        self.step = svi_step(
            posterior.model, self.optimizer, objective, guide=self.guide, engine=engine
        )
        self.iterates: list[Tensor] = []

    def move(self) -> None:
        """One step, whose parameters are kept."""
        self.step(*self.data)
        own = list(self.guide.parameters())
        self.iterates.append(torch.nn.utils.parameters_to_vector(own).detach().clone())

    def said_by(self, vector: Tensor) -> Tensor:
        """Middles and half widths of all latents, (2, K), under these parameters."""
        own = list(self.guide.parameters())
        with torch.no_grad():
            for p, part in zip(own, vector.split([p.numel() for p in own]), strict=True):
                p.copy_(part.view_as(p))
        return said(self.guide)


def said(guide: Any) -> Tensor:
    """Middles and half widths of all latents, (2, K)."""
    middles = []
    halves = []
    for value in guide.quantiles(QUANTILES).values():
        low, middle, high = value.double().reshape(3, -1)
        middles.append(middle)
        halves.append((high - low) / 2)
    return torch.stack([torch.cat(middles), torch.cat(halves)])


def error(found: Tensor, best: Tensor) -> float:
    """The largest distance, in standard deviations of the best."""
    means = (found[0] - best[0]).abs() / best[1]
    spreads = (found[1].log() - best[1].log()).abs()
    return float(torch.cat([means, spreads]).max())


def best_of(name: str, asked: argparse.Namespace) -> Tensor:
    """What the best AutoNormal says, (2, K): a fast fit, then a slow one, averaged."""
    fit = Fit(name, RATE, 10_000, asked.engine, asked.particles)
    for i in range(asked.steps):
        if i == asked.steps // 3:
            fit.optimizer.param_groups[0]["lr"] = RATE / 10
        fit.move()
    return fit.said_by(torch.stack(fit.iterates[asked.steps // 2 :]).mean(0))


def needed(fit: Fit, best: Tensor) -> int:
    """The steps after which the average of the last half is within reach for good."""
    iterates = torch.stack(fit.iterates)
    sums = torch.cat([torch.zeros_like(iterates[:1]), iterates.cumsum(0)])
    first = len(iterates)
    for t in range(len(iterates), 50, -50):
        average = (sums[t] - sums[t // 2]) / (t - t // 2)
        if error(fit.said_by(average), best) > ENOUGH:
            break
        first = t
    return first


def row(name: str, asked: argparse.Namespace) -> str:
    """A row of the table, in Markdown."""
    best = best_of(name, asked)
    errors = []
    taken = []
    ratios = []
    for seed in range(asked.seeds):
        fit = Fit(name, RATE, seed, asked.engine)
        rule = Converged(fit.guide, fit.optimizer)
        count = 0
        while count < MOST and not rule.is_over:
            count += 1
            fit.move()
            rule(Record(count, {}, 1, 0.0))
        errors.append(error(said(fit.guide), best))
        taken.append(count)
        ratios.append(count / needed(fit, best))
    within = sum(e <= ENOUGH for e in errors)
    largest = max(errors)
    steps = sorted(taken)[len(taken) // 2]
    ratio = sorted(ratios)[len(ratios) // 2]
    over = sum(count < MOST for count in taken)
    cells = [name, f"{within} of {len(errors)}", f"{largest:.3f}", f"{steps}", f"{ratio:.1f}"]
    cells.append(f"{over} of {len(errors)}")
    return "| " + " | ".join(cells) + " |"


HEADS = (
    "toy",
    f"error at most {ENOUGH} sd",
    "largest",
    "steps, median",
    "taken by needed, median",
    "stopped",
)


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("toys", nargs="*", help="all if none are named")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=6000, help="of the best guide's fit")
    parser.add_argument("--particles", type=int, default=8, help="for each of its gradients")
    parser.add_argument("--engine", default="fx", help='"inductor" where fits are long')
    asked = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |")
    print("|" + "---|" * len(HEADS), flush=True)
    for name in asked.toys or TOYS:
        print(row(name, asked), flush=True)


if __name__ == "__main__":
    main()
