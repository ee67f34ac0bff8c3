"""The table of trust: what each method finds on toys with exact answers, in standard errors.

    make trust    # writes docs/trust.md

A cell holds one quantity, often of many coordinates: z is the largest |found − exact| / error. It
passes where a right method would, but for one table in a hundred: the limit of each z is that of
the largest of so many normal numbers, with a chance of 0.01 over all cells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Two threads on two busy cores can be many times slower than one; before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyro
import pyro.distributions as dist
import torch
from gaussians import draws, exact_energy, exact_frechet, exact_mmd, exact_sliced, pair
from posteriors import PartlySeen, exact_rate_distortion, ppca, rough
from programs import digits
from scenarios import REFERENCE_DRAWS, SCENARIOS
from scipy import stats
from torch import Tensor

from ppl_gen import inference
from ppl_gen.inference import Draws, Estimate, Pathfinder
from ppl_gen.inference.samples.kernels import Gaussian
from ppl_gen.models import toy
from ppl_gen.program import simulate
from ppl_gen.protocols import Guide

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
_CHANCE = 0.01  # that a table of right methods has a cell that fails
_CELLS = 100  # how many cells there are, at most
_FUNNEL = "funnel"


class Cell(NamedTuple):
    """What a method found.

    Attributes:
        method: Its name.
        on: The toy.
        quantity: What was asked for.
        z: (found − exact) / standard error, of each number.
    """

    method: str
    on: str
    quantity: str
    z: Tensor

    @property
    def worst(self) -> float:
        """The largest |z|; NaN if any is."""
        return float(self.z.abs().max())

    @property
    def limit(self) -> float:
        """What |z| of a right method stays below."""
        tail = _CHANCE / (2 * _CELLS * self.z.numel())
        return float(-stats.norm.ppf(tail))

    @property
    def passes(self) -> bool:
        """Whether the method is right, as far as this cell can tell."""
        return self.worst < self.limit


def of(method: str, on: str, quantity: str, found: Estimate, exact: Tensor | float) -> Cell:
    """The cell of an estimate with an error.

    A logarithm of a mean is biased by half its variance, which is added to the error.
    """
    error = found.standard_error.double() + found.standard_error.double().square() / 2
    missed = found.value.double() - torch.as_tensor(exact).double()
    return Cell(method, on, quantity, (missed / error).flatten())


def prior_of(program: Any) -> Guide:
    """The prior of a program, as its guide."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", program.prior())

    return guide


def uniform(program: toy.GaussianMixture) -> Guide:
    """Any component, whatever x is."""

    def guide(x: Tensor) -> Tensor:
        with pyro.plate("data", x.shape[0]):
            return pyro.sample("z", dist.Categorical(torch.ones(len(program.weights))))

    return guide


def small_ppca() -> toy.PPCA:
    return toy.PPCA(0.5 * torch.randn(4, 2), torch.zeros(4), 0.7)


def mixture() -> toy.GaussianMixture:
    return toy.GaussianMixture(torch.tensor([1.0, 2.0, 3.0]), 2 * torch.randn(3, 2), 0.7)


def curve() -> toy.Curve:
    return toy.Curve(lambda z: torch.cat([z, z.square() / 2], -1), 0.3)


# Programs whose evidence is known, and a guide that is not their posterior.
TOYS: dict[str, tuple[Callable[[], Any], Callable[[Any], Guide]]] = {
    "PPCA, 2 latents": (small_ppca, rough),
    "PPCA, 10 latents": (ppca, rough),
    "mixture of Gaussians": (mixture, uniform),
    "curve in the plane": (curve, prior_of),
}


def evidence() -> Iterator[Cell]:
    """log p(x), by every estimator."""
    for name, (make, guide_of) in TOYS.items():
        torch.manual_seed(0)
        program = make()
        guide = guide_of(program)
        x = simulate(program, 20)
        exact = program.exact_log_evidence(x)
        annealing: dict[str, Any] = {"chains": 32, "temperatures": 200, "engine": "fx", "seed": 0}
        by_weights = inference.log_evidence(program, guide, x, particles=20_000, seed=0)
        yield of("log_evidence", name, "log p(x)", by_weights, exact)
        yield of("ais", name, "log p(x)", inference.ais(program, x, **annealing), exact)
        guided = inference.ais(program, x, guide=guide, **annealing)
        yield of("ais from a guide", name, "log p(x)", guided, exact)
        sandwich = inference.bdmc(program, 20, **annealing)
        exact = program.exact_log_evidence(sandwich.x).double().mean()
        yield of("bdmc", name, "lower bound", sandwich.lower.mean(), exact)
        yield of("bdmc", name, "upper bound", sandwich.upper.mean(), exact)


def chains() -> Iterator[Cell]:
    """Means and standard deviations of posteriors, by every sampler."""
    for name, make in SCENARIOS.items():
        torch.manual_seed(0)
        posterior = make()
        for method, init in (("hmc", None), ("hmc from Pathfinder", Pathfinder())):
            found = inference.hmc(
                posterior.model,
                *posterior.data,
                draws=400,
                warmup=400,
                init=init,
                engine="fx",
                seed=0,
            )
            yield from _of_draws(method, name, posterior, found)
        graded = inference.posterior(posterior.model, *posterior.data, engine="fx", seed=0)
        yield from _of_draws("posterior", name, posterior, graded.draws)


