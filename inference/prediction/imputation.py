"""What is missing, drawn given what is observed."""

from __future__ import annotations

__all__ = ["Imputation", "impute"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.arguments import described, expect_tensor, traced
from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.checks import check_arguments
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.evidence.weights import evidence_of, k_hat_limit
from ppl_gen.inference.expect import expect_level
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.result import Result
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import is_deterministic, latent_sites, stochastic_sites

if TYPE_CHECKING:
    import pandas

_MOST = 4000  # draws of MCMC that are taken, evenly spaced
_FEW = 10  # effective draws, below which an average is of a few latents


@dataclass(frozen=True, eq=False, repr=False)
class Imputation(Result):
    """Draws x ~ p(x missing | x observed), with their mean.

    Attributes:
        mean: E[x missing | x observed] where missing, x elsewhere, (N, *shape). It is NaN where the
            likelihood has no mean, as that of a label.
        standard_error: The Monte Carlo error of the mean, 0 where observed, (N, *shape).
        draws: Complete data, (S, N, *shape), equal to x where that is observed.
        missing: True where an entry is missing, (N, *shape).
        ess: The effective number of latents that the mean of each datum is over, (N,).
        k_hat: Pareto shape of each datum's importance weights, (N,); None for draws of MCMC.
        particles: How many latents there were for each datum.
        complaints: What speaks against the draws of MCMC, where these were given.

    Examples:
        >>> x = data.load("digits").test.x[:5].round()
        >>> is_missing = torch.zeros_like(x).bool()
        >>> is_missing[..., :4] = True  # the left half
        >>> vae = models.vae((1, 8, 8), 4, likelihood=likelihoods.Masked(likelihoods.Bernoulli()))
        >>> found = impute(vae, x, is_missing, particles=50, draws=20, seed=0)
        >>> found.draws.shape, found.interval(0.9)[0].shape
        (torch.Size([20, 5, 1, 8, 8]), torch.Size([5, 1, 8, 8]))
    """

    mean: Tensor
    standard_error: Tensor
    draws: Tensor
    missing: Tensor
    ess: Tensor
    k_hat: Tensor | None
    particles: int
    complaints: tuple[Finding, ...] = ()

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The middle `level` of the draws of each entry, its lower and upper end, each (N, *shape).

        Under a program that is true, a missing entry lies between them with that probability, up to
        (S − 1)/(S + 1) of S draws; of whole numbers, such as binary pixels, with that or more.

        Args:
            level: The probability that each missing entry lies between them, from 0 to 1.

        Raises:
            ValueError: If level is not between 0 and 1.
        """
        expect_level(level)
        drawn = self.draws[:, self.missing].sort(0).values
        ends = []
        for probability in ((1 - level) / 2, (1 + level) / 2):
            end = self.mean.clone()
            end[self.missing] = _quantile(drawn, probability).to(end)
            ends.append(end)
        return ends[0], ends[1]

    @property
    def verdict(self) -> Verdict:
        """Whether the latents that were drawn stand for p(z | x observed).

        Tags: "unreliable" where k̂ is above its limit or the effective number of latents below ten
        for any datum, and those of the draws of MCMC; else "reliable".
        """
        found = list(self.complaints)
        remedy = (
            "take more particles, fit the guide to data with missing entries, or give draws: "
            "impute(..., posterior=hmc(program.model, x, local=True))"
        )
        n = len(self.ess)
        if self.k_hat is not None:
            limit = k_hat_limit(self.particles)
            bad = int((~(self.k_hat <= limit)).sum())
            if bad:
                sentence = (
                    f"k̂ of {bad} of {n} data is above {limit:.2f} (up to "
                    f"{float(self.k_hat.max()):.2f}): neither means nor draws are to be trusted "
                    f"there; {remedy}"
                )
                found.append(Finding("unreliable", sentence))
        few = int((~(self.ess >= _FEW)).sum())
        if few:
            sentence = (
                f"the means of {few} of {n} data are over fewer than {_FEW} effective latents "
                f"(down to {float(self.ess.min()):.1f}); {remedy}"
            )
            found.append(Finding("unreliable", sentence))
        if found:
            return Verdict(tuple(found), passes=False)
        sentence = f"each mean is over at least {float(self.ess.min()):.0f} effective latents"
        if self.k_hat is not None:
            sentence += f", and k̂ is at most {float(self.k_hat.max()):.2f}"
        return Verdict((Finding("reliable", sentence),), passes=True)

    @property
    def headline(self) -> str:
        """How much was missing, and in how many draws it was filled in."""
        share = float(self.missing.double().mean())
        return (
            f"{share:.1%} of {self.missing.numel()} values of {len(self.missing)} data imputed, "
            f"{len(self.draws)} draws"
        )

    def table(self) -> pandas.DataFrame:
        """A row for each datum: how much of it was missing, ess, and k_hat where there is one."""
        import pandas

        columns = {
            "missing": self.missing.flatten(1).double().mean(1).cpu().numpy(),
            "ess": self.ess.cpu().numpy(),
        }
        if self.k_hat is not None:
            columns["k_hat"] = self.k_hat.cpu().numpy()
        return pandas.DataFrame(columns)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each missing entry: its datum and place, mean, error, sd and 95 % interval."""
        import pandas

        places = self.missing.flatten(1).nonzero().cpu()
        lower, upper = self.interval()
        columns = {
            "datum": places[:, 0].numpy(),
            "entry": places[:, 1].numpy(),
            "mean": self.mean[self.missing].cpu().numpy(),
            "standard_error": self.standard_error[self.missing].cpu().numpy(),
            "sd": self.draws[:, self.missing].std(0).cpu().numpy(),
            "lower": lower[self.missing].cpu().numpy(),
            "upper": upper[self.missing].cpu().numpy(),
        }
        return pandas.DataFrame(columns)


def _quantile(ascending: Tensor, probability: float) -> Tensor:
    """A quantile along the first axis of sorted numbers; torch's own takes no more than 2²⁴.

    One more draw is below the k-th of S with probability k/(S + 1), so that between two of these an
    interval holds the truth as often as it says, on average.
    """
    last = len(ascending) - 1
    place = min(max(probability * (len(ascending) + 1) - 1, 0.0), float(last))
    below = int(place)
    above = min(below + 1, last)
    return torch.lerp(ascending[below], ascending[above], place - below)


def impute(
    program: Program,
    x: Tensor,
    mask: Tensor | None = None,
    *context: Tensor,
    guide: Guide | None = None,
    posterior: Draws | None = None,
    particles: int = 1000,
    draws: int = 200,
    seed: int | None = None,
) -> Imputation:
    """x ~ p(x missing | x observed) = ∫ p(x missing | z) p(z | x observed) dz, datum by datum.

    Latents z₁, …, z_K ~ q(z | x observed) are weighted by w = p(x observed, z) / q(z | x observed):
    the mean is Σₖ wₖ E[x | zₖ] / Σₖ wₖ, and each draw takes a latent with probability wₖ / Σ w.
    Draws of MCMC weigh the same. The program's likelihood says what is missing (`Masked`).

    Args:
        program: A program under `likelihoods.Masked(...)`; evaluated in evaluation mode.
        x: Data (N, *shape), NaN where missing.
        mask: True where an entry is missing besides, of the shape of x; None if x says all.
        *context: What the program is conditioned on, each of length N.
        guide: The proposal q; `program.guide` if left out.
        posterior: Draws of p(z | x observed) to be taken in place of the guide's, such as
            `hmc(program.model, x, *context, local=True)` gives for the same x.
        particles: K, how many latents are drawn for each datum.
        draws: S, how many complete data are drawn.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        An `Imputation` with `.mean`, `.interval(level)` and `.draws`; its verdict says where the
        weights are bad.

    Raises:
        ValueError: If nothing is missing, the mask is not of the shape of x, the likelihood takes
            no missing entries, or program, guide and data do not fit together.

    Examples:
        >>> x = data.load("digits").test.x[:5].round()
        >>> is_missing = torch.zeros_like(x).bool()
        >>> is_missing[..., :4] = True  # the left half
        >>> vae = models.vae((1, 8, 8), 4, likelihood=likelihoods.Masked(likelihoods.Bernoulli()))
        >>> found = impute(vae, x, is_missing, particles=50, draws=20, seed=0)
        >>> bool((found.mean == x)[~is_missing].all()), found.mean.shape
        (True, torch.Size([5, 1, 8, 8]))

    Reference:
        Mattei and Frellsen (2019), MIWAE: deep generative modelling and imputation of incomplete
        data sets, eq. 11 and 13.
    """
    expect_at_least(2, particles=particles)
    expect_at_least(1, draws=draws)
    x = _with_holes(x, mask)
    data = (x, *context)
    if posterior is None:
        guide = guide_of(program, guide)
        source: _Guided | _Sampled = _Guided(program, guide, data, particles)
    else:
        source = _Sampled(program, posterior, data)
    if not bool(x.isnan().any()):
        raise ValueError(
            "expected data with missing entries, got none: mark them as NaN in x, or as True in "
            "mask"
        )
    _expect_room(x, source, draws)
    at_once = max(1, memory.pairs(source.width, x.device) // source.particles)
    pieces = []
    with evaluating(program, guide), seeded(x.device, seed), torch.no_grad():
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            some = [t[rows] for t in data]
            latents, log_weights = source.latents(rows, some)
            pieces.append(_imputed(program, latents, log_weights.double(), some, draws))
    evidence = evidence_of(torch.cat([piece.log_weights for piece in pieces], 1))
    ess, k_hat = evidence.ess, evidence.k_hat
    if isinstance(source, _Sampled):
        ess, k_hat = source.sizes, None
    assert ess is not None
    spread = torch.cat([piece.spread for piece in pieces])
    error = spread / ess.to(spread).sqrt().reshape(-1, *(1,) * (x.dim() - 1))
    return Imputation(
        mean=torch.cat([piece.mean for piece in pieces]),
        standard_error=error,
        draws=torch.cat([piece.draws for piece in pieces], 1),
        missing=x.isnan(),
        ess=ess,
        k_hat=k_hat,
        particles=source.particles,
        complaints=source.complaints,
    )


def _with_holes(x: Tensor, mask: Tensor | None) -> Tensor:
    """Data that are NaN where the mask is true as well."""
    expect_tensor("data", x)
    if mask is None:
        return x
    expect_tensor("mask", mask)
    if mask.dtype != torch.bool or mask.shape != x.shape:
        raise ValueError(
            f"expected a mask of booleans of shape {tuple(x.shape)}, True where missing, got "
            f"{described(mask)}; a context comes after it: impute(program, x, None, y)"
        )
    if not x.is_floating_point():
        raise ValueError(f"expected data of floating point numbers, got {x.dtype}; say x.float()")
    return x.masked_fill(mask.to(x.device), torch.nan)


class _Guided:
    """Latents from a guide, with their importance weights.

    Attributes:
        particles: How many there are for each datum.
        width: How many numbers the scoring of one of them takes.
        complaints: None: the weights say what is wrong.
    """

    complaints: tuple[Finding, ...] = ()

    def __init__(
        self, program: Program, guide: Guide, data: Sequence[Tensor], particles: int
    ) -> None:
        found = check_by_datum(program, guide, *data)
        self.particles = particles
        self.width = found.width
        self._program = program
        self._guide = guide
        self._nesting = found.nesting

    def latents(self, rows: slice, some: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Latents by site, (K, n, *event), and log weights, (K, n), of some data.

        Args:
            rows: Which they are.
            some: These data, (x, *context).
        """
        proposal = propose(self._guide, self.particles, self._nesting, *some)
        joint = log_density(self._program.model, proposal.latents, *some).joint
        return proposal.latents, joint.reshape(-1, joint.shape[-1]) - proposal.log_prob


class _Sampled:
    """Latents that are draws from the posterior already: each weighs the same.

    Attributes:
        particles: How many there are for each datum, some thousand at most.
        width: How many numbers the scoring of one of them takes.
        complaints: What speaks against the draws.
        sizes: Their effective number, the smallest over the latents of a datum, (N,).
    """

    def __init__(self, program: Program, posterior: Draws, data: Sequence[Tensor]) -> None:
        check_arguments(program.model, data)
        n = len(data[0])
        self.width = data[0][0].numel()
        self.complaints = tuple(posterior.complaints)
        self._drawn = {}
        sizes = []
        for name, values in posterior.samples.items():
            if values.shape[2:3] != (n,):
                raise ValueError(
                    f"expected draws for each of {n} data, (chains, draws, {n}, ...), got "
                    f"{tuple(values.shape)} at {name!r}; sample the latents of these data: "
                    "hmc(program.model, x, *context, local=True)"
                )
            chains, draws = values.shape[:2]
            every = max(1, chains * draws // _MOST)
            self._drawn[name] = values[:, ::every].flatten(0, 1)
            sizes.append(posterior.ess[name].reshape(n, -1).amin(1))
        self.particles = len(next(iter(self._drawn.values())))
        self.sizes = torch.stack(sizes).amin(0).clamp(max=self.particles)

    def latents(self, rows: slice, some: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Latents by site, (K, n, *event), and log weights of zero, (K, n), of some data.

        Args:
            rows: Which they are.
            some: These data, (x, *context).
        """
        latents = {name: values[:, rows] for name, values in self._drawn.items()}
        return latents, torch.zeros(self.particles, len(some[0]), device=some[0].device)


def _expect_room(x: Tensor, source: _Guided | _Sampled, draws: int) -> None:
    """Raises ValueError if complete data, or the latents of one datum, do not fit into memory."""
    size = x.element_size()
    memory.expect_memory(
        f"{draws} draws of {len(x)} data",
        2 * size * draws * x.numel(),
        "take fewer draws, or fewer data at once",
        x.device,
    )
    memory.expect_memory(
        f"{source.particles} particles of a datum",
        2 * size * source.particles * source.width,
        "take fewer particles",
        x.device,
    )


class _Piece(NamedTuple):
    """What was found of some data.

    Attributes:
        mean: E[x | x observed], (n, *shape).
        spread: √(Σ w² (E[x | z] − mean)² · ESS), the standard error but for the ESS, (n, *shape).
        draws: Complete data, (S, n, *shape).
        log_weights: Of the latents, (K, n).
    """

    mean: Tensor
    spread: Tensor
    draws: Tensor
    log_weights: Tensor


def _imputed(
    program: Program,
    latents: Mapping[str, Tensor],
    log_weights: Tensor,
    data: Sequence[Tensor],
    draws: int,
) -> _Piece:
    """Means and draws of some data from latents with weights."""
    x = data[0]
    axes = (1,) * (x.dim() - 1)
    shares = log_weights.softmax(0)
    given = _likelihood_at(program, latents, data)
    means = given.mean.expand(len(shares), *x.shape)
    weights = shares.to(x.dtype).reshape(*shares.shape, *axes)
    mean = (weights * means).sum(0)
    variance = (weights * (means - mean)).square().sum(0)
    ess = 1 / weights.square().sum(0)
    taken = shares.T.multinomial(draws, replacement=True).T
    each = torch.arange(len(x), device=x.device)
    chosen = {name: values[taken, each] for name, values in latents.items()}
    drawn = _likelihood_at(program, chosen, data).sample().to(x.dtype)
    is_missing = x.isnan()
    return _Piece(
        mean=torch.where(is_missing, mean, x),
        spread=torch.where(is_missing, (variance * ess).sqrt(), 0.0),
        draws=torch.where(is_missing, drawn.reshape(draws, *x.shape), x),
        log_weights=log_weights,
    )


def _likelihood_at(program: Program, latents: Mapping[str, Tensor], data: Sequence[Tensor]) -> Any:
    """p(x | z) at latents (K, n, *event): the distribution of the one site of data."""
    trace = traced(poutine.condition(program.model, data=dict(latents)), data)
    left = latent_sites(trace).keys() - latents.keys()
    if left:
        raise ValueError(
            f"expected latents that guide or draws give, got {sorted(left)} besides, which are "
            "summed out; let the guide sample them too"
        )
    observed = []
    for name, site in stochastic_sites(trace).items():
        if site["is_observed"] and name not in latents and not is_deterministic(site):
            observed.append(site["fn"])
    if len(observed) != 1:
        raise ValueError(f"expected one site of observed data, got {len(observed)}")
    return observed[0]
