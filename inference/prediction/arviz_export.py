"""Draws as ArviZ wants them: InferenceData below ArviZ 1.0, an xarray DataTree from 1.0 on."""

from __future__ import annotations

__all__ = ["save_netcdf", "to_arviz"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine

from ppl_gen.contexts import evaluating, seeded, store_kept
from ppl_gen.counts import expect_at_least
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.mcmc.datasets import Group, Labels, container
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.prediction.pointwise import (
    Values,
    ancestral,
    log_likelihood,
    replicated,
    values_at,
)
from ppl_gen.memory import SINGLE, expect_memory
from ppl_gen.pyro_patches import masks_out
from ppl_gen.sites import is_auxiliary, is_deterministic, plates, stochastic_sites, unwrapped
from ppl_gen.supports import is_discrete
from ppl_gen.writing import write_beside

_HEADERS = 2**20  # bytes of a file that are no draws, at most


def to_arviz(
    draws: Draws,
    *,
    model: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    guide: Callable[..., Any] | None = None,
    guide_draws: int = 1000,
    prior_draws: int = 500,
    posterior_predictive: bool = True,
    log_likelihood: bool = True,
    coords: Mapping[str, Sequence[Any]] | None = None,
    seed: int | None = None,
) -> Any:
    """z ~ p(z | x), x̃ ~ p(x | z), log p(xᵢ | z), z ~ p(z), x̃ ~ p(x) and z ~ q(z | x) as groups.

    All axes have names. An axis in the plate "schools" becomes the dimension "schools", other axes
    "<site>_dim_<i>", i counted from the left. A plate whose name is that of a site is called
    "<plate>_plate"; of two plates of one name the second is called "<plate>_<size>". A slash in a
    site's name becomes a dot. Statements of `pyro.factor` are no data and in no group.

    Args:
        draws: What a sampler returned.
        model: The model that was sampled. Without one, there are the groups posterior and
            sample_stats only.
        args: What it was called with; the guide too.
        guide: An approximation q(z | x) of the same posterior, for the group "guide".
        guide_draws: The number of draws from it.
        prior_draws: The number of draws for prior and prior_predictive; 0 leaves both out.
        posterior_predictive: Whether to draw new data at each draw; they take draws × data numbers.
        log_likelihood: Whether to compute log p(xᵢ | z) at each draw, by observation: along the
            plates of the observed site, added up over event axes, summed over discrete latents that
            belong to one observation. It conditions on every other latent: where each datum has a
            latent of its own, LOO on it is useless.
        coords: By dimension, the names of its entries; 0, 1, … where left out.
        seed: Seeds the draws and leaves the global generator as it was; None draws from the global
            generator.

    Returns:
        An `arviz.InferenceData` or an `xarray.DataTree`. In sample_stats, lp, diverging and
        acceptance_rate are (chain, draw); for local draws those of each datum are beside them as
        lp_local, …, and these are their sum, any and mean.

    Raises:
        ValueError: If a group that was asked for cannot be made; names the group, the reason and
            the remedy. If coords name no dimension or are of another length.

    Examples:
        >>> line = toy.LinearRegression.simulated(50, 2)
        >>> draws = hmc(line.model, *line.data, draws=20, warmup=20, chains=4, engine="fx", seed=0)
        >>> to_arviz(draws).posterior["coefficients"].shape
        (4, 20, 2)
    """
    if guide is not None and model is None:
        raise _impossible(
            "guide", "its latents are not known without the model", "pass model=... and args=..."
        )
    labels = Labels(coords or {}, draws.samples)
    datasets = draws.datasets(labels)
    if model is not None:
        device = next(iter(draws.samples.values())).device
        with store_kept(), seeded(device, seed), evaluating(model, guide):
            sampled = _SampledModel.of(model, args, draws)
            groups = sampled.data_groups(posterior_predictive, log_likelihood)
            if prior_draws > 0:
                groups |= sampled.prior_groups(prior_draws)
            if guide is not None:
                values = sampled.guide_values(guide, guide_draws)
                groups["guide"] = Group(values, draws.dims)
        for name, group in groups.items():
            datasets[name] = labels.dataset(group)
    labels.check_coords_used()
    return container(datasets)


def save_netcdf(tree: Any, path: str | Path) -> None:
    """Writes what `to_arviz` returned, whole or not at all.

    `arviz.from_netcdf(path)` reads it again, under either version.

    Args:
        tree: An `arviz.InferenceData` or an `xarray.DataTree`.
        path: Where to; a file that is there is replaced.

    Raises:
        OSError: If it cannot be written; a file that was there stays.
    """
    # HDF5 ends the process where it finds the disk full.
    with write_beside(Path(path), room=_HEADERS + 2 * _bytes_of(tree)) as part:
        tree.to_netcdf(part, engine="h5netcdf")


def _bytes_of(tree: Any) -> int:
    """The size of all draws in memory."""
    if hasattr(tree, "subtree"):
        return sum(node.dataset.nbytes for node in tree.subtree)
    return sum(tree[group].nbytes for group in tree.groups())


class _SampledModel(NamedTuple):
    """A model with the draws of its latents.

    Attributes:
        model: The model.
        args: What it is called with.
        sites: All of its sites at the first draw.
        latents: Draws of its continuous latents, by site, (chains · draws, *shape).
        observed: Its observed sites.
        others: The names of what else was drawn, deterministic sites.
        lead: The numbers of chains and draws.
    """

    model: Callable[..., Any]
    args: Sequence[Any]
    sites: dict[str, Any]
    latents: Values
    observed: dict[str, Any]
    others: list[str]
    lead: tuple[int, int]

    @classmethod
    def of(cls, model: Callable[..., Any], args: Sequence[Any], draws: Draws) -> _SampledModel:
        """Runs the model at the first draw.

        Raises:
            ValueError: If the model cannot be run, or has other latents than were drawn.
        """
        drawn = {name: value.flatten(0, 1) for name, value in draws.samples.items()}
        sites = _sites_at(model, args, _first(drawn))
        latents: Values = {}
        observed = {}
        missing = []
        for name, site in sites.items():
            if name in drawn and not is_deterministic(site):
                latents[name] = drawn[name]
            elif name not in drawn and site["is_observed"] and _is_data(site):
                observed[name] = site
            elif not site["is_observed"] and not is_discrete(site["fn"]):
                missing.append(name)
        if missing or not latents:
            raise ValueError(
                f"expected draws of every latent of the model, got none of "
                f"{sorted(missing) or 'any'}; pass the model that was sampled"
            )
        for name in latents:
            expected = tuple(sites[name]["fn"].shape())
            got = tuple(sites[name]["value"].shape)
            if expected != got:
                raise ValueError(
                    f"expected draws of {name!r} of shape {expected}, as the model has them, got "
                    f"{got}; pass the args that were sampled with"
                )
        return cls(
            model=model,
            args=args,
            sites=sites,
            latents=latents,
            observed=observed,
            others=[name for name in drawn if name not in latents],
            lead=(draws.chains, draws.draws),
        )

    def data_groups(self, predictive: bool, likelihood: bool) -> dict[str, Group]:
        """The groups of the observed sites: new data, their log likelihood, and what was observed.

        Args:
            predictive: Whether to draw new data at each draw.
            likelihood: Whether to compute the log likelihood at each draw.
        """
        for name, asked in (("posterior_predictive", predictive), ("log_likelihood", likelihood)):
            if asked and not self.observed:
                raise _impossible(name, "the model observes nothing", f"say {name}=False")
        values: Values = {}
        plates_of = {}
        for name, site in self.observed.items():
            values[name] = site["value"]
            plates_of[name] = plates(site)
        groups = {}
        if predictive:
            new_data = replicated(self.model, self.args, list(self.observed))
            drawn = self._by_chain(at_each(new_data, self.latents))
            groups["posterior_predictive"] = Group(drawn, plates_of)
        if likelihood:
            groups["log_likelihood"] = self._log_likelihood()
        if self.observed:
            groups["observed_data"] = Group(values, plates_of, leading=())
        return groups

    def prior_groups(self, count: int) -> dict[str, Group]:
        """The groups of `count` draws from the prior: latents, and data if there are any."""
        improper = [repr(name) for name, site in self.sites.items() if _is_improper(site)]
        if improper:
            raise _impossible(
                "prior", f"the prior of {', '.join(improper)} is improper", "say prior_draws=0"
            )
        draw = ancestral(self.model, self.args)
        latents: Values = {}
        data: Values = {}
        for name, value in at_each(draw, {"": torch.arange(count)}).items():
            if name in self.observed:
                data[name] = value[None]
            else:
                latents[name] = value[None]
        plates_of = {name: plates(site) for name, site in self.sites.items()}
        groups = {"prior": Group(latents, plates_of)}
        if data:
            groups["prior_predictive"] = Group(data, plates_of)
        return groups

    def guide_values(self, guide: Callable[..., Any], count: int) -> Values:
        """Draws (1, count, *shape) from a guide, of the sites that the posterior has.

        Raises:
            ValueError: If count is below 1, or the guide cannot be called with the model's
                arguments or does not sample all continuous latents.
        """
        expect_at_least(1, guide_draws=count)
        width = sum(value[0].numel() for value in self.latents.values())
        expect_memory(
            f"{count} draws of the guide", SINGLE * count * width, "take fewer guide_draws"
        )
        try:
            sites = stochastic_sites(poutine.trace(guide).get_trace(*self.args))
        except TypeError as error:
            raise _impossible(
                "guide", f"it cannot be called with args ({error})", "pass one of the same args"
            ) from error
        sampled = {name for name, site in sites.items() if not is_auxiliary(site)}
        missing = sorted(self.latents.keys() - sampled)
        if missing:
            raise _impossible(
                "guide", f"it does not sample {missing}", "pass a guide of all continuous latents"
            )
        drawn = at_each(ancestral(guide, self.args), {"": torch.arange(count)})
        latents = {name: drawn[name] for name in self.latents}
        others: Values = {}
        if self.others:
            others = at_each(values_at(self.model, self.args, self.others), latents)
        return {name: value[None] for name, value in (latents | others).items()}

    def _log_likelihood(self) -> Group:
        """log p(xᵢ | z) at each draw, by observation."""
        try:
            pointwise = log_likelihood(
                self.model, self.args, _first(self.latents), list(self.observed)
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise _impossible("log_likelihood", reason, "say log_likelihood=False") from error
        values = at_each(pointwise.function, self.latents)
        return Group(self._by_chain(values), pointwise.plates)

    def _by_chain(self, values: Values) -> Values:
        """From (chains · draws, *shape) to (chains, draws, *shape)."""
        return {name: value.reshape(*self.lead, *value.shape[1:]) for name, value in values.items()}


def _first(draws: Values) -> Values:
    """The first of draws (M, *shape)."""
    return {name: value[0] for name, value in draws.items()}


def _sites_at(model: Callable[..., Any], args: Sequence[Any], latents: Values) -> dict[str, Any]:
    """The sites of a model that is run at some latents."""
    try:
        trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*args)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            "expected a model that can be run at the draws, got the error: "
            f"{str(error).splitlines()[0]}; pass the model and the args that were sampled"
        ) from error
    return stochastic_sites(trace)


def _is_data(site: Mapping[str, Any]) -> bool:
    """Whether an observed site holds data: no deterministic value, and no `pyro.factor`."""
    return not is_deterministic(site) and tuple(site["fn"].event_shape) != (0,)


def _is_improper(site: Mapping[str, Any]) -> bool:
    """Whether a site has no prior to draw from: an improper one, or one that is masked away."""
    if is_deterministic(site):
        return False
    if site["mask"] is False or _is_masked_away(site["fn"]):
        return True
    return isinstance(unwrapped(site["fn"], masks=True), dist.ImproperUniform)


def _is_masked_away(fn: Any) -> bool:
    """Whether a distribution, or one inside it, has the mask False."""
    innermost = unwrapped(fn, masks=True)
    while fn is not innermost:
        if masks_out(fn):
            return True
        fn = fn.base_dist
    return False


def _impossible(group: str, reason: str, remedy: str) -> ValueError:
    return ValueError(f"the group {group!r} cannot be made: {reason}; {remedy}")