def _of_draws(method: str, name: str, posterior: toy.Posterior, found: Draws) -> Iterator[Cell]:
    """Two cells: all means, all standard deviations."""
    of_means = []
    of_deviations = []
    own = REFERENCE_DRAWS.get(name)
    for site, moments in posterior.reference().items():
        if _FUNNEL in name and site == "x":  # too heavy-tailed for a standard error of its own
            continue
        sd = moments.sd.double()
        of_reference = torch.zeros_like(sd)
        if own:
            of_reference = sd / own**0.5
        mean_error = torch.hypot(found.mcse[site].double(), of_reference)
        sd_error = torch.hypot(found.mcse_sd[site].double(), (5 / 4) ** 0.5 * of_reference)
        of_means.append(((found.mean[site] - moments.mean) / mean_error).flatten())
        of_deviations.append(((found.sd[site] - moments.sd) / sd_error).flatten())
    yield Cell(method, name, "means", torch.cat(of_means))
    yield Cell(method, name, "standard deviations", torch.cat(of_deviations))


def distances() -> Iterator[Cell]:
    """Distances between draws of two Gaussians."""
    for dim, case in ((2, "shifted"), (2, "unequal"), (5, "shifted"), (5, "unequal")):
        torch.manual_seed(0)
        p, q = pair(dim, case)
        x, y = draws(p, 3000), draws(q, 3000)
        on = f"two Gaussians in {dim} dimensions, {case}"
        yield of("mmd", on, "MMD²", inference.mmd(x, y, Gaussian(1.0)), exact_mmd(p, q, 1.0))
        energy = inference.energy_distance(x, y)
        yield of("energy_distance", on, "distance", energy, exact_energy(p, q))
        frechet = inference.frechet_distance(x, y, extrapolate=True)
        yield of("frechet_distance", on, "distance", frechet, exact_frechet(p, q))
        sliced = inference.sliced_wasserstein(x, y, projections=2000, seed=0)
        yield of("sliced_wasserstein", on, "distance", sliced, exact_sliced(p, q))


def predictions() -> Iterator[Cell]:
    """What is missing, what codes cost, what a guide lacks: closed forms of PPCA."""
    torch.manual_seed(0)
    on = "PPCA, 10 latents"
    program = ppca()
    seen = PartlySeen(program, widening=1.2)
    x = digits().x[:6].flatten(1)
    mask = torch.rand(x.shape) < 0.3
    imputed = inference.impute(seen.program, x, mask, particles=4000, seed=1)
    missed = []
    for i in range(len(x)):
        mean, _ = seen.exact_conditional(x[i].masked_fill(mask[i], torch.nan))
        error = imputed.standard_error[i, mask[i]].double() + 1e-5  # of rounding
        missed.append((imputed.mean[i, mask[i]] - mean) / error)
    yield Cell("impute", on, "means of missing entries", torch.cat(missed))

    small = small_ppca()
    x = simulate(small, 12)
    found = inference.rate_distortion_curve(
        small, x, chains=64, temperatures=300, leapfrogs=3, seed=0, engine="fx"
    )
    rates = []
    errors = []
    for place, beta in enumerate(found.betas.tolist()):
        rate, distortion = exact_rate_distortion(small, x, beta)
        rates.append(of("", "", "", found.rate[place], rate).z)
        errors.append(of("", "", "", found.distortion[place], distortion).z)
    yield Cell("rate_distortion_curve", "PPCA, 2 latents", "rates", torch.cat(rates))
    yield Cell("rate_distortion_curve", "PPCA, 2 latents", "distortions", torch.cat(errors))

    guide = rough(small)
    mended = inference.correct(small, x, guide=guide, particles=4000, seed=0)
    exact = small.exact_posterior(x)
    z = (mended.mean["z"] - exact.mean) / mended.error["z"]
    yield Cell("correct", "PPCA, 2 latents", "posterior means", z.flatten())


def cells() -> Iterator[Cell]:
    """All of them."""
    for part in (evidence, chains, distances, predictions):
        yield from part()


def page_of(found: list[Cell]) -> str:
    """The page of the site."""
    failed = [cell for cell in found if not cell.passes]
    said = f"All {len(found)} cells pass."
    if failed:
        said = f"{len(failed)} of {len(found)} cells fail."
    rows = [
        "# What can be trusted",
        "",
        "Methods on toys whose answers are known exactly. z is the largest error of all numbers "
        "of a cell in units of its own standard error: it shows whether the numbers are right "
        "**and** whether their errors are. It passes below a limit that a right method exceeds "
        "anywhere in the table with a chance of 1 %.",
        "",
        f"**{said}** Made by `make trust`.",
        "",
        "| method | toy | quantity | numbers | z | limit | |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in found:
        verdict = "PASS"
        if not cell.passes:
            verdict = "**FAIL**"
        rows.append(
            f"| `{cell.method}` | {cell.on} | {cell.quantity} | {cell.z.numel()} | "
            f"{cell.worst:.2f} | {cell.limit:.2f} | {verdict} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    found = []
    for cell in cells():
        found.append(cell)
        print(f"{cell.method:24} {cell.on:40} {cell.quantity:28} {cell.worst:.2f}", flush=True)
    PAGE.write_text(page_of(found), encoding="utf8")
    failed = [cell for cell in found if not cell.passes]
    print(f"{len(found)} cells, {len(failed)} fail; written to {PAGE}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
