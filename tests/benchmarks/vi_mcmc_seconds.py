"""Seconds to equal error against the number of data: a fitted guide beside MCMC.

`OMP_NUM_THREADS=1 python tests/benchmarks/vi_mcmc_seconds.py`. Logistic regressions with five
coefficients; the guide is a Gaussian of full covariance (`AutoMultivariateNormal`), fitted to all
data in 500 steps of Adam. Its error is that of its means, in posterior deviations, as held against
the draws of `hmc`; MCMC's seconds are those in which its own means would be as far off, warm-up in
proportion. Both by the engine of replayed graphs, so that nothing is compiled.
"""

from __future__ import annotations

import argparse

from pyro.infer.autoguide import AutoMultivariateNormal

from ppl_gen.inference import compare, fit_guide
from ppl_gen.models import toy


def main() -> None:
    """Prints a line for each number of data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--draws", type=int, default=200)
    asked = parser.parse_args()
    for n in asked.sizes:
        program = toy.LogisticRegression.simulated(n, 5)
        fitted = fit_guide(
            program.model,
            AutoMultivariateNormal,
            *program.data,
            steps=asked.steps,
            seed=0,
            engine="fx",
        )
        found = compare(
            program.model,
            fitted,
            *program.data,
            draws=asked.draws,
            warmup=asked.draws,
            chains=4,
            guide_draws=1000,
            seed=0,
            engine="fx",
        )
        seconds = found.seconds_to_equal_error
        ratio = seconds["mcmc"] / seconds["guide"]
        print(
            f"{n:7d} data: guide off by {found.guide_error:.3f} sd after {seconds['guide']:.1f} s; "
            f"MCMC as far off after {seconds['mcmc']:.2f} s, {ratio:.3f} times as long "
            f"({found.seconds['mcmc']:.1f} s for {found.draws.min_ess:.0f} effective draws)",
            flush=True,
        )


if __name__ == "__main__":
    main()
