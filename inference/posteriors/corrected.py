"""What the correction of a guide returns: draws of every datum's posterior, and how they came."""

from __future__ import annotations

__all__ = ["GUIDE", "HMC", "WEIGHTED", "Corrected"]

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppl_gen.inference.evidence.weights import k_hat_limit
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.result import Result

if TYPE_CHECKING:
    import pandas

GUIDE = "guide"
WEIGHTED = "weighted"
HMC = "hmc"
_ROUTES = (GUIDE, WEIGHTED, HMC)
_R_HAT = 1.1  # above which half a chain is worth fewer than five independent draws


@dataclass(frozen=True, eq=False, repr=False)
class Corrected(Result):
    """The posterior of every datum: draws of equal weight, their means, and the route to them.

    Attributes:
        draws: By latent site, (S, N, *event).
        mean: By latent site, E[z | x] of all that is known of it, (N, *event): of the guide's
            draws, of the weighted ones, or of those of HMC.
        sd: By latent site, the standard deviation, (N, *event).
        error: By latent site, the Monte Carlo standard error of the mean, (N, *event). That of a
            guide knows nothing of its bias, which `bound` bounds.
        log_density: log p(x, z) of each draw, (S, N), in nats.
        how: The route of each datum, (N,): "guide", "weighted" or "hmc". `p.how == "hmc"` is a
            mask.
        bound: An estimate of √χ² of each datum, (N,): by Cauchy and Schwarz no posterior mean of
            an f lies further than `bound` times sd_q(f) from the guide's, which holds for any f.
            It is estimated from the weights, so it is as good as k̂ says and no certificate; NaN
            where k̂ is above its limit, or the guide leaves out a part of the posterior.
        ess: The effective number of the guide's draws, (N,), from 1 to `particles`.
        k_hat: The Pareto shape of the weights, (N,).
        r_hat: The largest split R̂ of each datum's chains, (N,); NaN where there are none.
        size: The effective number of draws that each datum's means are over, (N,), the smallest
            over its latents.
        min_ess: The number that was asked for.
        particles: K, how many latents of the guide were weighed for each datum.
        gradients: How many gradients of one datum's density HMC took in all, warm-up included.
        left_out: By site, the guide's distribution, where that leaves out a part of the posterior.

    Examples:
        >>> ppca = toy.PPCA(torch.ones(3, 1), torch.zeros(3), 1.0)
        >>> found = correct(ppca, torch.zeros(2, 3), particles=500, draws=100, min_ess=100, seed=0)
        >>> found.how.tolist(), found.mean["z"].shape
        (['guide', 'guide'], torch.Size([2, 1]))
    """

    draws: dict[str, Tensor]
    mean: dict[str, Tensor]
    sd: dict[str, Tensor]
    error: dict[str, Tensor]
    log_density: Tensor
    how: NDArray[np.str_]
    bound: Tensor
    ess: Tensor
    k_hat: Tensor
    r_hat: Tensor
    size: Tensor
    min_ess: int
    particles: int
    gradients: int
    left_out: dict[str, str]

    @property
    def shares(self) -> dict[str, float]:
        """The share of data by route."""
        return {route: float((self.how == route).mean()) for route in _ROUTES}

    @property
    def limit(self) -> float:
        """The k̂ above which weights are not to be trusted."""
        return k_hat_limit(self.particles)

    @property
    def verdict(self) -> Verdict:
        """Whether the draws are those of the posteriors, as far as weights and chains show.

        Tags: "not-converged" where R̂ of a datum's chains is above 1.1, "few-draws" where a mean is
        over fewer effective draws than were asked for, "support" where the guide leaves out a part
        of the posterior, which HMC then puts right; else "corrected".
        """
        found = []
        diverse = int((self.r_hat > _R_HAT).sum())
        if diverse:
            sampled = int((self.how == HMC).sum())
            largest = float(self.r_hat.nan_to_num(0).max())
            sentence = (
                f"R̂ of {diverse} of {sampled} data sampled by HMC is above "
                f"{_R_HAT} (up to {largest:.3g}): their chains have "
                "not met; raise warmup and draws, or look for modes of their own"
            )
            found.append(Finding("not-converged", sentence))
        few = int((~(self.size >= self.min_ess)).sum())
        if few:
            smallest = float(self.size.nan_to_num(0).min())
            sentence = (
                f"the means of {few} of {len(self.how)} data are over fewer than {self.min_ess} "
                f"effective draws (down to {smallest:.0f}); raise draws"
            )
            found.append(Finding("few-draws", sentence))
        passes = not found
        for name, kind in self.left_out.items():
            sentence = (
                f"the guide draws {name!r} from {kind}, which leaves out a part of the posterior: "
                "all data were sampled by HMC, and no bound is stated"
            )
            found.append(Finding("support", sentence))
        if passes:
            worst = float(self.size.min())
            sentence = f"each mean is over at least {worst:.0f} effective draws"
            found.insert(0, Finding("corrected", sentence))
        return Verdict(tuple(found), passes=passes)

    @property
    def headline(self) -> str:
        """The share of data by route, and what the guide alone would be worth."""
        routes = ", ".join([f"{share:.1%} {route}" for route, share in self.shares.items()])
        stated = self.bound[~self.bound.isnan()]
        words = f"{len(self.how)} data: {routes}; no bound is stated"
        if len(stated):
            words = (
                f"{len(self.how)} data: {routes}; means of the guide are within "
                f"{float(stated.median()):.2f} sd_q of the posterior's for half of the data "
                f"(estimated by χ² for {len(stated)}, given that k̂ is below {self.limit:.2f})"
            )
        return words

    def table(self) -> pandas.DataFrame:
        """A row for each route: data, their share, medians of ess, k_hat and bound, worst r_hat."""
        import pandas

        by_datum = self.to_pandas()
        rows = {}
        for route in _ROUTES:
            some = by_datum[by_datum["how"] == route]
            rows[route] = {
                "data": len(some),
                "share": len(some) / len(by_datum),
                "ess": some["ess"].median(),
                "k_hat": some["k_hat"].median(),
                "bound": some["bound"].median(),
                "size": some["size"].min(),
                "r_hat": some["r_hat"].max(),
            }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: how, bound, ess, k_hat, size, r_hat, and means, sds and errors."""
        import pandas

        columns: dict[str, Any] = {"how": self.how}
        for name in ("bound", "ess", "k_hat", "size", "r_hat"):
            columns[name] = getattr(self, name).cpu().numpy()
        for site, mean in self.mean.items():
            names = coordinates(site, mean.shape[1:])
            for word, by_site in (("mean", self.mean), ("sd", self.sd), ("error", self.error)):
                values = by_site[site].reshape(len(self.how), -1).cpu()
                for name, column in zip(names, values.T, strict=True):
                    columns[f"{name} {word}"] = column.numpy()
        return pandas.DataFrame(columns)

    def as_draws(self) -> Draws:
        """The draws as one chain of a sampler, for `sbc(..., sampler=...)` and ArviZ.

        Those of HMC stand one chain after another. The log density is log p(x, z).
        """
        samples = {name: value[None] for name, value in self.draws.items()}
        nothing = torch.zeros_like(self.log_density)[None]
        return Draws(
            samples=samples,
            log_density=self.log_density[None],
            divergent=nothing.bool(),
            acceptance=nothing + 1,
            seconds=0.0,
            sampler="correct",
        )
