"""Draws as ArviZ wants them: InferenceData below ArviZ 1.0, an xarray DataTree from 1.0 on."""

from __future__ import annotations

__all__ = ["container", "save_netcdf", "to_arviz"]

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from ppl_gen.contexts import evaluating, forked, store_kept
from ppl_gen.inference.engine.vectorised import at_each
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.prediction.pointwise import (
    ancestral,
    axes,
    log_likelihood,
    replicated,
    values_at,
)
from ppl_gen.program import is_auxiliary, stochastic_sites
from ppl_gen.pyro_patches import masks_out

if TYPE_CHECKING:
    import xarray

Values = dict[str, Tensor]
SAMPLED = ("chain", "draw")


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
    """z ~ p(z | x), x̃ ~ p(x | z), log p(xᵢ | z), z ~ p(z), x̃ ~ p(x) and z ~ q(z | x), each a
    group with named axes.

    An axis in the plate "schools" becomes the dimension "schools", other axes "<site>_dim_<i>", i
    counted from the left. A plate whose name is that of a site is called "<plate>_plate"; of two
    plates of one name the one that comes second is called "<plate>_<size>". A slash in a site's
    name becomes a dot. Statements of `pyro.factor` are no data and in no group.

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
    """
    labels = _Labels(coords or {}, draws.samples)
    groups = {"posterior": labels.dataset(draws.samples, draws.dims, SAMPLED, _attributes(draws))}
    groups["sample_stats"] = labels.dataset(*_sample_stats(draws), SAMPLED)
    if model is None:
        if guide is not None:
            raise _impossible(
                "guide",
                "its latents are not known without the model",
                "pass model=... and args=...",
            )
    else:
        device = next(iter(draws.samples.values())).device
        with (
            store_kept(),
            forked(device, seed) if seed is not None else nullcontext(),
            evaluating(model, guide),
        ):
            known = _Known.of(model, args, draws)
            for name, (values, plates, sampled) in known.observations(
                posterior_predictive, log_likelihood
            ).items():
                groups[name] = labels.dataset(values, plates, sampled)
            if prior_draws > 0:
                values, plates = known.simulated(prior_draws)
                seen = {name: values.pop(name) for name in known.observed}
                groups["prior"] = labels.dataset(values, plates, SAMPLED)
                if seen:
                    groups["prior_predictive"] = labels.dataset(seen, plates, SAMPLED)
            if guide is not None:
                groups["guide"] = labels.dataset(
                    known.guided(guide, guide_draws), draws.dims, SAMPLED
                )
    labels.expect_coords_used()
    return container(groups)


