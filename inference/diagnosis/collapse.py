"""Posterior collapse: which latents a guide uses, and how many nats they tell of the data."""

from __future__ import annotations

__all__ = ["Collapse", "Layer", "collapse"]

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ppl_gen import memory
from ppl_gen.contexts import evaluating, guide_of, seeded
from ppl_gen.counts import expect_at_least, expect_weight
from ppl_gen.inference.checks import needs_all_data
from ppl_gen.inference.cuts import check_by_datum
from ppl_gen.inference.diagnosis.aggregate import Aggregate, average
from ppl_gen.inference.diagnosis.posteriors import Latents
from ppl_gen.inference.estimate import Estimate, by_datum
from ppl_gen.inference.findings import Finding, Verdict
from ppl_gen.inference.result import Result
from ppl_gen.protocols import Guide, Program

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 0.1  # nats by which the mutual information is extrapolated, from which on data are few
_TOLD = 0.1  # nats of a datum, below which latents as a whole are as good as unused


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

    Examples:
        >>> ppca = toy.PPCA(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2), 0.5)
        >>> found = collapse(ppca, ppca.guide, ppca.model(None, n=100), seed=0)
        >>> found.kl.round(decimals=1)  # nats of each latent: the second holds nothing
        tensor([1., 0.], dtype=torch.float64)

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
        latents = Latents.of(program, guide, nesting, data)
        seen = latents.look_at(program, guide, data, particles, chunk)
        # The aggregate posterior takes time in K N², so that many data are given few draws.
        kept = max(2, memory.rows(memory.POSTERIOR_PAIRS, len(x) ** 2))
        log_others, sizes = latents.pools(guide, seen.latents[:kept], data)
    aggregate = Aggregate(seen.log_q[:kept], log_others, sizes)
    log_prior = seen.log_prior[:kept]
    layers = _layers(latents, seen.by_site)
    prior_is_shared = torch.allclose(seen.log_prior[:1], seen.elsewhere, rtol=1e-5, atol=1e-5)
    prior = seen.prior
    prior_mean = prior.mean
    prior_sd = prior.variance.sqrt()
    marginal_kl = None
    rate = average(seen.log_q - seen.log_prior)
    at_most = average(aggregate.at_most)
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
        at_least=average(aggregate.at_least),
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

    Examples:
        >>> ppca = toy.PPCA(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2), 0.5)
        >>> found = collapse(ppca, ppca.guide, ppca.model(None, n=100), seed=0)
        >>> found.names, found.active  # the second latent moves nothing
        (['z[0]', 'z[1]'], tensor([ True, False]))
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

    def plot(self, title: str = "", ax: Axes | None = None) -> Figure:
        """KL, means and widths of all latents, see `ppl_gen.plots.evidence.collapse_panel`.

        Args:
            title: Stands above; with several layers, what each of them tells if left out.
            ax: Axes that the picture takes the place of; it is a figure of its own if left out.
        """
        from ppl_gen.plots.evidence import collapse_panel

        if not title:
            title = "; ".join(self._said_of_layers())
        prior = (self.prior_mean, self.prior_sd)
        return collapse_panel(self.means, self.sds, self.kl, self.active, prior, title, ax=ax)

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


def _layers(latents: Latents, by_site: Tensor) -> tuple[Layer, ...]:
    """The latent sites with their rates.

    Args:
        latents: The sites.
        by_site: log q − log p of each, (sites, K, N).
    """
    layers = []
    for (name, entries), terms in zip(latents.places.items(), by_site, strict=True):
        layers.append(Layer(name=name, latents=entries, rate=average(terms)))
    return tuple(layers)


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
