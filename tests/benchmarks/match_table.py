"""Batch and match: beside sticking the landing with Adam, and against posteriors that are known.

    python tests/benchmarks/match_table.py

Beside Adam it is logistic regression of 25 coefficients. Both fit a Gaussian of full covariance;
ELBO and k̂ are those of 20,000 draws. Gradients are those of the fit; Pathfinder's, which batch and
match begins from, stand beside. Against known posteriors the errors are the largest of a mean and
of a standard deviation, in standard deviations of the posterior, of as many draws.
"""

from __future__ import annotations

__all__ = ["main"]

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from everyday import EVERYDAY, error_of
from torch import Tensor

from ppl_gen.inference import GaussianGuide, Pathfinder, match_step
from ppl_gen.inference.evidence.weights import evidence_of
from ppl_gen.inference.latents.potential import Potential, log_joint
from ppl_gen.inference.posteriors.evaluations import Evaluations
from ppl_gen.models import toy

_JUDGED = 20_000
_STEPS = 64  # of ten gradients each
_KNOWN = ("correlated normal", "eight schools")


def judged(guide: GaussianGuide) -> str:
    """ELBO ± its error, and k̂."""
    points, log_q = guide.draw(_JUDGED)
    log_weights = log_joint(guide.potential, points).double() - log_q
    error = float(log_weights.std()) / math.sqrt(_JUDGED)
    k_hat = evidence_of(log_weights).k_hat
    assert k_hat is not None
    return f"{float(log_weights.mean()):.3f} ± {error:.3f} | {float(k_hat):.2f}"


def by_adam(potential: Potential, gradients: int, draws: int = 10) -> GaussianGuide:
    """The Gaussian by Adam on the gradient of Roeder, Wu and Duvenaud (2017)."""
    width = potential.shape[1]
    evaluations = Evaluations(potential, "fx")
    mean = torch.zeros(width, requires_grad=True)
    factor = torch.eye(width, requires_grad=True)
    optimizer = torch.optim.Adam([mean, factor], 0.02)
    steps = gradients // draws
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        white = torch.randn(draws, width)
        with torch.no_grad():
            points = mean + white @ factor.mT
            _, slope = evaluations(points[:, None], *potential.tensors)
            own = torch.linalg.solve_triangular(factor.mT, white.mT, upper=True).mT
            force: Tensor = (slope[:, 0] - own) / draws
            mean.grad = force.sum(0)
            factor.grad = (force.mT @ white).tril()
        optimizer.step()
        schedule.step()
    lower = factor.detach()
    signs = lower.diagonal().sign()  # a column and its opposite are the same Gaussian
    return GaussianGuide(potential, mean.detach(), lower * signs)


def matched(seed: int) -> tuple[Potential, str]:
    """The logistic regression's potential, and the row of batch and match.

    Args:
        seed: Of the fit.
    """
    posterior = toy.LogisticRegression.simulated(500, 25)
    torch.manual_seed(seed)
    step = match_step(posterior.model, init=Pathfinder(paths=4))
    step(*posterior.data)
    start = step.gradients - 10
    for _ in range(_STEPS - 1):
        step(*posterior.data)
    own = step.gradients - start
    said = f"| batch and match, seed {seed} | {own} (+ {start} of Pathfinder) |"
    return step.guide.potential, f"{said} {judged(step.guide)} |"


def errors(name: str, seed: int) -> str:
    """The row of a posterior that is known.

    Args:
        name: Of it.
        seed: Of the fit.
    """
    everyday = EVERYDAY[name]()
    torch.manual_seed(seed)
    step = match_step(everyday.model)
    for _ in range(_STEPS):
        step(*everyday.data)
    drawn = step.guide.sample(_JUDGED)
    means = {site: value.double().mean(0) for site, value in drawn.items()}
    sds = {site: value.double().std(0) for site, value in drawn.items()}
    off = error_of(name, means, sds)
    return f"| {name}, seed {seed} | {step.gradients} | {off.mean:.3f} | {off.sd:.3f} |"


def main() -> None:
    """Prints the tables."""
    print("| guide | gradients | ELBO | k̂ |")
    print("|---|---|---|---|")
    for seed in range(3):
        potential, row = matched(seed)
        print(row, flush=True)
    for gradients in (640, 4000, 16_000):
        torch.manual_seed(0)
        guide = by_adam(potential, gradients)
        print(f"| Adam | {gradients:,} | {judged(guide)} |", flush=True)
    print("\n| posterior | gradients, Pathfinder's included | mean off | sd off |")
    print("|---|---|---|---|")
    for name in _KNOWN:
        for seed in range(3):
            print(errors(name, seed), flush=True)


if __name__ == "__main__":
    main()
