"""The rate–distortion curve of a generator: how few nats its codes may take, at every error."""

from __future__ import annotations

__all__ = ["RateDistortionCurve", "rate_distortion_curve"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_gen.arguments import expect_tensor
from ppl_gen.contexts import evaluating, forked, store_kept
from ppl_gen.counts import expect_at_least, expect_positive
from ppl_gen.guides import from_prior
from ppl_gen.inference.compression.rate_distortion import RateDistortion
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.engine.replay import Engine
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.evidence.ais import Settings, annealed, expect_settings
from ppl_gen.inference.evidence.path import Anneal
from ppl_gen.inference.evidence.weights import evidence_of
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.likelihoods import Gaussian
from ppl_gen.program import Observed, log_density, propose
from ppl_gen.protocols import Program

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 16  # of the curve, where β are not given
_FINEST = 0.01  # of the prior's squared error per dimension: the noise 1/2β at the largest such β
_PRIOR_DRAWS = 16  # of the latents of each datum, that the prior's squared error is taken from
_MOST_DATA = 256  # that it is taken from
_LOOSE = 0.25  # of the chains: the effective share of them below which a bound is loose


@dataclass(frozen=True, eq=False, repr=False)
class RateDistortionCurve(Result):
    """Rate and distortion of data at K inverse temperatures β.

    All points are of the same chains: their errors go together, and points are closer to one
    smooth curve than their errors say.

    Attributes:
        betas: β, rising, (K,): nats that one unit of squared error is worth.
        rate: −β D̂ − log Ẑ_β in nats per datum, (K, N), with the effective number of chains.
        distortion: D̂, the squared error of each datum summed over its dimensions, (K, N).
        dimensions: D, the number of values of a datum.
        chains: How many chains there were for each datum.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> few = {"chains": 4, "temperatures": 10, "leapfrogs": 2, "engine": "eager"}
        >>> found = rate_distortion_curve(vae, torch.rand(2, 4), betas=[0.1, 1.0], **few, seed=0)
        >>> found.betas, found.rate.value.shape
        (tensor([0.1000, 1.0000], dtype=torch.float64), torch.Size([2, 2]))
    """

    betas: Tensor
    rate: Estimate
    distortion: Estimate
    dimensions: int
    chains: int

    @property
    def points(self) -> list[RateDistortion]:
        """The points in bits and squared error per dimension, as `rate_distortion` gives them."""
        bits = self.rate / (self.dimensions * math.log(2))
        errors = self.distortion / self.dimensions
        return [RateDistortion(*point) for point in zip(bits, errors, strict=True)]

    @property
    def verdict(self) -> Verdict:
        """Whether the chains followed the path: "reliable", or "loose" where few of them count."""
        assert self.rate.ess is not None
        share = self.rate.ess.mean(1) / self.chains
        is_loose = share < _LOOSE
        if not bool(is_loose.any()):
            sentence = (
                f"the chains followed the path: at least {float(share.min()):.0%} of them count "
                "at every β, on average over data"
            )
            return Verdict((Finding("reliable", sentence),), passes=True)
        first = float(self.betas[is_loose.nonzero()[0, 0]])
        sentence = (
            f"the rates at {int(is_loose.sum())} of {len(share)} β, from {first:.3g} on, are loose "
            f"upper bounds: down to {float(share.min()):.0%} of {self.chains} chains count; take "
            "more temperatures"
        )
        return Verdict((Finding("loose", sentence),), passes=False)

    @property
    def headline(self) -> str:
        """Both ends of the curve, averages over data."""
        ends = []
        for place in (0, -1):
            rate = self.rate[place].mean()
            distortion = self.distortion[place].mean()
            ends.append(f"{rate:.3f} nats at squared error {distortion:.4g}")
        return f"{len(self.betas)} points of {self.rate.value.shape[1]} data: {' to '.join(ends)}"

    def table(self) -> pandas.DataFrame:
        """A row for each β: rate and distortion, averages over data, with both kinds of errors."""
        import pandas

        rows = []
        for place, beta in enumerate(self.betas.tolist()):
            rate = self.rate[place].mean()
            distortion = self.distortion[place].mean()
            row = {
                "beta": beta,
                "rate": float(rate),
                "rate error": float(rate.standard_error),
                "rate sampling error": _number(rate.sampling_error),
                "distortion": float(distortion),
                "distortion error": float(distortion.standard_error),
                "distortion sampling error": _number(distortion.sampling_error),
                "ess": _number(self.rate[place].ess),
            }
            rows.append(row)
        return pandas.DataFrame(rows)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each β and datum: rate and distortion with their errors, and ess."""
        import pandas

        count = self.rate.value.shape[1]
        assert self.rate.ess is not None
        columns = {
            "beta": self.betas.repeat_interleave(count),
            "datum": torch.arange(count).repeat(len(self.betas)),
            "rate": self.rate.value.flatten(),
            "rate error": self.rate.standard_error.flatten(),
            "distortion": self.distortion.value.flatten(),
            "distortion error": self.distortion.standard_error.flatten(),
            "ess": self.rate.ess.flatten(),
        }
        return pandas.DataFrame({name: column.cpu() for name, column in columns.items()})

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """Error against rate, per dimension, see `ppl_gen.plots.rates.rate_distortion`.

        Args:
            title: Stands above.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.rates import rate_distortion

        averages = [(point.rate.mean(), point.distortion.mean()) for point in self.points]
        points = [(float(rate), float(distortion)) for rate, distortion in averages]
        errors = [float(distortion.standard_error) for _, distortion in averages]
        name = "generator, an upper bound"
        return rate_distortion({name: points}, errors={name: errors}, title=title, ax=ax)


def rate_distortion_curve(
    program: Program,
    x: Tensor,
    *context: Tensor,
    betas: Sequence[float] | None = None,
    chains: int = 32,
    temperatures: int = 1000,
    leapfrogs: int = 5,
    target_accept: float = 0.65,
    chunk: int | None = None,
    seed: int | None = None,
    progress: bool = False,
    engine: Engine = "auto",
) -> RateDistortionCurve:
    """R(β) = KL(p_β ‖ p) = −β D − log Z_β, D(β) = E_{p_β} d, with p_β(z) ∝ p(z) exp(−β d(x, g(z))).

    d = |x − g(z)|² is the squared error of what the generator makes of its latents, g(z) = E[x |
    z], summed over dimensions. Of all codes for x with so small an expected error, p_β is the one
    that is closest to the prior: no code under this prior and generator takes fewer nats. One run
    of annealed importance sampling from the prior passes through all p_β: at each, chains weighted
    by w give D̂ = Σ w d / Σ w and log Ẑ = log (1/C) Σ w. log Ẑ is at most log Z in expectation, so
    that −β D̂ − log Ẑ bounds the rate of the generator from above; that in turn is above the
    rate–distortion function of the source that x is from. Works for any program with a generator,
    GANs among them: no guide is asked.

    Args:
        program: Any program with data at the site "x"; in evaluation mode. Its own likelihood gives
            g alone.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        betas: β, positive and rising, in nats per unit of d; under a Gaussian likelihood of
            standard deviation σ, the posterior is at β = 1/(2σ²). If left out, 16 of them, each the
            same multiple of the one before, from 1/D₀ to dimensions/(2 · 0.01 · D₀) with D₀ = E d
            under the prior.
        chains: C, the number of chains of each datum, at least 2.
        temperatures: How many steps there are from the prior to the largest β, at least one for
            each β.
        leapfrogs: The number of leapfrog steps of a transition.
        target_accept: The acceptance probability that step sizes are learned for, between 0 and 1.
        chunk: How many data are annealed at once, with all their chains; chosen by their size and
            the device if left out.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.
        progress: Whether to show a progress bar.
        engine: How the leapfrog steps are computed: "eager" calls the program, "fx" replays its
            graph, "inductor" compiles the graph, "cuda-graph" records it on a CUDA device, "auto"
            chooses by the number of steps.

    Returns:
        A `RateDistortionCurve` of rates and distortions by β and datum, each with the error over
        chains, by the delta method.

    Raises:
        ValueError: Before work starts, if β are not positive and rising, a count is too small, data
            are not finite, the program has no site "x" or no latents, a latent is shared by all
            data, or program and data do not fit together.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2, hidden=[8])
        >>> few = {"chains": 4, "temperatures": 10, "leapfrogs": 2, "engine": "eager"}
        >>> found = rate_distortion_curve(vae, torch.rand(2, 4), betas=[0.1, 10.0], **few, seed=0)
        >>> found.distortion.value.shape
        torch.Size([2, 2])

    Reference:
        Huang, Cao and Grosse (2020), Evaluating lossy compression rates of deep generative models.
    """
    settings = Settings(
        chains=chains,
        temperatures=temperatures,
        leapfrogs=leapfrogs,
        schedule=None,
        target_accept=target_accept,
        chunk=chunk,
        seed=seed,
        progress=progress,
        engine=engine,
    )
    expect_settings(settings)
    expect_at_least(2, chains=chains)
    points = _POINTS
    if betas is not None:
        at = _checked_betas(betas)
        points = len(at)
    expect_at_least(points, temperatures=temperatures)
    expect_tensor("x", x)
    data = (x, *context)
    scale = _prior_error(program, data)
    dimensions = math.prod(x.shape[1:])
    if betas is None:
        at = _default_betas(scale, dimensions)
    path, places = _temperatures(at, 1 / scale, temperatures)
    settings = settings._replace(temperatures=len(path) - 1, schedule=lambda _: path)
    most = float(at[-1])
    observed = Observed(program, Gaussian((2 * most) ** -0.5).to(x.device))
    log_weights, log_likelihoods = _courses(observed, data, settings, places)
    constant = dimensions / 2 * math.log(math.pi / most)  # of the likelihood at the largest β
    distortions = ((-log_likelihoods - constant) / most).clamp(min=0)
    shares = (at / most).to(log_weights.device)
    log_weights = log_weights + (shares * constant)[:, None, None]
    return _curve(at, log_weights, distortions, dimensions)


def _prior_error(program: Program, data: Sequence[Tensor]) -> float:
    """D₀, the squared error of draws from the prior, on average over draws and some data.

    A scale is all that it is for: its draws are the same each time.
    """
    observed = Observed(program, Gaussian(math.sqrt(0.5)).to(data[0].device))
    with store_kept():
        nesting = check_by_datum(observed, from_prior(observed), *data).nesting
    some = [t[:_MOST_DATA] for t in data]
    with evaluating(observed), forked(some[0].device, 0):
        latents = propose(from_prior(observed), _PRIOR_DRAWS, nesting, *some).latents
        log_likelihood = log_density(observed.model, latents, *some).likelihood.double()
    dimensions = math.prod(some[0].shape[1:])
    error = float(-log_likelihood.mean()) - dimensions / 2 * math.log(math.pi)
    if not 0 < error < math.inf:
        raise ValueError(
            f"expected a generator whose draws differ from x, got a squared error of {error:.3g} "
            "under the prior; see that it varies with its latents and is finite"
        )
    return error


def _default_betas(scale: float, dimensions: int) -> Tensor:
    """From 1/D₀ to where the noise 1/2β is a hundredth of the prior's error per dimension."""
    least = 1 / scale
    most = max(dimensions / (2 * _FINEST * scale), 100 * least)
    ends = (math.log10(least), math.log10(most))
    return torch.logspace(*ends, _POINTS, dtype=torch.float64)


def _checked_betas(betas: Sequence[float]) -> Tensor:
    """β in float64; raises ValueError unless there are any, positive, finite and rising."""
    at = []
    if not isinstance(betas, str) and isinstance(betas, Sequence | Tensor):
        at = list(betas)
    for beta in at:
        expect_positive(betas=beta)
    found = torch.tensor([float(beta) for beta in at], dtype=torch.float64)
    is_rising = found.diff() > 0
    if not len(at) or not bool(is_rising.all()):
        raise ValueError(
            f"expected betas as a list of positive numbers that rise, got {str(betas)[:80]}; sort "
            "them, or leave them out"
        )
    return found


def _temperatures(betas: Tensor, unit: float, count: int) -> tuple[Tensor, list[int]]:
    """β/β_K from 0 to 1, about `count` steps with all β among them; and the places of these.

    They are evenly spread in log(1 + β/unit): near the prior by the same amount, where d is of the
    order of the noise 1/β by the same factor, as its standard deviation wants.

    Args:
        betas: β₁, …, β_K, rising.
        unit: Below which β are near the prior.
        count: How many steps there are.
    """
    wanted = (betas / unit).log1p()
    even = torch.linspace(0, float(wanted[-1]), count - len(betas) + 2, dtype=torch.float64)
    distance = (even[:, None] - wanted).abs()
    near = distance.amin(1) < 1e-9 * wanted[-1]
    times = torch.cat([even[~near], wanted]).sort().values
    places = torch.searchsorted(times, wanted)
    path = times.expm1() * unit / betas[-1]
    path[-1] = 1.0
    return path, places.tolist()


def _courses(
    observed: Program, data: Sequence[Tensor], settings: Settings, places: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """log w and log p(x | z) of all data at some temperatures, each (K, C, N)."""

    def walk(anneal: Anneal, some: Sequence[Tensor], _: Tensor) -> tuple[Tensor, Tensor]:
        return anneal.course(some, places)

    found = annealed(observed, None, data, settings, walk)
    count = len(data[0])
    log_weights = torch.cat([part for part, _ in found], 2)[:, :, :count]
    changes = torch.cat([part for _, part in found], 2)[:, :, :count]
    return log_weights, changes


def _curve(
    betas: Tensor, log_weights: Tensor, distortions: Tensor, dimensions: int
) -> RateDistortionCurve:
    """The curve of weighted chains, with errors by the delta method.

    With shares s = w / Σ w, chain c moves D̂ by s (d − D̂) and log Ẑ by s − 1/C.

    Args:
        betas: β, (K,).
        log_weights: log w, (K, C, N).
        distortions: d, (K, C, N).
        dimensions: Of a datum.
    """
    chains = log_weights.shape[1]
    shares = log_weights.softmax(1)
    distortion = (shares * distortions).sum(1)
    on_distortion = shares * (distortions - distortion[:, None])
    on_log_z = shares - 1 / chains
    weight = betas.to(log_weights)[:, None]
    evidence = [evidence_of(at) for at in log_weights]
    log_z = torch.stack([estimate.value for estimate in evidence])
    ess = 1 / shares.square().sum(1)
    on_rate = -weight[:, None] * on_distortion - on_log_z
    rate = Estimate(-weight * distortion - log_z, _error(on_rate), ess=ess)
    return RateDistortionCurve(
        betas=betas,
        rate=rate,
        distortion=Estimate(distortion, _error(on_distortion), ess=ess),
        dimensions=dimensions,
        chains=chains,
    )


def _error(influences: Tensor) -> Tensor:
    """√(C/(C − 1) Σ i²) of influences (K, C, N) of chains."""
    chains = influences.shape[1]
    variance = influences.square().sum(1) * chains / (chains - 1)
    return variance.sqrt()


def _number(value: Tensor | None) -> float:
    """The average of what there is; NaN of nothing."""
    if value is None:
        return math.nan
    return float(value.double().mean())
