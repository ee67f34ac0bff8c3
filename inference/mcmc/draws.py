"""What a sampler returns: draws by site, with the diagnostics that say whether to believe them."""

from __future__ import annotations

__all__ = ["Draws", "Progress", "over_processes", "reporting"]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ppl_gen.inference import diagnostics
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.mcmc.datasets import Group, Labels, container, sample_stats
from ppl_gen.inference.result import Result
from ppl_gen.progress import Bar
from ppl_gen.ranks import Ranks

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TAILS = (0.05, 0.95)
_R_HAT = 1.01  # above which chains have not converged
_LISTED = 10  # chains that are named
_DIAGNOSED_AT_ONCE = 200  # coordinates, which take about a second


class Progress(NamedTuple):
    """Where a sampler is, reported about every twentieth of the way.

    Attributes:
        phase: What the last transition was for.
        done: Transitions so far, those of warm-up included.
        total: All that were asked for. A sampler that runs chain after chain counts those of all
            chains.
        acceptance: Mean acceptance probability of the present phase, 0 to 1.
        divergences: Divergent transitions so far, without those of warm-up.
        r_hat: The largest R̂ so far, where it is cheap to have.
    """

    phase: Literal["warmup", "draws"]
    done: int
    total: int
    acceptance: float
    divergences: int
    r_hat: float | None = None


@contextmanager
def reporting(
    on_draw: Callable[[Progress], Any] | None, progress: bool
) -> Iterator[Callable[[Progress], None]]:
    """Gives the function that a sampler calls with its progress.

    Args:
        on_draw: The user's callback, called after the bar has moved.
        progress: Whether to show a bar.
    """
    with Bar(shown=progress) as bar:
        task = bar.add_task("preparing", total=None)

        def report(now: Progress) -> None:
            words = f"{now.phase}: acceptance {now.acceptance:.2f}, {now.divergences} divergences"
            if now.r_hat is not None:
                words += f", R̂ {now.r_hat:.2f}"
            bar.update(task, completed=now.done, total=now.total, description=words)
            if on_draw is not None:
                on_draw(now)

        yield report


