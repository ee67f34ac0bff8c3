"""What the acceptance that `nuts` aims at is worth: errors and ESS per gradient, at several.

`OMP_NUM_THREADS=1 python tests/benchmarks/nuts_table.py`, or with the names of rows behind. The
rows are the posteriors of tests/scenarios.py; z is the largest error of a mean, and of a standard
deviation, in standard errors of draws and reference.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from scenarios import REFERENCE_DRAWS, SCENARIOS

from ppl_gen.inference import ConvergenceWarning, Draws, nuts
from ppl_gen.models.toy import Posterior

HEADS = (
    "posterior",
    "target",
    "acceptance",
    "step size",
    "leapfrogs",
    "divergent, %",
    "R̂",
    "ESS per gradient",
    "mean, z",
    "sd, z",
    "seconds",
)


def errors(name: str, posterior: Posterior, draws: Draws) -> tuple[float, float]:
    """The largest |z| of a mean and of a standard deviation, the funnel's x left out.

    Args:
        name: Of the posterior.
        posterior: What has a reference.
        draws: What is held against it.
    """
    means = [0.0]
    sds = [0.0]
    own = REFERENCE_DRAWS.get(name, float("inf"))
    for site, moments in posterior.reference().items():
        if "funnel" in name and site == "x":
            continue
        sd = moments.sd.double()
        of_mean = torch.hypot(draws.mcse[site], sd / own**0.5)
        of_sd = torch.hypot(draws.mcse_sd[site], sd * (5 / (4 * own)) ** 0.5)
        means.append(float(((draws.mean[site] - moments.mean) / of_mean).abs().max()))
        sds.append(float(((draws.sd[site] - moments.sd) / of_sd).abs().max()))
    return max(means), max(sds)


def row(name: str, target: float, asked: argparse.Namespace) -> str:
    """A row of the table, in Markdown."""
    posterior = SCENARIOS[name]()
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        draws = nuts(
            posterior.model,
            *posterior.data,
            draws=asked.draws,
            warmup=asked.draws,
            chains=asked.chains,
            target_accept=target,
            seed=asked.seed,
        )
    gradients = draws.chains * draws.draws * draws.settings["leapfrogs"]
    mean, sd = errors(name, posterior, draws)
    cells = [
        name,
        f"{target:g}",
        f"{float(draws.acceptance.mean()):.3f}",
        f"{draws.settings['step_size']:.3g}",
        f"{draws.settings['leapfrogs']:.1f}",
        f"{100 * draws.divergences / draws.divergent.numel():.2f}",
        f"{draws.max_r_hat:.3f}",
        f"{draws.min_ess / gradients:.3g}",
        f"{mean:.1f}",
        f"{sd:.1f}",
        f"{draws.seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*SCENARIOS, []], help="all if none are named")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |")
    print("|" + "---|" * len(HEADS), flush=True)
    for name in asked.rows or SCENARIOS:
        for target in asked.targets:
            print(row(name, target, asked), flush=True)


if __name__ == "__main__":
    main()
