"""What a comparison returns: every number on a guide beside MCMC beside the exact posterior."""

from __future__ import annotations

__all__ = ["Comparison", "shared_sites", "side_by_side"]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.inference.comparison.marginals import Marginals
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.prediction.loo import Elpd
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """A guide beside MCMC beside the exact posterior.

    Where something could not be computed, `unavailable` says why. Blocks B are the data where the
    posterior is local; else there is one.

    Attributes:
        draws: The draws of the sampler, with its own diagnostics.
        guide_samples: Draws of the guide by site, (M, *shape), deterministic sites included.
        exact_samples: Draws of the exact posterior by site, (M, *shape), where there are any.
        marginals: Moments and intervals of every coordinate of every site.
        unconstrained: Moments and intervals of the flat unconstrained latents, in which verdicts
            are given.
        correlations: Of the unconstrained latents, (B, D, D), under "guide", "mcmc" and, where it
            is known, "exact".
        distance: SW₂ between guide and MCMC in units of the MCMC standard deviations, (B,).
        distance_baseline: SW₂ between two halves of the MCMC draws in the same units, (B,): the
            distance that is only noise.
        evidence: log p(x) and its bounds in nats, by name, each (B,): "elbo" below, "importance"
            (with k̂), "upper" from MCMC above, "exact"; other estimators may join. Where the
            guide's support leaves out a part of the posterior, "importance" has it from MCMC.
        divergence: "KL(q‖p)", "KL(p‖q)" and "KL(q‖p) + KL(p‖q)", which needs no evidence; in nats,
            each (B,).
        outside: Share of MCMC draws in the outermost 1 % of the guide or beyond it, (B,); 0.01
            where q = p.
        left_out: Share of MCMC draws outside of the guide's support, where q(z) = 0, (B,).
        elpd: Expected log predictive density by "mcmc" and "guide".
        seconds: Seconds of work by "mcmc", "mcmc preparation" and "guide" (its draws); "guide fit"
            where the guide was given as what `fit_guide` returns.
        unavailable: What could not be computed, and why.
        particles: The number of the guide's draws that were weighed.
        findings: The findings of the verdict, those on MCMC first.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> guide = pyro.infer.autoguide.AutoNormal(line.model)  # as it begins, not fitted
        >>> few = {"draws": 20, "warmup": 20, "chains": 4, "guide_draws": 50, "engine": "fx"}
        >>> found = compare(line.model, guide, *line.data, **few, seed=0)
        >>> "under-dispersed" in found.tags, found.draws.chains
        (True, 4)
    """

    draws: Draws
    guide_samples: dict[str, Tensor]
    exact_samples: dict[str, Tensor] | None
    marginals: Marginals
    unconstrained: Marginals
    correlations: dict[str, Tensor]
    distance: Tensor
    distance_baseline: Tensor
    evidence: dict[str, Estimate]
    divergence: dict[str, Estimate]
    outside: Tensor | None
    left_out: Tensor | None
    elpd: dict[str, Elpd]
    seconds: dict[str, float]
    unavailable: dict[str, str]
    particles: int
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The findings in plain words.

        It passes where the guide is good enough; None where MCMC is not to be trusted and nothing
        else speaks against the guide.
        """
        tags = {finding.tag for finding in self.findings}
        if "good" in tags:
            return Verdict(self.findings, passes=True)
        if "undecided" in tags or not tags:
            return Verdict(self.findings, passes=None)
        return Verdict(self.findings, passes=False)

    @property
    def tags(self) -> tuple[str, ...]:
        """The verdict in short, for programs to read.

        Of the guide: "good", or "left-out" (of its support is a part of the posterior),
        "under-dispersed", "over-dispersed", "biased", "mode-seeking", "extra-mode", "correlations",
        "heavy-tails" (with "good-moments" where nothing else is wrong), "no-density". Of MCMC:
        "divergences", "not-converged", "stuck-chains", "off-reference". Where nothing speaks
        against the guide but MCMC is not to be trusted:
        "undecided".
        """
        return self.verdict.tags

    @property
    def k_hat(self) -> Tensor | None:
        """Pareto shape of the guide's importance weights, (B,); None where there are none."""
        if "importance" not in self.evidence:
            return None
        return self.evidence["importance"].k_hat

    @property
    def ess_per_second(self) -> float:
        """The smallest effective sample size of MCMC over its seconds, warm-up included."""
        return self.draws.min_ess / self.draws.seconds

    @property
    def guide_error(self) -> float:
        """√ of the mean square of what the guide's means are off, in posterior deviations.

        Held against the exact means where all are known, else against those of MCMC, whose own
        error is taken off: 0 where it explains everything.
        """
        found = self.marginals
        if bool(found.exact_mean.isfinite().all()):
            off = (found.guide_mean - found.exact_mean) / found.exact_sd
            return float(off.square().mean().sqrt())
        squares = found.shift.square() - found.shift_error.square()
        return float(squares.mean().clamp(min=0).sqrt())

    @property
    def seconds_to_equal_error(self) -> dict[str, float]:
        """Seconds of "mcmc" until its means are as far off as the guide's, and of the "guide" fit.

        The error of a mean is 1/√ESS posterior deviations, so that MCMC takes preparation +
        sampling · (1/e²)/ESS, e being `guide_error` and ESS the harmonic mean over coordinates;
        warm-up is counted in proportion. "guide" is there where its fit was timed.
        """
        squares = (self.marginals.mcse / self.marginals.mcmc_sd).square().mean()
        error = self.guide_error
        needed = math.inf
        if error > 0:
            needed = self.seconds["mcmc"] * float(squares) / error**2
        seconds = {"mcmc": self.seconds.get("mcmc preparation", 0.0) + needed}
        if "guide fit" in self.seconds:
            seconds["guide"] = self.seconds["guide fit"]
        return seconds

    def table(self) -> pandas.DataFrame:
        """One row for each coordinate of each site.

        The columns are mean and sd of guide, MCMC (with the error of its mean) and exact posterior,
        the ratio of sds with its error, R̂ and ESS.
        """
        sites = shared_sites(self.guide_samples, self.draws.samples)
        r_hat = [self.draws.r_hat[site].flatten() for site in sites]
        ess = [self.draws.ess[site].flatten() for site in sites]
        return self.marginals.table().assign(
            r_hat=torch.cat(r_hat).cpu().numpy(), ess=torch.cat(ess).cpu().numpy()
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each coordinate: the columns of `table`, then shift, coverage and errors."""
        table = self.table()
        rest = self.marginals.to_pandas()
        return table.join(rest[rest.columns.difference(table.columns, sort=False)])

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Intervals of guide, MCMC and exact posterior, see `ppl_gen.plots.posterior.forest`.

        Its other pictures take `arrays()`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.posterior import forest

        names, guide, chains = self.arrays()
        exact = (self.marginals.exact_mean, self.marginals.exact_sd)
        return forest(guide, chains, names, exact, support=self.support, title=title, ax=ax)

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper ends of the supports of all coordinates, each (K,), or ∓∞."""
        return self.marginals.lowest, self.marginals.highest

    def arrays(self) -> tuple[list[str], Tensor, Tensor]:
        """The arguments of the pictures in `ppl_gen.plots.posterior`.

        Returns:
            The names of all K coordinates, draws of the guide (M, K) and of MCMC (chains, draws,
            K).
        """
        guide, chains = side_by_side(self.guide_samples, self.draws.samples)
        return self.marginals.names, guide, chains

    def __str__(self) -> str:
        lines = [f"{len(self.marginals.names)} coordinates: {', '.join(self.tags)}"]
        lines += [f"- {sentence}" for sentence in self.verdict]
        return "\n".join(filter(None, [*lines, self.headline]))

    @property
    def headline(self) -> str:
        """Evidence, its bounds and divergences in nats, and what the posteriors predict."""
        lines = []
        estimates = self.evidence | self.divergence
        if estimates:
            blocks = self.distance.numel()
            unit = "nats" if blocks == 1 else f"nats per datum, mean of {blocks}"
            numbers = [f"{name} {estimate}" for name, estimate in estimates.items()]
            lines.append(f"{unit}: {', '.join(numbers)}")
        for name, elpd in self.elpd.items():
            lines.append(f"expected log predictive density ({name}), nats in all: {elpd}")
        return "\n".join(lines)


def shared_sites(guide: Mapping[str, Tensor], mcmc: Mapping[str, Tensor]) -> list[str]:
    """The sites that both guide and MCMC have draws of, in the order of all tables.

    Args:
        guide: Draws of the guide by site.
        mcmc: Draws of MCMC by site, whose order is kept.
    """
    return [site for site in mcmc if site in guide]


def side_by_side(guide: Mapping[str, Tensor], mcmc: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Draws of all shared sites as columns: those of the guide (M, K), of MCMC (chains, draws, K).

    Args:
        guide: Draws of the guide by site, (M, *shape).
        mcmc: Draws of MCMC by site, (chains, draws, *shape).
    """
    sites = shared_sites(guide, mcmc)
    of_guide = [guide[site].reshape(len(guide[site]), -1) for site in sites]
    of_mcmc = [mcmc[site].reshape(*mcmc[site].shape[:2], -1) for site in sites]
    return torch.cat(of_guide, -1), torch.cat(of_mcmc, -1)