@dataclass(frozen=True, eq=False, repr=False)
class Draws(Result):
    """Draws from a posterior.

    Diagnostics are float64, of the shape of the site, one for each coordinate, computed by ArviZ at
    first use and kept. They are NaN for fewer than four draws, for a coordinate with a draw that is
    not finite, and for a coordinate whose draws are all equal (the zeros of a Cholesky factor, or a
    sampler that never moved); R̂ also for a single chain.

    Attributes:
        samples: By site, each (chains, draws, *shape of the site), in the site's support; sites of
            pyro.deterministic as well.
        log_density: log p(x, z) + log |∂z/∂q| at each draw, (chains, draws), or (chains, draws, N)
            where local; in nats.
        divergent: Whether the transition to each draw diverged, of the shape of log_density.
        acceptance: The acceptance probability of the transition to each draw, of the shape of
            log_density.
        seconds: Wall time of warm-up and sampling together, without tracing and compilation.
        preparation_seconds: Wall time of tracing and compilation.
        dims: For each site, the name of the plate of each of its axes, "" for an axis in none.
        sampler: The name of the sampler.
        settings: What adaptation arrived at (step size, trajectory length, ...), and what was asked
            for.
        remarks: What went wrong or deserves a look, in words: chains that never moved, or that
            began anew where others were; an interrupted run.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> draws = hmc(line.model, *line.data, draws=50, warmup=50, chains=8, engine="fx", seed=0)
        >>> draws.samples["coefficients"].shape, draws.mean["coefficients"].shape
        (torch.Size([8, 50, 2]), torch.Size([2]))
        >>> draws.summary().shape
        (2, 9)

    Reference:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and
        localization: an improved R̂.
    """

    samples: dict[str, Tensor]
    log_density: Tensor
    divergent: Tensor
    acceptance: Tensor
    seconds: float
    preparation_seconds: float = 0.0
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sampler: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def chains(self) -> int:
        """The number of chains."""
        return self.log_density.shape[0]

    @property
    def draws(self) -> int:
        """The number of draws of each chain."""
        return self.log_density.shape[1]

    @property
    def divergences(self) -> int:
        """The number of divergent transitions."""
        return int(self.divergent.sum())

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its end; a remark says how far it came."""
        return any(remark.startswith("interrupted") for remark in self.remarks)

    @cached_property
    def mean(self) -> dict[str, Tensor]:
        """(1/S) Σₛ zₛ over all chains and draws."""
        return self._by_site(diagnostics.mean)

    @cached_property
    def sd(self) -> dict[str, Tensor]:
        """√(Σₛ (zₛ − z̄)² / (S − 1)) over all chains and draws; NaN for a single draw."""
        return self._by_site(diagnostics.sd)

    @cached_property
    def r_hat(self) -> dict[str, Tensor]:
        """R̂ = √(variance of all draws / variance within half chains), of their normal scores.

        The larger of those of bulk and tails; see `diagnostics.r_hat`.
        """
        return self._by_site(diagnostics.r_hat)

    @cached_property
    def ess(self) -> dict[str, Tensor]:
        """The effective sample size of the bulk.

        So many independent draws would place the middle of the posterior as well.
        """
        return self._by_site(diagnostics.ess_bulk)

    @cached_property
    def ess_tail(self) -> dict[str, Tensor]:
        """The effective sample size of the tails, the smaller one of the 5 % and 95 % quantiles."""
        return self._by_site(partial(diagnostics.ess_tail, tails=_TAILS))

    @cached_property
    def mcse(self) -> dict[str, Tensor]:
        """The Monte Carlo standard error of the mean, sd / √ESS."""
        return self._by_site(diagnostics.mcse_mean)

    @cached_property
    def mcse_sd(self) -> dict[str, Tensor]:
        """The Monte Carlo standard error of the standard deviation."""
        return self._by_site(diagnostics.mcse_sd)

    @cached_property
    def max_r_hat(self) -> float:
        """The largest R̂.

        Constant coordinates are left out, others without an R̂ are not: NaN if there is one, or if
        no coordinate is left.
        """
        values = self._of_moving_coordinates(self.r_hat)
        if not values.numel():
            return math.nan
        return float(values.max())

    @cached_property
    def min_ess(self) -> float:
        """The smallest effective sample size of the bulk.

        Constant coordinates are left out, others without a size are not: NaN if there is one, or if
        no coordinate is left.
        """
        values = self._of_moving_coordinates(self.ess)
        if not values.numel():
            return math.nan
        return float(values.min())

    @property
    def verdict(self) -> Verdict:
        """Whether these are draws from the posterior, with remedies where they are not.

        Tags: "divergences", "stuck-chains", "not-converged", or "converged" where there is none of
        these; "undiagnosed", which neither passes nor fails, for a single chain.
        """
        if found := self.complaints:
            return Verdict(tuple(found), passes=False)
        if math.isnan(self.max_r_hat):
            sentence = "not diagnosed: R̂ compares chains, and there is one; run more"
            return Verdict((Finding("undiagnosed", sentence),), passes=None)
        sentence = (
            f"converged as far as R̂ shows, which is at most {self.max_r_hat:.4g}; the smallest "
            f"ESS is {self.min_ess:.0f}"
        )
        return Verdict((Finding("converged", sentence),), passes=True)

    @property
    def complaints(self) -> list[Finding]:
        """What speaks against the draws, by the tags of `verdict`; empty where nothing does."""
        found = []
        count = self.divergences
        if count > 0:
            total = self.divergent.numel()
            transitions = "transition" if count == 1 else "transitions"
            sentence = (
                f"MCMC had {count} divergent {transitions} among {total} draws "
                f"({count / total:.2%}): do not trust it here; reparametrise (non-centred), or "
                "raise target_accept."
            )
            found.append(Finding("divergences", sentence))
        if stuck := self._stuck:
            which = ", ".join(map(str, stuck[:_LISTED]))
            sentence = (
                f"{len(stuck)} of {self.chains} chains never moved ({which}): drop them, or start "
                "elsewhere."
            )
            found.append(Finding("stuck-chains", sentence))
        is_unknown = math.isnan(self.max_r_hat) and self.chains > 1
        if self.max_r_hat > _R_HAT or is_unknown:
            sentence = (
                f"MCMC has not converged: R̂ is up to {self.max_r_hat:.4g} (above {_R_HAT}), the "
                f"smallest ESS {self.min_ess:.0f}; run longer, or look whether chains sit in "
                "different modes."
            )
            found.append(Finding("not-converged", sentence))
        return found

    @property
    def _stuck(self) -> list[int]:
        """The chains whose draws of all sites are their first one."""
        if self.draws == 1:
            return []
        moved = torch.zeros(self.chains, dtype=torch.bool)
        for value in self.samples.values():
            differs = value != value[:, :1]
            moved |= differs.flatten(1).any(1).cpu()
        return (~moved).nonzero().flatten().tolist()

    def summary(self) -> pandas.DataFrame:
        """A row for each coordinate, named like "theta[0]".

        The columns are the same under every version of ArviZ.

        Returns:
            mean and sd; the central 90 % interval, eti_5% to eti_95%; their Monte Carlo errors
            mcse_mean and mcse_sd; ess_bulk, ess_tail and r_hat. Not rounded.
        """
        import pandas

        low, high = _TAILS
        columns = {
            "mean": self.mean,
            "sd": self.sd,
            "eti_5%": self._by_site(partial(diagnostics.quantile, p=low)),
            "eti_95%": self._by_site(partial(diagnostics.quantile, p=high)),
            "mcse_mean": self.mcse,
            "mcse_sd": self.mcse_sd,
            "ess_bulk": self.ess,
            "ess_tail": self.ess_tail,
            "r_hat": self.r_hat,
        }
        rows: list[str] = []
        for name, value in self.samples.items():
            rows.extend(coordinates(name, value.shape[2:]))
        table = pandas.DataFrame(index=rows)
        for label, by_site in columns.items():
            table[label] = torch.cat([value.flatten() for value in by_site.values()]).numpy()
        return table

    def table(self) -> pandas.DataFrame:
        """A row for each coordinate: `summary()`."""
        return self.summary()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each draw, indexed by "chain" and "draw", with a column for each coordinate.

        Beside them log_density and divergent: summed over data, and for any, where draws are local.
        """
        import pandas

        index = pandas.MultiIndex.from_product(
            [range(self.chains), range(self.draws)], names=["chain", "draw"]
        )
        columns: dict[str, Any] = {}
        for name, value in self.samples.items():
            flat = value.detach().cpu().reshape(self.chains * self.draws, -1)
            columns |= dict(zip(coordinates(name, value.shape[2:]), flat.T.numpy(), strict=True))
        rows = self.chains * self.draws
        columns["log_density"] = self.log_density.reshape(rows, -1).sum(1).cpu().numpy()
        columns["divergent"] = self.divergent.reshape(rows, -1).any(1).cpu().numpy()
        return pandas.DataFrame(columns, index=index)

    def to_arviz(self, *, coords: Mapping[str, Sequence[Any]] | None = None) -> Any:
        """The groups posterior and sample_stats, all of whose axes have names.

        An axis in the plate "schools" becomes the dimension "schools", other axes "<site>_dim_<i>".
        `ppl_gen.inference.to_arviz(draws, model=..., args=...)` adds what takes the model: new
        data, log likelihoods, the prior and a guide.

        Args:
            coords: By dimension, the names of its entries; 0, 1, … where left out.

        Returns:
            An `arviz.InferenceData`, or an `xarray.DataTree` from ArviZ 1.0 on.

        Raises:
            ValueError: If coords name no dimension or are of another length.
        """
        labels = Labels(coords or {}, self.samples)
        datasets = self.datasets(labels)
        labels.check_coords_used()
        return container(datasets)

    def datasets(self, labels: Labels) -> dict[str, xarray.Dataset]:
        """The groups posterior and sample_stats under ArviZ's names.

        Args:
            labels: Names of axes and entries, which further groups may share.
        """
        how: dict[str, Any] = {
            "sampling_time": self.seconds,
            "preparation_time": self.preparation_seconds,
            **self.settings,
        }
        if self.sampler:
            how["sampler"] = self.sampler
        if self.remarks:
            how["remarks"] = "\n".join(self.remarks)
        stats = sample_stats(self.log_density, self.divergent, self.acceptance)
        return {
            "posterior": labels.dataset(Group(self.samples, self.dims), how),
            "sample_stats": labels.dataset(stats),
        }

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Draws of each chain and their ranks, see `ppl_gen.plots.posterior.traces`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.posterior import traces

        names: list[str] = []
        columns: list[Tensor] = []
        for name, value in self.samples.items():
            names += coordinates(name, value.shape[2:])
            columns.append(value.reshape(self.chains, self.draws, -1))
        return traces(torch.cat(columns, 2), names, title, ax=ax)

    @property
    def headline(self) -> str:
        """How many draws of which sites there are, and the remarks."""
        sites = ", ".join([f"{n} {tuple(z.shape[2:])}" for n, z in self.samples.items()])
        words = (
            f"{self.chains} × {self.draws} draws of {sites}; {self.divergences} divergences, "
            f"{self.seconds:.1f} s"
        )
        if self.sampler:
            words = f"{self.sampler}: {words}"
        return f"Draws({'; '.join([words, *self.remarks])})"

    def __str__(self) -> str:
        return self.headline

    def _repr_html_(self) -> str:
        count = sum(value[0, 0].numel() for value in self.samples.values())
        if count > _DIAGNOSED_AT_ONCE:
            words = f"{self.headline}: {count} coordinates; .verdict and .table() diagnose them"
            return f"<pre>{escape(words)}</pre>"
        return super()._repr_html_()

    def _by_site(self, diagnostic: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {name: diagnostic(value) for name, value in self.samples.items()}

    def _of_moving_coordinates(self, by_site: dict[str, Tensor]) -> Tensor:
        """The values of all coordinates that are not constant, one after the other."""
        moving = []
        for name, value in self.samples.items():
            moving.append(by_site[name][diagnostics.constant(value) == 0])
        return torch.cat(moving)


def over_processes(sampler: Callable[..., Draws], ranks: Ranks) -> Callable[..., Draws]:
    """The sampler, of whose chains each process runs its share; all get the draws of all chains.

    Each process adapts by its own chains and draws from a stream of its own, so that the chains
    are independent. Where one was interrupted, as many draws are kept of all.

    Args:
        sampler: `hmc`, `nuts` or any function of the same keywords.
        ranks: The processes of a `ranks.joined()`, all of which call what is returned alike.

    Returns:
        A sampler that raises ValueError for fewer chains than processes, in all processes what the
        sampler raises in one, and ProcessLost if another process has ended.
    """

    @wraps(sampler)
    def sample(
        model: Callable[..., Any],
        *args: Any,
        chains: int,
        seed: int | None = None,
        **options: Any,
    ) -> Draws:
        if chains < ranks.count:
            raise ValueError(
                f"expected at least a chain for each of {ranks.count} processes, got {chains}; "
                "raise chains, or take fewer processes"
            )
        own = ranks.share(chains)
        if seed is not None:
            seed = ranks.seed(seed)
        found: Draws | Exception
        try:
            found = sampler(model, *args, chains=own.stop - own.start, seed=seed, **options)
        except (ValueError, RuntimeError) as error:
            found = type(error)(str(error))
        parts = []
        for part in ranks.gather(found):
            if isinstance(part, Exception):
                raise part
            parts.append(part)
        return _joined(parts)

    return sample


def _joined(parts: Sequence[Draws]) -> Draws:
    """The draws of several processes, their chains one after another."""
    count = min(part.draws for part in parts)

    def column(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([t[:, :count] for t in tensors])

    first = parts[0]
    samples = {}
    for name in first.samples:
        samples[name] = column([part.samples[name] for part in parts])
    settings = {}
    for name in first.settings:
        settings[name] = sum(part.settings[name] for part in parts) / len(parts)
    remarks: dict[str, None] = {}  # for its keys: a set that keeps their order
    for part in parts:
        remarks |= dict.fromkeys(part.remarks)
    return Draws(
        samples=samples,
        log_density=column([part.log_density for part in parts]),
        divergent=column([part.divergent for part in parts]),
        acceptance=column([part.acceptance for part in parts]),
        seconds=max(part.seconds for part in parts),
        preparation_seconds=max(part.preparation_seconds for part in parts),
        dims=first.dims,
        sampler=first.sampler,
        settings=settings,
        remarks=tuple(remarks),
    )
