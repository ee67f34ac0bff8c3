"""Tensors as xarray's datasets with names for all axes, and as the container that ArviZ wants."""

from __future__ import annotations

__all__ = ["SAMPLED", "Group", "Labels", "container", "sample_stats"]

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    import xarray

SAMPLED = ("chain", "draw")


class Group(NamedTuple):
    """What a group holds.

    Attributes:
        values: By site.
        plates: By site, for each axis but the leading ones the name of its plate, "" for an axis in
            none; a site that is left out has no axis in a plate.
        leading: The names of the first axes of all values.
    """

    values: Mapping[str, Tensor]
    plates: Mapping[str, Sequence[str]]
    leading: Sequence[str] = SAMPLED


class Labels:
    """Names of axes and of their entries, the same in all groups.

    Args:
        coords: By dimension, the names of its entries.
        sites: The sites of the posterior, whose names no plate may take.
    """

    def __init__(self, coords: Mapping[str, Sequence[Any]], sites: Mapping[str, Any]) -> None:
        self.coords = coords
        self.taken = {*sites, *SAMPLED}
        self.sizes: dict[str, int] = {}

    def dataset(self, group: Group, more: Mapping[str, Any] | None = None) -> xarray.Dataset:
        """The values of a group with names for all axes; none is squeezed.

        Args:
            group: Values by site, with the plates of their axes.
            more: Attributes beside those of the library.
        """
        import xarray

        self.taken.update(group.values)
        variables = {}
        # In the order of the dimensions, and as lists: a range would not be taken for entries.
        entries: dict[str, list[Any]] = {}
        for site, value in group.values.items():
            shape = tuple(value.shape[len(group.leading) :])
            plates = group.plates.get(site, ("",) * len(shape))
            dims = (*group.leading, *self._dimensions(site, shape, plates))
            for dim, size in zip(dims, value.shape, strict=True):
                entries[dim] = list(self.coords.get(dim, range(size)))
            variables[site.replace("/", ".")] = (dims, _as_array(value))
        return xarray.Dataset(variables, entries, _attributes() | dict(more or {}))

    def check_coords_used(self) -> None:
        """Raises ValueError if coords name dimensions that no group has."""
        unknown = sorted(self.coords.keys() - self.sizes.keys())
        if unknown:
            raise ValueError(
                f"expected coords for dimensions among {sorted(self.sizes)}, got some for {unknown}"
            )

    def _dimensions(self, site: str, shape: Sequence[int], plates: Sequence[str]) -> list[str]:
        """The names of the axes of a site, given those of their plates."""
        if len(plates) != len(shape):
            raise ValueError(
                f"expected {len(shape)} names for the axes of {site!r} in dims, got {tuple(plates)}"
            )
        names: list[str] = []
        for i, (size, plate) in enumerate(zip(shape, plates, strict=True)):
            if not plate:
                name = f"{site}_dim_{i}"
            elif plate in self.taken:
                name = f"{plate}_plate"
            else:
                name = plate
            name = name.replace("/", ".")
            if self.sizes.get(name, size) != size or name in names:
                name = f"{name}_{size}"
            self.sizes.setdefault(name, size)
            names.append(name)
            if name in self.coords and len(self.coords[name]) != size:
                raise ValueError(
                    f"expected coords of length {size} for the dimension {name!r}, got "
                    f"{len(self.coords[name])}"
                )
        return names


def _attributes() -> dict[str, Any]:
    """What every group says of its making."""
    return {
        "created_at": datetime.now(UTC).isoformat(),
        "inference_library": "ppl-gen",
        "inference_library_version": version("ppl-gen"),
    }


def sample_stats(log_density: Tensor, divergent: Tensor, acceptance: Tensor) -> Group:
    """What a sampler says of each draw, under ArviZ's names; of local draws for each datum too.

    Args:
        log_density: At each draw, (chains, draws), or (chains, draws, N) where local; in nats.
        divergent: Whether the transition to it diverged, of the same shape.
        acceptance: The acceptance probability of that transition, of the same shape.
    """
    stats = {"lp": log_density, "diverging": divergent.bool(), "acceptance_rate": acceptance}
    is_local = log_density.dim() > 2
    if not is_local:
        return Group(stats, {})
    whole = {
        "lp": stats["lp"].sum(-1),
        "diverging": stats["diverging"].any(-1),
        "acceptance_rate": stats["acceptance_rate"].mean(-1),
    }
    of_each_datum = {f"{name}_local": value for name, value in stats.items()}
    return Group(whole | of_each_datum, dict.fromkeys(of_each_datum, ("data",)))


def _as_array(value: Tensor) -> Any:
    """A tensor as a NumPy array; half precision, which NumPy or NetCDF may lack, as float32."""
    value = value.detach().cpu()
    if value.is_floating_point() and value.dtype.itemsize < 4:
        value = value.float()
    return value.numpy()


def container(groups: Mapping[str, xarray.Dataset]) -> Any:
    """The groups as the installed ArviZ wants them: InferenceData below 1.0, DataTree from 1.0 on.

    Args:
        groups: By name, such as "posterior" and "log_likelihood".
    """
    import arviz

    if int(arviz.__version__.split(".")[0]) < 1:  # hasattr(arviz, "InferenceData") is true in both
        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))
