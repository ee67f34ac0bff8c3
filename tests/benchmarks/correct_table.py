"""What `correct` is worth on scikit-learn's digits: a VAE of 50 latents, fitted for a few epochs.

`OMP_NUM_THREADS=1 python tests/benchmarks/correct_table.py`. Simulation-based calibration of the
guide and of what it is corrected to; then test digits against a long HMC: the error of posterior
means in posterior standard deviations, the share of digits by route, the gradients that were taken
against those of the long run, and how often the estimated bound of χ² holds, for every latent and
for the worst linear function of all of them. `--routes` has rows for guides of other quality: all
digits by HMC, or the guide kept wherever k̂ allows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import torch
from torch import Tensor

from ppl_gen import data
from ppl_gen.inference import Corrected, correct, hmc, iterate, sbc, svi_step
from ppl_gen.models import VAE, vae


def fitted(images: data.Dataset, asked: argparse.Namespace) -> VAE:
    """The VAE after so many epochs."""
    torch.manual_seed(asked.seed)
    program = vae(images.shape, asked.latent_dim, hidden=(200,))
    optimizer = torch.optim.Adam(program.parameters(), 1e-3)
    batches = images.train.batches(50)
    step = svi_step(program, optimizer, engine=asked.engine, steps=len(batches) * asked.epochs)
    for _ in iterate(step, batches, asked.epochs):
        pass
    return program


def calibrated(program: VAE, asked: argparse.Namespace) -> None:
    """Prints calibration before and after."""
    before = sbc(program, asked.simulations, seed=0)
    routes = []

    def sampler(model: Any, x: Tensor) -> Any:
        found = correct(program, x, seed=1, engine=asked.engine)
        routes.append(found)
        return found.as_draws()

    after = sbc(program, asked.simulations, sampler=sampler, seed=0)
    print(f"sbc, {asked.simulations} simulated digits; by route {routes[0].shares}")
    print(f"  before p = {before.p_value:.2g}, {before.tags}; after p = {after.p_value:.2g}")


def errors(found: Corrected, mean: Tensor, sd: Tensor) -> str:
    """The root mean square and the largest error of means, in posterior standard deviations."""
    off = (found.mean["z"].double() - mean) / sd
    return f"{float(off.square().mean().sqrt()):.3f} (largest {float(off.abs().max()):.2f})"


def main() -> None:
    """Fits, calibrates, and compares with a long run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent-dim", type=int, default=50)
    parser.add_argument("--limit", type=int, default=100, help="so many test digits")
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--draws", type=int, default=2000, help="of each of 16 long chains")
    parser.add_argument("--routes", action="store_true", help="rows of a single route as well")
    parser.add_argument("--engine", default="fx", help="auto, inductor, fx or eager")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images = data.load("digits", binarize="dynamic")
    program = fitted(images, asked)
    warnings.simplefilter("ignore")
    calibrated(program, asked)
    x = images.test.fixed(0, asked.limit).x
    began = time.perf_counter()
    warmup = 500
    long = hmc(
        program.model,
        x,
        draws=asked.draws,
        warmup=warmup,
        chains=16,
        local=True,
        engine=asked.engine,
        seed=1,
    )
    seconds = time.perf_counter() - began
    gradients = long.settings["leapfrogs"] * (warmup + asked.draws) * 16 * len(x)
    z = long.samples["z"].double()
    mean = z.mean((0, 1))
    sd = z.std((0, 1))
    halves = z[:8].mean((0, 1)) - z[8:].mean((0, 1))
    noise = float((halves / sd).square().mean().sqrt()) / 2
    print(f"{len(x)} test digits; means of long HMC are known to {noise:.3f} sd")
    options: dict[str, dict[str, Any]] = {"correct": {}}
    if asked.routes:
        options["all by HMC"] = {"min_ess": 4000, "good": 1.0}
        options["all weighted"] = {"min_ess": 1, "good": 1.0}
    for name, some in options.items():
        began = time.perf_counter()
        found = correct(program, x, seed=2, engine=asked.engine, **some)
        took = time.perf_counter() - began
        print(
            f"{name}: error {errors(found, mean, sd)} sd; {found.gradients / gradients:.2%} of the "
            f"gradients, {took / seconds:.0%} of the seconds; {found.headline}"
        )
    alone = correct(program, x, seed=3, engine=asked.engine, min_ess=1, good=1e-6)
    kept = ~alone.bound.isnan()
    off = (alone.mean["z"].double() - mean).abs() / alone.sd["z"]
    holds = (off <= alone.bound[:, None])[kept]
    # Of all linear functions that with the largest shift, under the guide's diagonal covariance.
    worst = off.square().sum(1).sqrt()
    linear = (worst <= alone.bound)[kept]
    ratio = (worst / alone.bound)[kept]
    print(
        f"the guide alone: error {errors(alone, mean, sd)} sd; bound stated for "
        f"{int(kept.sum())} of {len(x)}, holds in {float(holds.double().mean()):.2%} of "
        f"{holds.numel()} means, for the worst linear function of {int(linear.sum())} digits "
        f"(at {float(ratio.median()):.2f} of the bound, up to {float(ratio.max()):.2f})"
    )


if __name__ == "__main__":
    main()
