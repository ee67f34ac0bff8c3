"""Posterior collapse: which latents a guide uses, and how many nats they tell of the data."""

from __future__ import annotations

__all__ = ["Collapse", "collapse"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.inference.checks import check, needs_all_data
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.latents.layout import coordinates
from ppl_gen.program import data_axis, is_auxiliary, log_density, propose, stochastic_sites
from ppl_gen.protocols import Guide, Program

if TYPE_CHECKING:
    import pandas

# Pairs of a draw and a datum, whose log q the mutual information takes: some seconds.
_PAIRS = 2**26
# Numbers held at once meanwhile, and the data among them: few, so that the guide's network sees
# each seldom.
_NUMBERS, _COLUMNS = 2**22, 64


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
    """Which latents vary with the data, A_u = Var_x(E_q[u]) / Var_p(u); KL(q(z | x) ‖ p(z)) =
    I_q(x; z) + KL(q(z) ‖ p(z)).

    Expectations over x are averages over the N data, and q(z) = (1/N) Σⱼ q(z | xⱼ) is their
    aggregate posterior, so that I_q is at most log N. For a conditional program it is the
    information that z holds on x and context together.

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
            negative, a latent is discrete, the guide has auxiliary sites or point masses, or as
            `ppl_gen.inference.checks.check` says.

    Reference:
        Burda et al. (2016), Importance weighted autoencoders, for A_u; Hoffman and Johnson (2016),
        ELBO surgery; for collapse Bowman et al. (2016), Generating sentences from a continuous
        space, and Kingma et al. (2016), Improved variational inference with inverse autoregressive
        flow.
    """
    guide = guide_of(program, guide)
    _check_input(guide, x, particles, threshold, chunk)
    nesting, width, _ = check(program, guide, x, *context)
    data = (x, *context)
    with evaluating(program, guide), seeded(x.device, seed):
        layout = _Layout.of(program, guide, nesting, *(t[:2] for t in data))
        rows = max(1, (chunk or (2**26 if x.is_cuda else 2**21) // max(width, 256)) // particles)
        slices = [slice(i, i + rows) for i in range(0, len(x), rows)]
        part = _Part.joined([layout.part(program, guide, particles, data, some) for some in slices])
        kept = min(particles, max(2, _PAIRS // len(x) ** 2))
        log_aggregate = layout.aggregate(
            guide, {name: z[:kept] for name, z in part.latents.items()}, data
        )
    shared = torch.allclose(part.log_prior[:1], part.elsewhere, rtol=1e-5, atol=1e-5)
    posterior, prior = part.posterior, part.prior.pooled() if shared else part.prior
    kl, activity = posterior.against(prior)
    return Collapse(
        layout.names,
        posterior.mean,
        posterior.variance.sqrt(),
        prior.mean[0] if shared else prior.mean,
        (prior.variance[0] if shared else prior.variance).sqrt(),
        kl,
        activity,
        activity > threshold,
        _average(part.log_q - part.log_prior),
        _average(part.log_q[:kept] - log_aggregate),
        _average(log_aggregate - part.log_prior[:kept]) if shared else None,
    )


@dataclass(frozen=True, eq=False)
class Collapse:
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
        mutual_information: E_q[log q(z | x) − log q(z)], per datum (N,), in nats; its mean is
            I_q(x; z).
        marginal_kl: E_q[log q(z) − log p(z)], per datum (N,), in nats; its mean is KL(q(z) ‖ p(z)).
            None where the prior depends on the context: the difference of the two above is no
            divergence then.
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

    @property
    def dead(self) -> int:
        """The number of latents that are not active."""
        return int((~self.active).sum())

    @property
    def nats(self) -> float:
        """What the latents tell of a datum beyond its context, at most, on average: mutual
        information or rate, if less.
        """
        return min(
            float(estimate.mean().value) for estimate in (self.mutual_information, self.rate)
        )

    @property
    def collapsed(self) -> bool:
        """Whether the latents as a whole are as good as unused: they tell less than 0.1 nats of a
        datum.

        Their number decides nothing: of 50 latents on 8 × 8 digits a good VAE uses 5, which tell
        3.6 nats. On the same digits 10 latents tell 3 nats when trained at β = 1, 0.8 at β = 2 and
        0.02 or less from β = 3 on: there is little in between.
        """
        return self.nats < 0.1

    @property
    def verdict(self) -> list[str]:
        """What that means, in plain words, with remedies."""
        count, most = len(self.names), math.log(len(self.means))
        used = f"{count - self.dead} of {count} latents are active and tell {self.nats:.2g} nats of a datum"
        unused = (
            f"partly unused: {used}; the others cost nothing: take fewer or, to use more, {_REMEDY}"
        )
        found = [
            f"collapsed: {used}; {_REMEDY}"
            if self.collapsed
            else unused
            if self.dead
            else f"in use: {used}"
        ]
        if self.marginal_kl is not None and self.nats > most - 1:
            ceiling = f"its ceiling, log {len(self.means)} = {most:.2g} nats"
            found.append(
                f"the mutual information is near {ceiling}: more data would raise it, and lower "
                "KL(q(z) ‖ p(z))"
            )
        return found

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
        return pandas.DataFrame(
            {name: column.cpu().numpy() for name, column in columns.items()}, index=self.names
        )

    def __str__(self) -> str:
        parts = {
            "rate": self.rate,
            "I(x; z)": self.mutual_information,
            "KL(q(z)‖p(z))": self.marginal_kl,
        }
        numbers = ", ".join(
            f"{name} {estimate}" for name, estimate in parts.items() if estimate is not None
        )
        return "\n".join([*self.verdict, f"nats per datum: {numbers}"])


_REMEDY = (
    "anneal the KL term from 0 (svi_step(..., beta=annealed(...)) of "
    "ppl_gen.inference.fitting.objectives), leave it free nats (FreeBits of the same module), "
    "lower β, or weaken the decoder"
)


class _Moments(NamedTuple):
    """Of each latent given each datum, (N, D): mean, variance, and the variance of this mean as an
    estimate.
    """

    mean: Tensor
    variance: Tensor
    noise: Tensor

    @classmethod
    def of(cls, centres: Tensor, variances: Tensor) -> _Moments:
        """By the law of total variance, from conditional means and variances at K draws, (K, N, D)."""
        between = centres.var(0)
        return cls(centres.mean(0), variances.mean(0) + between, between / len(centres))

    def pooled(self) -> _Moments:
        """Those of a distribution that is the same for all data, (1, D)."""
        return _Moments(*(part.mean(0, keepdim=True) for part in self))._replace(
            noise=torch.zeros_like(self.mean[:1])
        )

    def against(self, prior: _Moments) -> tuple[Tensor, Tensor]:
        """KL divergence of Gaussians with these moments, averaged over data, and activity; each
        (D,).
        """
        scale = prior.variance
        noise = (self.noise + prior.noise) / scale
        shift = (self.mean - prior.mean) / scale.sqrt()
        ratio = self.variance / scale
        kl = 0.5 * (ratio - ratio.log() + shift.square() - noise - 1).mean(0)
        return kl, (shift.var(0) - noise.mean(0)).clamp(min=0)


class _Part(NamedTuple):
    """Of some of the data: latents (K, n, *rest) by site, log densities (K, n), and moments.

    `elsewhere` is log p(z) of the first draw under the next datum's context, (1, n).
    """

    latents: dict[str, Tensor]
    log_q: Tensor
    log_prior: Tensor
    elsewhere: Tensor
    posterior: _Moments
    prior: _Moments

    @classmethod
    def joined(cls, parts: Sequence[_Part]) -> _Part:
        latents = {
            name: torch.cat([part.latents[name] for part in parts], 1) for name in parts[0].latents
        }
        log_q, log_prior, elsewhere = (
            torch.cat(c, 1) for c in zip(*(p[1:4] for p in parts), strict=True)
        )
        posterior, prior = (
            _Moments(*map(torch.cat, zip(*c, strict=True)))
            for c in zip(*(p[4:] for p in parts), strict=True)
        )
        return cls(latents, log_q, log_prior, elsewhere, posterior, prior)


class _Layout(NamedTuple):
    """Where things are: the axis of the data in each latent site, counted from the right, and the
    shape of the rest.
    """

    nesting: int
    axes: dict[str, int]
    shapes: dict[str, torch.Size]

    @classmethod
    def of(
        cls, program: Program, guide: Guide, nesting: int, x: Tensor, *context: Tensor
    ) -> _Layout:
        trace = poutine.trace(program.model).get_trace(x, *context)
        sites = {
            name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]
        }
        proposed = stochastic_sites(poutine.trace(guide).get_trace(x, *context))
        if discrete := sorted(
            name for name, site in sites.items() if site["fn"].support.is_discrete
        ):
            raise ValueError(
                f"expected continuous latents, got the discrete sites {discrete}, without mean "
                "and variance; hold the entropy of q(z | x) against that of its average over data"
            )
        if bad := sorted(
            name for name, site in proposed.items() if is_auxiliary(site) or _is_point(site["fn"])
        ):
            raise ValueError(
                "expected a guide whose density is known at any z, got auxiliary sites or point "
                f"masses at {bad}; sample the latents directly, from distributions with a density "
                "(DiagonalGaussian)"
            )
        axes = {name: data_axis(site) for name, site in sites.items()}
        shapes = {
            name: site["value"].movedim(axes[name], 0).shape[1:] for name, site in sites.items()
        }
        return cls(nesting, axes, shapes)

    @property
    def names(self) -> list[str]:
        return [row for name, shape in self.shapes.items() for row in coordinates(name, shape)]

    def part(
        self, program: Program, guide: Guide, particles: int, data: tuple[Tensor, ...], rows: slice
    ) -> _Part:
        x, *context = (t[rows] for t in data)
        z, log_q, posterior = self.drawn(guide, particles, x, *context)
        _, _, prior = self.drawn(program.model, particles, x, *context)
        log_prior = self.log_latents(program.model, z, x, *context)
        first, others = (
            {name: value[:1] for name, value in z.items()},
            (t.roll(-1, 0)[rows] for t in data[1:]),
        )
        elsewhere = self.log_latents(program.model, first, x, *others)
        return _Part(z, log_q, log_prior, elsewhere, posterior, prior)

    def drawn(
        self, sampled: Any, particles: int, x: Tensor, *context: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, _Moments]:
        """Draws by site, (K, n, *rest), of a guide or of the prior in a model; their log density,
        and their moments.
        """
        with poutine.trace() as recorder:
            proposal = propose(sampled, particles, self.nesting, x, *context)
        moments = []
        for name in self.axes:
            fn, z = recorder.trace.nodes[name]["fn"], proposal.latents[name]
            try:
                pair = (fn.mean, fn.variance)
            except NotImplementedError:
                pair = (z, torch.zeros_like(z))
            moments.append(
                [self.moved(name, part, x).double().reshape(particles, len(x), -1) for part in pair]
            )
        latents = {name: self.moved(name, proposal.latents[name], x) for name in self.axes}
        centres, variances = (torch.cat(parts, -1) for parts in zip(*moments, strict=True))
        return latents, proposal.log_prob.double(), _Moments.of(centres, variances)

    def moved(self, name: str, value: Tensor, x: Tensor) -> Tensor:
        """With the axis of the data second, (K, n, *rest)."""
        return value.movedim(self.axes[name], 1).reshape(len(value), len(x), *self.shapes[name])

    def log_latents(
        self, model: Any, z: Mapping[str, Tensor], x: Tensor, *context: Tensor
    ) -> Tensor:
        """Log density of the latents of a model or guide, (K, n), at z (K, n, *rest)."""
        placed = {name: value.movedim(1, self.axes[name]) for name, value in z.items()}
        return log_density(model, placed, x, *context).prior.reshape(-1, len(x)).double()

    def aggregate(self, guide: Guide, z: Mapping[str, Tensor], data: tuple[Tensor, ...]) -> Tensor:
        """log (1/N) Σⱼ q(z | xⱼ) of draws z (K, N, *rest), of shape (K, N)."""
        first = next(iter(z.values()))
        count, n = first.shape[:2]
        flat = {name: value.flatten(0, 1) for name, value in z.items()}
        size = max(1, _NUMBERS // (_COLUMNS * len(self.names)))
        total = torch.full((count * n,), -math.inf, dtype=torch.float64, device=first.device)
        for j in range(0, n, _COLUMNS):
            x, *context = (t[j : j + _COLUMNS] for t in data)
            for i in range(0, count * n, size):
                pairs = {
                    name: v[i : i + size, None].expand(-1, len(x), *self.shapes[name])
                    for name, v in flat.items()
                }
                seen = self.log_latents(guide, pairs, x, *context).logsumexp(-1)
                total[i : i + size] = torch.logaddexp(total[i : i + size], seen)
        return total.reshape(count, n) - math.log(n)


def _average(terms: Tensor) -> Estimate:
    """Of draws (K, N), by datum."""
    return Estimate(terms.mean(0), terms.std(0) / len(terms) ** 0.5)


def _is_point(fn: Any) -> bool:
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.Delta)


def _check_input(
    guide: Guide, x: Tensor, particles: int, threshold: float, chunk: int | None
) -> None:
    for name, number, least in (
        ("particles", particles, 2),
        ("chunk", 1 if chunk is None else chunk, 1),
    ):
        if number < least:
            raise ValueError(f"expected {name} of at least {least}, got {number}")
    if x.dim() and len(x) == 1:
        raise ValueError(
            "expected at least 2 data, whose posterior means can differ, got 1; give some hundreds"
        )
    if not 0 <= threshold < math.inf:
        raise ValueError(f"expected a finite threshold of at least 0, got {threshold}")
    if needs_all_data(guide):
        raise ValueError(
            f"expected a guide that is a function of the data, got {type(guide).__name__}, which "
            "holds a posterior for each of those it was fitted to; give an amortised guide "
            "(DiagonalGaussian)"
        )
