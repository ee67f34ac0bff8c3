"""How often intervals of `match_moments` and `match_mmd` hold the truth, and what they lose.

`OMP_NUM_THREADS=1 python tests/benchmarks/matching_table.py`. Two toys whose likelihoods are known:
a normal distribution (its simulator has gradients) and counts of a gamma distributed rate (which
has none). For every parameter: the share of seeds whose 95 % interval holds it, the error of the
estimate beside that of maximum likelihood, the standard error that is stated beside the one that is
seen, and the share of tests of fit with p below 0.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import constraints

from ppl_gen.inference import match_mmd, match_moments


def normal(theta: Tensor) -> Any:
    """A number of a mean and a standard deviation, as a distribution."""
    return dist.Normal(theta[..., 0], theta[..., 1])


def counts(theta: Tensor) -> Tensor:
    """Counts of a gamma distributed rate, of a shape and a rate."""
    return torch.poisson(dist.Gamma(theta[..., 0], theta[..., 1]).sample())


def best_normal(x: Tensor) -> Tensor:
    """The mean and standard deviation of maximum likelihood."""
    return torch.stack([x.mean(), x.std(correction=0)]).double()


def best_counts(x: Tensor) -> Tensor:
    """The shape and rate of maximum likelihood, of a negative binomial distribution."""

    def loss(line: np.ndarray) -> float:
        shape, rate = torch.from_numpy(line).exp()
        return -float(dist.GammaPoisson(shape, rate).log_prob(x.double()).mean())

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5})
    return torch.from_numpy(found.x).exp()


LINE = [constraints.real, constraints.positive]
TOYS: dict[str, tuple[Callable[[Tensor], Any], Tensor, list[Any], Callable[[Tensor], Tensor]]] = {
    "normal: mean, sd": (normal, torch.tensor([1.0, 2.0]), LINE, best_normal),
    "gamma-Poisson: shape, rate": (
        counts,
        torch.tensor([2.0, 0.5]),
        [constraints.positive] * 2,
        best_counts,
    ),
}


def simulated(simulator: Callable[[Tensor], Any], theta: Tensor, n: int, seed: int) -> Tensor:
    """The data of a seed."""
    torch.manual_seed(seed)
    drawn = simulator(theta.expand(n, len(theta)))
    if not torch.is_tensor(drawn):
        drawn = drawn.sample()
    return drawn


def main() -> None:
    """Prints a row for each toy, method and parameter."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--data", type=int, default=200)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--only", default="", help="Toys with these letters in their names.")
    parser.add_argument("--by", default="", help="Methods with these letters in their names.")
    asked = parser.parse_args()
    print("| toy | by | 95 % intervals hold | error / of ML | stated / seen | p < 0.05 | s |")
    print("|---|---|---|---|---|---|---|")
    for name, (simulator, theta, supports, best) in TOYS.items():
        if asked.only not in name:
            continue
        for match in (match_moments, match_mmd):
            if asked.by not in match.__name__:
                continue
            inside, off, off_best, stated, rejected = [], [], [], [], []
            spent = 0.0
            for seed in range(asked.seeds):
                x = simulated(simulator, theta, asked.data, seed)
                found = match(
                    simulator,
                    x,
                    start=torch.ones(2),
                    supports=supports,
                    draws=asked.draws,
                    seed=seed,
                )
                spent += found.seconds
                low, high = found.interval()
                inside.append((low <= theta) & (theta <= high))
                off.append(found.estimate.value - theta)
                off_best.append(best(x) - theta)
                stated.append(found.estimate.standard_error)
                rejected.append(found.p_value < 0.05)
            rows = torch.stack(inside).double()
            error = torch.stack(off).square().mean(0).sqrt()
            ratio = error / torch.stack(off_best).square().mean(0).sqrt()
            honest = torch.stack(stated).median(0).values / torch.stack(off).std(0)
            count_error = (0.95 * 0.05 / asked.seeds) ** 0.5
            held = ", ".join([f"{share:.3f}" for share in rows.mean(0)])
            print(
                f"| {name} | `{match.__name__}` | {held} (± {count_error:.3f}) | "
                f"{ratio[0]:.2f}, {ratio[1]:.2f} | {honest[0]:.2f}, {honest[1]:.2f} | "
                f"{np.mean(rejected):.3f} | {spent / asked.seeds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