def save_netcdf(tree: Any, path: str | Path) -> None:
    """Writes what `to_arviz` returned, whole or not at all; `arviz.from_netcdf(path)` reads it,
    under either version.

    Args:
        tree: An `arviz.InferenceData` or an `xarray.DataTree`.
        path: Where to; a file that is there is replaced.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        tree.to_netcdf(partial, engine="h5netcdf")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class _Labels:
    """Names of axes and of their entries, the same in all groups."""

    def __init__(self, coords: Mapping[str, Sequence[Any]], sites: Mapping[str, Any]) -> None:
        self.coords, self.sizes = coords, dict[str, int]()
        self.taken = {*sites, *SAMPLED}

    def dataset(
        self,
        values: Mapping[str, Any],
        plates: Mapping[str, Sequence[str]],
        sampled: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> xarray.Dataset:
        """Values whose first axes are `sampled`, with names for all axes; none is squeezed."""
        import xarray

        self.taken.update(values)
        variables, indices = {}, dict[str, Sequence[Any]]()
        for site, value in values.items():
            shape = tuple(value.shape[len(sampled) :])
            dims = (*sampled, *self._dims(site, shape, plates.get(site, ("",) * len(shape))))
            indices |= {
                d: self.coords.get(d, range(n)) for d, n in zip(dims, value.shape, strict=True)
            }
            array = value.detach().cpu()
            reduced = array.is_floating_point() and array.dtype.itemsize < 4
            variables[site.replace("/", ".")] = (
                dims,
                (array.float() if reduced else array).numpy(),
            )
        # In the order of the dimensions, and as lists: a range would not be taken for entries.
        return xarray.Dataset(
            variables, {d: list(e) for d, e in indices.items()}, attributes or _attributes()
        )

    def expect_coords_used(self) -> None:
        """Says when coords name dimensions that there are not."""
        if unknown := sorted(self.coords.keys() - self.sizes.keys()):
            raise ValueError(
                f"expected coords for dimensions among {sorted(self.sizes)}, got some for {unknown}"
            )

    def _dims(self, site: str, shape: Sequence[int], plates: Sequence[str]) -> list[str]:
        if len(plates) != len(shape):
            raise ValueError(
                f"expected {len(shape)} names for the axes of {site!r} in dims, got {tuple(plates)}"
            )
        names: list[str] = []
        for i, (size, plate) in enumerate(zip(shape, plates, strict=True)):
            name = (
                (plate if plate not in self.taken else f"{plate}_plate")
                if plate
                else f"{site}_dim_{i}"
            )
            name = name.replace("/", ".")
            if self.sizes.get(name, size) != size or name in names:
                name = f"{name}_{size}"
            self.sizes.setdefault(name, size)
            if len(self.coords.get(name, range(size))) != size:
                raise ValueError(
                    f"expected coords of length {size} for the dimension {name!r}, got "
                    f"{len(self.coords[name])}"
                )
            names.append(name)
        return names


class _Known(NamedTuple):
    """A model with what is known of its sites, and the draws of its latents, (chains · draws, ...)."""

    model: Callable[..., Any]
    args: Sequence[Any]
    sites: dict[str, Any]
    latents: Values
    observed: dict[str, Any]
    others: list[str]
    lead: tuple[int, int]

    @classmethod
    def of(cls, model: Callable[..., Any], args: Sequence[Any], draws: Draws) -> _Known:
        drawn = {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.samples.items()}
        try:
            conditioned = poutine.condition(
                model, data={name: value[0] for name, value in drawn.items()}
            )
            sites = stochastic_sites(poutine.trace(conditioned).get_trace(*args))
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            raise ValueError(
                "expected a model that can be run at the draws, got the error: "
                f"{str(error).splitlines()[0]}; pass the model and the args that were sampled"
            ) from error
        hidden = {
            n: s for n, s in sites.items() if n in drawn and not s["infer"].get("_deterministic")
        }
        seen = {
            n: s
            for n, s in sites.items()
            if s["is_observed"] and n not in drawn and not _is_statement(s)
        }
        loose = sorted(
            n for n, s in sites.items() if not s["is_observed"] and not s["fn"].support.is_discrete
        )
        wrong = {
            n: s for n, s in hidden.items() if tuple(s["fn"].shape()) != tuple(s["value"].shape)
        }
        if loose or not hidden:
            raise ValueError(
                f"expected draws of every latent of the model, got none of {loose or 'any'}; pass "
                "the model that was sampled"
            )
        for name, site in wrong.items():
            raise ValueError(
                f"expected draws of {name!r} of shape {tuple(site['fn'].shape())}, as the model "
                f"has them, got {tuple(site['value'].shape)}; pass the args that were sampled with"
            )
        latents = {name: drawn[name] for name in hidden}
        return cls(
            model,
            args,
            sites,
            latents,
            seen,
            [n for n in drawn if n not in hidden],
            (draws.chains, draws.draws),
        )

    def observations(
        self, predictive: bool, likelihood: bool
    ) -> dict[str, tuple[Values, Any, Sequence[str]]]:
        """The groups of the observed sites: values, plates, and the axes that come first."""
        plates = {
            n: axes(s, s["value"].shape, len(s["fn"].event_shape)) for n, s in self.observed.items()
        }
        found: dict[str, tuple[Values, Any, Sequence[str]]] = {}
        for name, asked in (("posterior_predictive", predictive), ("log_likelihood", likelihood)):
            if asked and not self.observed:
                raise _impossible(name, "the model observes nothing", f"say {name}=False")
        if predictive:
            new = at_each(replicated(self.model, self.args, list(self.observed)), self.latents)
            found["posterior_predictive"] = (self._by_chain(new), plates, SAMPLED)
        if likelihood:
            try:
                first = {name: value[0] for name, value in self.latents.items()}
                pointwise = log_likelihood(self.model, self.args, first, list(self.observed))
            except ValueError as error:
                raise _impossible(
                    "log_likelihood", str(error).splitlines()[0], "say log_likelihood=False"
                ) from error
            values = at_each(pointwise.function, self.latents)
            found["log_likelihood"] = (self._by_chain(values), pointwise.plates, SAMPLED)
        if self.observed:
            found["observed_data"] = ({n: s["value"] for n, s in self.observed.items()}, plates, ())
        return found

    def simulated(self, count: int) -> tuple[Values, dict[str, tuple[str, ...]]]:
        """Draws (1, count, ...) of all sites from the prior, and their plates."""
        if flat := [n for n, s in self.sites.items() if _is_improper(s)]:
            raise _impossible(
                "prior",
                f"the prior of {', '.join(map(repr, flat))} is improper",
                "say prior_draws=0",
            )
        values = at_each(ancestral(self.model, self.args), {"": torch.arange(count)})
        plates = {
            n: axes(
                s,
                s["value"].shape,
                0 if s["infer"].get("_deterministic") else len(s["fn"].event_shape),
            )
            for n, s in self.sites.items()
        }
        return {name: value[None] for name, value in values.items()}, plates

    def guided(self, guide: Callable[..., Any], count: int) -> Values:
        """Draws (1, count, ...) from a guide of the sites that the posterior has."""
        if count < 1:
            raise ValueError(f"expected guide_draws of at least 1, got {count}")
        try:
            sites = stochastic_sites(poutine.trace(guide).get_trace(*self.args))
        except TypeError as error:
            raise _impossible(
                "guide", f"it cannot be called with args ({error})", "pass one of the same args"
            ) from error
        if missing := sorted(
            self.latents.keys() - {n for n, s in sites.items() if not is_auxiliary(s)}
        ):
            raise _impossible(
                "guide", f"it does not sample {missing}", "pass a guide of all continuous latents"
            )
        drawn = at_each(ancestral(guide, self.args), {"": torch.arange(count)})
        values = {name: drawn[name] for name in self.latents}
        if self.others:
            values |= at_each(values_at(self.model, self.args, self.others), values)
        return {name: value[None] for name, value in values.items()}

    def _by_chain(self, values: Values) -> Values:
        return {name: value.reshape(*self.lead, *value.shape[1:]) for name, value in values.items()}


def _is_statement(site: Mapping[str, Any]) -> bool:
    """Whether an observed site is none: a deterministic value, or a factor."""
    return bool(site["infer"].get("_deterministic")) or tuple(site["fn"].event_shape) == (0,)


def _is_improper(site: Mapping[str, Any]) -> bool:
    """Whether a site has no prior to draw from: an improper one, or one that is masked away."""
    fn, masked = site["fn"], site["mask"] is False
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        masked, fn = masked or masks_out(fn), fn.base_dist
    return not site["infer"].get("_deterministic") and (
        masked or isinstance(fn, dist.ImproperUniform)
    )


def _sample_stats(draws: Draws) -> tuple[Values, dict[str, tuple[str, ...]]]:
    """ArviZ's names for what a sampler says of each draw; where local, of each datum too."""
    stats = {
        "lp": draws.log_density,
        "diverging": draws.divergent.bool(),
        "acceptance_rate": draws.acceptance,
    }
    if draws.log_density.dim() == 2:
        return stats, {}
    whole = {"lp": stats["lp"].sum(-1), "diverging": stats["diverging"].any(-1)}
    whole["acceptance_rate"] = stats["acceptance_rate"].mean(-1)
    own = {f"{name}_local": value for name, value in stats.items()}
    return whole | own, dict.fromkeys(own, ("data",))


def _attributes(draws: Draws | None = None) -> dict[str, Any]:
    """What is said of a group; of the posterior, how it was sampled."""
    said = {
        "created_at": datetime.now(UTC).isoformat(),
        "inference_library": "ppl-gen",
        "inference_library_version": version("ppl-gen"),
    }
    if draws is None:
        return said
    times = {"sampling_time": draws.seconds, "preparation_time": draws.preparation_seconds}
    words = {"sampler": draws.sampler, "remarks": "\n".join(draws.remarks)}
    return said | times | draws.settings | {key: word for key, word in words.items() if word}


def _impossible(group: str, reason: str, remedy: str) -> ValueError:
    return ValueError(f"the group {group!r} cannot be made: {reason}; {remedy}")


def container(groups: Mapping[str, xarray.Dataset]) -> Any:
    """Groups as this ArviZ wants them: InferenceData below 1.0, DataTree from there on."""
    import arviz

    if int(arviz.__version__.split(".")[0]) < 1:  # hasattr(arviz, "InferenceData") is true in both
        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))
