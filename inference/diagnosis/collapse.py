"""Posterior collapse: which latents a guide uses, and how many nats they tell of the data."""

from __future__ import annotations

__all__ = ["Collapse", "Layer", "collapse"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.estimate import Estimate, by_datum
from ppl_gen.inference.expect import expect_weight
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.inference.result import Result
from ppl_gen.program import log_density, propose
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import (
    Sites,
    data_axis,
    data_plate,
    is_auxiliary,
    log_prob_per_datum,
    stochastic_sites,
    unwrapped,
)
from ppl_gen.supports import is_discrete

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_FEW = 0.1  # nats by which the mutual information is extrapolated, from which on data are few
_TOLD = 0.1  # nats of a datum, below which latents as a whole are as good as unused
# A mixture over all posteriors is computed from so many data at once: few, so that the guide's
# network sees each of them seldom.
_MIXED_AT_ONCE = 64


def collapse(
    program: Program,
    guide: Guide | None,
    x: Tensor,
    *context: Tensor,
    particles: int = 16,
    threshold: float = 0.01,
    chunk: int | None = None,
    seed: int | None = None,
) -> Collapse:
    """A_u = Var_x(E_q[u]) / Var_p(u), and KL(q(z | x) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)).

    The activity A_u says whether a latent u varies with the data, the mutual information I_q how
    many nats all latents tell. Expectations over x are averages over the N data, and q(z) = E_x
    q(z | x) is the aggregate posterior of all data that might be: the average over N of them alone
    would show log N nats at most, and KL(q(z) ‖ p(z)) too large by as much as I_q too small. Both
    are therefore extrapolated, with an error for that, and bounded from both sides. For a
    conditional program I_q is the information that z holds on x and context together.

    Moments come from the mean and variance of the distributions that guide and prior sample from,
    averaged over the draws that these depend on; of draws alone where a distribution has none, as a
    flow. They are exact where there is one latent site.

    Args:
        program: Any program with continuous latents in the plate "data", hierarchical ones
            included; in evaluation mode.
        guide: q(z | x), a function of the data; `program.guide` if None.
        x: Data of shape (N, *shape), at least two. Time grows with N²: some thousands are enough.
        *context: What the program is conditioned on, each of length N.
        particles: K, the number of draws per datum, at least 2. The mutual information takes as
            many as make 2²⁶ pairs of a draw and a datum, but at least two.
        threshold: The activity above which a latent is active.
        chunk: How many (draw, datum) pairs go through the program at once; None chooses by the size
            of x and the device.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        A `Collapse`.

    Raises:
        ValueError: If there are fewer than two data or particles, chunk is below 1, threshold is
            negative, a latent is discrete, the guide has auxiliary sites or point masses, or
            program, guide and data do not fit together (see `ppl_gen.inference.checks.check`).

    Reference:
        Burda et al. (2016), Importance weighted autoencoders, for A_u; Hoffman and Johnson (2016),
        ELBO surgery; Poole, Ozair, van den Oord, Alemi and Tucker (2019), On variational bounds of
        mutual information, for the bounds; for collapse Bowman et al. (2016), Generating sentences
        from a continuous space, and Kingma et al. (2016), Improved variational inference with
        inverse autoregressive flow.
    """
    guide = guide_of(program, guide)
    expect_at_least(2, particles=particles)
    expect_at_least(1, chunk=chunk)
    expect_weight(threshold=threshold)
    _check_amortised(guide)
    nesting, width, _ = check_by_datum(program, guide, x, *context)
    _check_enough_data(x)
    memory.expect_memory(
        f"{particles} draws for each of {len(x)} data",
        2 * x.element_size() * particles * len(x),
        "take fewer particles",
        x.device,
    )
    if chunk is None:
        chunk = memory.pairs(width, x.device)
    data = (x, *context)
    with evaluating(program, guide), seeded(x.device, seed):
        latents = _Latents.of(program, guide, nesting, data)
        seen = latents.look_at(program, guide, data, particles, chunk)
        # The aggregate posterior takes time in K N², so that many data are given few draws.
        kept = max(2, memory.rows(memory.POSTERIOR_PAIRS, len(x) ** 2))
        log_others, sizes = latents.pools(guide, seen.latents[:kept], data)
    aggregate = _Aggregate(seen.log_q[:kept], log_others, sizes)
    log_prior = seen.log_prior[:kept]
    layers = latents.layers(seen.by_site)
    prior_is_shared = torch.allclose(seen.log_prior[:1], seen.elsewhere, rtol=1e-5, atol=1e-5)
    prior = seen.prior
    prior_mean = prior.mean
    prior_sd = prior.variance.sqrt()
    marginal_kl = None
    rate = _average(seen.log_q - seen.log_prior)
    at_most = _average(aggregate.at_most)
    if prior_is_shared:
        prior = prior.pooled()
        prior_mean = prior.mean[0]
        prior_sd = prior.variance[0].sqrt()
        rest = seen.log_q[:kept] - log_prior - aggregate.information
        marginal_kl = aggregate.estimate(rest)
        if float(rate.value.mean()) < float(at_most.value.mean()):
            at_most = rate  # I + KL(q(z) ‖ p(z))
    activity = seen.posterior.activity(prior)
    return Collapse(
        names=latents.names,
        means=seen.posterior.mean,
        sds=seen.posterior.variance.sqrt(),
        prior_mean=prior_mean,
        prior_sd=prior_sd,
        kl=seen.posterior.divergence(prior),
        activity=activity,
        active=activity > threshold,
        rate=rate,
        mutual_information=aggregate.estimate(aggregate.information),
        marginal_kl=marginal_kl,
        at_least=_average(aggregate.at_least),
        at_most=at_most,
        layers=layers,
    )


class Layer(NamedTuple):
    """The latents of one site of a hierarchical program.

    Attributes:
        name: Of the site, such as "z1".
        latents: Which of the D latents are its entries.
        rate: E_q[log q(zₗ | ·) − log p(zₗ | ·)], each given what it is drawn from, per datum (N,),
            in nats. Those of all layers sum up to the rate. Its mean is E KL(q(zₗ | ·) ‖ p(zₗ | ·))
            where model and guide draw the layers in the same order.
    """

    name: str
    latents: slice
    rate: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Collapse(Result):
    """What the latents of a program hold. D counts the entries of all latent sites.

    Attributes:
        names: Of the D latents, such as "z[3]".
        means: E_q[u | x], of each datum (N, D).
        sds: √Var_q(u | x), of each datum (N, D).
        prior_mean: E_p[u], (D,), or (N, D) where the prior depends on the context.
        prior_sd: √Var_p(u), of the same shape.
        kl: KL(N(m, s²) ‖ N(m₀, s₀²)) of each latent, with the moments above, averaged over data, in
            nats (D,). Exact for Gaussians with independent entries; for others it is that of
            Gaussians with the same moments.
        activity: A_u = Var_x((m − m₀) / s₀), (D,): the variance of posterior means, in units of the
            prior's variance.
        active: Whether A_u is above the threshold, (D,).
        rate: E_q[log q(z | x) − log p(z)], per datum (N,), in nats; its mean is E KL(q(z | x) ‖
            p(z)).
        mutual_information: E_q[log q(z | x) − log q(z)], per datum (N,), in nats, extrapolated to
            infinitely many data; its mean is I_q(x; z), and has the error of that in its own.
        marginal_kl: E_q[log q(z) − log p(z)], per datum (N,), in nats; its mean is KL(q(z) ‖ p(z)).
            None where the prior depends on the context: the difference of the two above is no
            divergence then.
        at_least: The same as the mutual information with q(z) = (1/N) Σⱼ q(z | xⱼ), per datum (N,):
            its mean is below I_q in expectation, and log N at most.
        at_most: The same without the datum's own posterior, per datum (N,), or the rate where
            that is less and bounds it: its mean is above I_q in expectation.
        layers: The latent sites, in the order in which the model draws them.
    """

    names: list[str]
    means: Tensor
    sds: Tensor
    prior_mean: Tensor
    prior_sd: Tensor
    kl: Tensor
    activity: Tensor
    active: Tensor
    rate: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate | None
    at_least: Estimate
    at_most: Estimate
    layers: tuple[Layer, ...] = ()

    @property
    def dead(self) -> int:
        """The number of latents that are not active."""
        return int((~self.active).sum())

    @property
    def nats(self) -> float:
        """What the latents tell of a datum beyond its context, at most, on average, in nats.

        The mutual information, or the rate where that is less.
        """
        information = float(self.mutual_information.mean().value)
        rate = float(self.rate.mean().value)
        return min(information, rate)

    @property
    def collapsed(self) -> bool:
        """Whether the latents as a whole are as good as unused: they tell less than 0.1 nats.

        Their number decides nothing: of 50 latents on 8 × 8 digits a good VAE uses 5, which tell
        3.6 nats of a datum. On the same digits 10 latents tell 3 nats when trained at β = 1, 0.8 at
        β = 2 and 0.02 or less from β = 3 on: there is little in between.
        """
        return self.nats < _TOLD

    @property
    def verdict(self) -> Verdict:
        """What that means, with remedies; it passes unless the latents are collapsed.

        Tags: "collapsed", "partly-unused" or "in-use"; "layer-unused" where a layer of several has
        no active latent; "near-ceiling" where the data are so few
        that the mutual information is extrapolated by more than 0.1 nats.
        """
        findings = [self._usage()]
        if self.unused_layers and not self.collapsed:
            names = " and ".join(self.unused_layers)
            findings.append(
                Finding(
                    "layer-unused",
                    f"no latent of {names} is active: the layers left are as good without it; "
                    f"leave it out or, to use it, {_REMEDY}, or take a guide from the top down "
                    "(ppl_gen.guides.TopDown)",
                )
            )
        count = len(self.means)
        low = float(self.at_least.mean().value)
        if float(self.mutual_information.mean().value) - low > _FEW:
            findings.append(
                Finding(
                    "near-ceiling",
                    f"{count} data, which show log {count} = {math.log(count):.2g} nats at most, "
                    f"are few for what these latents tell: I(x; z) lies between {low:.2f} and "
                    f"{float(self.at_most.mean().value):.2f} nats in expectation; give more data",
                )
            )
        return Verdict(tuple(findings), passes=not self.collapsed)

    def _usage(self) -> Finding:
        """How many latents are in use."""
        count = len(self.names)
        used = (
            f"{count - self.dead} of {count} latents are active and tell {self.nats:.2g} nats of "
            "a datum"
        )
        if self.collapsed:
            return Finding("collapsed", f"collapsed: {used}; {_REMEDY}")
        if self.dead:
            return Finding(
                "partly-unused",
                f"partly unused: {used}; the others cost nothing: take fewer or, to use more, "
                f"{_REMEDY}",
            )
        return Finding("in-use", f"in use: {used}")

    @property
    def unused_layers(self) -> list[str]:
        """The names of the layers none of whose latents is active."""
        return [layer.name for layer in self.layers if not self.active[layer.latents].any()]

    def by_layer(self) -> pandas.DataFrame:
        """A row for each layer: its latents, how many are active, its rate with standard error."""
        import pandas

        rows = {}
        for layer in self.layers:
            active = self.active[layer.latents]
            rate = layer.rate.mean()
            rows[layer.name] = {
                "latents": len(active),
                "active": int(active.sum()),
                "rate": float(rate.value),
                "standard error": float(rate.standard_error),
            }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def _said_of_layers(self) -> list[str]:
        """How many latents of each layer are active, and its nats; nothing of a single layer."""
        if len(self.layers) < 2:
            return []
        said = []
        for layer in self.layers:
            active = self.active[layer.latents]
            count = f"{int(active.sum())} of {len(active)}"
            said.append(f"{layer.name} {count} active, {layer.rate.mean()} nats")
        return said

    def table(self) -> pandas.DataFrame:
        """A row for each latent: kl, activity, active, the sd of means and the mean of sds."""
        import pandas

        columns = {
            "kl": self.kl,
            "activity": self.activity,
            "active": self.active,
            "sd of means": self.means.std(0),
            "mean of sds": self.sds.mean(0),
        }
        arrays = {name: column.cpu().numpy() for name, column in columns.items()}
        return pandas.DataFrame(arrays, index=self.names)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each datum: mean and sd of each latent, and rate, mutual information, KL."""
        import pandas

        columns = {}
        for i, name in enumerate(self.names):
            columns[f"{name} mean"] = self.means[:, i].cpu().numpy()
            columns[f"{name} sd"] = self.sds[:, i].cpu().numpy()
        terms = {"rate": self.rate, "mutual information": self.mutual_information}
        if self.marginal_kl is not None:
            terms["marginal KL"] = self.marginal_kl
        return pandas.concat([pandas.DataFrame(columns), by_datum(terms)], axis=1)

    def plot(self, title: str = "") -> Figure:
        """KL, means and widths of all latents, see `ppl_gen.plots.evidence.collapse_panel`.

        Args:
            title: Stands above; with several layers, what each of them tells if left out.
        """
        from ppl_gen.plots.evidence import collapse_panel

        if not title:
            title = "; ".join(self._said_of_layers())
        prior = (self.prior_mean, self.prior_sd)
        return collapse_panel(self.means, self.sds, self.kl, self.active, prior, title)

    def __str__(self) -> str:
        return f"{self.verdict}\n{self.headline}"

    @property
    def headline(self) -> str:
        """The nats of rate, mutual information and KL of the aggregate posterior."""
        numbers = f"nats per datum: rate {self.rate}, I(x; z) {self.mutual_information}"
        if self.marginal_kl is not None:
            numbers += f", KL(q(z)‖p(z)) {self.marginal_kl}"
        said = self._said_of_layers()
        if said:
            numbers += f"\nlayers: {'; '.join(said)}"
        return numbers


_REMEDY = (
    "anneal the KL term from 0 (svi_step(..., beta=annealed(...)) of "
    "ppl_gen.inference.fitting.objectives), leave it free nats (FreeBits of the same module), "
    "lower β, or weaken the decoder"
)


@dataclass(frozen=True, eq=False, repr=False)
class Extrapolated(Estimate):
    """An estimate from N data of what infinitely many would give.

    Attributes:
        extrapolation_error: What all its entries may be off by together: the last step of the
            extrapolation, from N/2 data to N.
    """

    extrapolation_error: Tensor = field(kw_only=True)

    def mean(self) -> Estimate:
        """The average over data, with the error of the extrapolation in its standard error."""
        average = super().mean()
        error = torch.hypot(average.standard_error, self.extrapolation_error)
        return replace(average, standard_error=error)


class _Aggregate(NamedTuple):
    """What is known of log q(z), q(z) = E_x q(z | x), at draws z ~ q(z | xᵢ), K of each of N data.

    Attributes:
        log_q: log q(z | xᵢ), (K, N).
        log_others: log Σ q(z | xⱼ) over the others of two halves of the data, (2, K, N).
        sizes: How many others are in each half, (2, N).
    """

    log_q: Tensor
    log_others: Tensor
    sizes: Tensor

    @property
    def at_least(self) -> Tensor:
        """log q(z | xᵢ) − log (1/N) Σⱼ q(z | xⱼ), i among the j: below I in expectation, (K, N)."""
        return self._pooled(1.0)

    @property
    def at_most(self) -> Tensor:
        """The same over the N − 1 others alone: above I in expectation, (K, N)."""
        return self._pooled(0.0)

    @property
    def information(self) -> Tensor:
        """2 I(N) − I(N/2), (K, N).

        I(N) counts half of the datum's own density: a whole one is too low, none too high, by as
        much in the first order of 1/N. The rest is extrapolated.
        """
        return 2 * self._pooled(0.5) - self._pooled_by_halves()

    def estimate(self, terms: Tensor) -> Extrapolated:
        """The average of draws (K, N) that were extrapolated, datum by datum."""
        step = (self._pooled(0.5) - self._pooled_by_halves()).mean().abs()
        average = _average(terms)
        return Extrapolated(average.value, average.standard_error, extrapolation_error=step)

    def _pooled(self, own: float) -> Tensor:
        return self._over(self.log_others.logsumexp(0), self.sizes.sum(0), own)

    def _pooled_by_halves(self) -> Tensor:
        """I(N/2), the average over both halves, (K, N)."""
        return self._over(self.log_others, self.sizes[:, None], 0.5).mean(0)

    def _over(self, log_others: Tensor, size: Tensor, own: float) -> Tensor:
        """log q(z | xᵢ) − log ((own q(z | xᵢ) + Σ q(z | xⱼ)) / (own + size))."""
        log_sum = log_others
        if own > 0:
            log_sum = torch.logaddexp(log_others, self.log_q + math.log(own))
        return self.log_q - log_sum + (size + own).log()


class _Moments(NamedTuple):
    """Moments of each latent given each datum, (N, D), or (1, D) where they are the same for all.

    Attributes:
        mean: The mean.
        variance: The variance.
        noise: The variance of `mean` as an estimate from draws.
    """

    mean: Tensor
    variance: Tensor
    noise: Tensor

    @classmethod
    def of(cls, means: Tensor, variances: Tensor) -> _Moments:
        """By the law of total variance, from conditional moments at K draws, (K, N, D) each."""
        between = means.var(0)
        return cls(means.mean(0), variances.mean(0) + between, between / len(means))

    @classmethod
    def joined(cls, parts: Sequence[_Moments]) -> _Moments:
        """Those of some data after those of others."""
        means, variances, noises = zip(*parts, strict=True)
        return cls(torch.cat(means), torch.cat(variances), torch.cat(noises))

    def pooled(self) -> _Moments:
        """Those of a distribution that is the same for all data, (1, D)."""
        mean = self.mean.mean(0, keepdim=True)
        variance = self.variance.mean(0, keepdim=True)
        return _Moments(mean, variance, torch.zeros_like(mean))

    def divergence(self, prior: _Moments) -> Tensor:
        """KL(N(m, s²) ‖ N(m₀, s₀²)) averaged over data, in nats, (D,)."""
        shift, noise = self._shift(prior)
        ratio = self.variance / prior.variance
        by_datum = ratio - ratio.log() + shift.square() - noise - 1
        return 0.5 * by_datum.mean(0)

    def activity(self, prior: _Moments) -> Tensor:
        """Var_x((m − m₀) / s₀), what the draws' noise adds taken off, (D,)."""
        shift, noise = self._shift(prior)
        return (shift.var(0) - noise.mean(0)).clamp(min=0)

    def _shift(self, prior: _Moments) -> tuple[Tensor, Tensor]:
        """(m − m₀) / s₀ of each latent and datum, and the variance of its noise."""
        shift = (self.mean - prior.mean) / prior.variance.sqrt()
        noise = (self.noise + prior.noise) / prior.variance
        return shift, noise


class _Seen(NamedTuple):
    """What was seen of n of the data, at K draws of their latents.

    Attributes:
        latents: The draws z ~ q(z | x), (K, n, D).
        log_q: log q(z | x), (K, n).
        log_prior: log p(z), (K, n).
        elsewhere: log p(z) of the first draw under the next datum's context, (1, n).
        posterior: Moments of q(z | x).
        prior: Moments of p(z).
        by_site: log q − log p of each latent site, (sites, K, n).
    """

    latents: Tensor
    log_q: Tensor
    log_prior: Tensor
    elsewhere: Tensor
    posterior: _Moments
    prior: _Moments
    by_site: Tensor

    @classmethod
    def joined(cls, parts: Sequence[_Seen]) -> _Seen:
        """Some data after others."""
        latents, log_q, log_prior, elsewhere, posterior, prior, by_site = zip(*parts, strict=True)
        return cls(
            latents=torch.cat(latents, 1),
            log_q=torch.cat(log_q, 1),
            log_prior=torch.cat(log_prior, 1),
            elsewhere=torch.cat(elsewhere, 1),
            posterior=_Moments.joined(posterior),
            prior=_Moments.joined(prior),
            by_site=torch.cat(by_site, -1),
        )


class _Latents(NamedTuple):
    """The latent sites of a program, and their values as one tensor (K, n, D).

    Attributes:
        nesting: The number of axes that plates take.
        axes: By site, the axis of the data in its value, counted from the right.
        shapes: By site, the shape of the rest.
    """

    nesting: int
    axes: dict[str, int]
    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, program: Program, guide: Guide, nesting: int, data: tuple[Tensor, ...]) -> _Latents:
        """Finds the latents by running program and guide on two data.

        Raises:
            ValueError: If a latent is discrete or has a prior without a finite variance, or the
                guide has auxiliary sites or point masses.
        """
        few = _rows(data, slice(2))
        sites = stochastic_sites(poutine.trace(program.model).get_trace(*few))
        guide_sites = stochastic_sites(poutine.trace(guide).get_trace(*few))
        plate = data_plate(sites)
        discrete = []
        unmeasurable = []
        axes = {}
        shapes = {}
        for name, site in sites.items():
            if site["is_observed"]:
                continue
            if is_discrete(site["fn"]):
                discrete.append(name)
                continue
            if _is_without_moments(site["fn"]):
                unmeasurable.append(f"{type(unwrapped(site['fn'])).__name__} of {name!r}")
            axes[name] = data_axis(site, plate)
            shapes[name] = site["value"].movedim(axes[name], 0).shape[1:]
        if discrete:
            raise ValueError(
                f"expected continuous latents, got the discrete sites {sorted(discrete)}, without "
                "mean and variance; hold the entropy of q(z | x) against that of its average over "
                "data"
            )
        if unmeasurable:
            raise ValueError(
                "expected a prior with a mean and a variance, in whose units latents are measured, "
                f"got {', '.join(unmeasurable)}; ask log_evidence and gaps, which need neither"
            )
        without_density = []
        for name, site in guide_sites.items():
            if is_auxiliary(site) or isinstance(unwrapped(site["fn"]), dist.Delta):
                without_density.append(name)
        if without_density:
            raise ValueError(
                "expected a guide whose density is known at any z, got auxiliary sites or point "
                f"masses at {sorted(without_density)}; sample the latents directly, from "
                "distributions with a density (DiagonalGaussian)"
            )
        return cls(nesting, axes, shapes)

    @property
    def _places(self) -> dict[str, slice]:
        """By site, which of the D entries are its own."""
        places = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + shape.numel()
            places[name] = slice(start, stop)
            start = stop
        return places

    def layers(self, by_site: Tensor) -> tuple[Layer, ...]:
        """The sites with their rates.

        Args:
            by_site: log q − log p of each latent site, (sites, K, N).
        """
        layers = []
        for (name, latents), terms in zip(self._places.items(), by_site, strict=True):
            layers.append(Layer(name=name, latents=latents, rate=_average(terms)))
        return tuple(layers)

    @property
    def names(self) -> list[str]:
        """The names of the D entries."""
        names = []
        for site, shape in self.shapes.items():
            names += coordinates(site, shape)
        return names

    def look_at(
        self,
        program: Program,
        guide: Guide,
        data: tuple[Tensor, ...],
        particles: int,
        chunk: int,
    ) -> _Seen:
        """Draws latents of all data and reads their densities and moments, in chunks.

        Args:
            program: The program.
            guide: The guide.
            data: x and context.
            particles: K, the number of draws per datum.
            chunk: How many (draw, datum) pairs are in work at once.
        """
        x, *context = data
        next_context = [c.roll(-1, 0) for c in context]
        parts = []
        size = max(1, chunk // particles)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            here = _rows(context, rows)
            there = _rows(next_context, rows)
            z, log_q, posterior = self._drawn(guide, particles, x[rows], *here)
            _, _, prior = self._drawn(program.model, particles, x[rows], *here)
            log_prior = self._log_prob(program.model, z, x[rows], *here)
            by_site = (log_q - log_prior)[None]
            if len(self.axes) > 1:
                of_guide = self._by_site(guide, z, x[rows], *here)
                by_site = of_guide - self._by_site(program.model, z, x[rows], *here)
            seen = _Seen(
                latents=z,
                log_q=log_q,
                log_prior=log_prior,
                elsewhere=self._log_prob(program.model, z[:1], x[rows], *there),
                posterior=posterior,
                prior=prior,
                by_site=by_site,
            )
            parts.append(seen)
        return _Seen.joined(parts)

    def pools(self, guide: Guide, z: Tensor, data: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """log Σⱼ q(z | xⱼ) of draws z (K, N, D) over the other data, without their own.

        Returns:
            The sums over two random halves of the data, (2, K, N), and how many others are in each,
            (2, N).
        """
        count, n, latents = z.shape
        draws = z.flatten(0, 1)
        own = torch.arange(n, device=z.device).repeat(count)
        size = memory.rows(memory.MIXTURE_VALUES, _MIXED_AT_ONCE * latents)
        total = torch.full((2, count * n), -math.inf, dtype=torch.float64, device=z.device)
        sizes = torch.empty((2, n), dtype=torch.long, device=z.device)
        for side, half in enumerate(_halves(n)):
            sizes[side] = len(half)
            sizes[side, half] -= 1
            for others in half.to(z.device).split(_MIXED_AT_ONCE):
                x, *context = [values[others] for values in data]
                for start in range(0, count * n, size):
                    rows = slice(start, start + size)
                    pairs = draws[rows, None].expand(-1, len(x), -1)
                    log_q = self._log_prob(guide, pairs, x, *context)
                    log_q = log_q.masked_fill(own[rows, None] == others, -math.inf)
                    total[side, rows] = torch.logaddexp(total[side, rows], log_q.logsumexp(-1))
        return total.reshape(2, count, n), sizes

    def _drawn(
        self, sampled: Any, particles: int, x: Tensor, *context: Tensor
    ) -> tuple[Tensor, Tensor, _Moments]:
        """Draws (K, n, D) of a guide, or of the prior in a model; log density (K, n); moments."""
        with poutine.trace() as recorder:
            proposal = propose(sampled, particles, self.nesting, x, *context)
        means = {}
        variances = {}
        for name in self.axes:
            fn = recorder.trace.nodes[name]["fn"]
            try:
                means[name], variances[name] = fn.mean, fn.variance
            except NotImplementedError:
                means[name] = proposal.latents[name]
                variances[name] = torch.zeros_like(means[name])
        moments = _Moments.of(self._flat(means, x).double(), self._flat(variances, x).double())
        return self._flat(proposal.latents, x), proposal.log_prob.double(), moments

    def _log_prob(self, model: Any, z: Tensor, x: Tensor, *context: Tensor) -> Tensor:
        """The log density of the latents of a model or guide at z (K, n, D), of shape (K, n)."""
        prior = log_density(model, self._values(z), x, *context).prior
        return prior.reshape(-1, len(x)).double()

    def _by_site(self, model: Any, z: Tensor, x: Tensor, *context: Tensor) -> Tensor:
        """The log densities of the latent sites of a model or guide at z, (sites, K, n)."""
        at_latents = poutine.condition(model, data=self._values(z))
        sites: Sites = stochastic_sites(poutine.trace(at_latents).get_trace(x, *context))
        plate = data_plate(sites)
        densities = []
        for name in self.axes:
            log_prob = log_prob_per_datum(sites[name], self.nesting, plate)
            densities.append(log_prob.reshape(-1, len(x)).double().expand(len(z), -1))
        return torch.stack(densities)

    def _values(self, z: Tensor) -> dict[str, Tensor]:
        """Draws z (K, n, D) by the names of their sites."""
        values = {}
        for name, latents in self._places.items():
            shape = self.shapes[name]
            value = z[..., latents].reshape(*z.shape[:2], *shape)
            values[name] = value.movedim(1, self.axes[name])
        return values

    def _flat(self, values: dict[str, Tensor], x: Tensor) -> Tensor:
        """Values of the sites at K draws, one behind the other: (K, n, D)."""
        parts = []
        for name, axis in self.axes.items():
            value = values[name].movedim(axis, 1)
            parts.append(value.reshape(len(value), len(x), self.shapes[name].numel()))
        return torch.cat(parts, -1)


def _is_without_moments(fn: Any) -> bool:
    """Whether a distribution knows that its variance is infinite, or that it has none."""
    try:
        variance = fn.variance
    except NotImplementedError:  # which draws will tell
        return False
    return not bool(torch.isfinite(variance).all())


def _halves(n: int) -> tuple[Tensor, ...]:
    """The indices of n data in two halves, at random but always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)).chunk(2)


def _rows(tensors: Sequence[Tensor], rows: slice) -> list[Tensor]:
    """The same rows of each tensor."""
    return [values[rows] for values in tensors]


def _average(terms: Tensor) -> Estimate:
    """The average of draws (K, N), datum by datum."""
    return Estimate(terms.mean(0), terms.std(0) / len(terms) ** 0.5)


def _check_enough_data(x: Tensor) -> None:
    """Raises ValueError if there is one datum alone; `check` looks at everything else."""
    if len(x) == 1:
        raise ValueError(
            "expected at least 2 data, whose posterior means can differ, got 1; give some hundreds"
        )


def _check_amortised(guide: Guide) -> None:
    """Raises ValueError if the guide holds a posterior for each datum."""
    if needs_all_data(guide):
        raise ValueError(
            f"expected a guide that is a function of the data, got {type(guide).__name__}, which "
            "holds a posterior for each of those it was fitted to; give an amortised guide "
            "(DiagonalGaussian)"
        )
