"""`amortise` beside sbi's NPE: two toys with exact posteriors, equally many simulations.

    OMP_NUM_THREADS=1 python tests/benchmarks/amortise_table.py

Without sbi (https://sbi-dev.github.io/sbi) its rows are left out. Both get the same simulator,
prior and number of simulations, of which each holds out a tenth; everything else is at its own
defaults (of sbi: density estimators "maf", the default, and "nsf"). They are judged on data that
neither has seen: KL(p ‖ q) of the exact posterior p, averaged over data, and root mean square
errors of posterior means and standard deviations, in exact standard deviations. ± is the standard
error over seeds; seconds are of the CPU. sbi writes logs into the folder where it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_gen.inference import amortise

# Draws of each posterior: of so many, means are off by 0.022 and standard deviations by 0.016.
DRAWS = 2000
TIMES = torch.linspace(0, 2, 6)
EACH = 3  # counts of a rate


class Fitted(NamedTuple):
    """An amortised posterior.

    Attributes:
        log_q: From θ (S, N, D) and data (N, *shape) to log q(θ | x), (S, N).
        draws: From data (N, *shape) to draws (S, N, D).
    """

    log_q: Callable[[Tensor, Tensor], Tensor]
    draws: Callable[[Tensor], Tensor]


class Toy(NamedTuple):
    """A simulator whose posterior is known.

    Attributes:
        simulator: From θ (*batch, 2) to data (*batch, 6).
        prior: p(θ).
        posterior: From data (N, 6) to p(θ | x).
    """

    simulator: Callable[[Tensor], Tensor]
    prior: Any
    posterior: Callable[[Tensor], Any]


def line(theta: Tensor) -> Tensor:
    """Six points about a line of an intercept and a slope, with noise of variance 1."""
    loc = theta[..., :1] + theta[..., 1:] * TIMES
    return loc + torch.randn_like(loc)


def of_line(x: Tensor) -> Any:
    """N(ΣAᵀx, Σ), Σ = (I + AᵀA)⁻¹."""
    design = torch.stack([torch.ones_like(TIMES), TIMES], 1)
    covariance = torch.linalg.inv(torch.eye(2) + design.T @ design)
    return dist.MultivariateNormal(x @ design @ covariance, covariance)


def counts(theta: Tensor) -> Tensor:
    """Three counts of each of two rates."""
    return torch.poisson(theta.repeat_interleave(EACH, -1))


def of_counts(x: Tensor) -> Any:
    """Γ(2 + the sum of its counts, 1 + 3) of each rate."""
    sums = x.unflatten(-1, (2, EACH)).sum(-1)
    return dist.Gamma(2 + sums, torch.tensor(1.0 + EACH)).to_event(1)


TOYS = {
    "line: intercept, slope": Toy(line, dist.Normal(torch.zeros(2), 1.0).to_event(1), of_line),
    "two Poisson rates": Toy(counts, dist.Gamma(torch.full((2,), 2.0), 1.0).to_event(1), of_counts),
}


def by_amortise(toy: Toy, simulations: int, seed: int) -> Fitted:
    """q of `amortise`."""
    found = amortise(toy.simulator, toy.prior, simulations=simulations, seed=seed)

    def log_q(theta: Tensor, x: Tensor) -> Tensor:
        return found.posterior(x).log_prob(theta)

    def draws(x: Tensor) -> Tensor:
        return found.posterior(x).sample(torch.Size([DRAWS]))

    return Fitted(log_q, draws)


def by_sbi(density: str) -> Callable[[Toy, int, int], Fitted]:
    """What makes q by sbi's NPE.

    Args:
        density: Its density estimator.
    """

    def fitted(toy: Toy, simulations: int, seed: int) -> Fitted:
        from sbi.inference import NPE

        torch.manual_seed(seed)
        theta = toy.prior.sample(torch.Size([simulations]))
        trainer = NPE(prior=toy.prior, density_estimator=density, show_progress_bars=False)
        # It says on the screen that it has converged.
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.append_simulations(theta, toy.simulator(theta)).train()
        posterior = trainer.build_posterior()

        def log_q(theta: Tensor, x: Tensor) -> Tensor:
            return posterior.log_prob_batched(theta, x)

        def draws(x: Tensor) -> Tensor:
            return posterior.sample_batched(torch.Size([DRAWS]), x, show_progress_bars=False)

        return Fitted(log_q, draws)

    return fitted


class Errors(NamedTuple):
    """What one fit is off, and what it took.

    Attributes:
        divergence: KL(p ‖ q), in nats.
        mean: Of posterior means, root mean square, in posterior standard deviations.
        sd: Of posterior standard deviations, likewise.
        seconds: Of simulation and fit, CPU time.
    """

    divergence: float
    mean: float
    sd: float
    seconds: float


def measured(
    fit: Callable[[Toy, int, int], Fitted], toy: Toy, simulations: int, seed: int, count: int
) -> Errors:
    """The errors of one fit.

    Args:
        fit: What makes q.
        toy: The simulator.
        simulations: What it is fitted to.
        seed: Of simulations and fit; the data of the errors have another.
        count: How many data these are.
    """
    began = time.process_time()
    found = fit(toy, simulations, seed)
    seconds = time.process_time() - began
    torch.manual_seed(1000 + seed)
    x = toy.simulator(toy.prior.sample(torch.Size([count])))
    exact = toy.posterior(x)
    theta = exact.sample(torch.Size([200]))
    with torch.no_grad():
        divergence = (exact.log_prob(theta) - found.log_q(theta, x)).double().mean()
        drawn = found.draws(x)
    sd = exact.variance.sqrt()
    off = (drawn.mean(0) - exact.mean) / sd
    wide = drawn.std(0) / sd - 1
    return Errors(
        divergence=float(divergence),
        mean=float(off.square().mean().sqrt()),
        sd=float(wide.square().mean().sqrt()),
        seconds=seconds,
    )


def main() -> None:
    """Prints a row for each toy, number of simulations and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, nargs="+", default=[2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=int, default=50)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    methods = {"`amortise`": by_amortise}
    if importlib.util.find_spec("sbi") is None:
        print("without sbi, which `pip install sbi` brings")
    else:
        methods["sbi NPE, maf"] = by_sbi("maf")
        methods["sbi NPE, nsf"] = by_sbi("nsf")
    print("| toy | simulations | by | KL, nats | means off, sd | sds off | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, toy in TOYS.items():
        for simulations in asked.simulations:
            for method, fit in methods.items():
                rows = []
                for seed in range(asked.seeds):
                    rows.append(measured(fit, toy, simulations, seed, asked.data))
                table = torch.tensor(rows, dtype=torch.double)
                mean = Errors(*table.mean(0).tolist())
                error = Errors(*(table.std(0) / len(table) ** 0.5).tolist())
                print(
                    f"| {name} | {simulations:,} | {method} | "
                    f"{mean.divergence:.4f} ± {error.divergence:.4f} | "
                    f"{mean.mean:.3f} ± {error.mean:.3f} | {mean.sd:.3f} ± {error.sd:.3f} | "
                    f"{mean.seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
