"""Latent sites side by side in one flat, unconstrained vector: what samplers move in."""

from __future__ import annotations

__all__ = ["Layout", "coordinates"]

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_gen.sites import plates


class _Place(NamedTuple):
    """A site in the flat vector: its slice, its shape there, and the transform from its support."""

    start: int
    stop: int
    shape: torch.Size
    transform: Any


class Layout:
    """q ↔ z: continuous latents z, each in its support, as unconstrained q of shape (*batch, B, D).

    Jointly, B = 1 and q holds all latents. Where they are local to the plate "data", B = N, one row
    for each datum.

    Args:
        sites: The latent sites of a trace, by name.
        transforms: By name, from the support to the whole line.
        rows: N where the latents are local; None where they are taken jointly.
        remedy: What to do where a latent lies outside the plate "data".

    Raises:
        ValueError: If the latents are to be local and one lies outside the plate "data".
    """

    def __init__(
        self,
        sites: Mapping[str, Any],
        transforms: Mapping[str, Any],
        rows: int | None,
        remedy: str = "",
    ) -> None:
        self.local = rows is not None
        self.places: dict[str, _Place] = {}
        start = 0
        for name, site in sites.items():
            shape = transforms[name](site["value"]).shape
            if self.local and (plates(site)[:1] != ("data",) or shape[0] != rows):
                raise ValueError(
                    "expected every latent inside the plate 'data', on its first axis, got the "
                    f"site {name!r} outside it, of shape {tuple(shape)}; "
                    f"{remedy or 'sample it jointly, with local=False'}"
                )
            shape = shape[1:] if self.local else shape
            self.places[name] = _Place(start, start + math.prod(shape), shape, transforms[name])
            start += math.prod(shape)
        self.shape = (1 if rows is None else rows, start)

    def sites(self, q: Tensor) -> dict[str, Tensor]:
        """The value of each site at q (*batch, B, D), in its support."""
        return {
            name: place.transform.inv(self._free(q, place)) for name, place in self.places.items()
        }

    def flatten(self, values: Mapping[str, Tensor]) -> Tensor:
        """q (*batch, B, D), of the values of all sites: the inverse of `sites`."""
        parts = []
        for name, (start, stop, shape, transform) in self.places.items():
            free = transform(values[name])
            parts.append(free.reshape((*free.shape[: free.dim() - len(shape)], stop - start)))
        q = torch.cat(parts, -1)
        return q if self.local else q[..., None, :]

    def log_jacobian(self, q: Tensor) -> Tensor:
        """log |∂z/∂q| at q (*batch, B, D), of shape (*batch, B)."""
        total = q.new_zeros(q.shape[:-1])
        for place in self.places.values():
            free = self._free(q, place)
            term = -place.transform.log_abs_det_jacobian(place.transform.inv(free), free)
            total = total + term.reshape((*q.shape[:-1], -1)).sum(-1)
        return total

    def _free(self, q: Tensor, place: _Place) -> Tensor:
        flat = (
            q[..., place.start : place.stop] if self.local else q[..., 0, place.start : place.stop]
        )
        return flat.reshape((*flat.shape[:-1], *place.shape))


def coordinates(name: str, shape: Sequence[int]) -> list[str]:
    """The names of the entries of a site: "z[0]", "z[1]", …; the name itself for a scalar."""
    return [
        f"{name}[{', '.join(map(str, i))}]" if i else name
        for i in itertools.product(*map(range, shape))
    ]
